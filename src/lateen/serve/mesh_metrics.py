"""Gauges that are read off the mesh when somebody asks, not kept while it changes.

What Istio counts in ``pilot_services``, ``pilot_conflict_*`` and the like is a property of the
newest snapshot, so it is computed from it at the scrape, at most once per `INTERVAL`.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lateen import __version__
from lateen.api.core.pod import Pod
from lateen.model import rules
from lateen.model.proxy import ProxyType
from lateen.model.service import Health, Registry, Resolution
from lateen.model.snapshot import Snapshot
from lateen.model.virtual_services import virtual_services
from lateen.serve.connection import Connection
from lateen.serve.metrics import short_name

if TYPE_CHECKING:
    from lateen.serve.control_plane import ControlPlane
    from lateen.serve.serving import Serving

INTERVAL = 5.0
"""Seconds for which what was computed of a snapshot is good enough."""
_HELP = {
    "pilot_services": "Services known",
    "pilot_virt_services": "VirtualServices known",
    "pilot_eds_no_instances": "Ports of services that have no endpoint",
    "pilot_endpoint_not_ready": "Endpoints that are not ready",
    "endpoint_no_pod": "Endpoints of Kubernetes services behind which no Pod is known",
    "pilot_k8s_endpoints_with_no_pods": "The same, by the name of older dashboards",
    "pilot_no_ip": "Pods that a service selects and that have no address yet",
    "pilot_k8s_endpoints_pending_pod": "Pods that a service selects and that do not run yet",
    "pilot_dns_cluster_without_endpoints": "DNS services without a name to look up",
    "pilot_vservice_dup_domain": "Hosts for which more than one VirtualService speaks to sidecars",
    "pilot_destrule_subsets": "Subsets that two DestinationRules of one host define",
    "pilot_duplicate_envoy_clusters": "Clusters left out because their name is taken",
    "pilot_conflict_inbound_listener": "Workload ports that services of two protocols claim",
    "pilot_conflict_outbound_listener_tcp_over_current_tcp": (
        "TCP ports that share address and number with those of an older service"
    ),
    "lateen_findings": "What is wrong among the objects of the mesh",
}


class MeshCollector(Collector):
    """Yields the gauges of one control plane."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._values: Mapping[str, float] = {}
        self._version = -1
        self._computed_at = 0.0

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance, so that registering does not compute anything."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield from (_gauge(name, _HELP[name], value) for name, value in self._mesh().items())
        yield from _proxies(self._plane)
        yield from _overload(self._plane)
        yield from _cache(self._plane)
        yield from _build(self._plane)

    def _mesh(self) -> Mapping[str, float]:
        snapshot, now = self._plane.snapshot, time.monotonic()
        if snapshot.version != self._version and now - self._computed_at >= INTERVAL:
            self._values = mesh_values(snapshot)
            self._version, self._computed_at = snapshot.version, now
        return self._values


def mesh_values(snapshot: Snapshot) -> dict[str, float]:
    """Name of the gauge to value, for one snapshot."""
    values = dict.fromkeys(_HELP, 0.0)
    services = snapshot.services.all()
    values["pilot_services"] = len(services)
    values["pilot_virt_services"] = len(snapshot.of_kind("networking.istio.io", "VirtualService"))
    taken: set[tuple[str, int]] = set()
    for service in services:
        endpoints = snapshot.services.endpoints(service)
        served = {endpoint.service_port for endpoint in endpoints}
        if service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
            values["pilot_dns_cluster_without_endpoints"] += not endpoints
        elif service.resolution is Resolution.CLIENT_SIDE:
            values["pilot_eds_no_instances"] += sum(
                port.name not in served for port in service.ports
            )
        for endpoint in endpoints:
            values["pilot_endpoint_not_ready"] += endpoint.health is not Health.HEALTHY
            if service.registry is Registry.KUBERNETES and endpoint.workload is None:
                values["endpoint_no_pod"] += 1
        for port in service.ports:
            if not port.protocol.is_tcp:
                continue
            places = {(address, port.number) for address in service.addresses}
            values["pilot_conflict_outbound_listener_tcp_over_current_tcp"] += bool(places & taken)
            taken |= places
    values["pilot_k8s_endpoints_with_no_pods"] = values["endpoint_no_pod"]
    for pod in snapshot.of_kind("", "Pod").values():
        waiting = isinstance(pod.object, Pod) and not (
            pod.object.status is not None and pod.object.status.pod_ip
        )
        if waiting and snapshot.services.selecting(pod.key.namespace, pod.labels):
            values["pilot_no_ip"] += 1
            values["pilot_k8s_endpoints_pending_pod"] += 1
    values["pilot_vservice_dup_domain"] = _shared_hosts(snapshot)
    found = Tally(finding.rule for finding in snapshot.findings)
    values["pilot_destrule_subsets"] = found[rules.SUBSET_TAKEN.id]
    values["pilot_conflict_inbound_listener"] = found[rules.INBOUND_PORT_TAKEN.id]
    values["lateen_findings"] = found.total()
    return values


def _shared_hosts(snapshot: Snapshot) -> int:
    hosts: Tally[tuple[str, str]] = Tally()
    for effective in virtual_services(snapshot).all:
        if "mesh" in effective.gateways:
            hosts.update((effective.namespace, host) for host in set(effective.hosts))
    return sum(count > 1 for count in hosts.values())


