"""Outbound listeners of a sidecar: ``virtualOutbound`` and one per address and port."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.api.findings import Finding
from lateen.ir.listener import (
    ChainMatch,
    Direction,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.origin import Origin
from lateen.ir.route import RouteConfiguration
from lateen.model.sidecar import EgressListener
from lateen.translate import alpn, names, origins, outbound_l4, unknown_hosts
from lateen.translate.memo import Identity, Memo
from lateen.translate.outbound_plan import Bind, Member, binds
from lateen.translate.rules import LISTENER_CONFLICT, finding
from lateen.translate.view import View

_chains: Memo[tuple[FilterChain, ...]] = Memo()
_listeners: Memo[Listener] = Memo()
_simple: Memo[FilterChain] = Memo(4096)


def listeners(view: View) -> tuple[Listener, ...]:
    """All outbound listeners of the scope."""
    found = [] if view.scope.interception == "NONE" else [_virtual_outbound(view)]
    found += [_listener(view, bind) for bind in plan(view)]
    return tuple(found)


def plan(view: View) -> tuple[Bind, ...]:
    """The binds behind `listeners`, computed once per view."""
    return view.cached("outbound-plan", lambda: binds(view))


def route_names(view: View) -> tuple[str, ...]:
    """RDS names that the listeners ask for."""
    return tuple(dict.fromkeys(bind.route_name for bind in plan(view) if bind.has_http))


def proxy_listener(view: View, route_name: str) -> EgressListener | None:
    """The egress listener with this RDS name whose clients name host and port, if it is one."""
    for listener in view.sidecar_scope.egress:
        if listener.is_proxy:
            for bind in plan(view):
                if bind.proxy is listener and bind.route_name == route_name:
                    return listener
    return None


def findings(view: View) -> Iterator[Finding]:
    """Service ports that get no listener chain because an older one takes the same traffic."""
    for bind in plan(view):
        taken: dict[ChainMatch, Member] = {}
        for member in (*bind.sniffed, *bind.tcp):
            for chain in _member_chains(view, bind, member):
                earlier = taken.setdefault(chain.match, member)
                if earlier is not member and member.service.key is not None:
                    yield finding(
                        LISTENER_CONFLICT,
                        member.service.key,
                        member.service.provenance,
                        ("spec", "ports", member.service.ports.index(member.port)),
                        f"port {member.port.number} of {member.service.hostname} cannot be told "
                        f"from port {earlier.port.number} of {earlier.service.hostname}: both are "
                        f"TCP on {_place(bind)}",
                        "Give the host an address of its own (spec.addresses), or declare the port "
                        "as HTTP or TLS if it is.",
                    )


def _place(bind: Bind) -> str:
    return "every address" if bind.wildcard else bind.address


def _virtual_outbound(view: View) -> Listener:
    target, reason = view.unknown_destination
    transparent = view.scope.interception == "TPROXY"

    def make() -> Listener:
        guard = FilterChain(
            name="virtualOutbound-blackhole",
            match=ChainMatch(destination_port=names.OUTBOUND_PORT),
            filter=_to(names.BLACK_HOLE),
            origins=(origins.LOOP_GUARD,),
        )
        catch_all = FilterChain(
            name="virtualOutbound-catchall-tcp",
            filter=_to(target, on_demand=view.on_demand),
            origins=(origins.CATCH_ALL, reason),
        )
        # As in `_listener`: beside a chain for HTTP, what takes everything is the default chain.
        chains = (guard, _unknown_http_chain(view, lookup)) if lookup else (guard, catch_all)
        return Listener(
            name=names.VIRTUAL_OUTBOUND,
            address=view.wildcard,
            port=names.OUTBOUND_PORT,
            direction=Direction.OUTBOUND,
            filter_chains=chains,
            default_filter_chain=catch_all if lookup else None,
            use_original_dst=True,
            transparent=transparent,
            tls_inspector=bool(lookup),
            http_inspector=bool(lookup),
            inspection_timeout=timeout,
            origins=(origins.CATCH_ALL,),
        )

    lookup = view.lookup_family if view.looks_up_unknown_hosts else ""
    timeout = view.inspection_timeout if lookup else None
    settings = view.http_settings if lookup else None
    common = (target, reason, transparent, view.wildcard, view.on_demand)
    return _listeners.get(("virtual", *common, lookup, timeout, settings), make)


def _unknown_http_chain(view: View, lookup: str) -> FilterChain:
    """Clear-text HTTP to addresses without a listener, whose hosts are looked up."""
    host = unknown_hosts.virtual_host(view)
    return FilterChain(
        name="virtualOutbound-catchall-tcp-http",
        match=ChainMatch(transport_protocol="raw_buffer", application_protocols=alpn.PLAIN_HTTP),
        filter=view.http_settings.of(
            HttpConnectionManager(
                stat_prefix=names.ALLOW_ANY_DYNAMIC_DNS,
                telemetry=Telemetry(Reporter.SOURCE),
                routes=RouteConfiguration(name=names.ALLOW_ANY_DYNAMIC_DNS, virtual_hosts=(host,)),
                resolve_hosts=lookup,
            )
        ),
        origins=(origins.CATCH_ALL, origins.ALLOW_ANY_DYNAMIC_DNS),
    )


def _listener(view: View, bind: Bind) -> Listener:
    chains: list[FilterChain] = []
    matches: set[ChainMatch] = set()
    for member in (*bind.sniffed, *bind.tcp):
        for chain in _member_chains(view, bind, member):
            if chain.match not in matches:
                matches.add(chain.match)
                chains.append(chain)
    default = None if ChainMatch() in matches else _passthrough_chain(view)
    if bind.has_http:
        chains.insert(0, _http_chain(view, bind))
        # Envoy does not come back from the HTTP chain's transport protocol to a chain without
        # one, so what takes everything else must be the default chain.
        rest = next((chain for chain in chains if chain.match == ChainMatch()), None)
        if rest is not None:
            chains.remove(rest)
            default = rest
    members = (*bind.http, *bind.sniffed, *bind.tcp)
    local = bind.bound or view.scope.interception == "NONE"
    timeout = view.inspection_timeout
    sidecar = _proxy_origin(view, bind)
    key = (
        bind.address,
        bind.port,
        local,
        timeout,
        tuple(Identity(chain) for chain in chains),
        Identity(default),
        tuple(Identity(member.service) for member in members),
        tuple(member.port for member in members) if bind.bound else (),
        sidecar,
    )

    def make() -> Listener:
        every = [chain.match for chain in chains]
        return Listener(
            name=names.listener_name(bind.address, bind.port),
            address=view.localhost if local and bind.wildcard else bind.address,
            port=bind.port,
            direction=Direction.OUTBOUND,
            filter_chains=tuple(chains),
            default_filter_chain=default,
            bind_to_port=local,
            tls_inspector=any(match.server_names or match.transport_protocol for match in every),
            http_inspector=any(match.application_protocols for match in every),
            inspection_timeout=timeout,
            origins=sidecar
            + tuple(
                origins.of_service(
                    member.service,
                    f"port {member.port.number} of {member.service.hostname}",
                    ("spec", "ports", member.service.ports.index(member.port)),
                )
                for member in members
            ),
        )

    return _listeners.get(key, make, family=(view.family, bind.address, bind.port))


def _proxy_origin(view: View, bind: Bind) -> tuple[Origin, ...]:
    resource = view.sidecar_scope.resource
    if bind.proxy is None or resource is None:
        return ()
    path = ("spec", "egress", bind.proxy.index)
    return (origins.of_resource(resource, path, "egress listener whose clients name the host"),)


def _member_chains(view: View, bind: Bind, member: Member) -> tuple[FilterChain, ...]:
    key = (
        Identity(member.service),
        member.port,
        member.protocol,
        member.prefixes,
        bind.address,
        bind.port,
        view.opaque_client_facts(member.service),
        view.routing_facts(member.service),
        Identity(view.mesh),
        view.aliases(member.service),
    )
    service = member.service
    return _chains.get(
        key,
        lambda: outbound_l4.chains(view, bind, member),
        family=(
            view.family,
            bind.address,
            bind.port,
            service.hostname,
            service.namespace,
            member.port.number,
            member.prefixes,
        ),
    )


def _http_chain(view: View, bind: Bind) -> FilterChain:
    """Clear-text HTTP. Other bytes on the port do not match it and are not broken by it."""
    name = names.listener_name(bind.address, bind.port)
    sniffed = bool(bind.sniffed)
    # Outside of the mesh nobody understands the mesh's ALPN.
    mesh = any(not member.service.mesh_external for member in bind.sniffed)
    lookup = next(filter(None, map(view.host_lookup, bind.request_ports)), "")
    key = ("http", name, bind.route_name, sniffed, mesh, view.http_settings, view.on_demand, lookup)

    def make() -> FilterChain:
        reason = (
            "protocol detection (a port without a declared protocol)"
            if sniffed
            else "HTTP listener (requests are routed by their Host)"
        )
        return FilterChain(
            name=name,
            match=ChainMatch(
                transport_protocol="raw_buffer", application_protocols=alpn.PLAIN_HTTP
            ),
            filter=view.http_settings.of(
                HttpConnectionManager(
                    stat_prefix=f"outbound_{name}",
                    telemetry=Telemetry(Reporter.SOURCE),
                    route_name=bind.route_name,
                    upstream_alpn=mesh,
                    on_demand=view.on_demand,
                    resolve_hosts=lookup,
                )
            ),
            origins=(origins.default(reason),),
        )

    return _simple.get(key, make)


def _passthrough_chain(view: View) -> FilterChain:
    target, reason = view.unknown_destination
    return _simple.get(
        ("passthrough", target, reason, view.on_demand),
        lambda: FilterChain(
            name=names.PASSTHROUGH_CHAIN,
            filter=_to(target, on_demand=view.on_demand),
            origins=(reason,),
        ),
    )


def _to(cluster: str, *, on_demand: bool = False) -> TcpProxy:
    clusters = (WeightedTcpCluster(cluster),)
    # An egress proxy is a service like others; the fallback clusters are always there.
    wanted = on_demand and names.parse_cluster(cluster) is not None
    return TcpProxy(cluster, clusters, Telemetry(Reporter.SOURCE), on_demand=wanted)


__all__ = ["findings", "listeners", "plan", "proxy_listener", "route_names"]
