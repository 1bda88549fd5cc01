"""Secret files are private, whole, and of the shape Envoy reads."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from lateen.pki.errors import PkiError
from lateen.pki.identity import SpiffeId, parse_spiffe_id
from lateen.pki.sds import write_secrets


def test_secrets_are_written_privately_and_replaced_in_one_step(tmp_path: Path) -> None:
    for turn in (b"one", b"two"):
        write_secrets(tmp_path / "proxy", b"chain-" + turn, b"key-" + turn, b"bundle-" + turn)
    files = sorted(path.name for path in (tmp_path / "proxy").iterdir())
    assert files == ["certificate.yaml", "trust.yaml"]
    for name in files:
        assert stat.S_IMODE((tmp_path / "proxy" / name).stat().st_mode) == 0o600
    [secret] = json.loads((tmp_path / "proxy" / "certificate.yaml").read_text())["resources"]
    assert secret["name"] == "default"
    key = secret["tls_certificate"]["private_key"]["inline_bytes"]
    assert base64.b64decode(key) == b"key-two"
    [trust] = json.loads((tmp_path / "proxy" / "trust.yaml").read_text())["resources"]
    assert trust["name"] == "ROOTCA"


def test_identity_of_a_workload_is_read_from_its_uri() -> None:
    uri = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    assert parse_spiffe_id(uri) == SpiffeId("cluster.local", "default", "bookinfo-reviews")
    assert str(parse_spiffe_id(uri)) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a/sa/b/c",
        "spiffe://cluster.local/ns//sa/b",
        "spiffe://cluster.local/ns/a/sa/b?x=1",
        "spiffe://CLUSTER/ns/a/sa/b",
    ],
)
def test_other_uris_are_no_workload_identity(uri: str) -> None:
    with pytest.raises(PkiError, match="not a workload identity"):
        parse_spiffe_id(uri)
