"""Which proxies' configuration depends on the node they run on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lateen.model import kinds
from lateen.model.proxy import Proxy
from lateen.model.selection import priority_labels
from lateen.model.service import Service
from lateen.model.snapshot import Index, Snapshot
from lateen.model.visibility import is_public, is_visible

NODE_LABEL = "kubernetes.io/hostname"
"""The label of an endpoint's or proxy's node that ``failoverPriority`` may name."""


@dataclass(frozen=True, slots=True)
class NodeReaders:
    """Where something compares the nodes of proxies and endpoints."""

    everywhere: bool = False
    exports: frozenset[frozenset[str]] = frozenset()
    """Who sees the services that do so, where not everybody does (``Service.export_to``)."""

    def matter_to(self, namespace: str) -> bool:
        """Whether the node of a proxy in ``namespace`` matters."""
        return self.everywhere or any(is_visible(export, namespace) for export in self.exports)


def node_readers(snapshot: Snapshot) -> NodeReaders:
    """The readers of this snapshot: the same object as before when they are equal."""
    return snapshot.derived(_INDEX)


def node_of(snapshot: Snapshot, proxy: Proxy) -> str:
    """The proxy's node as its scope has it: empty where nothing compares it."""
    return proxy.node if node_readers(snapshot).matter_to(proxy.namespace) else ""


def _build(snapshot: Snapshot, previous: NodeReaders | None) -> NodeReaders:
    services = [service for service in snapshot.services.all() if _reads_node(service)]
    found = NodeReaders(
        everywhere=any(is_public(service.export_to) for service in services)
        or NODE_LABEL in _failover_labels(snapshot),
        exports=frozenset(service.export_to for service in services),
    )
    return previous if found == previous and previous is not None else found


def _reads_node(service: Service) -> bool:
    return service.internal_traffic_local or service.traffic_distribution == "PreferSameNode"


def _failover_labels(snapshot: Snapshot) -> Iterable[str]:
    for resource in snapshot.of_kind(*kinds.DESTINATION_RULE).values():
        yield from priority_labels(resource.object)
    yield from (
        entry.partition("=")[0] for entry in snapshot.mesh.locality_lb_setting.failover_priority
    )


_INDEX: Index[NodeReaders] = Index(
    "node-readers", frozenset({kinds.DESTINATION_RULE}), _build, services=True
)
