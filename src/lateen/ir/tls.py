"""TLS on either side of a proxy."""

from __future__ import annotations

import enum

import msgspec

WORKLOAD_CERTIFICATE = "default"
"""SDS name of the workload's own certificate and key."""
ROOT_CERTIFICATES = "ROOTCA"
"""SDS name of the mesh's trust bundle."""


class ClientCertificate(enum.StrEnum):
    """Whether a server asks for a client certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class DownstreamTls(msgspec.Struct, frozen=True):
    """TLS termination (Envoy ``DownstreamTlsContext``)."""

    certificates: tuple[str, ...] = (WORKLOAD_CERTIFICATE,)
    """SDS secret names."""
    validation: str = ""
    """SDS name of the trust bundle; empty when no client certificate is verified."""
    client_certificate: ClientCertificate = ClientCertificate.NONE
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    minimum_version: str = "TLSv1_2"
    maximum_version: str = "TLSv1_3"
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    """Accepted client identities; empty accepts every one the bundle signs."""
    subject_alt_name_prefixes: tuple[str, ...] = ()
    """Accepted beginnings of client identities (``spiffe://TRUST-DOMAIN/``), beside those."""
    verify_spki: tuple[str, ...] = ()
    verify_hash: tuple[str, ...] = ()
    accept_untrusted: bool = False
    file_certificates: tuple[tuple[str, str], ...] = ()
    """Paths of chain and key, when a Gateway names files: one pair for each type of key."""
    file_validation: str = ""
    """Path of a CA file, when a Gateway names one."""


class UpstreamTls(msgspec.Struct, frozen=True):
    """TLS origination (Envoy ``UpstreamTlsContext``)."""

    certificate: str = ""
    """SDS name of the client certificate; empty sends none."""
    validation: str = ""
    """SDS name of the trust bundle; empty with ``insecure`` or ``file_validation``."""
    sni: str = ""
    auto_sni: bool = False
    auto_san_validation: bool = False
    subject_alt_names: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    minimum_version: str = "TLSv1_2"
    maximum_version: str = "TLSv1_3"
    insecure: bool = False
    """Skip verification (``insecureSkipVerify``)."""
    file_certificate: tuple[str, str] | None = None
    file_validation: str = ""
    """Path of a CA bundle, or ``system`` for the operating system's."""
    file_crl: str = ""
