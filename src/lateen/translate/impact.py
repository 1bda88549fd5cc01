"""Which parts of a scope's configuration a change set can alter: the dependencies, spelled out.

`PARTS` says for each kind of object which parts are made from it. Services, endpoints and
VirtualServices are told apart further (`impact`). A kind that is not in the table alters
everything, so that a new kind is slow at first and never wrong; the control plane's
``--verify-incremental`` and a property test hold the table to what translation really reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Flag, auto

from lateen.api.networking.destination_rule import DestinationRule
from lateen.api.resource import ObjectKey
from lateen.model import kinds
from lateen.model.change import ChangeSet, ServiceName
from lateen.model.kinds import GroupKind
from lateen.model.names import MESH_GATEWAY, expand, is_wildcard, subset_of
from lateen.model.proxy import ProxyType, Scope
from lateen.model.selection import INBOUND_KINDS
from lateen.model.service import Resolution
from lateen.model.snapshot import Snapshot
from lateen.model.virtual_services import EffectiveVirtualService, virtual_services
from lateen.model.visibility import is_visible
from lateen.translate import names
from lateen.translate.credentials import objects_named_by_rules
from lateen.translate.routes import STANDARD_PORT
from lateen.translate.view import View


class Part(Flag):
    """A part of a scope's configuration."""

    NONE = 0
    CLUSTERS = auto()
    ENDPOINTS = auto()
    LISTENERS = auto()
    ROUTES = auto()
    INBOUND = auto()
    """Listener and clusters of the proxy's own workload."""
    OUTBOUND = CLUSTERS | ENDPOINTS | LISTENERS | ROUTES
    ALL = OUTBOUND | INBOUND


_WORKLOAD = Part.NONE
"""Seen through the change set: services, endpoints and workloads that it names."""

PARTS: Mapping[GroupKind, Part] = {
    kinds.SERVICE: _WORKLOAD,
    kinds.ENDPOINTS: _WORKLOAD,
    kinds.ENDPOINT_SLICE: _WORKLOAD,
    kinds.POD: _WORKLOAD,
    kinds.NODE: _WORKLOAD,
    kinds.SERVICE_ENTRY: _WORKLOAD,
    kinds.WORKLOAD_ENTRY: _WORKLOAD,
    kinds.CONFIG_MAP: Part.NONE,  # the mesh configuration sets `ChangeSet.everything`
    kinds.NAMESPACE: Part.NONE,
    kinds.SECRET: Part.NONE,  # those that rules name are told apart by `impact`
    ("", "ServiceAccount"): Part.NONE,
    ("apps", "Deployment"): Part.NONE,
    ("apps", "ReplicaSet"): Part.NONE,
    ("apps", "StatefulSet"): Part.NONE,
    ("apps", "DaemonSet"): Part.NONE,
    ("batch", "Job"): Part.NONE,
    ("batch", "CronJob"): Part.NONE,
    kinds.VIRTUAL_SERVICE: Part.NONE,  # told apart by `_routes`
    kinds.DESTINATION_RULE: Part.OUTBOUND,  # and of the host's own workloads, see `affects_own`
    kinds.SIDECAR: Part.ALL,
    kinds.GATEWAY: Part.NONE,  # of gateways, which are always made anew
    kinds.PEER_AUTHENTICATION: Part.NONE,  # of one namespace or all, see `impact`
    kinds.REQUEST_AUTHENTICATION: Part.NONE,  # only the inbound side, see `affects_own`
    kinds.AUTHORIZATION_POLICY: Part.NONE,
}
"""Parts of a sidecar's configuration that are made from objects of a kind."""


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change set can alter. ``parts`` are to be made anew; beside them only the load
    assignments of ``endpoints`` and the route configurations that ``routings`` decide."""

    parts: Part = Part.NONE
    endpoints: frozenset[ServiceName] = frozenset()
    routings: tuple[EffectiveVirtualService, ...] = ()
    """VirtualServices before and after the change, those that differ."""
    policies: frozenset[str] = frozenset()
    """Namespaces whose mutual TLS modes changed: clusters and load assignments of their services
    are to be made anew."""
    own_namespaces: frozenset[str] = frozenset()
    """Namespaces in which policies for what workloads receive changed."""
    own_hosts: tuple[str, ...] = ()
    """Hosts whose DestinationRules changed, which limit their own workloads as well."""


def impact(before: Snapshot, after: Snapshot, changes: ChangeSet) -> Impact:
    """The impact of ``changes``, which led from ``before`` to ``after``, on any sidecar."""
    if changes.everything:
        return Impact(Part.ALL)
    parts = Part.NONE
    for kind in changes.kinds:
        parts |= PARTS.get(kind, Part.ALL)
    if changes.services or changes.inline:
        parts |= Part.ALL
    routings: tuple[EffectiveVirtualService, ...] = ()
    if kinds.VIRTUAL_SERVICE in changes.kinds:
        routings = _changed_routings(before, after)
        if any(routing.tls or routing.tcp for routing in routings):
            parts |= Part.LISTENERS
    if _touches_credentials(before, after, changes):
        parts |= Part.CLUSTERS | Part.ENDPOINTS
    policies = {key.namespace for key in changes.keys if _kind(key) == kinds.PEER_AUTHENTICATION}
    own = {key.namespace for key in changes.keys if _kind(key) in INBOUND_KINDS}
    if after.root_namespace in policies:
        parts |= Part.CLUSTERS | Part.ENDPOINTS
        policies = set()
    if after.root_namespace in own:
        parts |= Part.INBOUND
    hosts = tuple(_rule_hosts(before, after, changes))
    return Impact(parts, changes.endpoints, routings, frozenset(policies), frozenset(own), hosts)


def _touches_credentials(before: Snapshot, after: Snapshot, changes: ChangeSet) -> bool:
    """Whether a Secret or ConfigMap changed that a DestinationRule may name."""
    if not changes.kinds & {kinds.SECRET, kinds.CONFIG_MAP}:
        return False
    named = objects_named_by_rules(before) | objects_named_by_rules(after)
    return any((key.kind, key.name) in named for key in changes.keys if not key.group)


def affects_own(found: Impact, scope: Scope) -> bool:
    """Whether the listener and clusters of the scope's own workload may have to change."""
    if found.parts & Part.INBOUND or scope.namespace in found.own_namespaces:
        return True
    return any(subset_of(port.hostname, host) for host in found.own_hosts for port in scope.inbound)


