"""The mesh's certificate authority: a root made on first start, or one that the user brings."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lateen.model.service import WorkloadIdentity
from lateen.pki.errors import PkiError
from lateen.pki.files import private_directory, replace_file
from lateen.pki.identity import control_plane_id, subject_values
from lateen.pki.keys import KeyAndRequest, new_key_and_request

DEFAULT_TTL = datetime.timedelta(hours=24)
MINIMUM_TTL = datetime.timedelta(minutes=1)
_BACKDATE = datetime.timedelta(minutes=2)  # for clocks that run a little behind ours
_ROOT_LIFETIME = datetime.timedelta(days=3650)
_MAX_REQUEST = 16 * 1024

# File names of Istio's plugged-in certificates, so that a user's `cacerts` folder just works.
CA_CERTIFICATE = "ca-cert.pem"
CA_KEY = "ca-key.pem"
CA_CHAIN = "cert-chain.pem"
ROOT_CERTIFICATE = "root-cert.pem"

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """``chain`` is the leaf and the intermediates (PEM); times are UTC."""

    chain: bytes
    not_before: datetime.datetime
    expires: datetime.datetime


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The control plane's own key and certificate."""

    key: bytes
    issued: IssuedCertificate


class Authority:
    """Signs workload certificates of one trust domain (SPIFFE X.509-SVID)."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: _PrivateKey,
        chain: Sequence[x509.Certificate],
        roots: Sequence[x509.Certificate],
        trust_domain: str = "cluster.local",
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._chain = tuple(chain)
        self._roots = tuple(roots)
        self.trust_domain = trust_domain

    @property
    def trust_bundle(self) -> bytes:
        """All root certificates that peers shall trust (PEM)."""
        return b"".join(_pem(root) for root in self._roots)

    @property
    def expires(self) -> datetime.datetime:
        """When the signing certificate ends (UTC)."""
        return self._certificate.not_valid_after_utc

    def sign(
        self,
        request: bytes,
        identity: WorkloadIdentity,
        ttl: datetime.timedelta = DEFAULT_TTL,
        *,
        now: datetime.datetime | None = None,
    ) -> IssuedCertificate:
        """A certificate for ``identity`` and the public key of ``request`` (CSR, PEM or DER).

        Only the key is taken from the request; every name comes from ``identity``, which the
        caller has proved. The life is ``ttl``, shortened to that of the authority. Raises
        `PkiError` for an unusable request or when the authority has expired.
        """
        if identity.trust_domain != self.trust_domain:
            raise PkiError(
                f"this authority signs for trust domain {self.trust_domain}, "
                f"not for {identity.trust_domain}"
            )
        workload, name, revision, app, cluster = subject_values(identity)
        # RFC 4514 prints the last encoded name first; peers expect CN,OU,OU,OU,O in print.
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, app),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, revision),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name),
                x509.NameAttribute(NameOID.COMMON_NAME, workload),
            ]
        )
        names = [x509.UniformResourceIdentifier(identity.spiffe_id)]
        return self._issue(_request_key(request), subject, names, ttl, now)

    def server_certificate(
        self,
        dns_names: Sequence[str],
        addresses: Sequence[str] = (),
        ttl: datetime.timedelta = DEFAULT_TTL,
        *,
        now: datetime.datetime | None = None,
    ) -> ServerCertificate:
        """A key and certificate for the control plane itself, made in this process."""
        made: KeyAndRequest = new_key_and_request()
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(str(control_plane_id(self.trust_domain)))
        ]
        names.extend(x509.DNSName(name) for name in dns_names)
        names.extend(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)
        issued = self._issue(_request_key(made.request), x509.Name([]), names, ttl, now)
        return ServerCertificate(made.key, issued)

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        ttl: datetime.timedelta,
        now: datetime.datetime | None,
    ) -> IssuedCertificate:
        if ttl < MINIMUM_TTL:
            raise PkiError(f"a certificate must live at least {MINIMUM_TTL}, not {ttl}")
        start = now or datetime.datetime.now(datetime.UTC)
        start = start.replace(microsecond=0)
        expires = min(start + ttl, self.expires)
        if expires <= start:
            raise PkiError(
                f"the certificate authority expired on {self.expires:%Y-%m-%d %H:%M} UTC; "
                "bring a new one, or remove the ca directory of the mesh to have one made"
            )
        before = max(start - _BACKDATE, self._certificate.not_valid_before_utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(before)
            .not_valid_after(expires)
            # X.509-SVID 4.1 and RFC 5280 4.2.1.6 for an empty subject. Critical for all, so that
            # no verifier falls back to the subject's names, which are telemetry only.
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_leaf_usage(isinstance(key, rsa.RSAPublicKey)), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._certificate.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        chain = b"".join(_pem(link) for link in (certificate, *self._chain))
        return IssuedCertificate(chain, before, expires)


def load_or_create(directory: Path, trust_domain: str = "cluster.local") -> Authority:
    """The authority kept in ``directory``; a new self-signed root when there is none.

    The directory is made private (0700) and the key readable by its owner only (0600). Files
    named as Istio's ``cacerts`` (``ca-cert.pem``, ``ca-key.pem``, ``cert-chain.pem``,
    ``root-cert.pem``) are used when the user put them there. Raises `PkiError`.
    """
    private_directory(directory)
    key_file = directory / CA_KEY
    if not key_file.exists():
        if (directory / CA_CERTIFICATE).exists():
            raise PkiError(
                f"{directory} has {CA_CERTIFICATE} but not {CA_KEY}: "
                "add the key, or remove the certificate to have a new authority made"
            )
        certificate, key = _new_root(trust_domain)
        pem = _pem(certificate)
        replace_file(directory / ROOT_CERTIFICATE, pem, 0o644)
        replace_file(directory / CA_CERTIFICATE, pem, 0o644)
        # The key last: it marks the authority as complete.
        replace_file(key_file, key)
    if key_file.stat().st_mode & 0o077:
        key_file.chmod(0o600)
    chain, root = directory / CA_CHAIN, directory / ROOT_CERTIFICATE
    return load(
        directory / CA_CERTIFICATE,
        key_file,
        chain if chain.exists() else None,
        root if root.exists() else None,
        trust_domain,
    )


def load(
    certificate_file: Path,
    key_file: Path,
    chain_file: Path | None = None,
    root_file: Path | None = None,
    trust_domain: str = "cluster.local",
) -> Authority:
    """An authority that the user brings: certificate, key, optional chain and root (PEM files).

    Without ``root_file`` the last certificate of the chain (or the certificate itself) is the
    root. Raises `PkiError` when a file is missing, not what it should be, or does not fit.
    """
    certificate = _certificates(certificate_file)[0]
    given = _certificates(chain_file) if chain_file else []
    # Istio's ``cert-chain.pem`` begins with the authority's own certificate.
    chain = [link for link in given if link != certificate]
    key = _private_key(key_file)
    if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
        raise PkiError(f"{key_file} is not the key of {certificate_file}")
    _check_authority(certificate, certificate_file)
    roots = _certificates(root_file) if root_file else [chain[-1] if chain else certificate]
    path = [link for link in (certificate, *chain) if link.subject != link.issuer]
    _check_path(path, roots, certificate_file)
    return Authority(certificate, key, path, roots, trust_domain)


def _new_root(trust_domain: str) -> tuple[x509.Certificate, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64])])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + _ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate, pem


def _request_key(request: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    if len(request) > _MAX_REQUEST:
        raise PkiError(f"the signing request exceeds {_MAX_REQUEST} bytes")
    try:
        pem = request.lstrip().startswith(b"-----BEGIN")
        parsed = (x509.load_pem_x509_csr if pem else x509.load_der_x509_csr)(request)
        valid = parsed.is_signature_valid
        key = parsed.public_key()
    except (ValueError, TypeError) as error:
        raise PkiError(f"not a certificate signing request: {error}") from error
    if not valid:
        raise PkiError("the signing request is not signed by its own key")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return key
    raise PkiError("the key must be P-256, P-384, or RSA of at least 2048 bits")


def _certificates(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise PkiError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise PkiError(f"{file} holds no PEM certificate: {error}") from error


def _private_key(file: Path) -> _PrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise PkiError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise PkiError(f"{file} holds no unencrypted PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise PkiError(f"{file} must hold an elliptic-curve or RSA key")
    return key


def _check_authority(certificate: x509.Certificate, file: Path) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is None or not constraints.ca:
        raise PkiError(f"{file} is not a CA certificate (basic constraints CA:TRUE)")
    if certificate.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
        raise PkiError(f"{file} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")


def _check_path(
    path: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], file: Path
) -> None:
    """Each link must be signed by the next one, and the last one by a root."""
    for index, link in enumerate(path):
        candidates = path[index + 1 : index + 2] or roots
        if not any(signed_by(link, candidate) for candidate in candidates):
            raise PkiError(
                f"the chain of {file} does not lead to the root: "
                f'"{link.subject.rfc4514_string()}" is signed by "{link.issuer.rfc4514_string()}"'
            )


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``certificate`` names ``issuer`` and carries its signature, whatever the dates."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return b""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _leaf_usage(is_rsa: bool) -> x509.KeyUsage:
    return _usage(digital_signature=True, key_encipherment=is_rsa)


def _authority_usage() -> x509.KeyUsage:
    return _usage(key_cert_sign=True, crl_sign=True)


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
