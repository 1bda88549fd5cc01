"""Which outbound listeners a sidecar needs, and which service ports share one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lateen.model.service import Protocol, Resolution, Service, ServicePort
from lateen.model.sidecar import EgressListener
from lateen.translate import names
from lateen.translate.view import View


@dataclass(frozen=True, slots=True)
class Member:
    """A service port that traffic on a listener may be meant for."""

    service: Service
    port: ServicePort
    protocol: Protocol
    """What clients speak: the service's, or that of the Sidecar's listener."""
    prefixes: tuple[str, ...] = ()
    """Destination CIDRs, when the listener serves more than one address."""


@dataclass(slots=True)
class Bind:
    """An address and port with everything that is reached there, oldest service first."""

    address: str
    port: int
    http: list[Member] = field(default_factory=list)
    """Declared HTTP: routed by Host."""
    sniffed: list[Member] = field(default_factory=list)
    """Not declared: HTTP is routed by Host, the rest is forwarded."""
    tcp: list[Member] = field(default_factory=list)
    """Declared TCP or TLS."""
    bound: bool = False
    """Whether clients connect to it; it takes captured connections otherwise."""
    proxy: EgressListener | None = None
    """The listener, when clients name host and port in each request: it has no members."""

    @property
    def wildcard(self) -> bool:
        """Whether the listener takes every address."""
        return self.address in (names.WILDCARD, names.WILDCARD_V6)

    @property
    def has_http(self) -> bool:
        """Whether the listener may see clear-text HTTP that it routes."""
        return bool(self.http or self.sniffed or self.proxy)

    @property
    def request_ports(self) -> tuple[int, ...]:
        """Ports that HTTP requests may be for."""
        if self.proxy is None:
            return (self.port,)
        numbers = {port.number for service in self.proxy.services for port in service.ports}
        return tuple(sorted(numbers))

    @property
    def route_name(self) -> str:
        """RDS name of its HTTP chain: the port, or ``HOST:PORT`` on an address that belongs to a
        service, or what clients name host and port to."""
        if self.proxy is not None:
            return names.proxy_route(self.address, self.port)
        if self.wildcard or self.http:
            return str(self.port)
        owner = self.sniffed[0]
        return names.sniffed_route(owner.service.hostname, owner.port.number)


def binds(view: View) -> tuple[Bind, ...]:
    """All listeners a sidecar needs for the services it sees, wildcard ones first."""
    found: dict[tuple[str, int], Bind] = {}
    seen: set[tuple[str, int, int, int]] = set()
    locked = view.sidecar_scope.locked_ports
    for listener in view.sidecar_scope.egress:
        if listener.is_proxy:
            proxy = _proxy(view, listener)
            if proxy.port not in names.RESERVED_PORTS:
                found.setdefault((proxy.address, proxy.port), proxy)
            continue
        for service in listener.services:
            if service.resolution is Resolution.ALIAS:
                continue
            for port in service.ports:
                if port.protocol is Protocol.UDP or (listener.catch_all and port.number in locked):
                    continue
                number = 0 if listener.unix else port.number
                for address, member in _placements(view, service, port, listener):
                    if number in names.RESERVED_PORTS and (
                        address == view.wildcard or listener.bound
                    ):
                        continue
                    bind = found.get((address, number))
                    if bind is None:
                        bind = found[address, number] = Bind(address, number, bound=listener.bound)
                    place = (address, number, id(service), port.number)
                    if place not in seen:
                        seen.add(place)
                        _members(bind, member.protocol).append(member)
    order = sorted(found, key=lambda key: (key[0] != view.wildcard, key[1], key[0]))
    return tuple(found[key] for key in order)


def _proxy(view: View, listener: EgressListener) -> Bind:
    address = listener.bind or view.localhost
    return Bind(address, listener.port, bound=True, proxy=listener)


def _members(bind: Bind, protocol: Protocol) -> list[Member]:
    if protocol.is_http:
        return bind.http
    return bind.sniffed if protocol is Protocol.AUTO else bind.tcp


def _placements(
    view: View, service: Service, port: ServicePort, listener: EgressListener
) -> Iterator[tuple[str, Member]]:
    own_bind, protocol = listener.bind, listener.protocol_of(port)
    if listener.bound and not own_bind:
        own_bind = view.localhost
    if own_bind:
        yield own_bind, Member(service, port, protocol)
        return
    if protocol.is_http:
        # HTTP is told apart by its Host header, so one listener serves every address.
        yield view.wildcard, Member(service, port, protocol)
        return
    addresses = view.addresses(service)
    single = [address for address in addresses if "/" not in address]
    blocks = tuple(address for address in addresses if "/" in address)
    for address in single:
        yield address, Member(service, port, protocol)
    if blocks:
        yield view.wildcard, Member(service, port, protocol, blocks)
    if single or blocks:
        return
    pods: tuple[str, ...] = ()
    if service.resolution is Resolution.PASSTHROUGH:
        pods = tuple(
            dict.fromkeys(
                endpoint.address
                for endpoint in view.endpoints(service)
                if endpoint.service_port == port.name
            )
        )
    if pods:
        for pod in pods:
            yield pod, Member(service, port, protocol)
    elif not service.headless:
        yield view.wildcard, Member(service, port, protocol)
