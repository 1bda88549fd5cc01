"""Route configurations of a sidecar: virtual hosts per service, VirtualService or neither."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from lateen.api.networking.virtual_service import HTTPRoute
from lateen.ir.origin import Origin
from lateen.ir.route import (
    NoAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from lateen.model.names import is_wildcard, subset_of
from lateen.model.service import Protocol, Resolution, Service
from lateen.model.sidecar import EgressListener
from lateen.model.virtual_services import EffectiveVirtualService
from lateen.translate import names, origins, outbound, unknown_hosts
from lateen.translate.domains import host_forms, service_domains
from lateen.translate.memo import Identity, Memo
from lateen.translate.route_match import Place, concerns, concerns_all, is_catch_all
from lateen.translate.view import View
from lateen.translate.virtual_service import default_route, http_routes

STANDARD_PORT = 80
"""The listener on which hosts outside of the registry get a virtual host."""

# Namespaces may see different forms of one host, so more than one generation is in use at a time.
_hosts: Memo[VirtualHost] = Memo()
_trimmed: Memo[VirtualHost] = Memo()
_configurations: Memo[RouteConfiguration] = Memo()


_NO_ROUTE = Route(name="no_route", match=RouteMatch(), action=NoAction())


def route_names(view: View) -> tuple[str, ...]:
    """RDS names of a sidecar, in the order of its listeners."""
    return outbound.route_names(view)


Known = dict[tuple[str, int], tuple[Service | None, EffectiveVirtualService | None, VirtualHost]]
"""Virtual hosts by host name and port, each with what it was made of."""


def route_configuration(view: View, name: str, known: Known | None = None) -> RouteConfiguration:
    """The route configuration that listeners know as ``name``: ``PORT``, ``HOST:PORT``, or that of
    an egress listener whose clients name host and port (`names.proxy_route`).

    Virtual hosts in ``known`` are taken over when service and VirtualService are the very same, and
    others are added to it: for changes that alter nothing else which routes are made of.

    A name that no listener asks for gets a configuration that only knows what happens to
    unknown hosts, as an Envoy that still has an old listener must not wait for it forever.
    """
    host, _, number = name.rpartition(":")
    port = int(number) if number.isdigit() else 0
    proxy = outbound.proxy_listener(view, name)
    if proxy is not None:
        hosts = _by_authority(view, proxy)
    else:
        hosts = _sniffed(view, host, port) if host else _by_port(view, port, known)
    key = (name, tuple(Identity(item) for item in hosts))
    return _configurations.get(
        key,
        lambda: RouteConfiguration(
            name=name,
            virtual_hosts=tuple(hosts),
            ignore_port_in_host=proxy is None,
            discover_hosts=bool(port) and not host,
        ),
        family=(view.family, name),
    )


class _Entry(msgspec.Struct, frozen=True):
    """A virtual host to be: for a service, or for a host that only a VirtualService knows."""

    hostname: str
    service: Service | None
    routing: EffectiveVirtualService | None


def _by_port(view: View, port: int, known: Known | None) -> list[VirtualHost]:
    entries = list(_entries(view, view.egress(port), port))
    if known is None:
        hosts = [_virtual_host(view, entry, port) for entry in entries]
    else:
        hosts = [_known_host(view, entry, port, known) for entry in entries]
    hosts = _without_shared_domains(view, entries, hosts)
    hosts.append(unknown_hosts.virtual_host(view))
    return hosts


def _by_authority(view: View, listener: EgressListener) -> list[VirtualHost]:
    """The hosts of every HTTP port of the listener's services: known by ``HOST:PORT``, on port 80
    by ``HOST`` as well."""
    ports = {
        port.number
        for service in listener.services
        for port in service.ports
        if _may_be_http(listener.protocol_of(port))
    }
    hosts: list[VirtualHost] = []
    for port in sorted({*ports, STANDARD_PORT}):
        found = list(_entries(view, listener, port))
        made = [_virtual_host(view, entry, port) for entry in found]
        made = _without_shared_domains(view, found, made)
        hosts += [_with_domains(view, host, _with_port(host.domains, port)) for host in made]
    hosts.append(unknown_hosts.virtual_host(view))
    return hosts


def _with_port(domains: tuple[str, ...], port: int) -> tuple[str, ...]:
    numbered = tuple(f"{name}:{port}" for name in domains)
    return (*domains, *numbered) if port == STANDARD_PORT else numbered


def _sniffed(view: View, hostname: str, port: int) -> list[VirtualHost]:
    service = view.service(hostname)
    if service is None:
        return [unknown_hosts.virtual_host(view)]
    host = _virtual_host(view, _Entry(hostname, service, speaks_for(view, hostname, port)), port)
    # The listener serves this host alone, so whatever the client calls it, it is meant.
    trimmed = _trimmed.get(
        (Identity(host), "*"),
        lambda: replace(host, domains=("*",)),
        family=(view.family, host.name, "*"),
    )
    return [trimmed]


def _services(view: View, listener: EgressListener | None, port: int) -> tuple[Service, ...]:
    """Services that a client may speak HTTP to on ``port``."""
    if listener is None:
        return ()
    return view.cached(
        ("http-services", id(listener), port),
        lambda: tuple(
            service
            for service in listener.services
            if service.resolution is not Resolution.ALIAS
            and (found := service.port(port)) is not None
            and _may_be_http(listener.protocol_of(found))
        ),
    )


def _may_be_http(protocol: Protocol) -> bool:
    return protocol.is_http or protocol is Protocol.AUTO


class _Owners:
    """Which VirtualService speaks for a host: the one with the most specific host that covers
    it, the oldest of several with the same."""

    def __init__(self, routings: Iterable[EffectiveVirtualService]) -> None:
        self._by_pattern: dict[str, EffectiveVirtualService] = {}
        for routing in routings:
            if routing.http:
                for host in routing.hosts:
                    self._by_pattern.setdefault(host, routing)
        wildcards = (host for host in self._by_pattern if is_wildcard(host))
        self._wildcards = sorted(wildcards, key=lambda host: (-len(host), host))

    def pattern(self, hostname: str) -> str:
        """The host of a VirtualService that covers ``hostname`` most closely, else empty."""
        if hostname in self._by_pattern:
            return hostname
        return next((host for host in self._wildcards if subset_of(hostname, host)), "")

    def routing(self, hostname: str) -> EffectiveVirtualService | None:
        """The VirtualService that speaks for ``hostname``."""
        return self._by_pattern.get(self.pattern(hostname))


def speaks_for(view: View, hostname: str, port: int) -> EffectiveVirtualService | None:
    """The VirtualService whose HTTP rules hold for a host on ``port``."""
    return _owners(view, view.egress(port), port).routing(hostname)


def _owners(view: View, listener: EgressListener | None, port: int) -> _Owners:
    routings = _concerned(view, listener, port)
    # Nearly always these are the listener's own, whatever the port.
    return view.cached(("owners", id(routings)), lambda: _Owners(routings))


def _concerned(
    view: View, listener: EgressListener | None, port: int
) -> tuple[EffectiveVirtualService, ...]:
    """The VirtualServices of an egress listener with HTTP rules that hold for the client on
    ``port``, oldest first."""
    if listener is None:
        return ()
    routings = listener.virtual_services
    conditional = view.cached(
        ("conditional", id(listener)),
        lambda: not all(map(concerns_every_client, routings)),
    )
    if not conditional:
        return routings
    place = Place("mesh", port, view.scope.namespace, view.scope.labels)
    return view.cached(
        ("concerned", id(listener), port),
        lambda: tuple(item for item in routings if concerns(_http(item), place)),
    )


def concerns_every_client(routing: EffectiveVirtualService) -> bool:
    """Whether a VirtualService has an HTTP rule that holds for every client and port."""
    return concerns_all(_http(routing))


def _http(routing: EffectiveVirtualService) -> Iterator[HTTPRoute]:
    return (rule.route for rule in routing.http)


def _entries(view: View, listener: EgressListener | None, port: int) -> Iterator[_Entry]:
    """Virtual hosts by VirtualService, oldest first, then the services nobody speaks for.

    ExternalName services with a VirtualService of their own come before all: what they stand for
    would have their names otherwise.
    """
    services = _services(view, listener, port)
    by_name = {service.hostname: service for service in services}
    taken: set[str] = set()
    if view.sidecar_scope.external_names:
        for entry in _alias_entries(view, listener, port, by_name):
            taken.add(entry.hostname)
            yield entry
    owners = _owners(view, listener, port)
    for routing in _concerned(view, listener, port):
        if not routing.http:
            continue
        matched: list[Service] = []
        unmatched: list[str] = []
        for host in routing.hosts:
            found = _services_of(host, by_name, owners)
            matched += [service for service in found if service not in matched]
            if not found and not _other_port(view, host):
                unmatched.append(host)
        if not matched and port != STANDARD_PORT:
            continue
        for service in matched:
            if service.hostname not in taken:
                taken.add(service.hostname)
                yield _Entry(service.hostname, service, routing)
        for host in unmatched:
            if host not in taken:
                taken.add(host)
                yield _Entry(host, None, routing)
    for service in services:
        if service.hostname not in taken:
            yield _Entry(service.hostname, service, None)


def _alias_entries(
    view: View, listener: EgressListener | None, port: int, by_name: dict[str, Service]
) -> Iterator[_Entry]:
    """ExternalName services that stand for an HTTP service on ``port``, and that a VirtualService
    names."""
    found: dict[str, _Entry] = {}
    for routing in _concerned(view, listener, port):
        for host in routing.hosts if routing.http else ():
            service = view.service(host)
            if (
                service is not None
                and service.resolution is Resolution.ALIAS
                and view.concrete(service).hostname in by_name
            ):
                found.setdefault(host, _Entry(host, None, routing))
    yield from found.values()


def _services_of(host: str, by_name: dict[str, Service], owners: _Owners) -> list[Service]:
    if not is_wildcard(host):
        service = by_name.get(host)
        return [service] if service is not None else []
    return [service for name, service in by_name.items() if owners.pattern(name) == host]


def _other_port(view: View, host: str) -> bool:
    """Whether the registry knows ``host``, only not for HTTP on this port. An ExternalName of what
    nobody declared is like a host that nobody did."""
    service = None if is_wildcard(host) else view.service(host)
    return service is not None and (
        service.resolution is not Resolution.ALIAS or view.concrete(service) is not service
    )


def _known_host(view: View, entry: _Entry, port: int, known: Known) -> VirtualHost:
    held = known.get((entry.hostname, port))
    if held is not None and held[0] is entry.service and held[1] is entry.routing:
        return held[2]
    made = _virtual_host(view, entry, port)
    known[entry.hostname, port] = (entry.service, entry.routing, made)
    return made


def virtual_host(
    view: View,
    hostname: str,
    service: Service | None,
    routing: EffectiveVirtualService | None,
    port: int,
) -> VirtualHost:
    """The virtual host of a service, or of a host that only ``routing`` knows, by itself: with all
    of its domains, of which others may take some."""
    return _virtual_host(view, _Entry(hostname, service, routing), port)


def _virtual_host(view: View, entry: _Entry, port: int) -> VirtualHost:
    service, routing = entry.service, entry.routing
    addresses = view.addresses(service) if service is not None else ()
    key = (
        entry.hostname,
        port,
        Identity(service),
        view.client_facts(entry.hostname, service, routing),
        addresses,
        Identity(routing),
        view.routing_facts(service) if routing is None else view.destination_facts(routing),
        Identity(view.mesh),
        view.aliases(service) if service is not None else (),
        view.on_demand,
    )
    return _hosts.get(
        key,
        lambda: _make_host(view, entry, port, addresses),
        family=(view.family, entry.hostname, port),
    )


def _make_host(view: View, entry: _Entry, port: int, addresses: tuple[str, ...]) -> VirtualHost:
    service, routing = entry.service, entry.routing
    namespace = view.scope.namespace
    if service is not None:
        domains = service_domains(service, namespace, addresses)
        for alias in view.aliases(service):
            domains += tuple(name for name in host_forms(alias, namespace) if name not in domains)
    else:
        domains = host_forms(entry.hostname, namespace)
    found: list[Origin] = []
    if routing is not None:
        place = Place("mesh", port, namespace, view.scope.labels)
        routes = http_routes(view, routing, place, port)
        found.append(
            origins.of_resource(routing.resource, ("spec", "hosts"), f"rules for {entry.hostname}")
        )
    else:
        assert service is not None
        routes = (default_route(view, service, port),)
    if view.on_demand and not (routes and is_catch_all(routes[-1].match)):
        # Envoy would hold a request without a route back and ask for a virtual host that has one.
        routes += (_NO_ROUTE,)
    if service is not None:
        found.append(origins.of_service(service, f"port {port} of {service.hostname}"))
    return VirtualHost(
        name=names.virtual_host(entry.hostname, port),
        domains=domains,
        routes=routes,
        origins=tuple(found),
    )


def _without_shared_domains(
    view: View, entries: list[_Entry], hosts: list[VirtualHost]
) -> list[VirtualHost]:
    """Each domain once. A full host name is never shadowed by another host's short form."""
    full = {entry.hostname: index for index, entry in reversed(list(enumerate(entries)))}
    taken: set[str] = set()
    result: list[VirtualHost] = []
    for index, host in enumerate(hosts):
        domains = tuple(
            name for name in host.domains if name not in taken and full.get(name, index) == index
        )
        taken.update(domains)
        if domains == host.domains:
            result.append(host)
        elif domains:
            result.append(_with_domains(view, host, domains))
    return result


def _with_domains(view: View, host: VirtualHost, domains: tuple[str, ...]) -> VirtualHost:
    return _trimmed.get(
        (Identity(host), domains),
        lambda: replace(host, domains=domains),
        family=(view.family, host.name),
    )
