"""Credentials go to proxies of the same namespace that refer to them, to nobody else, and only
when a proxy can load them."""

from __future__ import annotations

import base64
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from lateen.api.resource import Resource
from lateen.model.credentials import credentials, secret_problem
from lateen.model.discovery import LISTENER, DiscoveryResource, ResourceSet
from lateen.serve.secrets import referenced_secret
from lateen.serve.wire import encode_named_empty
from tests.certificates import issue
from tests.serve.mesh import parsed, snapshot_of

WEB, OTHER = issue(), issue("other.example.com")
CA = issue("ca", authority=True)
NAME = "kubernetes://web"


def secret(name: str, **data: str) -> Resource:
    return parsed(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "edge"},
            "data": {
                key.replace("_", "."): base64.b64encode(value.encode()).decode()
                for key, value in data.items()
            },
        }
    )


def referring(*names: str) -> ResourceSet:
    body = b"".join(encode_named_empty(name) for name in names)
    return {LISTENER: {"l": DiscoveryResource(LISTENER, "l", "1", body)}}


def test_a_referenced_credential_of_the_own_namespace_is_served() -> None:
    snapshot, _ = snapshot_of(secret("web", tls_crt=WEB.certificate, tls_key=WEB.key))
    found = referenced_secret(snapshot, "edge", NAME, referring(NAME))
    assert found is not None
    message = secret_pb2.Secret.FromString(found.body)
    assert message.name == NAME
    assert message.tls_certificate.private_key.inline_bytes == WEB.key.encode()
    assert [str(key) for key in found.origins] == ["Secret edge/web"]


def test_what_is_not_referred_to_or_lies_elsewhere_is_not() -> None:
    snapshot, _ = snapshot_of(secret("web", tls_crt=WEB.certificate, tls_key=WEB.key))
    assert referenced_secret(snapshot, "edge", NAME, referring("kubernetes://web2")) is None
    assert referenced_secret(snapshot, "other", NAME, referring(NAME)) is None
    foreign = "kubernetes-gateway://edge/web"
    assert referenced_secret(snapshot, "other", foreign, referring(foreign)) is None
    assert referenced_secret(snapshot, "edge", foreign, referring(foreign)) is not None
    assert referenced_secret(snapshot, "edge", "default", referring("default")) is None


def test_the_ca_of_a_credential_comes_from_it_or_from_a_secret_of_its_own() -> None:
    name = "kubernetes://web-cacert"
    inside = secret("web", tls_crt=WEB.certificate, tls_key=WEB.key, ca_crt=CA.certificate)
    other = issue("other ca", authority=True).certificate
    for objects, expected in (
        ((inside,), CA.certificate),
        ((inside, secret("web-cacert", cacert=other)), other),
    ):
        snapshot, _ = snapshot_of(*objects)
        found = referenced_secret(snapshot, "edge", name, referring(name))
        assert found is not None
        message = secret_pb2.Secret.FromString(found.body)
        assert message.validation_context.trusted_ca.inline_bytes == expected.encode()


CURVE = issue(private=ec.generate_private_key(ec.SECP256K1()))
SHORT = issue(private=rsa.generate_private_key(65537, 1024))
EDWARDS = issue(private=ed25519.Ed25519PrivateKey.generate())
CHAIN = CA.certificate + WEB.certificate
BAD = {
    "there is no Secret edge/web": {},
    "Secret edge/web has no tls.crt and tls.key": {"tls_crt": WEB.certificate},
    "the certificate is not in PEM form (Secret edge/web)": {
        "tls_crt": "no PEM",
        "tls_key": WEB.key,
    },
    "the certificate cannot be read (Secret edge/web)": {
        "tls_crt": WEB.certificate.replace("MII", "MIX"),
        "tls_key": WEB.key,
    },
    "the private key is not one in PEM form (Secret edge/web)": {
        "tls_crt": WEB.certificate,
        "tls_key": WEB.certificate,
    },
    "the certificate and the private key do not belong together (Secret edge/web)": {
        "tls_crt": WEB.certificate,
        "tls_key": OTHER.key,
    },
    "the chain does not begin with the certificate of the private key (Secret edge/web)": {
        "tls_crt": CHAIN,
        "tls_key": WEB.key,
    },
    "the RSA key has 1024 bits; proxies take 2048 or more (Secret edge/web)": {
        "tls_crt": SHORT.certificate,
        "tls_key": SHORT.key,
    },
    "proxies take keys on the curves P-256, P-384, P-521, not secp256k1 (Secret edge/web)": {
        "tls_crt": CURVE.certificate,
        "tls_key": CURVE.key,
    },
    "proxies take RSA and ECDSA keys only (Secret edge/web)": {
        "tls_crt": EDWARDS.certificate,
        "tls_key": EDWARDS.key,
    },
}


@pytest.mark.parametrize("problem", BAD)
def test_what_a_proxy_could_not_load_is_not_sent(problem: str) -> None:
    data = BAD[problem]
    snapshot, _ = snapshot_of(*([secret("web", **data)] if data else []))
    assert credentials(snapshot).pair(NAME, "edge").problem == problem
    assert referenced_secret(snapshot, "edge", NAME, referring(NAME)) is None


def with_another_version(certificate: str) -> str:
    """A certificate that says it has a version which there is none of; the parser raises an error
    of its own kind."""
    data = ssl.PEM_cert_to_DER_cert(certificate)
    mark = bytes.fromhex("a003020102")
    assert data.count(mark) == 1
    return ssl.DER_cert_to_PEM_cert(data.replace(mark, bytes.fromhex("a003020109")))


def test_whatever_the_parser_raises_concerns_one_credential_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = secret("web", tls_crt=with_another_version(WEB.certificate), tls_key=WEB.key)
    snapshot, _ = snapshot_of(odd)
    problem = "the certificate cannot be read (Secret edge/web)"
    assert credentials(snapshot).pair(NAME, "edge").problem == problem
    assert secret_problem(odd) == problem

    def broken(*_: object) -> str:
        raise ZeroDivisionError(WEB.key)

    monkeypatch.setattr("lateen.model.credentials.pair_problem", broken)
    snapshot, _ = snapshot_of(odd)
    problem = "Secret edge/web cannot be read (ZeroDivisionError)"
    assert credentials(snapshot).pair(NAME, "edge").problem == problem
    assert secret_problem(odd) == problem


def test_a_ca_or_revocation_list_that_cannot_be_read_is_not_sent() -> None:
    name = f"{NAME}-cacert"
    for data, problem in (
        ({"ca_crt": "junk"}, "the CA certificate is not in PEM form (Secret edge/web)"),
        (
            {"ca_crt": CA.certificate, "ca_crl": "junk"},
            "the revocation list is not one in PEM form (Secret edge/web)",
        ),
        ({"other": "x"}, "Secret edge/web has no ca.crt"),
    ):
        snapshot, _ = snapshot_of(secret("web", **data))
        assert credentials(snapshot).authority(name, "edge").problem == problem
        assert referenced_secret(snapshot, "edge", name, referring(name)) is None


def test_an_expired_certificate_is_sent_as_its_clients_refuse_it() -> None:
    old = issue(days=1, age_days=10)
    snapshot, _ = snapshot_of(secret("web", tls_crt=old.certificate, tls_key=old.key))
    assert referenced_secret(snapshot, "edge", NAME, referring(NAME)) is not None


def test_only_secrets_with_key_material_are_looked_at() -> None:
    assert secret_problem(secret("any", password="x")) == ""
    assert secret_problem(secret("web", tls_crt="x", tls_key="y")) != ""
    assert secret_problem(secret("ca", ca_crt="x")) != ""
