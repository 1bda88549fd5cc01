"""Brings a service registry up to date: only what the changed objects touch is computed again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from lateen.api.findings import Finding
from lateen.api.resource import ObjectKey, Resource
from lateen.model import endpoints as collect
from lateen.model import kinds
from lateen.model.assembly import Assembly
from lateen.model.change import Address, ServiceName
from lateen.model.definitions import (
    cluster_ips,
    hosts_of,
    namespace_distribution,
    same_service,
    service_selector,
)
from lateen.model.label_selectors import selects
from lateen.model.layers import Draft
from lateen.model.mesh import MeshFacts
from lateen.model.names import is_ip
from lateen.model.ordering import age_key, workload_order
from lateen.model.registry import Pair, RegistryState, selectors_of
from lateen.model.service import Endpoint, Resolution, Service
from lateen.model.workloads import Workload, node_locality, workload_of_entry, workload_of_pod

Lookup = Callable[[ObjectKey], Resource | None]

_SOURCES = (kinds.SERVICE, kinds.SERVICE_ENTRY)
_SLICES = (kinds.ENDPOINT_SLICE, kinds.ENDPOINTS)
_WORKLOADS = (kinds.POD, kinds.WORKLOAD_ENTRY)
RELEVANT = frozenset({*_SOURCES, *_SLICES, *_WORKLOADS, kinds.NODE, kinds.NAMESPACE})
"""Kinds that the registry is made from."""


_FEW = 4
"""Up to so many new selectors are tried on every workload; an index pays off only above."""


@dataclass(frozen=True, slots=True)
class Update:
    """A new registry state and what differs from the previous one."""

    state: RegistryState
    services: frozenset[ServiceName]
    endpoints: frozenset[ServiceName]
    inline: frozenset[ServiceName]
    workloads: frozenset[ObjectKey]
    listed: frozenset[Address]


def update(
    base: RegistryState,
    previous: RegistryState,
    changed: Iterable[ObjectKey],
    before: Lookup,
    after: Lookup,
    mesh: MeshFacts,
) -> Update:
    """The state after ``changed`` objects went from ``before`` to ``after``.

    ``previous`` is where equal services and endpoints are taken from, so that they keep their
    identity; it is ``base`` unless everything is built anew.
    """
    return _Updater(base, previous, before, after, mesh).run(list(changed))


class _Updater:
    def __init__(
        self,
        base: RegistryState,
        previous: RegistryState,
        before: Lookup,
        after: Lookup,
        mesh: MeshFacts,
    ) -> None:
        self.previous = previous
        self.before = before
        self.after = after
        self.mesh = mesh
        self.workloads = Draft(base.workloads)
        self.selectors = Draft(base.selectors)
        self.selecting = Draft(base.selecting)
        self.members = Draft(base.members)
        self.owners = Draft(base.owners)
        self.sources = Draft(base.sources)
        self.hosts = Draft(base.hosts)
        self.claims = Draft(base.claims)
        self.slices = Draft(base.slices)
        self.slice_of = Draft(base.slice_of)
        self.referrers = Draft(base.referrers)
        self.addressed = Draft(base.addressed)
        self.services = Draft(base.services)
        self.endpoints = Draft(base.endpoints)
        self.findings = Draft(base.findings)
        self.dirty: set[tuple[str, str]] = set()
        """Namespace and host of services to compute again."""
        self.rescan: dict[str, set[ObjectKey]] = {}
        """Objects by namespace whose selector is new."""
        self.added: dict[ObjectKey, set[ObjectKey]] = {}
        self.removed: dict[ObjectKey, set[ObjectKey]] = {}
        """Selecting objects to workloads that became, and ceased to be, their members."""
        self.changed_workloads: set[ObjectKey] = set()
        self.listed: set[Address] = set()
        """Addresses whose listing in some object changed."""

    def run(self, changed: list[ObjectKey]) -> Update:
        by_kind: dict[tuple[str, str], list[ObjectKey]] = {}
        for key in changed:
            by_kind.setdefault((key.group, key.kind), []).append(key)
        for kind in _SOURCES:
            for key in by_kind.get(kind, ()):
                self.change_source(key)
        for kind in _SLICES:
            for key in by_kind.get(kind, ()):
                self.change_slice(key)
        for key in by_kind.get(kinds.NAMESPACE, ()):
            self.change_namespace(key)
        touched = {key for kind in _WORKLOADS for key in by_kind.get(kind, ())}
        touched |= self.moved_by_nodes(by_kind.get(kinds.NODE, ()))
        for key in touched:
            self.change_workload(key)
        self.scan_new_selectors()
        self.settle_members()
        services: set[ServiceName] = set()
        endpoints: set[ServiceName] = set()
        inline: set[ServiceName] = set()
        assembly = self.assembly()
        for namespace, host in self.dirty:
            service_differs, endpoints_differ = self.rebuild(assembly, namespace, host)
            if service_differs:
                services.add((host, namespace))
            if endpoints_differ:
                endpoints.add((host, namespace))
                service = self.services.get(namespace, host)
                if service is not None and service.resolution is not Resolution.CLIENT_SIDE:
                    inline.add((host, namespace))
        return Update(
            state=RegistryState(
                workloads=self.workloads.result(),
                selectors=self.selectors.result(),
                selecting=self.selecting.result(),
                members=self.members.result(),
                owners=self.owners.result(),
                sources=self.sources.result(),
                hosts=self.hosts.result(),
                claims=self.claims.result(),
                slices=self.slices.result(),
                slice_of=self.slice_of.result(),
                referrers=self.referrers.result(),
                addressed=self.addressed.result(),
                services=self.services.result(),
                endpoints=self.endpoints.result(),
                findings=self.findings.result(),
            ),
            services=frozenset(services),
            endpoints=frozenset(endpoints),
            inline=frozenset(inline),
            workloads=frozenset(self.changed_workloads),
            listed=frozenset(self.listed),
        )

    # What changed ------------------------------------------------------------------------------

    def change_source(self, key: ObjectKey) -> None:
        """A Service or ServiceEntry came, changed or went."""
        namespace = key.namespace
        old, new = self.before(key), self.after(key)
        old_hosts = self.hosts.get(namespace, key) or ()
        new_hosts = hosts_of(new) if new is not None else ()
        if old_hosts != new_hosts:
            self.hosts.put(namespace, key, new_hosts)
        for host in {*old_hosts, *new_hosts}:
            others = [k for k in self.sources.get(namespace, host) or () if k != key]
            if host in new_hosts:
                others.append(key)
            self.sources.put(namespace, host, self.by_age(others))
            self.dirty.add((namespace, host))
        if key.kind == "Service":
            self.change_claims(key, old, new)
        else:
            self.change_addresses(
                key,
                collect.entry_addresses(old) if old is not None else set(),
                collect.entry_addresses(new) if new is not None else set(),
            )
        self.change_selector(key, service_selector(new) if new is not None else None)

    def change_namespace(self, key: ObjectKey) -> None:
        """A Namespace came, changed or went: its labels may decide who sees its ServiceEntries, an
        annotation the traffic distribution of its services."""
        if namespace_distribution(self.before(key)) != namespace_distribution(self.after(key)):
            for source in self.hosts.layer(key.name):
                self.mark_source(source)
        elif self.mesh.entry_visibility is not None:
            for source in self.hosts.layer(key.name):
                if source.kind == "ServiceEntry":
                    self.mark_source(source)

    def by_age(self, keys: Iterable[ObjectKey]) -> tuple[ObjectKey, ...]:
        found = [r for key in keys if (r := self.after(key)) is not None]
        return tuple(resource.key for resource in sorted(found, key=age_key))

    def change_claims(self, key: ObjectKey, old: Resource | None, new: Resource | None) -> None:
        old_ips = cluster_ips(old) if old is not None else ()
        new_ips = cluster_ips(new) if new is not None else ()
        for ip in {*old_ips, *new_ips}:
            before = self.claims.get("", ip) or ()
            claimants = {k for k in before if k != key}
            if ip in new_ips:
                claimants.add(key)
            self.claims.put("", ip, self.by_age(claimants))
            for claimant in (*before, *claimants):
                self.mark_source(claimant)

    def change_selector(self, key: ObjectKey, new: Mapping[str, str] | None) -> None:
        namespace = key.namespace
        old = self.selecting.get(namespace, key)
        if old == new:
            return
        if old is not None:
            pair = _pair(old)
            rest = tuple(k for k in self.selectors.get(namespace, pair) or () if k != key)
            self.selectors.put(namespace, pair, rest)
            self.selecting.delete(namespace, key)
            for member in self.members.get(namespace, key) or ():
                self.removed.setdefault(key, set()).add(member)
        if new is not None:
            pair = _pair(new)
            known = self.selectors.get(namespace, pair) or ()
            self.selectors.set(namespace, pair, tuple(sorted({*known, key})))
            self.selecting.set(namespace, key, new)
            self.rescan.setdefault(namespace, set()).add(key)

    def change_slice(self, key: ObjectKey) -> None:
        """An EndpointSlice or Endpoints object came, changed or went."""
        namespace = key.namespace
        old, new = self.before(key), self.after(key)
        old_service = self.slice_of.get(namespace, key) or ""
        new_service = collect.slice_service(new) if new is not None else ""
        if old_service and old_service != new_service:
            rest = tuple(k for k in self.slices.get(namespace, old_service) or () if k != key)
            self.slices.put(namespace, old_service, rest)
        if new_service:
            known = self.slices.get(namespace, new_service) or ()
            self.slices.set(namespace, new_service, tuple(sorted({*known, key})))
        self.slice_of.put(namespace, key, new_service)
        old_pods = collect.slice_targets(old) if old is not None and old_service else set()
        new_pods = collect.slice_targets(new) if new is not None and new_service else set()
        for pod in old_pods ^ new_pods:
            known = self.referrers.get(pod.namespace, pod) or ()
            wanted = {*known, key} if pod in new_pods else {*known} - {key}
            self.referrers.put(pod.namespace, pod, tuple(sorted(wanted)))
        self.change_addresses(
            key,
            collect.slice_addresses(old) if old is not None and old_service else set(),
            collect.slice_addresses(new) if new is not None and new_service else set(),
        )
        self.listed |= {
            (namespace, address)
            for _, address, _ in collect.slice_ports(old) ^ collect.slice_ports(new)
        }
        for name in {old_service, new_service} - {""}:
            self.mark_source(ObjectKey("", "Service", namespace, name))

    def change_addresses(self, key: ObjectKey, old: set[str], new: set[str]) -> None:
        """The addresses that an object lists without naming a Pod went from ``old`` to ``new``."""
        namespace = key.namespace
        for address in old ^ new:
            known = self.addressed.get(namespace, address) or ()
            wanted = {*known, key} if address in new else {*known} - {key}
            self.addressed.put(namespace, address, tuple(sorted(wanted)))

    def moved_by_nodes(self, nodes: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Workloads on nodes whose locality changed."""
        moved = set()
        for key in nodes:
            old, new = self.before(key), self.after(key)
            if old is None or new is None or node_locality(old.labels) != node_locality(new.labels):
                moved.add(key.name)
        if not moved:
            return set()
        return {
            workload.key
            for layer in self.workloads.result().values()
            for workload in layer.values()
            if workload.node in moved
        }

    def change_workload(self, key: ObjectKey) -> None:
        """A Pod or WorkloadEntry came, changed or went, or its node moved."""
        namespace = key.namespace
        old = self.workloads.get(namespace, key)
        new = self.read_workload(key)
        if old == new:
            return
        self.changed_workloads.add(key)
        if key.kind == "WorkloadEntry":
            before, after = _address_of(old), _address_of(new)
            self.change_addresses(key, before, after)
            self.listed |= {(namespace, address) for address in before | after}
        if new is None:
            self.workloads.delete(namespace, key)
        else:
            self.workloads.set(namespace, key, new)
        old_owners = set(self.owners.get(namespace, key) or ())
        new_owners = set(self.selecting_objects(namespace, new)) if new is not None else set()
        fresh = self.rescan.get(namespace, set())
        for owner in (old_owners | new_owners) - fresh:
            self.mark_source(owner)
            if owner not in new_owners:
                self.removed.setdefault(owner, set()).add(key)
            elif owner not in old_owners:
                self.added.setdefault(owner, set()).add(key)
        for listing in self.referrers.get(namespace, key) or ():
            service = self.slice_of.get(listing.namespace, listing)
            if service:
                self.mark_source(ObjectKey("", "Service", listing.namespace, service))

    def read_workload(self, key: ObjectKey) -> Workload | None:
        resource = self.after(key)
        if resource is None:
            return None
        if key.kind == "WorkloadEntry":
            return workload_of_entry(resource, self.mesh.trust_domain)
        spec = getattr(resource.object, "spec", None)
        node_name = getattr(spec, "node_name", "") or ""
        node = self.after(ObjectKey("", "Node", "", node_name)) if node_name else None
        return workload_of_pod(resource, node, self.mesh.trust_domain)

    def selecting_objects(self, namespace: str, workload: Workload) -> tuple[ObjectKey, ...]:
        return selectors_of(
            {namespace: self.selectors.layer(namespace)},
            {namespace: self.selecting.layer(namespace)},
            namespace,
            workload.labels,
        )

    def scan_new_selectors(self) -> None:
        """Find the members of objects whose selector is new, in one pass over a namespace."""
        for namespace, keys in self.rescan.items():
            specs = {key: self.selecting.layer(namespace)[key] for key in keys}
            workloads = self.workloads.layer(namespace).values()
            for key, members in _members_of(specs, workloads).items():
                old = set(self.members.get(namespace, key) or ())
                self.added[key] = members - old
                self.removed[key] = old - members

    def settle_members(self) -> None:
        """Write what `change_workload` and `scan_new_selectors` found out about memberships."""
        for source in {*self.added, *self.removed}:
            namespace = source.namespace
            added = self.added.get(source, set())
            removed = self.removed.get(source, set())
            if not added and not removed:
                continue
            members = (set(self.members.get(namespace, source) or ()) | added) - removed
            ordered = tuple(sorted(members, key=workload_order))
            self.members.put(namespace, source, ordered)
            for workload in added:
                known = self.owners.get(namespace, workload) or ()
                self.owners.set(namespace, workload, tuple(sorted({*known, source})))
            for workload in removed:
                known = self.owners.get(namespace, workload) or ()
                rest = tuple(owner for owner in known if owner != source)
                self.owners.put(namespace, workload, rest)
            self.mark_source(source)

    def mark_source(self, key: ObjectKey) -> None:
        for host in self.hosts.get(key.namespace, key) or ():
            self.dirty.add((key.namespace, host))

    # What follows ------------------------------------------------------------------------------

    def assembly(self) -> Assembly:
        """Builds services from what is known here.

        Not an attribute: the two would refer to each other, and each change leave its drafts to
        the garbage collector, which comes for them late or never.
        """
        return Assembly(
            mesh=self.mesh,
            owner_of=self.owner_of,
            workload=self.workload,
            workloads_of=self.workloads_of,
            slices_of=self.slices_of,
        )

    def rebuild(self, assembly: Assembly, namespace: str, host: str) -> tuple[bool, bool]:
        """Compute one service again; says whether its definition and its endpoints differ."""
        keys = self.sources.get(namespace, host) or ()
        found = [r for key in keys if (r := self.after(key)) is not None]
        home = self.after(ObjectKey(*kinds.NAMESPACE, "", namespace))
        built = assembly.build(host, found, home)
        return (
            self.keep_service(namespace, host, built.service),
            self.keep_endpoints(namespace, host, built.endpoints, built.findings),
        )

    def workloads_of(self, source: ObjectKey) -> list[Workload]:
        """The workloads that a Service or ServiceEntry selects."""
        keys = self.members.get(source.namespace, source) or ()
        return [w for key in keys if (w := self.workload(key)) is not None]

    def workload(self, key: ObjectKey) -> Workload | None:
        """The workload that a Pod or WorkloadEntry is."""
        return self.workloads.get(key.namespace, key)

    def slices_of(self, namespace: str, name: str) -> list[Resource]:
        """EndpointSlices of a service, or else its Endpoints object (slices mirror it)."""
        keys = self.slices.get(namespace, name) or ()
        chosen = [key for key in keys if key.kind == "EndpointSlice"] or keys
        return [r for key in chosen if (r := self.after(key)) is not None]

    def owner_of(self, ip: str) -> Resource | None:
        """The Service that a cluster IP belongs to: the oldest that claims it."""
        claimants = self.claims.get("", ip)
        return self.after(claimants[0]) if claimants else None

    def keep_service(self, namespace: str, host: str, service: Service | None) -> bool:
        old = self.previous.services.get(namespace, {}).get(host)
        if service is None:
            self.services.delete(namespace, host)
            return old is not None
        if old is not None and same_service(old, service):
            if self.services.get(namespace, host) is not old:
                self.services.set(namespace, host, old)
            return False
        self.services.set(namespace, host, service)
        return True

    def keep_endpoints(
        self,
        namespace: str,
        host: str,
        endpoints: tuple[Endpoint, ...],
        findings: tuple[Finding, ...],
    ) -> bool:
        if findings != (self.findings.get(namespace, host) or ()):
            self.findings.put(namespace, host, findings)
        old = self.previous.endpoints.get(namespace, {}).get(host, ())
        if old == endpoints:
            if (self.endpoints.get(namespace, host) or ()) is not old:
                self.endpoints.put(namespace, host, old)
            return False
        self.endpoints.put(namespace, host, endpoints)
        return True


def _address_of(workload: Workload | None) -> set[str]:
    """The workload's IP address, if it has one."""
    return {workload.address} if workload is not None and is_ip(workload.address) else set()


def _members_of(
    specs: Mapping[ObjectKey, Mapping[str, str]], workloads: Collection[Workload]
) -> dict[ObjectKey, set[ObjectKey]]:
    """The workloads that each selector picks."""
    if len(specs) <= _FEW:
        return {
            key: {workload.key for workload in workloads if selects(spec, workload.labels)}
            for key, spec in specs.items()
        }
    selectors: dict[Pair | None, tuple[ObjectKey, ...]] = {}
    for key, spec in specs.items():
        selectors[_pair(spec)] = (*selectors.get(_pair(spec), ()), key)
    found: dict[ObjectKey, set[ObjectKey]] = {key: set() for key in specs}
    for workload in workloads:
        for key in selectors_of({"": selectors}, {"": specs}, "", workload.labels):
            found[key].add(workload.key)
    return found


def _pair(selector: Mapping[str, str]) -> Pair | None:
    """The label under which a selector is indexed; version labels are rarely selective."""
    return min(selector.items(), default=None)
