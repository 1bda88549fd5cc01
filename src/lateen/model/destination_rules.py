"""DestinationRules: merging per host and namespace, and which one holds for a client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from lateen.api.findings import Finding
from lateen.api.networking.destination_rule import DestinationRule, DestinationRuleSpec, Subset
from lateen.api.resource import Resource
from lateen.model import kinds, rules
from lateen.model.names import expand, is_wildcard, subset_of
from lateen.model.ordering import age_key
from lateen.model.selection import selects
from lateen.model.service import Service
from lateen.model.snapshot import Index, Snapshot
from lateen.model.visibility import export_to, is_private, is_public, is_visible


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveDestinationRule:
    """One or several DestinationRules of a namespace for one host, merged, oldest first.

    ``spec.host`` is the full name. ``subset_sources[i]`` is where ``spec.subsets[i]`` is written,
    ``policy_source`` where ``spec.traffic_policy`` is.
    """

    host: str
    namespace: str
    spec: DestinationRuleSpec
    export_to: frozenset[str]
    selector: Mapping[str, str] | None
    sources: tuple[Resource, ...]
    subset_sources: tuple[tuple[Resource, int], ...] = ()
    policy_source: Resource | None = None
    findings: tuple[Finding, ...] = ()

    def subset(self, name: str) -> Subset | None:
        """The subset with this name."""
        return next((subset for subset in self.spec.subsets if subset.name == name), None)


class _HostTable:
    """Merged rules by host, with lookup of the most specific host."""

    __slots__ = ("_exact", "_wildcards")

    def __init__(self, rules_by_host: Mapping[str, tuple[EffectiveDestinationRule, ...]]) -> None:
        self._exact = {h: r for h, r in rules_by_host.items() if not is_wildcard(h)}
        wild = [(h, r) for h, r in rules_by_host.items() if is_wildcard(h)]
        self._wildcards = sorted(wild, key=lambda item: (-len(item[0]), item[0]))

    def __bool__(self) -> bool:
        return bool(self._exact or self._wildcards)

    def find(self, hostname: str) -> tuple[EffectiveDestinationRule, ...]:
        exact = self._exact.get(hostname)
        if exact is not None:
            return exact
        for host, found in self._wildcards:
            if subset_of(hostname, host):
                return found
        return ()

    def hosts_among(self, services: Mapping[str, int]) -> set[int]:
        """Which of the host names (by position) it has rules for."""
        found = {services[host] for host in self._exact.keys() & services.keys()}
        for pattern, _ in self._wildcards:
            found |= {place for host, place in services.items() if subset_of(host, pattern)}
        return found

    def all(self) -> Iterable[EffectiveDestinationRule]:
        for found in self._exact.values():
            yield from found
        for _, found in self._wildcards:
            yield from found


_NO_TABLE = _HostTable({})


@dataclass(frozen=True, slots=True, eq=False)
class _Namespace:
    """The rules of one namespace: those its own clients use, and those others may."""

    layer: Mapping[str, Resource]
    single: Mapping[Resource, EffectiveDestinationRule]
    """Each DestinationRule by itself."""
    local: _HostTable
    exported: _HostTable
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _General:
    """What clients obey in whose namespace there are no rules, and to which none are exported by
    name."""

    services: tuple[Service, ...]
    rules: tuple[EffectiveDestinationRule | None, ...]
    places: Mapping[str, int]
    """Positions by host name."""

    @property
    def unique(self) -> bool:
        """Whether each host name occurs once."""
        return len(self.places) == len(self.services)


_MAX_GENERAL = 16
"""Different views of the mesh's services that are remembered."""
_NOBODY = ""
"""A namespace that no object is in."""


def _places(services: tuple[Service, ...]) -> dict[str, int]:
    return {service.hostname: place for place, service in enumerate(services)}


