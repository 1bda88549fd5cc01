"""Label selectors: whom they select, and which labels any of them looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lateen.api.networking.destination_rule import DestinationRule
from lateen.api.networking.gateway import Gateway
from lateen.api.networking.virtual_service import VirtualService
from lateen.api.resource import ApiObject, Resource
from lateen.model import kinds
from lateen.model.label_selectors import selects
from lateen.model.snapshot import Index, Snapshot

__all__ = [
    "SELECTING_KINDS",
    "TestedLabels",
    "selects",
    "tested_labels",
    "workload_selector",
]

SELECTING_KINDS = (
    kinds.SIDECAR,
    kinds.DESTINATION_RULE,
    kinds.ENVOY_FILTER,
    kinds.PROXY_CONFIG,
    kinds.PEER_AUTHENTICATION,
    kinds.REQUEST_AUTHENTICATION,
    kinds.AUTHORIZATION_POLICY,
    kinds.TELEMETRY,
    kinds.WASM_PLUGIN,
    kinds.TRAFFIC_EXTENSION,
)
"""Kinds with a workload selector that holds in their namespace, or everywhere from the root."""

INBOUND_KINDS = frozenset(
    {
        kinds.PEER_AUTHENTICATION,
        kinds.REQUEST_AUTHENTICATION,
        kinds.AUTHORIZATION_POLICY,
        kinds.PROXY_CONFIG,
    }
)
"""Those of `SELECTING_KINDS` that shape only what a selected workload receives."""


def workload_selector(obj: ApiObject) -> Mapping[str, str] | None:
    """The labels an object selects workloads by; None when it has no selector (or an empty one).

    Reads ``selector.matchLabels``, ``workloadSelector.labels`` and
    ``workloadSelector.matchLabels``, whichever the kind has.
    """
    spec = getattr(obj, "spec", None)
    selector = getattr(spec, "selector", None) or getattr(spec, "workload_selector", None)
    if selector is None:
        return None
    if isinstance(selector, Mapping):
        return selector or None
    found = getattr(selector, "match_labels", None) or getattr(selector, "labels", None)
    return found or None


@dataclass(slots=True)
class TestedLabels:
    """Label names that some selector tests, and so may tell two proxies apart."""

    by_namespace: dict[str, frozenset[str]] = field(default_factory=dict)
    """From objects with a workload selector, by the objects' namespace."""
    outbound: dict[str, frozenset[str]] = field(default_factory=dict)
    """Those of ``by_namespace`` that shape what a workload sends."""
    everywhere: frozenset[str] = frozenset()
    """From ``sourceLabels`` of VirtualServices and locality priorities of DestinationRules."""
    gateways: frozenset[str] = frozenset()
    """From selectors of Gateways, which pick proxies of any namespace."""
    _seen: dict[Resource, frozenset[str]] = field(default_factory=dict)

    def alike(self, other: TestedLabels) -> bool:
        """Whether both give the same answers."""
        return (self.by_namespace, self.outbound, self.everywhere, self.gateways) == (
            other.by_namespace, other.outbound, other.everywhere, other.gateways,
        )  # fmt: skip

    def for_proxy(self, namespace: str, root_namespace: str, *, router: bool) -> frozenset[str]:
        """The names that matter for a proxy in ``namespace``."""
        names = self.by_namespace.get(namespace, frozenset()) | self.everywhere
        if namespace != root_namespace:
            names |= self.by_namespace.get(root_namespace, frozenset())
        return names | self.gateways if router else names

    def for_outbound(self, namespace: str, root_namespace: str) -> frozenset[str]:
        """The names that matter for what a sidecar in ``namespace`` sends."""
        names = self.outbound.get(namespace, frozenset()) | self.everywhere
        if namespace != root_namespace:
            names |= self.outbound.get(root_namespace, frozenset())
        return names


def tested_labels(snapshot: Snapshot) -> TestedLabels:
    """The label names that selectors of this snapshot test: the very same object as for the
    snapshot before when nothing of it differs."""
    return snapshot.derived(_INDEX)


def _build(snapshot: Snapshot, previous: TestedLabels | None) -> TestedLabels:
    result = TestedLabels()
    known = previous._seen if previous is not None else {}

    def names_in(resource: Resource) -> frozenset[str]:
        names = known.get(resource)
        if names is None:
            names = _label_names(resource.object)
        result._seen[resource] = names
        return names

    for kind in SELECTING_KINDS:
        for namespace, layer in snapshot.layers(kind).items():
            names = frozenset().union(*map(names_in, layer.values()))
            if names:
                _add(result.by_namespace, namespace, names)
                if kind not in INBOUND_KINDS:
                    _add(result.outbound, namespace, names)
    everywhere: set[str] = set()
    for resource in snapshot.of_kind(*kinds.VIRTUAL_SERVICE).values():
        everywhere |= names_in(resource)
    for resource in snapshot.of_kind(*kinds.DESTINATION_RULE).values():
        everywhere.update(priority_labels(resource.object))
    everywhere.update(map(_label_of, snapshot.mesh.locality_lb_setting.failover_priority))
    result.everywhere = frozenset(everywhere)
    gateways: set[str] = set()
    for resource in snapshot.of_kind(*kinds.GATEWAY).values():
        gateways |= names_in(resource)
    result.gateways = frozenset(gateways)
    if previous is not None and result.alike(previous):
        previous._seen = result._seen
        return previous
    return result


def _add(target: dict[str, frozenset[str]], namespace: str, names: frozenset[str]) -> None:
    target[namespace] = target.get(namespace, frozenset()) | names


_INDEX: Index[TestedLabels] = Index(
    "tested-labels",
    frozenset({*SELECTING_KINDS, kinds.VIRTUAL_SERVICE, kinds.GATEWAY}),
    _build,
)


def _label_names(obj: ApiObject) -> frozenset[str]:
    if isinstance(obj, VirtualService):
        spec = obj.spec
        matches: list[Mapping[str, str]] = [m.source_labels for r in spec.http for m in r.match]
        matches += [m.source_labels for tls in spec.tls for m in tls.match]
        matches += [m.source_labels for tcp in spec.tcp for m in tcp.match]
        return frozenset(name for labels in matches for name in labels)
    if isinstance(obj, Gateway):
        return frozenset(obj.spec.selector)
    return frozenset(workload_selector(obj) or ())


def priority_labels(obj: ApiObject) -> Iterable[str]:
    """Labels that ``failoverPriority`` of a DestinationRule compares with the proxy's."""
    assert isinstance(obj, DestinationRule)
    policies = [obj.spec.traffic_policy, *(subset.traffic_policy for subset in obj.spec.subsets)]
    for policy in policies:
        if policy is None:
            continue
        balancers = [policy.load_balancer, *(p.load_balancer for p in policy.port_level_settings)]
        for balancer in balancers:
            if balancer is not None and balancer.locality_lb_setting is not None:
                yield from map(_label_of, balancer.locality_lb_setting.failover_priority)


def _label_of(priority: str) -> str:
    """The label in an entry ``LABEL`` or ``LABEL=VALUE`` of ``failoverPriority``."""
    return priority.partition("=")[0]
