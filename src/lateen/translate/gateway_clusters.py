"""Clusters of AUTO_PASSTHROUGH gateways: named like the SNI that asks for them, without TLS."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from lateen.ir.cluster import Cluster, ClusterType, LoadAssignment, UpstreamProtocol
from lateen.translate import clusters, endpoints, names
from lateen.translate.gateway_servers import ServerKind, groups
from lateen.translate.memo import Identity, Memo
from lateen.translate.view import View

_clusters: Memo[Cluster] = Memo()
_assignments: Memo[LoadAssignment] = Memo()


def wanted(view: View) -> bool:
    """Whether any server of the gateway passes mesh TLS through by SNI."""
    return any(
        server.kind is ServerKind.AUTO_PASSTHROUGH
        for group in groups(view)
        for server in group.servers
    )


def sni_clusters(view: View) -> Iterator[Cluster]:
    """A cluster per port and subset of the mesh's services, for TLS that clients bring."""
    if not wanted(view):
        return
    for service in view.services:
        if service.mesh_external:
            continue
        for cluster in clusters.outbound_clusters(view, service):
            if cluster.type is ClusterType.EDS:
                yield _clusters.get(
                    Identity(cluster),
                    lambda c=cluster: _by_sni(c),  # type: ignore[misc]
                    family=(view.family, cluster.name),
                )


def sni_load_assignments(view: View) -> Iterator[LoadAssignment]:
    """The endpoints of `sni_clusters`: only those that speak the mesh's TLS."""
    if not wanted(view):
        return
    for service in view.services:
        if service.mesh_external:
            continue
        for assignment in endpoints.load_assignments(view, service):
            yield _assignments.get(
                Identity(assignment),
                lambda a=assignment: _mesh_only(a),  # type: ignore[misc]
                family=(view.family, assignment.cluster),
            )


def _by_sni(cluster: Cluster) -> Cluster:
    return replace(
        cluster,
        name=_sni(cluster.name),
        protocol=UpstreamProtocol.NONE,
        tls=None,
        auto_mtls=None,
        outlier_detection=cluster.outlier_detection,
    )


def _mesh_only(assignment: LoadAssignment) -> LoadAssignment:
    parts = []
    for part in assignment.localities:
        kept = tuple(endpoint for endpoint in part.endpoints if endpoint.mtls)
        if kept:
            parts.append(replace(part, endpoints=kept))
    return replace(assignment, cluster=_sni(assignment.cluster), localities=tuple(parts))


def _sni(name: str) -> str:
    parts = names.parse_cluster(name)
    assert parts is not None
    return names.mesh_sni(parts.port, parts.subset, parts.hostname)
