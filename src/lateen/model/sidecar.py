"""Sidecar objects: which one applies, and what a workload therefore sees of the mesh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from lateen.api.networking.sidecar import IstioEgressListener, OutboundTrafficPolicy, Sidecar
from lateen.api.resource import Resource
from lateen.model import kinds
from lateen.model.names import expand, matches, subset_of
from lateen.model.ordering import age_key
from lateen.model.protocols import parse_protocol
from lateen.model.registry import preferred
from lateen.model.selection import selects, workload_selector
from lateen.model.service import Protocol, Resolution, Service, ServicePort
from lateen.model.snapshot import Index, Snapshot
from lateen.model.virtual_services import EffectiveVirtualService, virtual_services
from lateen.model.visibility import is_visible


@dataclass(frozen=True, slots=True, eq=False)
class EgressListener:
    """One ``Sidecar.egress`` entry, or the catch-all one of the default scope.

    ``services`` are in order, one per host name, with only the listener's port if it has one and
    is no HTTP proxy.
    """

    services: tuple[Service, ...]
    virtual_services: tuple[EffectiveVirtualService, ...]
    port: int = 0
    """0 for the catch-all for all ports that no other listener has, and for Unix sockets."""
    protocol: Protocol = Protocol.AUTO
    port_name: str = ""
    bind: str = ""
    capture_mode: str = "DEFAULT"
    index: int = -1
    """Position in ``spec.egress``; -1 in the default scope."""

    @property
    def unix(self) -> bool:
        """Whether it is a Unix socket (``bind: unix://PATH``)."""
        return self.bind.startswith("unix://")

    @property
    def catch_all(self) -> bool:
        """Whether it is for all ports that no other listener has."""
        return not self.port and not self.unix

    @property
    def is_proxy(self) -> bool:
        """Whether clients name host and port in each request, as to an HTTP proxy: every HTTP port
        of its services is reached through it."""
        http = self.protocol.is_http or self.protocol is Protocol.AUTO
        return self.protocol is Protocol.HTTP_PROXY or (self.unix and http)

    @property
    def bound(self) -> bool:
        """Whether it is a socket that clients connect to, rather than a place that captured
        connections are meant for. Istio binds an HTTP proxy with ``captureMode: NONE`` only, where
        nothing could reach it otherwise."""
        return self.unix or self.capture_mode == "NONE" or self.protocol is Protocol.HTTP_PROXY

    def protocol_of(self, port: ServicePort) -> Protocol:
        """What clients speak to a service port here: what a listener with a port of its own says,
        else what the service does."""
        if self.catch_all or self.protocol in (Protocol.AUTO, Protocol.HTTP_PROXY):
            return port.protocol
        return self.protocol


@dataclass(frozen=True, slots=True, eq=False)
class SidecarScope:
    """What the sidecars of a namespace (or of some workloads in it) see.

    ``services`` is the union over all listeners plus destinations of imported VirtualServices
    (those need clusters but no listeners), one per host name, oldest first.
    """

    namespace: str
    resource: Resource | None
    """The Sidecar, or None for the default scope."""
    services: tuple[Service, ...]
    virtual_services: tuple[EffectiveVirtualService, ...]
    egress: tuple[EgressListener, ...]
    by_host: Mapping[str, Service]
    """``services`` by host name."""
    external_names: tuple[Service, ...]
    """Those of ``services`` that stand for others."""

    @property
    def sidecar(self) -> Sidecar | None:
        """The Sidecar object."""
        if self.resource is None:
            return None
        assert isinstance(self.resource.object, Sidecar)
        return self.resource.object

    @property
    def outbound_traffic_policy(self) -> OutboundTrafficPolicy | None:
        """The Sidecar's own policy; None takes the mesh's."""
        return None if self.sidecar is None else self.sidecar.spec.outbound_traffic_policy

    @property
    def locked_ports(self) -> frozenset[int]:
        """Ports that belong to a listener of their own: the catch-all listener leaves them."""
        return frozenset(listener.port for listener in self.egress if listener.port)

    def service(self, hostname: str) -> Service | None:
        """The service that a host name means in this scope."""
        return self.by_host.get(hostname)


class _Everything(NamedTuple):
    """What is seen without a Sidecar: services by host name, and those that stand for others."""

    listener: EgressListener
    by_host: Mapping[str, Service]
    external_names: tuple[Service, ...]


class Sidecars:
    """All Sidecar objects of a snapshot and the scopes that follow from them."""

    __slots__ = (
        "_by_namespace",
        "_defaults",
        "_distinct",
        "_root",
        "_scopes",
        "_snapshot_parts",
        "_trimmed",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        by_namespace: Mapping[str, tuple[Resource, ...]],
        trimmed: dict[tuple[Service, tuple[int, ...]], Service],
    ) -> None:
        self._by_namespace = by_namespace
        self._root = snapshot.root_namespace
        self._snapshot_parts = (snapshot.services.index, virtual_services(snapshot))
        self._scopes: dict[tuple[str, Resource | None], SidecarScope] = {}
        self._trimmed = trimmed
        self._distinct: set[int] = set()
        """Identities of tuples in `ServiceIndex` that have each host name once."""
        self._defaults: dict[tuple[object, ...], _Everything] = {}
        """What namespaces without a Sidecar see, by identities of services and rules."""

    def resource_for(self, namespace: str, labels: Mapping[str, str]) -> Resource | None:
        """The Sidecar that applies: of the namespace, the oldest that selects the labels, else
        the oldest without selector; else the root namespace's without selector."""
        own = self._by_namespace.get(namespace, ())
        general = None
        for resource in own:
            selector = workload_selector(resource.object)
            if selector is None:
                general = general or resource
            elif selects(selector, labels):
                return resource
        if general is not None:
            return general
        root = self._by_namespace.get(self._root, ())
        return next((r for r in root if workload_selector(r.object) is None), None)

    def scope(self, namespace: str, labels: Mapping[str, str]) -> SidecarScope:
        """What sidecars with these labels see."""
        return self._scope(namespace, self.resource_for(namespace, labels))

    def default_scope(self, namespace: str) -> SidecarScope:
        """What is seen without any Sidecar (gateways never obey one)."""
        return self._scope(namespace, None)

    def _scope(self, namespace: str, resource: Resource | None) -> SidecarScope:
        found = self._scopes.get((namespace, resource))
        if found is None:
            found = self._make(namespace, resource)
            self._scopes[namespace, resource] = found
        return found

    def _make(self, namespace: str, resource: Resource | None) -> SidecarScope:
        index, rules = self._snapshot_parts
        visible = index.visible_to(namespace)
        mesh_rules = rules.for_mesh(namespace)
        obj = resource.object if resource is not None else None
        if not isinstance(obj, Sidecar) or not obj.spec.egress:
            seen = self._everything(namespace, visible, mesh_rules)
            return SidecarScope(
                namespace,
                resource,
                seen.listener.services,
                mesh_rules,
                (seen.listener,),
                seen.by_host,
                seen.external_names,
            )
        listeners = tuple(
            self._listener(namespace, position, entry, visible, mesh_rules)
            for position, entry in enumerate(obj.spec.egress)
        )
        imported = dict.fromkeys(vs for listener in listeners for vs in listener.virtual_services)
        return _scope_of(
            namespace,
            resource,
            self._union(namespace, listeners, visible),
            tuple(vs for vs in mesh_rules if vs in imported),
            listeners,
        )

    def _everything(
        self,
        namespace: str,
        visible: tuple[Service, ...],
        mesh_rules: tuple[EffectiveVirtualService, ...],
    ) -> _Everything:
        """What a namespace sees that sees all there is: one and the same for all namespaces that
        see the same."""
        services = visible
        if id(visible) not in self._distinct:
            services = one_per_host(visible, namespace)
            if len(services) == len(visible):
                services = visible
                self._distinct.add(id(visible))
        facts: object = id(services) if services is visible else tuple(map(id, services))
        found = self._defaults.get((facts, id(mesh_rules)))
        if found is None:
            found = self._defaults[facts, id(mesh_rules)] = _Everything(
                EgressListener(services, mesh_rules),
                {service.hostname: service for service in services},
                _external_names(services),
            )
        return found

    def _listener(
        self,
        namespace: str,
        position: int,
        entry: IstioEgressListener,
        visible: Sequence[Service],
        mesh_rules: Sequence[EffectiveVirtualService],
    ) -> EgressListener:
        hosts = EgressHosts.parse(entry.hosts, namespace)
        services = one_per_host(
            [s for s in visible if hosts.has_service(s.namespace, s.hostname)], namespace
        )
        protocol = parse_protocol(entry.port.protocol) if entry.port is not None else Protocol.AUTO
        port = entry.port.number if entry.port is not None else 0
        if port and protocol is not Protocol.HTTP_PROXY:
            services = tuple(self._trim(s, (port,)) for s in services if s.port(port) is not None)
        return EgressListener(
            services=services,
            virtual_services=tuple(
                vs
                for vs in mesh_rules
                if any(hosts.has_virtual_service(vs.namespace, host) for host in vs.hosts)
            ),
            port=port,
            protocol=protocol,
            port_name=entry.port.name if entry.port is not None else "",
            bind=entry.bind,
            capture_mode=entry.capture_mode,
            index=position,
        )

    def _union(
        self, namespace: str, listeners: Sequence[EgressListener], visible: Sequence[Service]
    ) -> tuple[Service, ...]:
        """All services of the listeners with all ports any of them has, and the destinations."""
        original = {(s.hostname, s.namespace): s for s in visible}
        ports: dict[tuple[str, str], set[int]] = {}
        hosts: dict[str, str] = {}
        for listener in listeners:
            for service in listener.services:
                home = hosts.setdefault(service.hostname, service.namespace)
                if home == service.namespace:
                    wanted = ports.setdefault((service.hostname, home), set())
                    wanted |= {port.number for port in service.ports}
        for hostname, wanted_ports in self._destinations(namespace, listeners).items():
            if hostname in hosts:
                continue
            target = preferred(
                [
                    s
                    for s in self._snapshot_parts[0].by_host(hostname)
                    if is_visible(s.export_to, namespace)
                ],
                namespace,
            )
            if target is not None:
                key = (hostname, target.namespace)
                have = {port.number for port in target.ports}
                hosts[hostname] = target.namespace
                ports[key] = have if 0 in wanted_ports else have & wanted_ports
        return tuple(
            self._trim(service, tuple(sorted(ports[key])))
            for key, service in original.items()
            if ports.get(key)
        )

    @staticmethod
    def _destinations(namespace: str, listeners: Sequence[EgressListener]) -> dict[str, set[int]]:
        """Hosts that imported VirtualServices send to, with the ports (0: all of them)."""
        found: dict[str, set[int]] = {}
        for listener in listeners:
            for vs in listener.virtual_services:
                for destination in vs.destinations(namespace):
                    number = destination.port.number if destination.port is not None else 0
                    found.setdefault(destination.host, set()).add(number)
        return found

    def _trim(self, service: Service, ports: tuple[int, ...]) -> Service:
        """``service`` with only these ports; the same object for the same question."""
        if all(port.number in ports for port in service.ports):
            return service
        trimmed = self._trimmed.get((service, ports))
        if trimmed is None:
            kept = tuple(port for port in service.ports if port.number in ports)
            trimmed = self._trimmed[service, ports] = replace(service, ports=kept)
        return trimmed


def _scope_of(
    namespace: str,
    resource: Resource | None,
    services: tuple[Service, ...],
    rules: tuple[EffectiveVirtualService, ...],
    egress: tuple[EgressListener, ...],
) -> SidecarScope:
    by_host = {service.hostname: service for service in services}
    return SidecarScope(
        namespace, resource, services, rules, egress, by_host, _external_names(services)
    )


def _external_names(services: Iterable[Service]) -> tuple[Service, ...]:
    return tuple(service for service in services if service.resolution is Resolution.ALIAS)


@dataclass(frozen=True, slots=True)
class EgressHosts:
    """``egress.hosts``: included and excluded (namespace, host pattern) pairs; ``*`` is any
    namespace."""

    included: tuple[tuple[str, str], ...]
    excluded: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, hosts: Iterable[str], namespace: str) -> EgressHosts:
        """From ``NAMESPACE/HOST``, ``./HOST``, ``*/HOST``; ``~NAMESPACE/HOST`` and ``~/HOST``
        exclude, ``~/*`` alone therefore means nothing at all."""
        included: list[tuple[str, str]] = []
        excluded: list[tuple[str, str]] = []
        for text in hosts:
            place, slash, host = text.partition("/")
            if not slash:
                place, host = "*", text
            negative = place.startswith("~")
            place = place.removeprefix("~")
            if negative and not place:
                place = "*"
            elif place == ".":
                place = namespace
            host = expand(host, namespace if place == "*" else place).lower()
            (excluded if negative else included).append((place, host))
        return cls(tuple(included), tuple(excluded))

    def has_service(self, namespace: str, hostname: str) -> bool:
        """Whether a service is imported: every host it stands for must be."""
        if _any(self.excluded, namespace, hostname, exact=True):
            return False
        return _any(self.included, namespace, hostname, exact=True)

    def has_virtual_service(self, namespace: str, host: str) -> bool:
        """Whether a VirtualService with ``host`` is imported: they must have a host in common."""
        if _any(self.excluded, namespace, host, exact=True):
            return False
        return _any(self.included, namespace, host, exact=False)


