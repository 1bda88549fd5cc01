"""TLS settings of servers (Gateway, Sidecar ingress) and of clients (DestinationRule)."""

from __future__ import annotations

from collections import Counter

from lateen.api.findings import FieldPath
from lateen.api.networking.destination_rule import ClientTLSSettings
from lateen.api.networking.gateway import ServerTLSSettings
from lateen.api.networking.names import is_hash_pin, is_key_pin
from lateen.api.networking.rules import RISKY, TLS
from lateen.api.report import Report

# What BoringSSL in Envoy can do with certificates; TLS 1.3 suites are not configurable there.
CIPHER_SUITES = frozenset(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    )
)
MOST_CERTIFICATES = 2
"""Certificates of one server that are used, as in Istio: one RSA and one ECDSA."""
_CONFIG_MAP = "configmap://"
_OLD_VERSIONS = ("TLSV1_0", "TLSV1_1")
_MUTUAL = ("MUTUAL", "OPTIONAL_MUTUAL")


def check_server_tls(tls: ServerTLSSettings, path: FieldPath, report: Report) -> None:
    """Mode and certificates fit, ciphers are known."""
    _ciphers(tls, path, report)
    _pins(tls, path, report)
    if tls.mode == "ISTIO_MUTUAL":
        _mesh_identity(tls, path, report)
    elif tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        if tls.ca_crl or _has_certificates(tls):
            message = f"{tls.mode} mode does not use certificates, they will be ignored"
            report.warn(RISKY, path, message)
        _one_source(tls, path, report)
        if tls.ca_crl and tls.credential_name:
            message = "CRL is not supported with credentialName"
            report.error(TLS, (*path, "caCrl"), message, "Put it into the credential as ca.crl.")
    else:
        _terminating(tls, path, report)


def _ciphers(tls: ServerTLSSettings, path: FieldPath, report: Report) -> None:
    if tls.min_protocol_version in _OLD_VERSIONS and not tls.cipher_suites:
        report.warn(
            RISKY,
            (*path, "minProtocolVersion"),
            "TLS version below TLSV1_2 require setting compatible ciphers "
            "as by default they no longer include compatible ciphers",
        )
    where: FieldPath = (*path, "cipherSuites")
    known = {suite for suite in tls.cipher_suites if _is_cipher(suite)}
    unknown = sorted({*tls.cipher_suites} - known)
    if unknown:
        hint = f"Known are {', '.join(sorted(CIPHER_SUITES))}."
        report.warn(RISKY, where, f"ignoring invalid cipher suites: {', '.join(unknown)}", hint)
    counts = Counter(suite for suite in tls.cipher_suites if suite in known)
    twice = sorted(suite for suite, count in counts.items() if count > 1)
    if twice:
        report.warn(RISKY, where, f"ignoring duplicate cipher suites: {', '.join(twice)}")


def _pins(tls: ServerTLSSettings, path: FieldPath, report: Report) -> None:
    effect = "it matches no certificate"
    for index, pin in enumerate(tls.verify_certificate_spki):
        if not is_key_pin(pin):
            message = f"{pin!r} is not the SHA-256 of a public key in base64: {effect}"
            hint = "Give 44 characters of base64."
            report.warn(RISKY, (*path, "verifyCertificateSpki", index), message, hint)
    for index, pin in enumerate(tls.verify_certificate_hash):
        if not is_hash_pin(pin):
            message = f"{pin!r} is not the SHA-256 of a certificate in hexadecimal: {effect}"
            hint = "Give 64 hexadecimal digits, with colons between the pairs or without."
            report.warn(RISKY, (*path, "verifyCertificateHash", index), message, hint)


def _is_cipher(suite: str) -> bool:
    # BoringSSL's rules also have ALL and operators such as -AES128-SHA or [A|B].
    return suite in ("", "ALL") or not suite[0].isalnum() or suite in CIPHER_SUITES


def _has_certificates(tls: ServerTLSSettings) -> bool:
    return bool(
        tls.server_certificate
        or tls.private_key
        or tls.ca_certificates
        or tls.credential_name
        or tls.credential_names
        or tls.tls_certificates
        or tls.ca_cert_credential_name
    )


def _mesh_identity(tls: ServerTLSSettings, path: FieldPath, report: Report) -> None:
    fields = {
        "serverCertificate": (tls.server_certificate, "server certificate"),
        "privateKey": (tls.private_key, "private key"),
        "caCertificates": (tls.ca_certificates, "CA bundle"),
        "credentialName": (tls.credential_name, "credentialName"),
        "credentialNames": (tls.credential_names, "credentialNames"),
        "tlsCertificates": (tls.tls_certificates, "tlsCertificates"),
        "caCertCredentialName": (tls.ca_cert_credential_name, "caCertCredentialName"),
    }
    for name, (value, what) in fields.items():
        if value:
            hint = "The mesh's own certificates are used; remove it."
            report.error(
                TLS, (*path, name), f"ISTIO_MUTUAL TLS cannot have associated {what}", hint
            )