class DestinationRules:
    """All DestinationRules of a snapshot."""

    __slots__ = ("_general", "_restricted", "_root", "namespaces")

    def __init__(self, namespaces: Mapping[str, _Namespace], root: str) -> None:
        self.namespaces = namespaces
        self._root = root
        self._general: dict[int, _General] = {}
        """By the identity of the services that were asked for."""
        self._restricted: tuple[EffectiveDestinationRule, ...] | None = None
        """Rules exported to some namespaces by name."""

    def lookup(
        self,
        client_namespace: str,
        hostname: str,
        service_namespace: str,
        labels: Mapping[str, str] | None = None,
    ) -> EffectiveDestinationRule | None:
        """The rule that clients in ``client_namespace`` with ``labels`` obey for a service.

        Looked for in the client's namespace, then the service's, then the root namespace; the
        first that has the host decides, nothing is merged across namespaces. Rules with a
        workload selector hold for outbound traffic of their namespace only; ``labels`` None (for
        inbound) leaves them out.
        """
        return self._pick(
            self._candidates(client_namespace, hostname, service_namespace),
            client_namespace,
            labels,
        )

    def for_service(
        self, client_namespace: str, service: Service, labels: Mapping[str, str] | None = None
    ) -> EffectiveDestinationRule | None:
        """`lookup` for a service."""
        return self.lookup(client_namespace, service.hostname, service.namespace, labels)

    def for_services(
        self, client: str, services: tuple[Service, ...], labels: Mapping[str, str] | None = None
    ) -> tuple[EffectiveDestinationRule | None, ...]:
        """`for_service` for each of ``services``. Most clients obey the same rules: those of the
        services' own namespaces; only the others are looked up."""
        general = self._general.get(id(services))
        if general is None:
            general = self._general[id(services)] = _General(
                services,
                tuple(self.for_service(_NOBODY, service) for service in services),
                _places(services),
            )
            if len(self._general) > _MAX_GENERAL:
                # Rules may stay while services change: what nobody asks for again must go.
                del self._general[next(iter(self._general))]
        special = self._table(client, local=True).hosts_among(general.places)
        for rule in self._exported_by_name():
            if client in rule.export_to:
                table = _HostTable({rule.host: (rule,)})
                special |= table.hosts_among(general.places)
        if not special and general.unique:
            return general.rules
        found = list(general.rules)
        for place in special if general.unique else range(len(services)):
            found[place] = self.for_service(client, services[place], labels)
        return tuple(found)

    def _exported_by_name(self) -> tuple[EffectiveDestinationRule, ...]:
        if self._restricted is None:
            self._restricted = tuple(
                rule
                for namespace in self.namespaces.values()
                for rule in namespace.exported.all()
                if not is_public(rule.export_to)
            )
        return self._restricted

    def _candidates(
        self, client: str, hostname: str, service_namespace: str
    ) -> Sequence[EffectiveDestinationRule]:
        own = self._table(client, local=True).find(hostname)
        if own:
            return own
        for namespace in (service_namespace, self._root):
            found = [
                rule
                for rule in self._table(namespace, local=False).find(hostname)
                if is_visible(rule.export_to, client)
            ]
            if found:
                return found
        return ()

    def _table(self, namespace: str, *, local: bool) -> _HostTable:
        known = self.namespaces.get(namespace)
        if known is None:
            return _NO_TABLE
        return known.local if local else known.exported

    @staticmethod
    def _pick(
        candidates: Iterable[EffectiveDestinationRule],
        client: str,
        labels: Mapping[str, str] | None,
    ) -> EffectiveDestinationRule | None:
        for rule in candidates:
            if rule.selector is None:
                return rule
            if labels is not None and rule.namespace == client and selects(rule.selector, labels):
                return rule
        return None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Subsets that are defined twice."""
        return tuple(f for _, n in sorted(self.namespaces.items()) for f in n.findings)


def destination_rules(snapshot: Snapshot) -> DestinationRules:
    """The DestinationRules of a snapshot."""
    return snapshot.derived(_INDEX)


def _build(snapshot: Snapshot, previous: DestinationRules | None) -> DestinationRules:
    known = previous.namespaces if previous is not None else {}
    namespaces: dict[str, _Namespace] = {}
    for namespace, layer in snapshot.layers(kinds.DESTINATION_RULE).items():
        old = known.get(namespace)
        if old is not None and old.layer is layer:
            namespaces[namespace] = old
        else:
            default = snapshot.mesh_facts.destination_rule_export_to
            is_root = namespace == snapshot.root_namespace
            namespaces[namespace] = _of_namespace(namespace, layer, default, old, is_root=is_root)
    return DestinationRules(namespaces, snapshot.root_namespace)


_INDEX: Index[DestinationRules] = Index(
    "destination-rules", frozenset({kinds.DESTINATION_RULE}), _build
)


def _of_namespace(
    namespace: str,
    layer: Mapping[str, Resource],
    default: tuple[str, ...],
    old: _Namespace | None,
    *,
    is_root: bool,
) -> _Namespace:
    known: dict[tuple[bool, str, tuple[Resource, ...]], EffectiveDestinationRule] = {}
    if old is not None:
        for local, table in ((True, old.local), (False, old.exported)):
            known.update(((local, rule.host, rule.sources), rule) for rule in table.all())
    by_resource = old.single if old is not None else {}
    made = {
        resource: by_resource.get(resource) or _single(resource, default)
        for resource in layer.values()
    }
    single = list(made.values())
    single.sort(key=lambda rule: (rule.selector is None, age_key(rule.sources[0])))
    # In the root namespace public rules are everybody's last resort, not its clients' first.
    own = [
        rule
        for rule in single
        if is_visible(rule.export_to, namespace)
        and (not is_root or is_private(rule.export_to, namespace))
    ]
    exported = [rule for rule in single if not is_private(rule.export_to, namespace)]
    tables = []
    for local, chosen in ((True, own), (False, exported)):
        by_host: dict[str, list[EffectiveDestinationRule]] = {}
        for rule in chosen:
            _add(by_host.setdefault(rule.host, []), rule)
        tables.append(
            _HostTable(
                {
                    host: tuple(known.get((local, host, rule.sources), rule) for rule in merged)
                    for host, merged in by_host.items()
                }
            )
        )
    findings: dict[tuple[object, ...], Finding] = {}
    for table in tables:
        for rule in table.all():
            findings.update({(f.key, f.path): f for f in rule.findings})
    return _Namespace(layer, made, tables[0], tables[1], tuple(findings.values()))


def _single(resource: Resource, default: tuple[str, ...]) -> EffectiveDestinationRule:
    obj = resource.object
    assert isinstance(obj, DestinationRule)
    namespace, spec = resource.key.namespace, obj.spec
    host = expand(spec.host, namespace).lower()
    selector = spec.workload_selector.match_labels if spec.workload_selector is not None else None
    return EffectiveDestinationRule(
        host=host,
        namespace=namespace,
        spec=structs.replace(spec, host=host),
        export_to=(
            frozenset({namespace})
            if selector is not None
            else export_to(spec.export_to, namespace, default)
        ),
        selector=selector,
        sources=(resource,),
        subset_sources=tuple((resource, index) for index in range(len(spec.subsets))),
        policy_source=resource if spec.traffic_policy is not None else None,
    )


def _add(merged: list[EffectiveDestinationRule], rule: EffectiveDestinationRule) -> None:
    """Merge ``rule`` into the rules for its host, or put it beside them."""
    for index, other in enumerate(merged):
        if other.selector != rule.selector:
            continue
        if other.export_to == rule.export_to:
            merged[index] = _merge(other, rule)
            return
        if _covers(rule.export_to, other.export_to):
            merged[index] = _merge(other, rule)
            break
    merged.append(rule)


def _covers(wider: frozenset[str], narrower: frozenset[str]) -> bool:
    return "*" in wider or wider >= narrower


def _merge(
    older: EffectiveDestinationRule, younger: EffectiveDestinationRule
) -> EffectiveDestinationRule:
    taken = {subset.name for subset in older.spec.subsets}
    subsets, places, findings = list(older.spec.subsets), list(older.subset_sources), []
    for subset, place in zip(younger.spec.subsets, younger.subset_sources, strict=True):
        if subset.name in taken:
            findings.append(_subset_taken(place, subset.name, older))
            continue
        subsets.append(subset)
        places.append(place)
    policy = older.spec.traffic_policy
    return replace(
        older,
        spec=structs.replace(
            older.spec,
            subsets=subsets,
            traffic_policy=policy if policy is not None else younger.spec.traffic_policy,
        ),
        sources=(*older.sources, *younger.sources),
        subset_sources=tuple(places),
        policy_source=older.policy_source or younger.policy_source,
        findings=(*older.findings, *findings),
    )


def _subset_taken(
    place: tuple[Resource, int], name: str, older: EffectiveDestinationRule
) -> Finding:
    resource, index = place
    winner = next(
        source
        for (source, _), subset in zip(older.subset_sources, older.spec.subsets, strict=True)
        if subset.name == name
    )
    return rules.finding(
        rules.SUBSET_TAKEN,
        resource,
        ("spec", "subsets", index),
        f'subset "{name}" of {older.host} is already defined by {winner.key} ({winner.provenance})',
        "Rename one of the two subsets.",
    )