def _any(pairs: Iterable[tuple[str, str]], namespace: str, host: str, *, exact: bool) -> bool:
    test = subset_of if exact else matches
    return any(place in ("*", namespace) and test(host, pattern) for place, pattern in pairs)


def one_per_host(services: Iterable[Service], namespace: str) -> tuple[Service, ...]:
    """One service per host name: the own namespace's, else Kubernetes', else the first."""
    found: dict[str, list[Service]] = {}
    for service in services:
        found.setdefault(service.hostname, []).append(service)
    chosen = (
        group[0] if len(group) == 1 else preferred(group, namespace) for group in found.values()
    )
    return tuple(service for service in chosen if service is not None)


def sidecars(snapshot: Snapshot) -> Sidecars:
    """The Sidecars of a snapshot."""
    return snapshot.derived(_INDEX)


def _build(snapshot: Snapshot, previous: Sidecars | None) -> Sidecars:
    by_namespace = {
        namespace: tuple(sorted(layer.values(), key=age_key))
        for namespace, layer in snapshot.layers(kinds.SIDECAR).items()
    }
    trimmed = {}
    if previous is not None:
        current = set(snapshot.services.all())
        trimmed = {key: value for key, value in previous._trimmed.items() if key[0] in current}
    return Sidecars(snapshot, by_namespace, trimmed)


_INDEX: Index[Sidecars] = Index(
    "sidecars", frozenset({kinds.SIDECAR, kinds.VIRTUAL_SERVICE}), _build, services=True
)
