"""Filter chains that forward TCP and unterminated TLS: by VirtualService, SNI, CIDR or default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lateen.api.base import duration_seconds
from lateen.api.networking.virtual_service import RouteDestination
from lateen.ir.listener import (
    ChainMatch,
    FilterChain,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.origin import Origin
from lateen.model.definitions import one_form_each
from lateen.model.names import is_ip
from lateen.model.service import Protocol, Resolution
from lateen.model.virtual_services import EffectiveVirtualService
from lateen.translate import names, origins
from lateen.translate.clusters import subset_policy
from lateen.translate.load_balancing import hash_policies
from lateen.translate.outbound_plan import Bind, Member
from lateen.translate.route_match import Place, applies_l4
from lateen.translate.view import View
from lateen.translate.virtual_service import destination_cluster


def chains(view: View, bind: Bind, member: Member) -> tuple[FilterChain, ...]:
    """The chains of one service port that is not (only) HTTP."""
    place = Place("mesh", member.port.number, view.scope.namespace, view.scope.labels)
    found: list[FilterChain] = []
    if member.protocol.is_tls:
        for routing in view.routings_of(member.service):
            found += _tls_chains(view, routing, member, place)
        if not found:
            found.append(_default_chain(view, bind, member))
        return tuple(found)
    for routing in view.routings_of(member.service):
        chosen, complete = _tcp_chains(view, routing, member, place)
        found += chosen
        if complete:
            return tuple(found)
    found.append(_default_chain(view, bind, member))
    return tuple(found)


def _default_chain(view: View, bind: Bind, member: Member) -> FilterChain:
    """Everything to the service itself; where addresses are shared, only what names it."""
    service, port = member.service, member.port
    server_names: tuple[str, ...] = ()
    if member.protocol.is_tls and bind.wildcard and not member.prefixes:
        server_names = _server_names((service.hostname, *view.aliases(service)))
    cluster = names.outbound_cluster(port.number, "", service.hostname)
    return FilterChain(
        name=cluster,
        match=ChainMatch(prefixes=member.prefixes, server_names=server_names),
        filter=tcp_proxy(
            view,
            cluster,
            (WeightedTcpCluster(cluster),),
            member,
            "",
        ),
        origins=(
            origins.of_service(
                service,
                f"port {port.number} of {service.hostname}",
                ("spec", "ports", service.ports.index(port)),
            ),
            origins.default("service route (no VirtualService rule takes this traffic)"),
        ),
    )


def _tls_chains(
    view: View, routing: EffectiveVirtualService, member: Member, place: Place
) -> Iterator[FilterChain]:
    seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
    for index, route in enumerate(routing.tls):
        for number, match in enumerate(route.match):
            if not applies_l4(match, place):
                continue
            subnets = one_form_each(match.destination_subnets)
            key = (tuple(match.sni_hosts), subnets)
            if key in seen:
                continue
            seen.add(key)
            path = ("spec", "tls", index, "match", number)
            yield _routed_chain(
                view,
                routing,
                member,
                route.route,
                ChainMatch(
                    prefixes=subnets or member.prefixes,
                    server_names=_server_names(tuple(match.sni_hosts)),
                ),
                origins.of_resource(routing.resource, path, "TLS rule chosen by SNI"),
            )


def _tcp_chains(
    view: View, routing: EffectiveVirtualService, member: Member, place: Place
) -> tuple[list[FilterChain], bool]:
    """The chains of the TCP rules, and whether they take everything."""
    found: list[FilterChain] = []
    for index, route in enumerate(routing.tcp):
        path: tuple[str | int, ...] = ("spec", "tcp", index)
        subnets: list[str] = []
        everything = not route.match
        applies = everything
        for match in route.match:
            if not applies_l4(match, place):
                continue
            applies = True
            if match.destination_subnets:
                subnets += match.destination_subnets
            else:
                everything = True
                break
        if not applies:
            continue
        prefixes = member.prefixes if everything else one_form_each(subnets)
        found.append(
            _routed_chain(
                view,
                routing,
                member,
                route.route,
                ChainMatch(prefixes=prefixes),
                origins.of_resource(routing.resource, path, "TCP rule that the connection meets"),
            )
        )
        if everything or (member.prefixes and set(prefixes) == set(member.prefixes)):
            return found, True
    return found, False


def _routed_chain(
    view: View,
    routing: EffectiveVirtualService,
    member: Member,
    destinations: Sequence[RouteDestination],
    match: ChainMatch,
    origin: Origin,
) -> FilterChain:
    clusters = weighted_clusters(view, destinations, member.port.number)
    first = destinations[0].destination.subset if destinations else ""
    stat = clusters[0].cluster if len(clusters) == 1 else _stat_prefix(routing)
    label = match.server_names[0] if match.server_names else str(member.port.number)
    return FilterChain(
        name=f"{_stat_prefix(routing)}:{label}",
        match=match,
        filter=tcp_proxy(view, stat, clusters, member, first),
        origins=(origin,),
    )


def weighted_clusters(
    view: View, destinations: Sequence[RouteDestination], port: int
) -> tuple[WeightedTcpCluster, ...]:
    """Clusters of the destinations that get any traffic."""
    lone = len(destinations) == 1
    found = []
    for entry in destinations:
        if not lone and entry.weight <= 0:
            continue
        cluster, _, _ = destination_cluster(view, entry.destination, port)
        found.append(WeightedTcpCluster(cluster, 1 if lone else entry.weight))
    return tuple(found) or (WeightedTcpCluster(names.BLACK_HOLE),)


def tcp_proxy(
    view: View,
    stat_prefix: str,
    clusters: tuple[WeightedTcpCluster, ...],
    member: Member | None,
    subset: str,
) -> TcpProxy:
    """The forwarder; timeouts, hashing and tunnel come from the first destination's rule."""
    parts = names.parse_cluster(clusters[0].cluster)
    service = view.service(parts.hostname) if parts is not None else None
    telemetry = Telemetry(Reporter.SOURCE)
    if parts is None or service is None:
        return TcpProxy(stat_prefix, clusters, telemetry)
    policy, _ = subset_policy(view, service, parts.port, parts.subset)
    tcp = policy.connection_pool.tcp if policy.connection_pool is not None else None
    tunnel = policy.tunnel
    looked_up = service.resolution is Resolution.DYNAMIC_DNS
    return TcpProxy(
        stat_prefix=stat_prefix,
        clusters=clusters,
        telemetry=telemetry,
        idle_timeout=duration_seconds(tcp.idle_timeout) if tcp and tcp.idle_timeout else None,
        max_connection_duration=duration_seconds(tcp.max_connection_duration)
        if tcp and tcp.max_connection_duration
        else None,
        hash_policies=tuple(
            found for found in hash_policies(policy.load_balancer) if found.source_ip
        ),
        upstream_alpn=member is not None
        and member.protocol is Protocol.AUTO
        and not member.service.mesh_external,
        tunnel_host=f"{tunnel.target_host}:{tunnel.target_port}" if tunnel is not None else "",
        tunnel_post=tunnel is not None and tunnel.protocol.upper() == "POST",
        on_demand=view.on_demand,
        resolve_sni=view.lookup_family if looked_up else "",
        resolved_port=parts.port if looked_up else 0,
    )


def _server_names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in hosts:
        return ()
    return tuple(dict.fromkeys(host for host in hosts if not is_ip(host)))


def _stat_prefix(routing: EffectiveVirtualService) -> str:
    return f"{routing.name}.{routing.namespace}"
