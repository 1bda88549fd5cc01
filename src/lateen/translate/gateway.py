"""Gateway proxies: listeners of all Gateways that select them, merged."""

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
    Telemetry,
)
from lateen.ir.origin import Origin
from lateen.ir.tls import DownstreamTls
from lateen.translate import credentials, names, origins
from lateen.translate.credentials import refusing_chain
from lateen.translate.gateway_l4 import (
    auto_passthrough_chains,
    passthrough_chains,
    tcp_chain,
)
from lateen.translate.gateway_servers import (
    GatewayServer,
    ServerGroup,
    ServerKind,
    groups,
    https_route_name,
)
from lateen.translate.gateway_tls import HANDSHAKE_TIMEOUT, server_tls
from lateen.translate.memo import Identity, Memo
from lateen.translate.view import View

_listeners: Memo[Listener] = Memo(4096)
_chains: Memo[FilterChain] = Memo(16_384)
_refusing: Memo[FilterChain] = Memo(1024)
_TERMINATING = (ServerKind.HTTPS, ServerKind.TLS)


def listeners(view: View) -> tuple[Listener, ...]:
    """One listener per bind address and port of the merged Gateways."""
    found = (_listener(view, group) for group in groups(view))
    return tuple(listener for listener in found if listener is not None)


def _listener(view: View, group: ServerGroup) -> Listener | None:
    chains = tuple(_servable(view, chain) for chain in _group_chains(view, group))
    if not chains:
        return None
    name = names.listener_name(group.bind, group.port)
    origin = tuple(_server_origin(server) for server in group.servers)
    key = (name, chains, origin, view.accepts_proxy_protocol)

    def make() -> Listener:
        return Listener(
            name=name,
            address=group.bind,
            port=group.port,
            direction=Direction.OUTBOUND,
            filter_chains=chains,
            tls_inspector=any(
                chain.match.server_names or chain.match.transport_protocol == "tls"
                for chain in chains
            ),
            proxy_protocol=view.accepts_proxy_protocol,
            origins=origin,
        )

    return _listeners.get(key, make, family=(view.family, name))


def _group_chains(view: View, group: ServerGroup) -> Iterator[FilterChain]:
    if group.http:
        yield _http_chain(view, group)
    for server in group.servers:
        if server.kind is ServerKind.HTTPS:
            yield _https_chain(view, server)
        elif server.kind is ServerKind.TLS:
            chain = tcp_chain(view, server, terminated=_tls(view, server, http=False))
            if chain is not None:
                yield chain
        elif server.kind is ServerKind.TCP:
            chain = tcp_chain(view, server, terminated=None)
            if chain is not None:
                yield chain
    seen: set[ChainMatch] = set()
    for server in group.servers:
        made: tuple[FilterChain, ...] = ()
        if server.kind is ServerKind.PASSTHROUGH:
            made = passthrough_chains(view, server)
        elif server.kind is ServerKind.AUTO_PASSTHROUGH:
            made = auto_passthrough_chains(view, server)
        for chain in made:
            if chain.match not in seen:
                seen.add(chain.match)
                yield chain


def _servable(view: View, chain: FilterChain) -> FilterChain:
    """``chain``, or one that refuses when its TLS cannot be terminated."""
    problem = credentials.downstream_problem(view.snapshot, view.scope.namespace, chain.tls)
    if not problem:
        return chain
    origin = origins.default(f"connections are refused, as TLS cannot be terminated: {problem}")
    return _refusing.get((Identity(chain), problem), lambda: refusing_chain(chain, origin))


def credential_findings(view: View) -> Iterator[Finding]:
    """Servers whose credential cannot be used."""
    for group in groups(view):
        for server in group.servers:
            tls = _tls(view, server, http=False) if server.kind in _TERMINATING else None
            if tls is None:
                continue
            found = credentials.first_problem(
                view.snapshot, view.scope.namespace, tls.certificates, tls.validation
            )
            if found is not None:
                yield credentials.finding(
                    server.resource,
                    (*server.path, "tls"),
                    found,
                    f"server {server.server.port.name!r} refuses its connections",
                )


def _http_chain(view: View, group: ServerGroup) -> FilterChain:
    server = group.http[0]
    return _manager_chain(
        view,
        server,
        name=names.listener_name(group.bind, group.port),
        route_name=group.http_route_name,
        match=ChainMatch(),
        tls=None,
        origin=tuple(_server_origin(item) for item in group.http),
    )


def _https_chain(view: View, server: GatewayServer) -> FilterChain:
    return _manager_chain(
        view,
        server,
        name=https_route_name(server),
        route_name=https_route_name(server),
        match=ChainMatch(server_names=sni_names(server)),
        tls=_tls(view, server, http=True),
        origin=(_server_origin(server),),
    )


def _manager_chain(
    view: View,
    server: GatewayServer,
    *,
    name: str,
    route_name: str,
    match: ChainMatch,
    tls: DownstreamTls | None,
    origin: tuple[Origin, ...],
) -> FilterChain:
    hops = view.trusted_proxies
    forwarded = view.forward_client_certificate
    lookup = view.host_lookup(server.server.port.number)
    key = (name, route_name, match, tls, origin, hops, forwarded, view.http_settings, lookup)

    def make() -> FilterChain:
        return FilterChain(
            # The one clear-text chain of a listener has no name in Istio either.
            name=name if tls is not None else "",
            match=match,
            tls=tls,
            connect_timeout=HANDSHAKE_TIMEOUT if tls is not None else None,
            filter=view.http_settings.of(
                HttpConnectionManager(
                    stat_prefix=f"outbound_{name}",
                    telemetry=Telemetry(Reporter.SOURCE),
                    route_name=route_name,
                    use_remote_address=True,
                    trusted_hops=hops,
                    forward_client_certificate=forwarded,
                    client_certificate_details=True,
                    resolve_hosts=lookup,
                )
            ),
            origins=origin,
        )

    return _chains.get(key, make, family=(view.family, name, match))


def sni_names(server: GatewayServer) -> tuple[str, ...]:
    """SNI to match; a server for every host matches connections without SNI too."""
    return () if "*" in server.hosts else server.hosts


def _tls(view: View, server: GatewayServer, *, http: bool) -> DownstreamTls | None:
    settings = server.server.tls
    return (
        server_tls(settings, http=http, minimum=view.http_settings.gateway_tls_minimum)
        if settings is not None
        else None
    )


def _server_origin(server: GatewayServer) -> Origin:
    port = server.server.port
    moved = f", port {server.target_port} of the pod" if server.target_port != port.number else ""
    return origins.of_resource(
        server.resource, server.path, f"server {port.name!r} on port {port.number}{moved}"
    )
