"""What is wrong with a mesh configuration that has the right types."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable

from lateen.api.base import duration_nanoseconds
from lateen.api.findings import FieldPath, Severity
from lateen.api.meshconfig import rules
from lateen.api.meshconfig.mesh_config import MeshConfig
from lateen.api.meshconfig.networks import MeshNetworks, NetworkEndpoints, NetworkGateway
from lateen.api.meshconfig.providers import ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider
from lateen.api.meshconfig.proxy_config import ProxyConfig
from lateen.api.networking.validate_locality import TOPOLOGY, localities_problem
from lateen.api.rule import Rule

Problems = Callable[[Rule, FieldPath, str, str, Severity], None]
"""Takes what is found: rule, path, message, hint, severity."""

_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
_HOUR = 3600 * _SECOND
_LABEL = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_CURVES = frozenset({"P-224", "P-256", "P-384", "P-521", "X25519", "X25519MLKEM768", "CECPQ2"})
_COMPLIANCE = ("", "fips-140-2", "fips-140-3", "pqc")


class MeshReport:
    """Collects problems of one mesh configuration."""

    def __init__(self, add: Problems) -> None:
        self._add = add

    def error(self, rule: Rule, path: FieldPath, message: str, hint: str = "") -> None:
        """The configuration cannot be used."""
        self._add(rule, path, message, hint, Severity.ERROR)

    def warn(self, rule: Rule, path: FieldPath, message: str, hint: str = "") -> None:
        """The configuration can be used, the author should look."""
        self._add(rule, path, message, hint, Severity.WARNING)


def validate_mesh_config(mesh: MeshConfig, add: Problems) -> None:
    """Check ports, durations, trust domains, providers and TLS settings."""
    report = MeshReport(add)
    for name, port in (
        ("proxyListenPort", mesh.proxy_listen_port),
        ("proxyInboundListenPort", mesh.proxy_inbound_listen_port),
    ):
        _check_port(port, (name,), report)
    if mesh.proxy_http_port:
        _check_port(mesh.proxy_http_port, ("proxyHttpPort",), report)
    _check_duration(mesh.connect_timeout, ("connectTimeout",), _MILLISECOND, _HOUR, report)
    _check_duration(mesh.protocol_detection_timeout, ("protocolDetectionTimeout",), 0, 0, report)
    _check_duration(mesh.dns_refresh_rate, ("dnsRefreshRate",), _MILLISECOND, 0, report)
    _check_trust_domains(mesh, report)
    for index, settings in enumerate(mesh.service_settings):
        for position, host in enumerate(settings.hosts):
            if not _is_host(host):
                report.error(
                    rules.BAD_SETTING,
                    ("serviceSettings", index, "hosts", position),
                    f'"{host}" is not a host name',
                )
    if not mesh.root_namespace:
        report.error(rules.BAD_SETTING, ("rootNamespace",), "rootNamespace must be set")
    if mesh.compliance_policy not in _COMPLIANCE:
        report.error(
            rules.BAD_SETTING,
            ("compliancePolicy",),
            f'"{mesh.compliance_policy}" is none of {", ".join(filter(None, _COMPLIANCE))}',
        )
    _check_curves(mesh, report)
    _check_locality(mesh, report)
    _check_providers(mesh, report)
    validate_proxy_config(mesh.default_config, add, ("defaultConfig",))


def validate_proxy_config(config: ProxyConfig, add: Problems, path: FieldPath = ()) -> None:
    """Check ports, durations and addresses of one proxy's settings."""
    report = MeshReport(add)
    _check_port(config.proxy_admin_port, (*path, "proxyAdminPort"), report)
    _check_port(config.status_port, (*path, "statusPort"), report)
    where = (*path, "drainDuration")
    if config.drain_duration is not None:
        _check_duration(config.drain_duration, where, _SECOND, 0, report, step=_SECOND)
    where = (*path, "terminationDrainDuration")
    if config.termination_drain_duration is not None:
        _check_duration(config.termination_drain_duration, where, 0, 0, report)
    if config.concurrency is not None and config.concurrency < 0:
        report.error(rules.BAD_SETTING, (*path, "concurrency"), "concurrency must not be negative")
    if config.control_plane_auth_policy == "INHERIT":
        report.error(
            rules.BAD_SETTING,
            (*path, "controlPlaneAuthPolicy"),
            "INHERIT is not possible for a mesh",
        )
    if config.discovery_address and not _is_host_port(config.discovery_address):
        _bad_address(config.discovery_address, (*path, "discoveryAddress"), report)
    tracing = config.tracing
    if tracing is not None:
        if not 0 <= tracing.sampling <= 100:
            report.error(
                rules.BAD_SETTING,
                (*path, "tracing", "sampling"),
                f"sampling is a percentage from 0 to 100, not {tracing.sampling}",
            )
        for name, tracer in (("zipkin", tracing.zipkin), ("datadog", tracing.datadog)):
            address = tracer.address if tracer is not None else ""
            if tracer is not None and not address.startswith("$(") and not _is_host_port(address):
                _bad_address(address, (*path, "tracing", name, "address"), report)
    for name, service in (
        ("envoyAccessLogService", config.envoy_access_log_service),
        ("envoyMetricsService", config.envoy_metrics_service),
    ):
        if service is not None and service.address and not _is_host_port(service.address):
            _bad_address(service.address, (*path, name, "address"), report)


