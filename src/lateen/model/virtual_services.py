"""VirtualServices: which apply where and in what order, with names resolved and delegates in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import structs

from lateen.api.findings import Finding
from lateen.api.networking.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    TCPRoute,
    TLSRoute,
    VirtualService,
    VirtualServiceSpec,
)
from lateen.api.resource import ObjectKey, Resource
from lateen.model import kinds, rules
from lateen.model.delegates import merge_routes
from lateen.model.names import MESH_GATEWAY, expand, gateway_name, more_specific, subset_of
from lateen.model.ordering import age_key
from lateen.model.snapshot import Index, Snapshot
from lateen.model.visibility import export_to, is_private, is_public, is_visible


@dataclass(frozen=True, slots=True, eq=False)
class HttpRule:
    """One effective HTTP rule: host names are full, gateways are ``NAMESPACE/NAME`` or ``mesh``.

    ``source`` is the VirtualService in whose ``spec.http[index]`` the rule is written (a delegate
    where the root delegates).
    """

    route: HTTPRoute
    source: Resource
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveVirtualService:
    """A VirtualService as it applies: names resolved, delegates merged. Kept until it changes."""

    resource: Resource
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    export_to: frozenset[str]
    http: tuple[HttpRule, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    delegates: tuple[Resource, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def namespace(self) -> str:
        """Namespace of the (root) VirtualService."""
        return self.resource.key.namespace

    @property
    def name(self) -> str:
        """Name of the (root) VirtualService."""
        return self.resource.key.name

    def destinations(self, client_namespace: str | None = None) -> Iterator[Destination]:
        """Every destination and mirror; with ``client_namespace`` without those rules that only
        match clients of other namespaces."""
        for rule in self.http:
            route = rule.route
            if client_namespace is not None and not _may_match(route.match, client_namespace):
                continue
            for weighted in route.route:
                yield weighted.destination
            if route.mirror is not None:
                yield route.mirror
            for mirror in route.mirrors:
                yield mirror.destination
        for tls in self.tls:
            for target in tls.route:
                yield target.destination
        for tcp in self.tcp:
            for target in tcp.route:
                yield target.destination


def _may_match(matches: list[HTTPMatchRequest], namespace: str) -> bool:
    return not matches or any(
        not match.source_namespace or match.source_namespace == namespace for match in matches
    )


class _Bound(NamedTuple):
    """VirtualServices of one gateway: those that everybody sees, and the others."""

    public: tuple[EffectiveVirtualService, ...]
    restricted: tuple[EffectiveVirtualService, ...]


class VirtualServices:
    """All VirtualServices of a snapshot, oldest first (then by name and namespace)."""

    __slots__ = ("_answers", "_bound", "_made", "all", "findings")

    def __init__(
        self,
        effective: tuple[EffectiveVirtualService, ...],
        made: Mapping[Resource, EffectiveVirtualService],
        findings: tuple[Finding, ...],
    ) -> None:
        self.all = effective
        self.findings = findings
        self._made = made
        self._answers: dict[tuple[str, str], tuple[EffectiveVirtualService, ...]] = {}
        self._bound: dict[str, _Bound] = {}

    def for_gateway(self, gateway: str, namespace: str) -> tuple[EffectiveVirtualService, ...]:
        """VirtualServices bound to ``gateway`` (``mesh`` or ``NAMESPACE/NAME``) that proxies of
        ``namespace`` see: private ones first, then those exported to it, then the public. The
        very same tuple for namespaces that only see the public ones."""
        answer = self._answers.get((gateway, namespace))
        if answer is None:
            bound = self._bound.get(gateway)
            if bound is None:
                found = [vs for vs in self.all if gateway in vs.gateways]
                bound = self._bound[gateway] = _Bound(
                    tuple(vs for vs in found if is_public(vs.export_to)),
                    tuple(vs for vs in found if not is_public(vs.export_to)),
                )
            seen = [vs for vs in bound.restricted if is_visible(vs.export_to, namespace)]
            private = [
                vs
                for vs in seen
                if vs.namespace == namespace and is_private(vs.export_to, namespace)
            ]
            first = set(map(id, private))
            exported = [vs for vs in seen if id(vs) not in first]
            answer = (*private, *exported, *bound.public) if seen else bound.public
            self._answers[gateway, namespace] = answer
        return answer

    def for_mesh(self, namespace: str) -> tuple[EffectiveVirtualService, ...]:
        """`for_gateway` for the sidecars of a namespace."""
        return self.for_gateway(MESH_GATEWAY, namespace)


def most_specific(
    hostname: str, candidates: Iterable[EffectiveVirtualService]
) -> EffectiveVirtualService | None:
    """The VirtualService that speaks for a service: the one with the most specific host that
    covers ``hostname``; the first of several with the same."""
    best: EffectiveVirtualService | None = None
    best_host = ""
    for candidate in candidates:
        for host in candidate.hosts:
            if subset_of(hostname, host) and (best is None or more_specific(host, best_host)):
                best, best_host = candidate, host
    return best


def virtual_services(snapshot: Snapshot) -> VirtualServices:
    """The VirtualServices of a snapshot."""
    return snapshot.derived(_INDEX)


def _build(snapshot: Snapshot, previous: VirtualServices | None) -> VirtualServices:
    default = snapshot.mesh_facts.virtual_service_export_to
    known = previous._made if previous is not None else {}
    resources = sorted(snapshot.of_kind(*kinds.VIRTUAL_SERVICE).values(), key=age_key)
    made: dict[Resource, EffectiveVirtualService] = {}
    for resource in resources:
        if not _spec(resource).hosts:
            continue
        delegates = _delegates(snapshot, resource)
        old = known.get(resource)
        if old is not None and old.delegates == tuple(d for d in delegates.values() if d):
            made[resource] = old
        else:
            made[resource] = _effective(resource, delegates, default)
    effective = tuple(made.values())
    return VirtualServices(effective, made, tuple(f for vs in effective for f in vs.findings))


_INDEX: Index[VirtualServices] = Index(
    "virtual-services", frozenset({kinds.VIRTUAL_SERVICE}), _build
)


def _spec(resource: Resource) -> VirtualServiceSpec:
    assert isinstance(resource.object, VirtualService)
    return resource.object.spec


def _delegates(snapshot: Snapshot, root: Resource) -> dict[ObjectKey, Resource | None]:
    """The VirtualServices that a root refers to, None for those that do not exist."""
    keys = [
        delegate_key(route, root.key.namespace)
        for route in _spec(root).http
        if route.delegate is not None
    ]
    return {key: snapshot.get(key) for key in keys}


def delegate_key(route: HTTPRoute, namespace: str) -> ObjectKey:
    """The VirtualService that ``route``, written in ``namespace``, delegates to."""
    assert route.delegate is not None
    return ObjectKey(
        *kinds.VIRTUAL_SERVICE, route.delegate.namespace or namespace, route.delegate.name
    )


def _effective(
    resource: Resource,
    delegates: Mapping[ObjectKey, Resource | None],
    default_export: tuple[str, ...],
) -> EffectiveVirtualService:
    spec, namespace = _spec(resource), resource.key.namespace
    http: list[HttpRule] = []
    findings: list[Finding] = []
    for index, route in enumerate(spec.http):
        resolved = _resolve_http(route, namespace)
        if route.delegate is None:
            http.append(HttpRule(resolved, resource, index))
            continue
        key = delegate_key(route, namespace)
        delegate = delegates.get(key)
        problem = _delegate_problem(delegate, namespace, default_export)
        if delegate is None or problem:
            findings.append(_unusable(resource, index, key, problem))
            continue
        for position, leaf in enumerate(_spec(delegate).http):
            if leaf.delegate is not None:
                findings.append(_unusable(delegate, position, key, "it delegates again"))
                continue
            merged = merge_routes(resolved, _resolve_http(leaf, key.namespace))
            if merged is None:
                findings.append(_never_matches(delegate, position, resource, index))
            else:
                http.append(HttpRule(merged, delegate, position))
    return EffectiveVirtualService(
        resource=resource,
        hosts=tuple(dict.fromkeys(expand(host, namespace).lower() for host in spec.hosts)),
        gateways=resolve_gateways(spec.gateways, namespace) or (MESH_GATEWAY,),
        export_to=export_to(spec.export_to, namespace, default_export),
        http=tuple(http),
        tls=tuple(_resolve_tls(route, namespace) for route in spec.tls),
        tcp=tuple(_resolve_tcp(route, namespace) for route in spec.tcp),
        delegates=tuple(d for d in delegates.values() if d is not None),
        findings=tuple(findings),
    )


def _delegate_problem(
    delegate: Resource | None, namespace: str, default_export: tuple[str, ...]
) -> str:
    if delegate is None:
        return "there is no such VirtualService"
    spec = _spec(delegate)
    if spec.hosts:
        return "it has hosts of its own, a delegate has none"
    exported = export_to(spec.export_to, delegate.key.namespace, default_export)
    if not is_visible(exported, namespace):
        return f"its exportTo does not include namespace {namespace}"
    return ""


def _unusable(resource: Resource, index: int, key: ObjectKey, problem: str) -> Finding:
    return rules.finding(
        rules.DELEGATE_MISSING,
        resource,
        ("spec", "http", index, "delegate"),
        f"route {index} cannot delegate to {key}: {problem}",
        "Create it, or correct the delegate's name and namespace.",
    )


def _never_matches(delegate: Resource, position: int, root: Resource, index: int) -> Finding:
    return rules.finding(
        rules.DELEGATE_CONFLICT,
        delegate,
        ("spec", "http", position, "match"),
        f"no match of route {position} is compatible with route {index} of {root.key} "
        f"({root.provenance})",
        "A delegate's match may only narrow the root's, and neither may use regex.",
    )


def resolve_gateways(names: Iterable[str], namespace: str) -> tuple[str, ...]:
    """Gateway references as ``NAMESPACE/NAME`` or ``mesh``."""
    return tuple(dict.fromkeys(gateway_name(name, namespace) for name in names))


def _resolve_destination(destination: Destination, namespace: str) -> Destination:
    host = expand(destination.host, namespace).lower()
    return destination if host == destination.host else structs.replace(destination, host=host)


def _resolve_http(route: HTTPRoute, namespace: str) -> HTTPRoute:
    return structs.replace(
        route,
        match=[
            structs.replace(match, gateways=list(resolve_gateways(match.gateways, namespace)))
            if match.gateways
            else match
            for match in route.match
        ],
        route=[
            structs.replace(
                weighted, destination=_resolve_destination(weighted.destination, namespace)
            )
            for weighted in route.route
        ],
        mirror=None if route.mirror is None else _resolve_destination(route.mirror, namespace),
        mirrors=[
            structs.replace(m, destination=_resolve_destination(m.destination, namespace))
            for m in route.mirrors
        ],
    )


def _resolve_tls(route: TLSRoute, namespace: str) -> TLSRoute:
    return structs.replace(
        route,
        match=[
            structs.replace(match, gateways=list(resolve_gateways(match.gateways, namespace)))
            for match in route.match
        ],
        route=[
            structs.replace(w, destination=_resolve_destination(w.destination, namespace))
            for w in route.route
        ],
    )


def _resolve_tcp(route: TCPRoute, namespace: str) -> TCPRoute:
    return structs.replace(
        route,
        match=[
            structs.replace(match, gateways=list(resolve_gateways(match.gateways, namespace)))
            for match in route.match
        ],
        route=[
            structs.replace(w, destination=_resolve_destination(w.destination, namespace))
            for w in route.route
        ],
    )
