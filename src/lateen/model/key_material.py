"""Whether certificates and keys in PEM form can be used by a proxy. Pure; no clock.

Envoy refuses a whole response when one secret in it cannot be loaded, in words that name none of
them, so what it would refuse must be found before it is sent. Each function returns what is wrong,
empty when nothing is. Dates are not looked at: Envoy loads an expired certificate, and it is the
client that refuses it (`not_after` is for warnings).
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import ocsp

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MINIMUM_RSA = 2048
_PARSING = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the parser raises for input that it cannot read."""
_NAMES = (x509.DNSName, x509.UniformResourceIdentifier, x509.IPAddress)
"""Alternative names of which a certificate without a common name must have one."""
_CRL_BEGIN = b"-----BEGIN X509 CRL-----"


def canonical_chain(text: bytes) -> bytes:
    """The certificates of ``text`` and nothing else, in PEM form. BoringSSL reads white space,
    headers and broken blocks around them in other ways than the parser used here; sent like this,
    a proxy reads exactly what was looked at."""
    certificates, _ = _certificates(text)
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates)


def canonical_key(text: bytes) -> bytes:
    """The private key of ``text`` and nothing else, in PEM form (PKCS #8, RFC 5958)."""
    private = load_pem_private_key(text, None)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def canonical_crl(text: bytes) -> bytes:
    """The revocation lists of ``text`` and nothing else, in PEM form."""
    return b"".join(item.public_bytes(Encoding.PEM) for item in _revocation_lists(text))


def pair_problem(chain: bytes, key: bytes, staple: bytes = b"") -> str:
    """What is wrong with a certificate chain, leaf first, and the private key of its leaf.
    ``staple`` is the OCSP response that is sent with them, if any."""
    certificates, problem = _certificates(chain)
    if problem:
        return f"the certificate {problem}"
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        return "the private key is encrypted"
    except _PARSING:
        return "the private key is not one in PEM form"
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < _MINIMUM_RSA:
            return f"the RSA key has {private.key_size} bits; proxies take {_MINIMUM_RSA} or more"
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        if private.curve.name not in _CURVES:
            return f"proxies take keys on the curves P-256, P-384, P-521, not {private.curve.name}"
    else:
        return "proxies take RSA and ECDSA keys only"
    wanted = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if _public(certificates[0]) == wanted:
        return _leaf_problem(certificates[0], staple)
    if any(_public(other) == wanted for other in certificates[1:]):
        return "the chain does not begin with the certificate of the private key"
    return "the certificate and the private key do not belong together"


def authority_problem(bundle: bytes) -> str:
    """What is wrong with certificates of authorities, any number of them in one text."""
    _, problem = _certificates(bundle)
    return f"the CA certificate {problem}" if problem else ""


def crl_problem(text: bytes) -> str:
    """What is wrong with a certificate revocation list."""
    try:
        for item in _revocation_lists(text):
            list(item.extensions)
    except _PARSING:
        return "the revocation list is not one in PEM form"
    return ""


def staple_problem(data: bytes, chain: bytes) -> str:
    """What is wrong with an OCSP response to staple, in DER form, to the first certificate of
    ``chain``."""
    certificates, problem = _certificates(chain)
    if problem:
        return f"the certificate {problem}"
    try:
        answer = ocsp.load_der_ocsp_response(data)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return f"the OCSP response says {answer.response_status.name}"
        if answer.serial_number != certificates[0].serial_number:
            return "the OCSP response is for another certificate"
    except _PARSING:
        return "the OCSP response cannot be read"
    return ""


def not_after(bundle: bytes) -> datetime.datetime | None:
    """When the first of the certificates in ``bundle`` to expire does; None when there is none."""
    certificates, _ = _certificates(bundle)
    return min((item.not_valid_after_utc for item in certificates), default=None)


def _certificates(text: bytes) -> tuple[list[x509.Certificate], str]:
    if b"-----BEGIN" not in text:
        return [], "is not in PEM form"
    try:
        found = x509.load_pem_x509_certificates(text)
        for item in found:
            item.public_key()
    except _PARSING:
        return [], "cannot be read"
    return found, ""


def _leaf_problem(leaf: x509.Certificate, staple: bytes) -> str:
    """What BoringSSL and Envoy ask of the extensions of a certificate that a proxy shows."""
    try:
        extensions = leaf.extensions
        named = bool(leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME))
    except _PARSING:
        return "the subject or an extension of the certificate cannot be read"
    for item in extensions:
        value = item.value
        if isinstance(value, x509.SubjectAlternativeName):
            named = named or any(isinstance(name, _NAMES) for name in value)
        elif isinstance(value, x509.KeyUsage):
            if not value.digital_signature and isinstance(
                leaf.public_key(), ec.EllipticCurvePublicKey
            ):
                return "the key usage of the ECDSA certificate lacks digitalSignature"
        elif (
            isinstance(value, x509.TLSFeature)
            and x509.TLSFeatureType.status_request in value
            and not staple
        ):
            return "the certificate needs an OCSP response (must-staple); none is usable"
    return "" if named else "the certificate has neither a common name nor alternative names"


def _revocation_lists(text: bytes) -> list[x509.CertificateRevocationList]:
    parts = text.split(_CRL_BEGIN)[1:]
    if not parts:
        raise ValueError
    return [x509.load_pem_x509_crl(_CRL_BEGIN + part) for part in parts]


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
