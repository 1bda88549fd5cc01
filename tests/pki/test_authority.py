"""The authority signs what it is told about a workload, never what the request claims."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lateen.model.service import WorkloadIdentity
from lateen.pki import authority as ca
from lateen.pki.errors import PkiError
from lateen.pki.keys import new_key_and_request, new_key_and_request_apart

REVIEWS = WorkloadIdentity(
    namespace="default",
    workload="reviews-v1",
    service_account="bookinfo-reviews",
    app="reviews",
    version="v1",
    canonical_name="reviews",
    canonical_revision="v1",
)


@pytest.fixture
def authority(tmp_path: Path) -> ca.Authority:
    return ca.load_or_create(tmp_path / "ca")


def leaf(chain: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain)[0]


def test_first_start_makes_a_private_root_that_later_starts_keep(tmp_path: Path) -> None:
    first = ca.load_or_create(tmp_path / "ca")
    again = ca.load_or_create(tmp_path / "ca")
    assert again.trust_bundle == first.trust_bundle
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "ca" / ca.CA_KEY).stat().st_mode) == 0o600


def test_workload_certificate_is_an_x509_svid_with_names_in_fixed_order(
    authority: ca.Authority,
) -> None:
    issued = authority.sign(new_key_and_request().request, REVIEWS)
    certificate = leaf(issued.chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    ]
    assert certificate.subject.rfc4514_string() == (
        "CN=reviews-v1,OU=reviews,OU=v1,OU=reviews,O=Kubernetes"
    )
    root = x509.load_pem_x509_certificate(authority.trust_bundle)
    certificate.verify_directly_issued_by(root)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca
    life = issued.expires - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=23) < life <= datetime.timedelta(hours=24)
    assert issued.not_before < datetime.datetime.now(datetime.UTC)


def test_names_in_the_request_are_ignored(authority: ca.Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("spiffe://cluster.local/ns/istio-system/sa/istiod")]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    certificate = leaf(authority.sign(request, REVIEWS).chain)
    assert "admin" not in certificate.subject.rfc4514_string()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [REVIEWS.spiffe_id]


def test_unsafe_characters_never_reach_the_subject(authority: ca.Authority) -> None:
    odd = WorkloadIdentity(namespace="default", workload="a,CN=root", app="", canonical_name="x y")
    subject = leaf(authority.sign(new_key_and_request().request, odd).chain).subject
    assert subject.rfc4514_string() == "CN=a-CN-root,OU=x-y,OU=latest,OU=unknown,O=Kubernetes"


@pytest.mark.parametrize("request_", [b"", b"nonsense", b"-----BEGIN nonsense", b"x" * 20_000])
def test_unusable_requests_are_refused(authority: ca.Authority, request_: bytes) -> None:
    with pytest.raises(PkiError):
        authority.sign(request_, REVIEWS)


def test_a_request_for_another_trust_domain_is_refused(authority: ca.Authority) -> None:
    other = WorkloadIdentity(namespace="default", workload="x", trust_domain="elsewhere")
    with pytest.raises(PkiError, match="signs for trust domain"):
        authority.sign(new_key_and_request().request, other)


def test_an_expired_authority_says_so(authority: ca.Authority) -> None:
    with pytest.raises(PkiError, match="expired on"):
        authority.sign(
            new_key_and_request().request,
            REVIEWS,
            now=authority.expires + datetime.timedelta(days=1),
        )


def test_the_control_planes_certificate_names_its_hosts_and_identity(
    authority: ca.Authority,
) -> None:
    made = authority.server_certificate(["istiod.istio-system.svc"], ["10.244.0.1"])
    names = leaf(made.issued.chain).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"]
    assert [str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)] == ["10.244.0.1"]
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/istio-system/sa/istiod"
    ]


def intermediate(root_dir: Path) -> tuple[bytes, bytes]:
    """A user's intermediate CA signed by the root in ``root_dir``."""
    root = x509.load_pem_x509_certificate((root_dir / ca.CA_CERTIFICATE).read_bytes())
    root_key = serialization.load_pem_private_key((root_dir / ca.CA_KEY).read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=12))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_a_users_intermediate_is_sent_along_and_limits_the_life(tmp_path: Path) -> None:
    ca.load_or_create(tmp_path / "root")
    certificate, key = intermediate(tmp_path / "root")
    (tmp_path / "own.pem").write_bytes(certificate)
    (tmp_path / "own.key").write_bytes(key)
    root_file = tmp_path / "root" / ca.ROOT_CERTIFICATE
    brought = ca.load(tmp_path / "own.pem", tmp_path / "own.key", root_file=root_file)
    issued = brought.sign(new_key_and_request().request, REVIEWS)
    assert len(x509.load_pem_x509_certificates(issued.chain)) == 2
    assert issued.expires == brought.expires
    assert brought.trust_bundle == root_file.read_bytes()


def test_a_chain_as_istio_writes_it_is_read(tmp_path: Path) -> None:
    """Istio's ``cert-chain.pem`` begins with the authority itself and may end with the root."""
    ca.load_or_create(tmp_path / "root")
    certificate, key = intermediate(tmp_path / "root")
    root = (tmp_path / "root" / ca.ROOT_CERTIFICATE).read_bytes()
    (tmp_path / "own.pem").write_bytes(certificate)
    (tmp_path / "own.key").write_bytes(key)
    (tmp_path / "root.pem").write_bytes(root)
    for content in (certificate, certificate + root):
        (tmp_path / "chain.pem").write_bytes(content)
        own, own_key, chain, trusted = (
            tmp_path / name for name in ("own.pem", "own.key", "chain.pem", "root.pem")
        )
        issued = ca.load(own, own_key, chain, trusted).sign(new_key_and_request().request, REVIEWS)
        assert len(x509.load_pem_x509_certificates(issued.chain)) == 2


def test_mismatched_files_are_refused_by_name(tmp_path: Path) -> None:
    ca.load_or_create(tmp_path / "root")
    ca.load_or_create(tmp_path / "other")
    certificate, key = intermediate(tmp_path / "root")
    (tmp_path / "own.pem").write_bytes(certificate)
    (tmp_path / "own.key").write_bytes(key)
    with pytest.raises(PkiError, match=r"other/ca-key.pem is not the key of .*own.pem"):
        ca.load(tmp_path / "own.pem", tmp_path / "other" / ca.CA_KEY)
    with pytest.raises(PkiError, match="does not lead to the root"):
        ca.load(
            tmp_path / "own.pem",
            tmp_path / "own.key",
            root_file=tmp_path / "other" / ca.ROOT_CERTIFICATE,
        )
    with pytest.raises(PkiError, match="cannot read"):
        ca.load(tmp_path / "none.pem", tmp_path / "own.key")


def test_a_child_process_makes_keys_for_processes_that_stay_small() -> None:
    made = new_key_and_request_apart()
    request = x509.load_pem_x509_csr(made.request)
    key = serialization.load_pem_private_key(made.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert request.public_key() == key.public_key()
