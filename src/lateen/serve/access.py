"""Who may have which configuration: a proxy is matched to its workload and its certificate."""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass

from lateen.api.resource import ObjectKey, Resource
from lateen.model.proxies import proxy_of
from lateen.model.proxy import Proxy, ProxyType
from lateen.model.snapshot import Snapshot
from lateen.model.workloads import workload_of_entry
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


@functools.lru_cache(maxsize=4096)
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
        f"node id {text[:200]!r} must be TYPE~IP~NAME.NAMESPACE~DOMAIN "
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
    proxy = proxy_at(snapshot, claimed, node)
    if proxy is None:
        raise WorkloadUnknown(
            "PERMISSION_DENIED", f"there is no workload {claimed.name}.{claimed.namespace}"
        )
    if proxy.identity.service_account != identity.service_account:
        raise Refusal(
            "PERMISSION_DENIED",
            f"{claimed.name}.{claimed.namespace} runs as service account "
            f"{proxy.identity.service_account}; the certificate is of {identity}",
        )
    if proxy.type is not claimed.type:
        raise Refusal(
            "PERMISSION_DENIED",
            f"{claimed.name}.{claimed.namespace} is a {proxy.type}, not a {claimed.type}",
        )
    return proxy


def workload_at(snapshot: Snapshot, place: NodeId) -> Resource | None:
    """The Pod, or else the WorkloadEntry, that a node id names."""
    pod = snapshot.get(ObjectKey("", "Pod", place.namespace, place.name))
    entry = ObjectKey("networking.istio.io", "WorkloadEntry", place.namespace, place.name)
    return pod if pod is not None else snapshot.get(entry)


def proxy_at(snapshot: Snapshot, place: NodeId, node: Node) -> Proxy | None:
    """The proxy beside the Pod, or else the WorkloadEntry, that a node id names."""
    pod = snapshot.get(ObjectKey("", "Pod", place.namespace, place.name))
    if pod is not None:
        return dataclasses.replace(proxy_of(snapshot, pod), id=node.id)
    entry = snapshot.get(
        ObjectKey("networking.istio.io", "WorkloadEntry", place.namespace, place.name)
    )
    if entry is None:
        return None
    workload = workload_of_entry(entry, snapshot.trust_domain)
    return Proxy(
        id=node.id,
        type=place.type,
        name=place.name,
        namespace=place.namespace,
        identity=workload.identity,
        labels=workload.labels,
        addresses=(workload.address,) if workload.address else (),
        locality=workload.locality,
        network=workload.network,
        metadata=node.metadata,
    )
