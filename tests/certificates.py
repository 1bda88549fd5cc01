"""Keys and certificates made for a test."""

from __future__ import annotations

import datetime
import functools
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key, both in PEM form."""

    certificate: str
    key: str
    private: Key
    made: x509.Certificate


def issue(
    host: str = "web.example.com",
    *,
    private: Key | None = None,
    issuer: Issued | None = None,
    authority: bool = False,
    days: float = 30,
    age_days: float = 0,
) -> Issued:
    """A certificate for ``host``, by ``issuer`` or signed by itself."""
    private = private or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age_days, minutes=5)
    signer = issuer.private if issuer is not None else private
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.made.subject if issuer is not None else name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(signer, digest)
    )
    key = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    return Issued(pem.decode(), key.decode(), private, made)


def usable_secret(name: str, namespace: str = "istio-system") -> dict[str, Any]:
    """A Secret with a certificate, its key and a CA, as it is written."""
    issued = _shared()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {
            "tls.crt": issued.certificate,
            "tls.key": issued.key,
            "ca.crt": issued.certificate,
        },
    }


@functools.cache
def _shared() -> Issued:
    return issue(authority=True)