def proxy_metrics(plane: Serving) -> Iterable[Metric]:
    """Per-proxy series (``/metrics/proxies``): apart from the rest, as there is one set each."""
    now = time.monotonic()

    def family(name: str, text: str, value: Callable[[Connection], float]) -> Metric:
        made = GaugeMetricFamily(name, text, labels=("proxy",))
        for item in plane.server.connections:
            made.add_metric((f"{item.proxy.name}.{item.proxy.namespace}",), value(item))
        return made

    def total(field: str) -> Callable[[Connection], float]:
        return lambda item: sum(getattr(record, field) for record in item.records.values())

    yield family(
        "lateen_proxy_convergence_seconds",
        "From the newest change to its acknowledgement",
        lambda item: item.convergence,
    )
    yield family(
        "lateen_proxy_behind_seconds",
        "For how long the proxy has not acknowledged a change; 0 when in sync",
        lambda item: now - item.changed_at if item.changed_at else 0.0,
    )
    yield family("lateen_proxy_in_sync", "1 when all is acknowledged", lambda c: c.session.in_sync)
    yield family("lateen_proxy_slow", "1 while the proxy does not read", lambda item: item.slow)
    yield family("lateen_proxy_sent_bytes", "Bytes of responses", total("bytes"))
    yield family("lateen_proxy_rejections", "Responses refused", total("rejections"))


def _proxies(plane: ControlPlane) -> Iterable[Metric]:
    connections = plane.server.connections
    behind = [item for item in connections if not item.session.in_sync]
    without = sum(
        item.proxy.type is ProxyType.SIDECAR
        and item.state is not None
        and not item.state.scope.inbound
        for item in connections
    )
    yield _gauge(
        "pilot_k8s_proxies_with_no_service_targets",
        "Sidecars of workloads that no service selects",
        without,
    )
    yield _gauge("lateen_push_queue_depth", "Proxies that are not in sync", len(behind))
    yield _gauge("lateen_proxies_slow", "Proxies that do not read", sum(c.slow for c in behind))
    yield _gauge(
        "lateen_push_pending_changes",
        "Objects whose changes wait to be pushed",
        plane.server.waiting + plane.standing.waiting,
    )
    now = time.monotonic()
    oldest = max((now - item.changed_at for item in behind if item.changed_at), default=0.0)
    yield _gauge("lateen_push_oldest_seconds", "Age of the oldest unacknowledged change", oldest)


def _overload(plane: ControlPlane) -> Iterable[Metric]:
    standing = plane.standing
    yield _gauge("lateen_overloaded", "1 while pushes do not keep up", standing.overloaded)
    yield _gauge(
        "lateen_deferred_changes", "Objects whose changes wait for urgent ones", standing.deferred
    )
    yield _gauge(
        "lateen_deferred_oldest_seconds", "Age of the oldest deferred change", standing.oldest
    )


def _cache(plane: ControlPlane) -> Iterable[Metric]:
    """Responses are cached between views: what was not serialised anew was a hit."""
    totals = plane.metrics.totals()
    reads = CounterMetricFamily(
        "xds_cache_reads", "Look-ups of serialised responses", labels=["type"]
    )
    reads.add_metric(["hit"], max(0.0, totals["messages"] - totals["encodings"]))
    reads.add_metric(["miss"], totals["encodings"])
    yield reads
    sizes = GaugeMetricFamily("xds_cache_size", "Resources kept for proxies", labels=["type"])
    for type_url, names in kept_resources(plane).items():
        sizes.add_metric([short_name(type_url)], len(names))
    yield sizes


def kept_resources(plane: Serving) -> dict[str, dict[str, int]]:
    """Type URL to version to size in bytes, of every resource of every scope, each once."""
    kept: dict[str, dict[str, int]] = {}
    views = {
        id(view): view
        for state in plane.server.scopes.values()
        for view in state.target.views.values()
    }
    bases = {id(view.base): view.base for view in views.values() if view.base is not None}
    for view in (*views.values(), *bases.values()):
        of_type = kept.setdefault(view.type_url, {})
        own = view.resources if view.base is None else getattr(view.resources, "own", {})
        of_type.update((item.version, item.size) for item in own.values())
    return kept


def _build(plane: ControlPlane) -> Iterable[Metric]:
    info = GaugeMetricFamily("pilot_info", "Version of the control plane", labels=["version"])
    info.add_metric([__version__], 1)
    yield info
    build = GaugeMetricFamily("istio_build", "Version of a component", labels=["component", "tag"])
    build.add_metric(["pilot", __version__], 1)
    yield build
    yield _gauge("istiod_uptime_seconds", "Since the start", time.time() - plane.started_at)
    left = plane.authority.expires.timestamp() - time.time()
    yield _gauge("citadel_server_root_cert_expiry_seconds", "Life left to the authority", left)
    own = plane.certificate().issued.expires.timestamp()
    yield _gauge("citadel_server_cert_chain_expiry_timestamp", "Expiry of our certificate", own)
    yield _gauge(
        "citadel_server_cert_chain_expiry_seconds",
        "Life left to our certificate",
        own - time.time(),
    )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
