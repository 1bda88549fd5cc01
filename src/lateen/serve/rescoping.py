"""Which connected proxies a change set may move to another scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lateen.api.resource import ObjectKey
from lateen.model import kinds
from lateen.model.change import ChangeSet
from lateen.model.instances import instance_namespaces
from lateen.model.nodes import node_readers
from lateen.model.proxy import Proxy, ProxyType
from lateen.model.selection import SELECTING_KINDS, tested_labels
from lateen.model.snapshot import Snapshot

_SEEN_THROUGH_CHANGES = frozenset(
    {
        kinds.SERVICE,
        kinds.SERVICE_ENTRY,
        kinds.POD,
        kinds.NODE,
        kinds.WORKLOAD_ENTRY,
        kinds.ENDPOINTS,
        kinds.ENDPOINT_SLICE,
    }
)
_SEEN_THROUGH_LABELS = frozenset({*SELECTING_KINDS, kinds.VIRTUAL_SERVICE, kinds.GATEWAY})


class Connected(Protocol):
    """What is asked of a connection (`lateen.serve.connection.Connection`)."""

    @property
    def proxy(self) -> Proxy:
        """The proxy at its other end."""

    @property
    def workload_keys(self) -> tuple[ObjectKey, ...]:
        """Keys of the Pod or WorkloadEntry that the proxy may stand beside."""


def movable(before: Snapshot, after: Snapshot, changes: ChangeSet) -> Callable[[Connected], bool]:
    """Tells of a connection whether its proxy's scope may differ after ``changes``.

    A scope follows from the proxy's own workload, the services that send to it (all of its
    namespace), the objects that list its addresses, the labels that selectors test and, where
    something asks for them, its node and addresses; of kinds not known here anything is expected.
    """
    if changes.everything or changes.kinds - _SEEN_THROUGH_CHANGES - _SEEN_THROUGH_LABELS:
        return lambda _: True
    moved = changes.workloads | changes.keys
    listed = changes.listed
    changed = {namespace for _, namespace in changes.services}
    if not changes.only_endpoints:
        changed |= {namespace for _, namespace in changes.endpoints}
    old, new = tested_labels(before), tested_labels(after)

    def labels_differ(namespace: str, *, router: bool) -> bool:
        return old.for_proxy(namespace, before.root_namespace, router=router) != new.for_proxy(
            namespace, after.root_namespace, router=router
        )

    readers_before, readers_after = node_readers(before), node_readers(after)
    named_before, named_after = instance_namespaces(before), instance_namespaces(after)
    root = after.root_namespace
    root_named = (root in named_before) != (root in named_after)
    known: dict[tuple[str, bool], bool] = {}

    def may_move(connection: Connected) -> bool:
        space = connection.proxy.namespace
        if space in changed or not moved.isdisjoint(connection.workload_keys):
            return True
        if listed and any((space, ip) in listed for ip in connection.proxy.addresses):
            return True
        if readers_before is not readers_after and (
            readers_before.matter_to(space) != readers_after.matter_to(space)
        ):
            return True
        if named_before is not named_after and (
            (space in named_before) != (space in named_after) or root_named
        ):
            return True
        if old is new:
            return False
        key = (space, connection.proxy.type is not ProxyType.SIDECAR)
        if key not in known:
            known[key] = labels_differ(space, router=key[1])
        return known[key]

    return may_move
