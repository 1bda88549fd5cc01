"""TLS towards upstreams: what a DestinationRule asks for, and automatic mutual TLS."""

from __future__ import annotations

from lateen.api.networking.destination_rule import ClientTLSSettings
from lateen.ir.cluster import UpstreamProtocol
from lateen.ir.tls import ROOT_CERTIFICATES, WORKLOAD_CERTIFICATE, UpstreamTls
from lateen.model.credentials import Credential
from lateen.model.proxy import ProxyType, Scope
from lateen.model.snapshot import Snapshot
from lateen.translate import alpn
from lateen.translate.credentials import first_problem

SYSTEM_BUNDLE = "system"


def mesh_tls(sni: str, identities: tuple[str, ...], protocol: UpstreamProtocol) -> UpstreamTls:
    """Mutual TLS between proxies of the mesh with the workload's own certificate.

    ``identities`` are the SPIFFE identities accepted from the server; empty accepts every one
    that the mesh's trust bundle signs.
    """
    return UpstreamTls(
        certificate=WORKLOAD_CERTIFICATE,
        validation=ROOT_CERTIFICATES,
        sni=sni,
        subject_alt_names=identities,
        alpn=alpn.client_protocols(protocol),
    )


def from_settings(
    settings: ClientTLSSettings,
    *,
    sni: str,
    identities: tuple[str, ...],
    declared_names: tuple[str, ...],
    protocol: UpstreamProtocol,
    credentials_by_name: bool,
) -> UpstreamTls | None:
    """TLS by a DestinationRule, None for ``DISABLE``.

    ``sni`` and ``identities`` are the mesh's defaults for ISTIO_MUTUAL, ``declared_names`` the
    subjectAltNames of a ServiceEntry for SIMPLE and MUTUAL. ``credentials_by_name`` says whether
    this proxy may use ``credentialName`` (gateways, and rules with a workloadSelector).
    """
    if settings.mode == "DISABLE":
        return None
    if settings.mode == "ISTIO_MUTUAL":
        return mesh_tls(
            settings.sni or sni, tuple(settings.subject_alt_names) or identities, protocol
        )
    names = tuple(settings.subject_alt_names) or declared_names
    insecure = bool(settings.insecure_skip_verify)
    certificate, validation = "", ""
    credential = settings.credential_name
    if credential and (credentials_by_name or credential.startswith("configmap://")):
        secret = credential if "://" in credential else f"kubernetes://{credential}"
        certificate = secret if settings.mode == "MUTUAL" else ""
        validation = "" if insecure else f"{secret}-cacert"
        if credential.startswith("configmap://"):
            validation = "" if insecure else secret
    files = None
    if settings.mode == "MUTUAL" and not certificate and settings.client_certificate:
        files = (settings.client_certificate, settings.private_key)
    return UpstreamTls(
        certificate=certificate,
        validation=validation,
        sni=settings.sni,
        auto_sni=not settings.sni,
        auto_san_validation=not names and not insecure,
        subject_alt_names=() if insecure else names,
        alpn=("h2",) if protocol is UpstreamProtocol.HTTP2 else (),
        insecure=insecure,
        file_certificate=files,
        file_validation="" if validation or insecure else settings.ca_certificates or SYSTEM_BUNDLE,
        file_crl="" if insecure else settings.ca_crl,
    )


def unusable(
    snapshot: Snapshot, scope: Scope, settings: ClientTLSSettings | None, *, selected: bool
) -> Credential | None:
    """The credential that ``settings`` name and the proxies of ``scope`` cannot use, if any.
    ``selected``: the rule has a workloadSelector."""
    if settings is None or not settings.credential_name:
        return None
    tls = from_settings(
        settings,
        sni="",
        identities=(),
        declared_names=(),
        protocol=UpstreamProtocol.HTTP1,
        credentials_by_name=selected or scope.type is not ProxyType.SIDECAR,
    )
    if tls is None:
        return None
    return first_problem(snapshot, scope.namespace, (tls.certificate,), tls.validation)
