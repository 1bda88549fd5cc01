"""From a snapshot and a scope to the resources its proxies shall have.

`ConfigGenerator` is what pushes need; `MeshGenerator` is the real one, over model, translate and
envoy. Tests of the protocol bring their own small one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lateen.model.change import ChangeSet
from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    DiscoveryResource,
    ResourceSet,
)
from lateen.model.proxy import Proxy, ProxyType, Scope
from lateen.model.selection import tested_labels
from lateen.model.snapshot import Snapshot
from lateen.serve.sharing import Shared, shared, with_others
from lateen.serve.sidecar_resources import Outbound, Routes, SidecarResources

if TYPE_CHECKING:
    from lateen.envoy import build
    from lateen.model.virtual_services import EffectiveVirtualService
    from lateen.translate import impact
    from lateen.translate.client_routes import ClientRoutes
    from lateen.translate.route_update import Replacement
    from lateen.translate.routes import Known
    from lateen.translate.view import View


class ConfigGenerator(Protocol):
    """Makes configuration. Pure: equal inputs give equal results."""

    @property
    def translations(self) -> int:
        """How many translations were made so far; what is taken over is none."""

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        """The facts of ``proxy`` that its configuration depends on."""

    def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        """All resources of a scope."""

    def update(
        self, snapshot: Snapshot, scope: Scope, previous: ResourceSet, changes: ChangeSet
    ) -> ResourceSet:
        """What ``generate`` would give, made from ``previous`` and what changed since.

        Returns ``previous`` itself when the changes do not touch the scope.
        """


class IncrementalMismatch(Exception):
    """An update differs from what is made from scratch: a dependency is not declared."""


class _Effects(NamedTuple):
    """What changes since ``before`` mean to all scopes."""

    before: Snapshot
    impact: impact.Impact
    other_labels: bool
    """Selectors test other labels, so that scopes may share their outbound side with others."""
    some_own: bool
    """The own side of some workloads may have to change."""


class MeshGenerator:
    """The mesh's own `ConfigGenerator`.

    What sidecars of different workloads share is made once per outbound scope
    (`lateen.translate.shared`). An update makes anew what `lateen.translate.impact` says the
    changes can alter, and nothing else. With ``verify`` every update is also made from scratch,
    and a difference raises `IncrementalMismatch`.
    """

    def __init__(self, *, verify: bool = False) -> None:
        # Imported late: the API and the CA answer before the translation has been loaded.
        from lateen.envoy import build
        from lateen.model.scope import scope_of
        from lateen.translate import (
            clusters,
            configuration,
            endpoints,
            impact,
            inbound,
            route_update,
        )
        from lateen.translate.client_routes import ClientRoutes
        from lateen.translate.memo import forgetting
        from lateen.translate.shared import outbound_scope
        from lateen.translate.view import View

        self._build = build
        self._client_routes = ClientRoutes
        self._clusters = clusters
        self._configuration = configuration
        self._endpoints = endpoints
        self._forgetting = forgetting
        self._impact = impact
        self._inbound = inbound
        self._outbound_scope = outbound_scope
        self._route_update = route_update
        self._scope_of = scope_of
        self._view = View
        self._verify = verify
        self._translations = 0
        self._snapshot: Snapshot | None = None
        self._made: dict[Scope, Outbound] = {}
        """Outbound parts for ``_snapshot``."""
        self._updates: dict[int, tuple[Outbound, Outbound]] = {}
        """Outbound parts updated to ``_snapshot``, by the identity of the part before."""
        self._effects: dict[int, _Effects] = {}
        """What changes mean that led to ``_snapshot``, by the identity of the snapshot before."""
        self._common: dict[tuple[str, Hashable], Shared] = {}
        """Clusters, endpoints, listeners for ``_snapshot``, by what they depend on besides it."""
        self._replacements: dict[tuple[int, frozenset[int]], tuple[Shared, Shared]] = {}
        """What `_replaced` made for ``_snapshot``, by identities; each with what it was made of."""
        self._routes_of: dict[Hashable, tuple[ClientRoutes, Routes]] = {}
        """Routes for ``_snapshot``, for one of all clients that hardly differ."""

    @property
    def translations(self) -> int:
        """See `ConfigGenerator`: outbound parts made or updated, scopes' own parts, gateways."""
        return self._translations

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        """See `ConfigGenerator`."""
        return self._scope_of(snapshot, proxy)

    def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        """See `ConfigGenerator`."""
        self._turn_to(snapshot)
        if scope.type is not ProxyType.SIDECAR:
            return self._gateway(snapshot, scope)
        own = self._outbound_scope(snapshot, scope)
        outbound = self._made.get(own)
        if outbound is None:
            outbound = self._made[own] = self._new_outbound(snapshot, own)
        return SidecarResources(outbound, *self._own(snapshot, scope))

    def update(
        self, snapshot: Snapshot, scope: Scope, previous: ResourceSet, changes: ChangeSet
    ) -> ResourceSet:
        """See `ConfigGenerator`."""
        self._turn_to(snapshot)
        if not isinstance(previous, SidecarResources) or scope.type is not ProxyType.SIDECAR:
            return self.generate(snapshot, scope)
        effects = self._effects_of(previous.outbound.snapshot, snapshot, changes)
        if (
            effects.other_labels
            and self._outbound_scope(snapshot, scope) != previous.outbound.scope
        ):
            result: ResourceSet = self.generate(snapshot, scope)
        else:
            outbound = self._updated(snapshot, previous.outbound, effects.impact)
            own_clusters, own_listeners = previous.own_clusters, previous.own_listeners
            if effects.some_own and self._impact.affects_own(effects.impact, scope):
                own_clusters, own_listeners = self._own(snapshot, scope)
            result = previous.followed_by(outbound, own_clusters, own_listeners)
        if self._verify:
            self._check(snapshot, scope, result, changes)
        return result

    def _turn_to(self, snapshot: Snapshot) -> None:
        if self._snapshot is not snapshot:
            self._snapshot = snapshot
            self._made = {}
            self._updates = {}
            self._effects = {}
            self._common = {}
            self._replacements = {}
            self._routes_of = {}

    def _effects_of(self, before: Snapshot, after: Snapshot, changes: ChangeSet) -> _Effects:
        known = self._effects.get(id(before))
        if known is None:
            found = self._impact.impact(before, after, changes)
            known = self._effects[id(before)] = _Effects(
                before,
                found,
                other_labels=tested_labels(before) is not tested_labels(after),
                some_own=self._impact.affects_any_own(found),
            )
        return known

    def _updated(self, snapshot: Snapshot, before: Outbound, found: impact.Impact) -> Outbound:
        """``before`` brought to ``snapshot``; computed once for all scopes that share it."""
        if before.snapshot is snapshot:
            return before
        known = self._updates.get(id(before))
        if known is not None:
            return known[1]
        part = self._impact.Part
        view = self._view(snapshot, before.scope)
        wanted = self._impact.parts_for(found, view)
        after = Outbound(
            snapshot,
            before.scope,
            before.clusters,
            before.endpoints,
            before.listeners,
            before.routes,
            before.virtual_hosts,
            before.known_hosts,
            before.extensions,
        )
        if wanted & part.CLUSTERS:
            after.clusters = self._all_clusters(view)
        elif found.policies:
            after.clusters = self._with_clusters(view, before, found)
        if wanted & part.ENDPOINTS:
            after.endpoints = self._all_endpoints(view)
        elif found.endpoints or found.policies:
            after.endpoints = self._with_endpoints(view, before, found)
        if wanted & part.LISTENERS:
            after.listeners = self._all_listeners(view)
        if wanted & part.ROUTES:
            after.routes, after.virtual_hosts, after.known_hosts = self._routes(view)
        else:
            self._update_routes(after, view, found)
        if not after.same_as(before):
            self._translations += 1
        self._updates[id(before)] = (before, after)
        self._made.setdefault(before.scope, after)
        return after

    def _with_endpoints(self, view: View, before: Outbound, found: impact.Impact) -> Shared:
        """New load assignments for the services whose endpoints or mutual TLS modes changed."""
        changed: dict[str, DiscoveryResource] = {}
        services = [
            service
            for hostname, namespace in found.endpoints
            if (service := view.service(hostname)) is not None and service.namespace == namespace
        ]
        if found.policies:
            services += [s for s in view.services if s.namespace in found.policies]
        for service in services:
            for assignment in self._endpoints.load_assignments(view, service):
                changed[assignment.cluster] = self._build.resource(assignment)
        return self._replaced(ENDPOINT, before.endpoints, changed)

    def _with_clusters(self, view: View, before: Outbound, found: impact.Impact) -> Shared:
        """New clusters for the services whose mutual TLS modes changed."""
        changed = {
            cluster.name: self._build.resource(cluster)
            for service in view.services
            if service.namespace in found.policies
            for cluster in self._clusters.outbound_clusters(view, service)
        }
        return self._replaced(CLUSTER, before.clusters, changed)

    def _update_routes(self, part: Outbound, view: View, found: impact.Impact) -> None:
        """New route configurations where changed VirtualServices have a say."""
        relevant = self._impact.routings_for(found, view.scope)
        if not relevant or self._replace_hosts(part, view, relevant):
            return
        made = [
            self._configuration.route_configuration(view, name, part.known_hosts)
            for name in sorted(self._impact.route_names(view, relevant))
            if name in part.routes
        ]
        changed = {item.name: self._build.resource(item) for item in made}
        part.routes = self._replaced(ROUTE, part.routes, changed)
        kept = [
            host
            for name, host in part.virtual_hosts.items()
            if name.rpartition("/")[0] not in changed
        ]
        part.virtual_hosts = shared(VIRTUAL_HOST, [*kept, *self._build.virtual_hosts(made)])

    def _replace_hosts(
        self, part: Outbound, view: View, changed: Iterable[EffectiveVirtualService]
    ) -> bool:
        """Make only the virtual hosts of ``changed`` VirtualServices anew; False when more than
        these may differ."""
        found = self._route_update.replacements(view, part.known_hosts, changed, part.routes)
        made = None if found is None else self._with_hosts(part.virtual_hosts, found)
        if made is None:
            return False
        part.virtual_hosts = made
        return True

    def _with_hosts(self, virtual_hosts: Shared, found: Iterable[Replacement]) -> Shared | None:
        """``virtual_hosts`` with what takes their place; None when more differs."""
        fresh: dict[str, DiscoveryResource] = {}
        for host in found:
            before = self._build.discovered_host(host.route, host.before)
            if virtual_hosts.get(before.name) is not before:
                return None  # another host has taken some of its domains
            fresh[before.name] = self._build.discovered_host(host.route, host.after)
        return self._replaced(VIRTUAL_HOST, virtual_hosts, fresh)

    def _all_clusters(self, view: View) -> Shared:
        make = self._configuration.outbound_clusters
        return self._in_common(CLUSTER, view.service_facts, view, make)

    def _all_endpoints(self, view: View) -> Shared:
        make = self._configuration.all_load_assignments
        facts = (view.service_facts, view.scope.node)
        return self._in_common(ENDPOINT, facts, view, make)

    def _all_listeners(self, view: View) -> Shared:
        make = self._configuration.outbound_listeners
        return self._in_common(LISTENER, view.listener_facts, view, make)

    def _in_common(
        self,
        type_url: str,
        facts: Hashable,
        view: View,
        make: Callable[[View], tuple[build.Part, ...]],
    ) -> Shared:
        """What ``make`` gives, once for all scopes with the same ``facts``."""
        key = type_url, facts
        if key not in self._common:
            self._common[key] = self._shared(type_url, make(view))
        return self._common[key]

    def _routes(self, view: View) -> Routes:
        """Routes and virtual hosts: those of a client that sees the same, with what differs."""
        held = self._routes_of.get(view.egress_facts)
        if held is not None and (found := self._routes_like(view, *held)) is not None:
            return found
        known: Known = {}
        made = self._configuration.all_routes(view, known)
        hosts = shared(VIRTUAL_HOST, self._build.virtual_hosts(made))
        result = Routes(self._shared(ROUTE, made), hosts, known)
        if held is None:
            self._routes_of[view.egress_facts] = self._client_routes(view, known), result
        return result

    def _routes_like(self, view: View, client: ClientRoutes, routes: Routes) -> Routes | None:
        found = client.replacements(view)
        if found is None or not all(map(client.suits_all, routes.routes)):
            return None
        hosts = self._with_hosts(routes.virtual_hosts, found[0])
        return None if hosts is None else Routes(routes.routes, hosts, found[1])

    def _new_outbound(self, snapshot: Snapshot, scope: Scope) -> Outbound:
        self._translations += 1
        view = self._view(snapshot, scope)
        return Outbound(
            snapshot,
            scope,
            self._all_clusters(view),
            self._all_endpoints(view),
            self._all_listeners(view),
            *self._routes(view),
            self._extensions(),
        )

    def _own(
        self, snapshot: Snapshot, scope: Scope
    ) -> tuple[tuple[DiscoveryResource, ...], tuple[DiscoveryResource, ...]]:
        """Clusters and listeners of the scope's own workload."""
        self._translations += 1
        view, resource = self._view(snapshot, scope), self._build.resource
        return (
            tuple(resource(item) for item in self._inbound.clusters(view)),
            tuple(resource(item) for item in self._inbound.listeners(view)),
        )

    def _gateway(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        self._translations += 1
        view, configuration = self._view(snapshot, scope), self._configuration
        return {
            CLUSTER: self._shared(CLUSTER, configuration.all_clusters(view)),
            ENDPOINT: self._shared(ENDPOINT, configuration.all_load_assignments(view)),
            LISTENER: self._shared(LISTENER, configuration.all_listeners(view)),
            ROUTE: self._shared(ROUTE, configuration.all_routes(view)),
            EXTENSION: self._extensions(),
        }

    def _extensions(self) -> Shared:
        return shared(EXTENSION, self._build.extensions().values())

    def _shared(self, type_url: str, parts: Iterable[build.Part]) -> Shared:
        return shared(type_url, map(self._build.resource, parts))

    def _replaced(
        self, type_url: str, before: Shared, changed: Mapping[str, DiscoveryResource]
    ) -> Shared:
        """``before`` with the resources of ``changed`` that differ from it, of names it has. Found
        once for all scopes that share ``before`` and change alike."""
        fresh = {
            name: item
            for name, item in changed.items()
            if name in before and before[name].version != item.version
        }
        if not fresh:
            return before
        key = (id(before), frozenset(map(id, fresh.values())))
        known = self._replacements.get(key)
        if known is None:
            after = with_others(before, type_url, fresh)
            known = self._replacements[key] = (before, after)
        return known[1]

    def _check(
        self, snapshot: Snapshot, scope: Scope, result: ResourceSet, changes: ChangeSet
    ) -> None:
        """Raise `IncrementalMismatch` when ``result`` is not what is made from scratch."""
        with self._forgetting():
            expected = self._build.resources(self._configuration.translate(snapshot, scope))
        for type_url, wanted in expected.items():
            got = result.get(type_url, {})
            different = sorted(
                name
                for name in wanted.keys() | set(got)
                if name not in wanted
                or name not in got
                or wanted[name].version != got[name].version
            )
            if different:
                raise IncrementalMismatch(
                    f"{scope.type} {scope.namespace}: {', '.join(different[:5])} "
                    f"({len(different)} of {type_url}) differ from a translation from scratch "
                    f"after {', '.join(map(str, sorted(changes.keys)[:5]))}"
                )