def _check_trust_domains(mesh: MeshConfig, report: MeshReport) -> None:
    named: Iterable[tuple[FieldPath, str]] = (
        (("trustDomain",), mesh.trust_domain),
        *(
            (("trustDomainAliases", index), alias)
            for index, alias in enumerate(mesh.trust_domain_aliases)
        ),
    )
    for path, domain in named:
        labels = domain.removesuffix(".").split(".")
        if not domain or not all(_LABEL.fullmatch(label) for label in labels):
            report.error(rules.BAD_SETTING, path, f'"{domain}" is not a trust domain')


def _check_curves(mesh: MeshConfig, report: MeshReport) -> None:
    if mesh.mesh_mtls is not None and mesh.mesh_mtls.ecdh_curves:
        report.error(
            rules.BAD_CURVES,
            ("meshMTLS", "ecdhCurves"),
            "mesh mTLS does not support a choice of ECDH curves",
            "Set them under tlsDefaults for traffic with the outside.",
        )
    curves = mesh.tls_defaults.ecdh_curves if mesh.tls_defaults is not None else []
    for index, curve in enumerate(curves):
        if curve and curve not in _CURVES:
            report.warn(
                rules.BAD_CURVES, ("tlsDefaults", "ecdhCurves", index), f"unknown curve {curve}"
            )
        elif curve in curves[:index]:
            report.warn(
                rules.BAD_CURVES, ("tlsDefaults", "ecdhCurves", index), f"{curve} is given twice"
            )


def _check_locality(mesh: MeshConfig, report: MeshReport) -> None:
    setting = mesh.locality_lb_setting
    path = ("localityLbSetting",)
    if setting.distribute and setting.failover:
        report.error(rules.BAD_SETTING, path, "distribute and failover exclude each other")
    for index, distribute in enumerate(setting.distribute):
        weights = list(distribute.to.values())
        if sum(weights) != 100 or not all(1 <= weight <= 100 for weight in weights):
            report.error(
                rules.BAD_SETTING,
                (*path, "distribute", index, "to"),
                f"weights are from 1 to 100 and add up to 100, not {sum(weights)}",
            )
        problem = localities_problem(list(distribute.to))
        if problem:
            report.error(rules.BAD_SETTING, (*path, "distribute", index, "to"), problem)
    problem = localities_problem([distribute.from_ for distribute in setting.distribute])
    if problem:
        report.error(rules.BAD_SETTING, (*path, "distribute"), problem)
    if setting.failover:
        for index, label in enumerate(setting.failover_priority):
            if label in TOPOLOGY:
                report.error(
                    rules.BAD_SETTING,
                    (*path, "failoverPriority", index),
                    f"failover and the topology label {label} exclude each other",
                )
    for index, failover in enumerate(setting.failover):
        regions = (failover.from_, failover.to)
        if failover.from_ == failover.to or any("/" in r or "*" in r for r in regions):
            report.error(
                rules.BAD_SETTING,
                (*path, "failover", index),
                "failover goes from one region to another, without zones or wildcards",
            )


def _check_providers(mesh: MeshConfig, report: MeshReport) -> None:
    counts = Counter(provider.name for provider in mesh.extension_providers)
    for index, provider in enumerate(mesh.extension_providers):
        path = ("extensionProviders", index)
        if not provider.name:
            report.warn(rules.BAD_PROVIDER, path, "a provider needs a name")
        elif counts[provider.name] > 1:
            report.warn(
                rules.BAD_PROVIDER, (*path, "name"), f"several providers are named {provider.name}"
            )
        if len(provider.kinds) != 1:
            report.warn(
                rules.BAD_PROVIDER,
                path,
                f"provider {provider.name} has {len(provider.kinds)} kinds, it needs one",
            )
        for problem in provider_problems(provider):
            report.warn(rules.BAD_PROVIDER, path, f"provider {provider.name}: {problem}")
    for field in ("tracing", "metrics", "access_logging"):
        for index, name in enumerate(getattr(mesh.default_providers, field)):
            if mesh.provider(name) is None:
                encoded = "accessLogging" if field == "access_logging" else field
                report.warn(
                    rules.BAD_PROVIDER,
                    ("defaultProviders", encoded, index),
                    f"there is no extension provider {name}",
                )


