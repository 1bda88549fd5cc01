"""Scoping by what is observed: clusters that a sidecar gets before it has used them.

With ``LATEEN_SCOPING: observed`` in ``MeshConfig.defaultConfig.proxyMetadata`` sidecars get routes
and listeners for all they may reach, and of clusters (which is where the memory goes) only those of
their own workload at first. Others they fetch when a request is routed to them (Envoy's on-demand
cluster discovery), and keep from then on.
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.model.mesh import observed_scoping
from lateen.model.names import expand
from lateen.model.proxy import ProxyType, Scope
from lateen.model.snapshot import Snapshot
from lateen.model.virtual_services import virtual_services

_OUTBOUND = "outbound|"


def eager_clusters(snapshot: Snapshot, scope: Scope, names: Iterable[str]) -> frozenset[str] | None:
    """Of ``names`` those that are not fetched on demand; None when nothing is.

    Requests are mirrored only to clusters that are there, so targets of mirrors are among them.
    """
    if scope.type is not ProxyType.SIDECAR or not observed_scoping(snapshot.mesh):
        return None
    mirrored = _mirrored(snapshot)
    return frozenset(
        name
        for name in names
        if not name.startswith(_OUTBOUND) or name.rpartition("|")[2] in mirrored
    )


def _mirrored(snapshot: Snapshot) -> frozenset[str]:
    hosts = set()
    for effective in virtual_services(snapshot).all:
        for rule in effective.http:
            route = rule.route
            mirrors = [entry.destination for entry in route.mirrors]
            if route.mirror is not None:
                mirrors.append(route.mirror)
            hosts |= {expand(found.host, effective.namespace) for found in mirrors}
    return frozenset(hosts)