def affects_any_own(found: Impact) -> bool:
    """Whether `affects_own` may hold for a scope."""
    return bool(found.parts & Part.INBOUND or found.own_namespaces or found.own_hosts)


def _kind(key: ObjectKey) -> GroupKind:
    return (key.group, key.kind)


def _rule_hosts(before: Snapshot, after: Snapshot, changes: ChangeSet) -> Iterator[str]:
    """Hosts of the DestinationRules that changed, as they were and as they are."""
    for key in changes.keys:
        if _kind(key) == kinds.DESTINATION_RULE:
            for snapshot in (before, after):
                resource = snapshot.get(key)
                if resource is not None:
                    assert isinstance(resource.object, DestinationRule)
                    yield expand(resource.object.spec.host, key.namespace).lower()


def parts_for(found: Impact, view: View) -> Part:
    """The parts that scope of ``view`` needs anew, narrowed by what it sees."""
    if view.scope.type is not ProxyType.SIDECAR:
        return Part.ALL
    parts = found.parts
    relevant = routings_for(found, view.scope)
    if not relevant:
        only_listeners = found.routings and not found.parts & ~Part.LISTENERS
        return Part.NONE if only_listeners else parts
    if view.sidecar_scope.resource is not None:
        # What a Sidecar imports follows from the destinations of the VirtualServices it sees.
        parts |= Part.OUTBOUND
    return parts


def routings_for(found: Impact, scope: Scope) -> tuple[EffectiveVirtualService, ...]:
    """Those of the changed VirtualServices that sidecars of ``scope`` obey."""
    return tuple(
        routing
        for routing in found.routings
        if MESH_GATEWAY in routing.gateways and is_visible(routing.export_to, scope.namespace)
    )


def route_names(view: View, routings: Iterable[EffectiveVirtualService]) -> frozenset[str]:
    """Route configurations in which ``routings`` (before or after a change) have a say."""
    return frozenset(name for routing in routings for name in _route_names(view, routing))


def _route_names(view: View, routing: EffectiveVirtualService) -> Iterator[str]:
    for host in routing.hosts:
        if is_wildcard(host):
            yield str(STANDARD_PORT)
            services = [service for service in view.services if subset_of(service.hostname, host)]
        else:
            service = view.service(host)
            # An ExternalName service has a virtual host on the ports of what it stands for.
            services = [view.concrete(service)] if service is not None else []
            if service is None or service.resolution is Resolution.ALIAS:
                yield str(STANDARD_PORT)
        for service in services:
            for port in service.ports:
                yield str(port.number)
                yield names.sniffed_route(service.hostname, port.number)


def _changed_routings(before: Snapshot, after: Snapshot) -> tuple[EffectiveVirtualService, ...]:
    old, new = virtual_services(before).all, virtual_services(after).all
    kept = {id(routing) for routing in old} & {id(routing) for routing in new}
    return tuple(routing for routing in (*old, *new) if id(routing) not in kept)
