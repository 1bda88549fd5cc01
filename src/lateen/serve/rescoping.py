"""Which connected proxies a change set may move to another scope."""

from __future__ import annotations

from collections.abc import Callable

from lateen.model import kinds
from lateen.model.change import ChangeSet
from lateen.model.proxy import ProxyType
from lateen.model.selection import SELECTING_KINDS, tested_labels
from lateen.model.snapshot import Snapshot
from lateen.serve.connection import Connection

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


def movable(before: Snapshot, after: Snapshot, changes: ChangeSet) -> Callable[[Connection], bool]:
    """Tells of a connection whether its proxy's scope may differ after ``changes``.

    A scope follows from the proxy's own workload, the services that send to it (all of its
    namespace) and the labels that selectors test; of kinds not known here anything is expected.
    """
    if changes.everything or changes.kinds - _SEEN_THROUGH_CHANGES - _SEEN_THROUGH_LABELS:
        return lambda connection: True
    moved = changes.workloads | changes.keys
    changed = {namespace for _, namespace in changes.services}
    if not changes.only_endpoints:
        changed |= {namespace for _, namespace in changes.endpoints}
    old, new = tested_labels(before), tested_labels(after)

    def labels_differ(namespace: str, *, router: bool) -> bool:
        return old.for_proxy(namespace, before.root_namespace, router=router) != new.for_proxy(
            namespace, after.root_namespace, router=router
        )

    known: dict[tuple[str, bool], bool] = {}

    def may_move(connection: Connection) -> bool:
        space = connection.proxy.namespace
        if space in changed or not moved.isdisjoint(connection.workload_keys):
            return True
        if old is new:
            return False
        key = (space, connection.proxy.type is not ProxyType.SIDECAR)
        if key not in known:
            known[key] = labels_differ(space, router=key[1])
        return known[key]

    return may_move
