"""What sidecars of different workloads share: their view of everything but themselves."""

from __future__ import annotations

from dataclasses import replace

from lateen.model.proxy import Scope
from lateen.model.selection import tested_labels
from lateen.model.snapshot import Snapshot


def outbound_scope(snapshot: Snapshot, scope: Scope) -> Scope:
    """``scope`` without what only the inbound side reads.

    That are the workload's own ports and addresses, and labels that no selector of the outbound
    side tests. Clusters, endpoints, listeners and routes towards other services are equal for
    equal results.
    """
    tested = tested_labels(snapshot).for_outbound(scope.namespace, snapshot.root_namespace)
    labels = tuple(pair for pair in scope.labels if pair[0] in tested)
    return replace(scope, inbound=(), addresses=(), labels=labels)