def provider_problems(provider: ExtensionProvider) -> list[str]:
    """Why a provider cannot be used; what names it must then fail closed."""
    problems: list[str] = []
    for field in provider.kinds:
        settings = getattr(provider, field)
        if isinstance(settings, dict) or not hasattr(settings, "service"):
            continue
        if not 1 <= settings.port <= 65535:
            problems.append(f"port {settings.port} is not from 1 to 65535")
        if not _is_service(settings.service):
            problems.append(f'service "{settings.service}" is not [NAMESPACE/]HOST')
        if isinstance(settings, ExtAuthzGrpc) and settings.status_on_error:
            status = settings.status_on_error
            if not status.isdigit() or not 100 <= int(status) <= 599:
                problems.append(f'statusOnError "{status}" is not an HTTP status')
        prefix = settings.path_prefix if isinstance(settings, ExtAuthzHttp) else ""
        if prefix and not prefix.startswith("/"):
            problems.append(f'pathPrefix "{prefix}" must start with /')
        if field == "lightstep" and not settings.access_token:
            problems.append("access token is required")
        if field == "opentelemetry" and settings.http and settings.grpc:
            problems.append("http and grpc exclude each other")
    return problems


def validate_mesh_networks(networks: MeshNetworks, add: Problems) -> None:
    """Check each network's endpoints and gateways."""
    report = MeshReport(add)
    for name, network in networks.networks.items():
        path = ("networks", name)
        if not _LABEL.fullmatch(name):
            report.error(rules.BAD_NETWORK, path, f'"{name}" is not a network name')
        for index, endpoints in enumerate(network.endpoints):
            _check_endpoints(endpoints, (*path, "endpoints", index), report)
        for index, gateway in enumerate(network.gateways):
            _check_gateway(gateway, (*path, "gateways", index), report)


def _check_endpoints(endpoints: NetworkEndpoints, path: FieldPath, report: MeshReport) -> None:
    if (endpoints.from_cidr is None) == (endpoints.from_registry is None):
        report.error(rules.BAD_NETWORK, path, "set one of fromCidr and fromRegistry")
    if endpoints.from_cidr is not None:
        try:
            ipaddress.ip_network(endpoints.from_cidr, strict=False)
        except ValueError:
            report.error(
                rules.BAD_NETWORK,
                (*path, "fromCidr"),
                f'"{endpoints.from_cidr}" is not a CIDR range',
            )
    if endpoints.from_registry == "":
        report.error(rules.BAD_NETWORK, (*path, "fromRegistry"), "fromRegistry is empty")


def _check_gateway(gateway: NetworkGateway, path: FieldPath, report: MeshReport) -> None:
    names = [name for name in (gateway.address, gateway.registry_service_name) if name is not None]
    if len(names) != 1 or not _is_host(names[0]):
        report.error(rules.BAD_NETWORK, path, "a gateway has one address or registryServiceName")
    _check_port(gateway.port, (*path, "port"), report)


def _check_port(port: int, path: FieldPath, report: MeshReport) -> None:
    if not 1 <= port <= 65535:
        report.error(rules.BAD_SETTING, path, f"port {port} is not from 1 to 65535")


def _check_duration(
    text: str, path: FieldPath, low: int, high: int, report: MeshReport, step: int = _MILLISECOND
) -> None:
    """Limits in nanoseconds; a ``high`` of 0 is none. 0s passes if ``low`` is 0."""
    try:
        nanoseconds = duration_nanoseconds(text)
    except ValueError as error:
        report.error(rules.BAD_SETTING, path, str(error))
        return
    if nanoseconds < low or (high and nanoseconds > high) or nanoseconds % step:
        limit = f" and at most {high // _SECOND}s" if high else ""
        report.error(
            rules.BAD_SETTING,
            path,
            f"{text} must be at least {low // _MILLISECOND}ms{limit}, in whole "
            + ("seconds" if step == _SECOND else "milliseconds"),
        )


def _bad_address(address: str, path: FieldPath, report: MeshReport) -> None:
    report.error(rules.BAD_SETTING, path, f'"{address}" is not HOST:PORT')


def _is_host(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        labels = name.removesuffix(".").split(".")
        if labels and labels[0] == "*":
            labels = labels[1:]
        return bool(name) and len(name) <= 255 and all(_LABEL.fullmatch(each) for each in labels)
    return True


def _is_host_port(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    if address.startswith("["):
        host = host.strip("[]")
    return bool(colon) and port.isdigit() and 1 <= int(port) <= 65535 and _is_host(host)


def _is_service(service: str) -> bool:
    namespace, slash, host = service.rpartition("/")
    return _is_host(host) and (not slash or bool(_LABEL.fullmatch(namespace)))
