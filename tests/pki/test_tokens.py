"""Service-account tokens, verified as a server that trusts the mesh would."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet

from lateen.pki.tokens import ISSUER, TokenSigner, TokenSubject

REVIEWS = TokenSubject("default", "bookinfo-reviews", "reviews-v1-abc", "11-22")


def test_a_token_names_the_account_and_the_pod_it_is_bound_to(tmp_path: Path) -> None:
    signer = TokenSigner(tmp_path)
    token, expires = signer.sign(REVIEWS, ["vault"], 1200)
    claims = jwt.decode(token, KeySet.import_key_set(signer.public_keys())).claims
    assert claims["iss"] == ISSUER
    assert claims["sub"] == "system:serviceaccount:default:bookinfo-reviews"
    assert claims["aud"] == ["vault"]
    assert claims["kubernetes.io"]["pod"] == {"name": "reviews-v1-abc", "uid": "11-22"}
    assert claims["exp"] == expires
    assert 1190 <= expires - time.time() <= 1200


def test_without_an_audience_it_is_for_the_mesh_itself(tmp_path: Path) -> None:
    signer = TokenSigner(tmp_path)
    token, _ = signer.sign(REVIEWS)
    claims = jwt.decode(token, KeySet.import_key_set(signer.public_keys())).claims
    assert claims["aud"] == [ISSUER]


@pytest.mark.parametrize(("asked", "given"), [(1, 600), (10**9, 24 * 3600)])
def test_lifetimes_stay_in_bounds(tmp_path: Path, asked: int, given: int) -> None:
    _, expires = TokenSigner(tmp_path).sign(REVIEWS, lifetime=asked)
    assert abs(expires - time.time() - given) < 5


def test_the_key_is_private_and_survives_a_restart(tmp_path: Path) -> None:
    token, _ = TokenSigner(tmp_path / "ca").sign(REVIEWS)
    again = TokenSigner(tmp_path / "ca")
    jwt.decode(token, KeySet.import_key_set(again.public_keys()))
    assert stat.S_IMODE((tmp_path / "ca" / "token.key").stat().st_mode) == 0o600


def test_another_mesh_does_not_accept_it(tmp_path: Path) -> None:
    token, _ = TokenSigner(tmp_path / "one").sign(REVIEWS)
    other = TokenSigner(tmp_path / "two")
    with pytest.raises(InvalidKeyIdError):
        jwt.decode(token, KeySet.import_key_set(other.public_keys()))
