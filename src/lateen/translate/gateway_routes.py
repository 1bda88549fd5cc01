"""Route configurations of gateways: every VirtualService bound to a server adds its routes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from lateen.ir.origin import Origin
from lateen.ir.route import Route, RouteConfiguration, VirtualHost
from lateen.model.virtual_services import EffectiveVirtualService
from lateen.translate import names, origins
from lateen.translate.gateway_servers import (
    GatewayServer,
    ServerKind,
    groups,
    https_route_name,
)
from lateen.translate.memo import Identity, Memo
from lateen.translate.route_match import Place, concerns, is_catch_all
from lateen.translate.view import View
from lateen.translate.virtual_service import http_routes

_routes: Memo[tuple[Route, ...]] = Memo()
_hosts: Memo[VirtualHost] = Memo()
_configurations: Memo[RouteConfiguration] = Memo()


def route_names(view: View) -> tuple[str, ...]:
    """RDS names of the gateway."""
    found: list[str] = []
    for group in groups(view):
        if group.http:
            found.append(group.http_route_name)
        found += [
            https_route_name(server) for server in group.servers if server.kind is ServerKind.HTTPS
        ]
    return tuple(dict.fromkeys(found))


def route_configuration(view: View, name: str) -> RouteConfiguration:
    """The route configuration ``name``; a name nobody asks for gets one without hosts."""
    hosts = tuple(_virtual_hosts(view, name, servers_of(view, name)))
    key = (name, tuple(Identity(host) for host in hosts))
    return _configurations.get(
        key,
        lambda: RouteConfiguration(name=name, virtual_hosts=hosts),
        family=(view.family, name),
    )


def servers_of(view: View, name: str) -> tuple[GatewayServer, ...]:
    """The servers whose requests the route configuration ``name`` routes."""
    for group in groups(view):
        if group.http and group.http_route_name == name:
            return tuple(group.http)
        for server in group.servers:
            if server.kind is ServerKind.HTTPS and https_route_name(server) == name:
                return (server,)
    return ()


def _virtual_hosts(
    view: View, configuration: str, servers: Sequence[GatewayServer]
) -> Iterator[VirtualHost]:
    if not servers:
        return
    bound: dict[str, list[tuple[EffectiveVirtualService, GatewayServer]]] = {}
    redirected: dict[str, GatewayServer] = {}
    for server in servers:
        tls = server.server.tls
        redirects = tls is not None and tls.https_redirect
        if redirects:
            for host in server.hosts:
                redirected.setdefault(host, server)
        for routing in view.gateway_routings(server.gateway):
            if not concerns((rule.route for rule in routing.http), _place(view, server)):
                continue
            for host in routing.hosts:
                for name in server.hosts_for(routing.namespace, host):
                    if redirects:
                        redirected.setdefault(name, server)
                    entries = bound.setdefault(name, [])
                    if all(entry[0] is not routing for entry in entries):
                        entries.append((routing, server))
    port = servers[0].server.port.number
    for host in dict.fromkeys((*bound, *redirected)):
        family = (view.family, configuration, host)
        yield _virtual_host(view, host, port, bound.get(host, []), redirected.get(host), family)
    if not bound and not redirected:
        yield _black_hole(port)


def _virtual_host(
    view: View,
    host: str,
    port: int,
    entries: Sequence[tuple[EffectiveVirtualService, GatewayServer]],
    redirected: GatewayServer | None,
    family: Hashable,
) -> VirtualHost:
    parts = tuple(
        _routing_routes(view, routing, server) for routing, server in sorted_by_age(view, entries)
    )
    key = (
        host,
        port,
        tuple(Identity(part) for part in parts),
        tuple((Identity(routing), server.facts) for routing, server in entries),
        redirected.facts if redirected is not None else None,
    )

    def make() -> VirtualHost:
        routes = [route for part in parts for route in part]
        # Stable: what takes everything comes last, so that it hides no other object's routes.
        routes.sort(key=lambda route: is_catch_all(route.match))
        found: list[Origin] = [
            origins.of_resource(routing.resource, ("spec", "hosts"), f"rules for {host}")
            for routing, _ in entries
        ]
        found += [
            origins.of_resource(server.resource, server.path, f"server with host {host}")
            for server in dict.fromkeys(server for _, server in entries)
        ]
        if redirected is not None:
            found.append(
                origins.of_resource(
                    redirected.resource,
                    (*redirected.path, "tls", "httpsRedirect"),
                    "clear-text requests are redirected to https",
                )
            )
        return VirtualHost(
            name=names.virtual_host(host, port),
            domains=(host,),
            routes=tuple(routes),
            require_tls=redirected is not None,
            origins=tuple(found),
        )

    return _hosts.get(key, make, family=family)


def sorted_by_age(
    view: View,
    entries: Sequence[tuple[EffectiveVirtualService, GatewayServer]],
) -> list[tuple[EffectiveVirtualService, GatewayServer]]:
    """By the order of the VirtualServices (age), whichever server they came in by."""
    return sorted(entries, key=lambda entry: view.age(entry[0]))


def _routing_routes(
    view: View, routing: EffectiveVirtualService, server: GatewayServer
) -> tuple[Route, ...]:
    port, place = server.server.port.number, _place(view, server)
    key = (Identity(routing), view.destination_facts(routing), Identity(view.mesh), place)
    return _routes.get(
        key,
        lambda: http_routes(view, routing, place, port),
        family=(view.family, routing.resource.key, place),
    )


def _place(view: View, server: GatewayServer) -> Place:
    return Place(
        server.gateway,
        server.server.port.number,
        view.scope.namespace,
        view.scope.labels,
        tls=server.kind is ServerKind.HTTPS,
    )


def _black_hole(port: int) -> VirtualHost:
    return _hosts.get(
        ("blackhole", port),
        lambda: VirtualHost(
            name=f"blackhole:{port}",
            domains=("*",),
            origins=(origins.NO_VIRTUAL_SERVICE,),
        ),
    )
