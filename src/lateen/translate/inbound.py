"""What a sidecar does with traffic to its workload: ``virtualInbound`` and the inbound clusters."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.ir.cluster import (
    Cluster,
    ClusterType,
    Endpoint,
    LoadAssignment,
    LoadBalancer,
    LocalityEndpoints,
    ServiceReference,
    UpstreamProtocol,
)
from lateen.ir.listener import (
    ChainMatch,
    Direction,
    FilterChain,
    Listener,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.route import (
    Forward,
    RetryPolicy,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from lateen.model.service import Protocol
from lateen.translate import inbound_chains, names, origins
from lateen.translate.inbound_chains import InboundTarget
from lateen.translate.inbound_ports import LocalPort, local_ports
from lateen.translate.memo import Memo
from lateen.translate.mtls import Mode, WorkloadMtls
from lateen.translate.view import View

_PASSTHROUGH = "virtualInbound"
_PASSTHROUGH_HTTP = "virtualInbound-catchall-http"

_chains: Memo[tuple[FilterChain, ...]] = Memo()
_clusters: Memo[Cluster] = Memo()
_listeners: Memo[Listener] = Memo(4096)


def listeners(view: View) -> tuple[Listener, ...]:
    """``virtualInbound`` of a sidecar, empty for proxies that capture nothing."""
    if view.scope.interception == "NONE":
        return ()
    chains = tuple(_all_chains(view))
    excluded = _inspector_exclusions(view)
    settings = (view.inspection_timeout, view.wildcard, view.scope.interception)
    key = (tuple(id(chain) for chain in chains), excluded, settings)
    # `chains` are alive in the kept listener, so their ids stay theirs.
    made = _listeners.get(key, lambda: _virtual_inbound(view, chains, excluded), family=view.family)
    return (made,)


def clusters(view: View) -> tuple[Cluster, ...]:
    """``inbound|PORT||`` for each port of the workload, and the cluster of the others."""
    found = [_cluster(view, local) for local in local_ports(view)]
    found.append(_passthrough_cluster(view))
    return tuple(found)


def _virtual_inbound(
    view: View, chains: tuple[FilterChain, ...], excluded: tuple[tuple[int, ...], tuple[int, ...]]
) -> Listener:
    return Listener(
        name=names.VIRTUAL_INBOUND,
        address=view.wildcard,
        port=names.INBOUND_PORT,
        direction=Direction.INBOUND,
        filter_chains=chains,
        original_dst_filter=True,
        transparent=view.scope.interception == "TPROXY",
        tls_inspector=True,
        http_inspector=True,
        inspector_excluded_ports=excluded[0],
        tls_inspector_excluded_ports=excluded[1],
        inspection_timeout=view.inspection_timeout,
        origins=(origins.default("inbound (the proxy receives all traffic to the workload)"),),
    )


def _all_chains(view: View) -> Iterator[FilterChain]:
    yield from _chains.get("loop-guard", lambda: (_loop_guard(),))
    mtls = view.workload_mtls
    for local in local_ports(view):
        yield from _port_chains(view, local, mtls)
    declared = {local.port.target_port for local in local_ports(view)}
    for number in sorted(set(mtls.ports) - declared - {names.INBOUND_PORT}):
        yield from _passthrough_chains(view, number, mtls)
    yield from _passthrough_chains(view, 0, mtls)


def _loop_guard() -> FilterChain:
    return FilterChain(
        name="virtualInbound-blackhole",
        match=ChainMatch(destination_port=names.INBOUND_PORT),
        filter=TcpProxy(
            stat_prefix=names.BLACK_HOLE,
            clusters=(WeightedTcpCluster(names.BLACK_HOLE),),
            telemetry=Telemetry(Reporter.DESTINATION, metrics=False),
        ),
        origins=(origins.LOOP_GUARD,),
    )


def _port_chains(view: View, local: LocalPort, mtls: WorkloadMtls) -> tuple[FilterChain, ...]:
    port = local.port
    mode, reason = mtls.of_port(port.target_port)
    retry = view.inbound_retry
    key = (local, mode, reason, view.trust_domains, retry, view.http_settings, view.wildcard)

    def make() -> tuple[FilterChain, ...]:
        protocol = Protocol(port.protocol)
        name = names.listener_name(view.wildcard, port.target_port)
        target = InboundTarget(
            port=port.target_port,
            cluster=names.inbound_cluster(port.target_port),
            chain=name,
            http_chain=name,
            stat_prefix=f"inbound_{name}",
            routes=_routes(
                names.inbound_cluster(port.target_port),
                port.target_port,
                f"{port.hostname}:{port.service_port}/*" if port.hostname else "",
                None if protocol in (Protocol.GRPC, Protocol.GRPC_WEB) else retry,
            ),
            origins=(local.origin, reason),
            trust_domains=view.trust_domains,
            http=view.http_settings,
        )
        return inbound_chains.chains(target, protocol, mode)

    return _chains.get(key, make, family=(view.family, "port", port))


def _passthrough_chains(view: View, number: int, mtls: WorkloadMtls) -> tuple[FilterChain, ...]:
    mode, reason = mtls.of_port(number)

    def make() -> tuple[FilterChain, ...]:
        target = InboundTarget(
            port=number,
            cluster=names.INBOUND_PASSTHROUGH,
            chain=_PASSTHROUGH,
            http_chain=_PASSTHROUGH_HTTP,
            stat_prefix=names.INBOUND_PASSTHROUGH,
            routes=_routes(names.INBOUND_PASSTHROUGH, number, "", view.inbound_retry),
            origins=(origins.INBOUND_DEFAULT, reason),
            trust_domains=view.trust_domains,
            http=view.http_settings,
        )
        return inbound_chains.chains(target, Protocol.AUTO, mode)

    key = (number, mode, reason, view.trust_domains, view.inbound_retry, view.http_settings)
    return _chains.get(key, make, family=(view.family, "passthrough", number))


def _routes(
    cluster: str, port: int, operation: str, retry: RetryPolicy | None
) -> RouteConfiguration:
    route = Route(
        name="default",
        match=RouteMatch(),
        action=Forward(clusters=(WeightedCluster(cluster),), timeout=0.0, retry=retry),
        operation=operation,
        origins=(origins.default("inbound route (every request goes to the workload)"),),
    )
    host = VirtualHost(
        name=names.inbound_virtual_host(port), domains=("*",), routes=(route,), count_attempts=False
    )
    return RouteConfiguration(name=cluster, virtual_hosts=(host,))


def _inspector_exclusions(view: View) -> tuple[tuple[int, ...], tuple[int, ...]]:
    http: list[int] = []
    tls: list[int] = []
    mtls = view.workload_mtls
    for local in local_ports(view):
        port = local.port
        mode, _ = mtls.of_port(port.target_port)
        if not inbound_chains.needs_http_inspector(Protocol(port.protocol), mode):
            http.append(port.target_port)
        if not inbound_chains.needs_tls_inspector(mode):
            tls.append(port.target_port)
    declared = {local.port.target_port for local in local_ports(view)}
    tls += [
        number
        for number in mtls.ports
        if number not in declared and mtls.of_port(number)[0] is Mode.DISABLE
    ]
    return tuple(sorted(set(http))), tuple(sorted(set(tls)))


def _cluster(view: View, local: LocalPort) -> Cluster:
    port = local.port
    found = [view.own_service(host) for host in (port.hostname, *port.other_hostnames)]
    references = tuple(
        ServiceReference(service.hostname, service.name, service.namespace)
        for service in found
        if service is not None
    )
    key = (local, references, view.connect_timeout, view.inbound_bind)

    def make() -> Cluster:
        protocol = Protocol(port.protocol)
        upstream = UpstreamProtocol.NONE
        if protocol.is_http2:
            upstream = UpstreamProtocol.HTTP2
        elif protocol.is_http:
            upstream = UpstreamProtocol.HTTP1
        elif protocol is Protocol.AUTO:
            upstream = UpstreamProtocol.DOWNSTREAM
        name = names.inbound_cluster(port.target_port)
        assignment = _application(name, local)
        original = assignment is None
        return Cluster(
            name=name,
            type=ClusterType.ORIGINAL_DST if original else ClusterType.STATIC,
            load_balancer=LoadBalancer.CLUSTER_PROVIDED if original else LoadBalancer.ROUND_ROBIN,
            connect_timeout=view.connect_timeout,
            protocol=upstream,
            pool=local.pool,
            load_assignment=assignment,
            upstream_port_override=local.address_port if original else 0,
            bind_source=_bind_source(view, local) if original or local.instance else "",
            inbound=True,
            service=references[0] if references else None,
            other_services=references[1:],
            origins=(local.origin,),
        )

    return _clusters.get(key, make, family=(view.family, port))


def _bind_source(view: View, local: LocalPort) -> str:
    """The source address, of the destination's family, that capture rules leave alone."""
    if not local.instance:
        return view.inbound_bind
    return names.INBOUND_BIND_V6 if ":" in local.address else names.INBOUND_BIND


def _passthrough_cluster(view: View) -> Cluster:
    return _clusters.get(
        ("passthrough", view.connect_timeout, view.inbound_bind),
        lambda: Cluster(
            name=names.INBOUND_PASSTHROUGH,
            type=ClusterType.ORIGINAL_DST,
            load_balancer=LoadBalancer.CLUSTER_PROVIDED,
            connect_timeout=view.connect_timeout,
            protocol=UpstreamProtocol.DOWNSTREAM,
            bind_source=view.inbound_bind,
            inbound=True,
            origins=(origins.INBOUND_DEFAULT,),
        ),
    )


def _application(cluster: str, local: LocalPort) -> LoadAssignment | None:
    """The application's own address, None when traffic goes where it was sent to."""
    if not local.address:
        return None
    endpoint = Endpoint(address=local.address, port=local.address_port)
    return LoadAssignment(cluster, (LocalityEndpoints(endpoints=(endpoint,)),))
