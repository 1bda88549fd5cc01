"""What is wrong for the proxies of a mesh, each statement once: for status, apply and validate.

Findings of a scope (`lateen.translate.configuration`) say what is wrong for one proxy. Nearly all
proxies of a namespace see the same, so one view for each namespace and one for each kind of gateway
find all that an author has to know. Nothing of this is on the way of a push.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lateen.api.findings import Finding
from lateen.api.networking.destination_rule import DestinationRule
from lateen.api.networking.gateway import Gateway
from lateen.model import kinds
from lateen.model.gateways import gateways
from lateen.model.peer_findings import peer_findings
from lateen.model.proxies import proxy_of
from lateen.model.proxy import Proxy, ProxyType, Scope
from lateen.model.scope import inbound_findings
from lateen.model.selection import selects
from lateen.model.snapshot import Snapshot
from lateen.translate.configuration import reference_findings
from lateen.translate.view import View

_MOST_SELECTORS = 200
_OF_ONE_POD = frozenset(
    {"apps.kubernetes.io/pod-index", "pod-template-hash", "statefulset.kubernetes.io/pod-name"}
)
_OF_NAMESPACES = (
    kinds.SERVICE,
    kinds.SERVICE_ENTRY,
    kinds.VIRTUAL_SERVICE,
    kinds.DESTINATION_RULE,
    kinds.SIDECAR,
)


def mesh_findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """All findings, errors first."""
    return ordered(found for part in each_view(snapshot) for found in part)


def each_view(snapshot: Snapshot) -> Iterator[tuple[Finding, ...]]:
    """The findings of one view after the other, so that a caller can do something else between."""
    for namespace in namespaces(snapshot):
        view = View(snapshot, Scope(ProxyType.SIDECAR, namespace))
        # What others make of the objects of a namespace is theirs: it may be hidden from them.
        yield tuple(
            item
            for item in reference_findings(view)
            if item.key is not None and item.key.namespace == namespace
        )
    for namespace in snapshot.layers(kinds.PEER_AUTHENTICATION):
        yield peer_findings(snapshot, namespace)
    for scope in (*selected_scopes(snapshot), *gateway_scopes(snapshot)):
        yield tuple(reference_findings(View(snapshot, scope)))
    for proxy in distinct_proxies(snapshot):
        yield inbound_findings(snapshot, proxy)


def ordered(found: Iterator[Finding]) -> tuple[Finding, ...]:
    """Each statement once, errors first."""
    unique = {(item.rule, item.key, item.path, item.message): item for item in found}
    return tuple(sorted(unique.values(), key=_severity))


def namespaces(snapshot: Snapshot) -> tuple[str, ...]:
    """Namespaces with objects that proxies are configured by."""
    return tuple(sorted({name for kind in _OF_NAMESPACES for name in snapshot.layers(kind)}))


def distinct_proxies(snapshot: Snapshot) -> Iterator[Proxy]:
    """The proxy of one pod of each workload: pods with the same labels have the same Services."""
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for resource in snapshot.of_kind(*kinds.POD).values():
        labels = resource.metadata.labels.items()
        same = frozenset(item for item in labels if item[0] not in _OF_ONE_POD)
        key = (resource.key.namespace, same)
        if key not in seen:
            seen.add(key)
            yield proxy_of(snapshot, resource)


def selected_scopes(snapshot: Snapshot) -> Iterator[Scope]:
    """A sidecar's scope for each selector of a DestinationRule: only these obey it."""
    seen: dict[Scope, None] = {}
    for resource in snapshot.of_kind(*kinds.DESTINATION_RULE).values():
        assert isinstance(resource.object, DestinationRule)
        selector = resource.object.spec.workload_selector
        labels = tuple(sorted(selector.match_labels.items())) if selector is not None else ()
        if labels and len(seen) < _MOST_SELECTORS:
            seen[Scope(ProxyType.SIDECAR, resource.key.namespace, labels=labels)] = None
    yield from seen


def gateway_scopes(snapshot: Snapshot) -> Iterator[Scope]:
    """A scope for each selector of the Gateways, in the namespace of the pods that it picks."""
    seen: set[frozenset[tuple[str, str]]] = set()
    for resource in gateways(snapshot).all:
        assert isinstance(resource.object, Gateway)
        selector = resource.object.spec.selector
        key = frozenset(selector.items())
        if key in seen:
            continue
        seen.add(key)
        namespace = _namespace_of_pods(snapshot, selector)
        yield Scope(ProxyType.ROUTER, namespace, labels=tuple(sorted(selector.items())))


def _namespace_of_pods(snapshot: Snapshot, selector: Mapping[str, str]) -> str:
    for namespace, pods in snapshot.layers(kinds.POD).items():
        if any(selects(selector, pod.metadata.labels) for pod in pods.values()):
            return namespace
    return snapshot.root_namespace


def _severity(finding: Finding) -> int:
    return ("error", "warning", "info").index(finding.severity.value)