def _too_many(tls: ServerTLSSettings, path: FieldPath, report: Report) -> None:
    for name, given in (
        ("credentialNames", tls.credential_names),
        ("tlsCertificates", tls.tls_certificates),
    ):
        if given is not None and len(given) > MOST_CERTIFICATES:
            report.warn(
                RISKY,
                (*path, name, MOST_CERTIFICATES),
                f"only the first {MOST_CERTIFICATES} of {len(given)} certificates are used",
                "One RSA and one ECDSA certificate serve all clients.",
            )


def _terminating(tls: ServerTLSSettings, path: FieldPath, report: Report) -> None:
    _one_source(tls, path, report)
    _too_many(tls, path, report)
    if tls.credential_name or tls.credential_names:
        if tls.ca_crl:
            message = "the CRL is ignored with credentialName"
            report.info(RISKY, (*path, "caCrl"), message, "Put it into the credential as ca.crl.")
        return
    label = "SIMPLE" if tls.mode == "SIMPLE" else "MUTUAL"
    if tls.tls_certificates:
        for index, pair in enumerate(tls.tls_certificates):
            where: FieldPath = (*path, "tlsCertificates", index)
            _pair(pair.server_certificate, pair.private_key, label, where, report)
    else:
        _pair(tls.server_certificate, tls.private_key, label, path, report)
    if tls.mode in _MUTUAL and not (tls.ca_certificates or tls.ca_cert_credential_name):
        report.error(TLS, path, "MUTUAL TLS requires a client CA bundle", "Set caCertificates.")
    if tls.ca_crl and tls.mode == "SIMPLE":
        report.error(TLS, (*path, "caCrl"), "CRL is not supported with SIMPLE TLS")


def _one_source(tls: ServerTLSSettings, path: FieldPath, report: Report) -> None:
    sources = {
        "credential_name": bool(tls.credential_name),
        "credential_names": bool(tls.credential_names),
        "server_certificate/private_key": bool(tls.server_certificate and tls.private_key),
        "tls_certificates": bool(tls.tls_certificates),
    }
    if sum(sources.values()) > 1:
        report.error(TLS, path, f"only one of {', '.join(sources)} can be set")


def _pair(certificate: str, key: str, label: str, path: FieldPath, report: Report) -> None:
    if not certificate:
        hint = "Set credentialName, or serverCertificate and privateKey."
        report.error(TLS, path, f"{label} TLS requires a server certificate", hint)
    if not key:
        report.error(TLS, path, f"{label} TLS requires a private key")


def check_client_tls(
    tls: ClientTLSSettings | None, namespace: str, path: FieldPath, report: Report
) -> None:
    """Mode, certificates and verification fit together; ``namespace`` is the object's own."""
    if tls is None:
        return
    if tls.credential_name.startswith(_CONFIG_MAP):
        owner, _, name = tls.credential_name.removeprefix(_CONFIG_MAP).partition("/")
        if not name or owner != namespace:
            report.error(
                TLS,
                (*path, "credentialName"),
                "invalid configmap:// credentialName: the namespace must match that of the object",
                f"Write configmap://{namespace}/NAME.",
            )
    if tls.insecure_skip_verify:
        if tls.mode == "SIMPLE" and (
            tls.ca_certificates or tls.credential_name or tls.subject_alt_names
        ):
            report.error(
                TLS,
                path,
                "cannot specify CaCertificates or CredentialName or SubjectAltNames "
                "when InsecureSkipVerify is set true",
            )
        if tls.mode == "MUTUAL" and (tls.ca_certificates or tls.subject_alt_names):
            report.error(
                TLS,
                path,
                "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is true",
            )
    if tls.mode in ("SIMPLE", "MUTUAL") and tls.credential_name:
        if tls.client_certificate or tls.ca_certificates or tls.private_key or tls.ca_crl:
            report.error(
                TLS,
                path,
                "cannot specify client certificates or CA certificate or CA CRL "
                "if credentialName is set",
            )
        return
    if tls.mode == "MUTUAL":
        if not tls.client_certificate:
            report.error(TLS, path, "client certificate required for mutual tls")
        if not tls.private_key:
            report.error(TLS, path, "private key required for mutual tls")
