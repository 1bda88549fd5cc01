"""Who may have which configuration: a proxy is matched to its workload and its certificate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lateen.api.resource import ObjectKey
from lateen.model.proxy import Proxy, ProxyType
from lateen.model.snapshot import Snapshot
from lateen.model.workloads import Workload, workload_of_entry, workload_of_pod
from lateen.pki.identity import SpiffeId
from lateen.serve.transport import Refusal
from lateen.serve.wire import Node

_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MAX_ID = 1024


class WorkloadUnknown(Refusal):
    """No such workload yet; it may appear in a moment."""


@dataclass(frozen=True, slots=True)
class NodeId:
    """The parts of Istio's node id ``TYPE~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN``."""

    type: ProxyType
    address: str
    name: str
    namespace: str


def parse_node_id(text: str) -> NodeId:
    """Split a node id. Raises `Refusal`."""
    parts = text.split("~") if len(text) <= _MAX_ID else []
    if len(parts) == 4:
        kind, address, place, _domain = parts
        name, _, namespace = place.rpartition(".")
        if _DNS_NAME.fullmatch(name) and _DNS_NAME.fullmatch(namespace):
            try:
                return NodeId(ProxyType(kind), address, name, namespace)
            except ValueError:
                pass
    raise Refusal(
        "INVALID_ARGUMENT",
        f'node id "{text[:200]}" must be TYPE~IP~NAME.NAMESPACE~DOMAIN '
        "with type sidecar, router or waypoint",
    )


def admit(snapshot: Snapshot, node: Node, identity: SpiffeId) -> Proxy:
    """The proxy that ``node`` claims to be, when ``identity`` proves it.

    Labels, addresses and locality come from the workload's object, not from what the proxy says.
    Raises `WorkloadUnknown` when there is no such workload, `Refusal` when the certificate is
    another workload's.
    """
    claimed = parse_node_id(node.id)
    if identity.trust_domain != snapshot.trust_domain or identity.namespace != claimed.namespace:
        raise Refusal(
            "PERMISSION_DENIED", f"{identity} may not act for {claimed.name}.{claimed.namespace}"
        )
    workload = workload_for(snapshot, claimed.namespace, claimed.name)
    if workload is None:
        raise WorkloadUnknown(
            "PERMISSION_DENIED", f"there is no workload {claimed.name}.{claimed.namespace}"
        )
    if workload.identity.service_account != identity.service_account:
        raise Refusal(
            "PERMISSION_DENIED",
            f"{claimed.name}.{claimed.namespace} runs as service account "
            f"{workload.identity.service_account}; the certificate is of {identity}",
        )
    return proxy_of(claimed, node, workload)


def proxy_of(claimed: NodeId, node: Node, workload: Workload) -> Proxy:
    """The facts of a proxy that is proved to stand beside ``workload``."""
    return Proxy(
        id=node.id,
        type=claimed.type,
        name=claimed.name,
        namespace=claimed.namespace,
        identity=workload.identity,
        labels=workload.labels,
        addresses=(workload.address,) if workload.address else (),
        locality=workload.locality,
        network=workload.network,
        node=workload.node,
        metadata=node.metadata,
    )


def workload_for(snapshot: Snapshot, namespace: str, name: str) -> Workload | None:
    """The Pod, or else the WorkloadEntry, of this name."""
    pod = snapshot.get(ObjectKey("", "Pod", namespace, name))
    if pod is not None:
        node_name = getattr(getattr(pod.object, "spec", None), "node_name", "") or ""
        node = snapshot.get(ObjectKey("", "Node", "", node_name)) if node_name else None
        return workload_of_pod(pod, node, snapshot.trust_domain)
    entry = snapshot.get(ObjectKey("networking.istio.io", "WorkloadEntry", namespace, name))
    return workload_of_entry(entry, snapshot.trust_domain) if entry is not None else None
