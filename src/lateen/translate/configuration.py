"""The whole configuration of a scope, put together from its parts."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.api.findings import Finding
from lateen.ir.cluster import Cluster, LoadAssignment
from lateen.ir.listener import Listener
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.ir.route import RouteConfiguration
from lateen.model.proxy import ProxyType, Scope
from lateen.model.snapshot import Snapshot
from lateen.model.virtual_services import EffectiveVirtualService
from lateen.translate import (
    clusters,
    coverage,
    endpoints,
    gateway,
    gateway_clusters,
    gateway_routes,
    gateway_servers,
    inbound,
    outbound,
    references,
    routes,
)
from lateen.translate.view import View


def translate(snapshot: Snapshot, scope: Scope) -> ProxyConfiguration:
    """Everything the proxies of ``scope`` shall run, with findings. Pure; never raises for an
    object that a user wrote."""
    return configuration(View(snapshot, scope))


def configuration(view: View) -> ProxyConfiguration:
    """As `translate`, for a view that is already there."""
    return ProxyConfiguration(
        clusters=all_clusters(view),
        load_assignments=all_load_assignments(view),
        listeners=all_listeners(view),
        routes=all_routes(view),
        findings=all_findings(view),
    )


def all_clusters(view: View) -> tuple[Cluster, ...]:
    """Clusters of every visible service, of the workload's own ports, and the fallbacks."""
    sidecar = view.scope.type is ProxyType.SIDECAR
    own = inbound.clusters(view) if sidecar else gateway_clusters.sni_clusters(view)
    return (*_service_clusters(view), *own, *clusters.fallback_clusters(view))


def outbound_clusters(view: View) -> tuple[Cluster, ...]:
    """Clusters of every visible service, and the fallbacks: what proxies of different workloads
    share."""
    return (*_service_clusters(view), *clusters.fallback_clusters(view))


def _service_clusters(view: View) -> Iterator[Cluster]:
    for service in view.services:
        yield from clusters.outbound_clusters(view, service)


def all_load_assignments(view: View) -> tuple[LoadAssignment, ...]:
    """Endpoints of every EDS cluster in `all_clusters`."""
    found: list[LoadAssignment] = []
    for service in view.services:
        found += endpoints.load_assignments(view, service)
    if view.scope.type is not ProxyType.SIDECAR:
        found += gateway_clusters.sni_load_assignments(view)
    return tuple(found)


def all_listeners(view: View) -> tuple[Listener, ...]:
    """Outbound and inbound listeners of a sidecar, or the listeners of a gateway."""
    if view.scope.type is ProxyType.SIDECAR:
        return (*outbound.listeners(view), *inbound.listeners(view))
    return gateway.listeners(view)


def outbound_listeners(view: View) -> tuple[Listener, ...]:
    """Outbound listeners of a sidecar: what those of different workloads share."""
    return outbound.listeners(view)


def route_names(view: View) -> tuple[str, ...]:
    """RDS names of the scope."""
    if view.scope.type is ProxyType.SIDECAR:
        return routes.route_names(view)
    return gateway_routes.route_names(view)


def route_configuration(
    view: View, name: str, known: routes.Known | None = None
) -> RouteConfiguration:
    """One route configuration of the scope, whether a listener asks for it or not.

    ``known`` are virtual hosts made for the scope before (`routes.route_configuration`).
    """
    if view.scope.type is ProxyType.SIDECAR:
        return routes.route_configuration(view, name, known)
    return gateway_routes.route_configuration(view, name)


def all_routes(view: View, known: routes.Known | None = None) -> tuple[RouteConfiguration, ...]:
    """Every route configuration of the scope; ``known`` as in `route_configuration`."""
    return tuple(route_configuration(view, name, known) for name in route_names(view))


def all_findings(view: View) -> tuple[Finding, ...]:
    """What is wrong for this scope, each statement once, errors first."""
    found = [*reference_findings(view), *coverage.findings(view)]
    unique = {(item.rule, item.key, item.path, item.message): item for item in found}
    return tuple(sorted(unique.values(), key=_severity))


def reference_findings(view: View) -> list[Finding]:
    """What leads nowhere for this scope, or is in the way of something else."""
    found: list[Finding] = []
    if view.scope.type is ProxyType.SIDECAR:
        found += outbound.findings(view)
        found += references.findings(
            view, view.routings, lambda routing: references.service_ports(view, routing)
        )
        found += references.shadowed_hosts(view)
    else:
        found += gateway_servers.conflicts(view)
        found += gateway.credential_findings(view)
        ports = _gateway_ports(view)
        found += references.findings(view, ports, lambda routing: frozenset(ports[routing]))
    found += references.unknown_gateways(view)
    found += clusters.credential_findings(view)
    return found


def _gateway_ports(view: View) -> dict[EffectiveVirtualService, set[int]]:
    """VirtualServices bound to the gateway, each with the server ports it is bound on."""
    ports: dict[EffectiveVirtualService, set[int]] = {}
    for group in gateway_servers.groups(view):
        for server in group.servers:
            for routing in view.gateway_routings(server.gateway):
                ports.setdefault(routing, set()).add(server.server.port.number)
    return ports


def _severity(finding: Finding) -> int:
    return ("error", "warning", "info").index(finding.severity.value)
