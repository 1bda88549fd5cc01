"""Proxies: what a Pod object says about the Envoy in it."""

from __future__ import annotations

from lateen.api.core.pod import Pod, PodTemplateSpec
from lateen.api.resource import Resource
from lateen.model.names import DOMAIN
from lateen.model.proxy import Proxy, ProxyType
from lateen.model.snapshot import Snapshot
from lateen.model.workloads import workload_of_pod

PROXY_CONTAINER = "istio-proxy"
TEMPLATES_ANNOTATION = "inject.istio.io/templates"
INTERCEPTION_ANNOTATION = "sidecar.istio.io/interceptionMode"
_GATEWAY_CLASS_WAYPOINT = "istio.io-mesh-controller"


def proxy_type(pod: Pod | PodTemplateSpec) -> ProxyType:
    """Whether the pod's Envoy is a sidecar, a gateway or a waypoint.

    A gateway says so by the injection template ``gateway``, by ``proxy router`` as the proxy
    container's arguments, or by having no other container than the proxy.
    """
    if pod.metadata.labels.get("gateway.istio.io/managed") == _GATEWAY_CLASS_WAYPOINT:
        return ProxyType.WAYPOINT
    templates = pod.metadata.annotations.get(TEMPLATES_ANNOTATION, "").split(",")
    if "gateway" in (template.strip() for template in templates):
        return ProxyType.ROUTER
    proxy = next((c for c in pod.spec.containers if c.name == PROXY_CONTAINER), None)
    if proxy is not None:
        if "waypoint" in proxy.args:
            return ProxyType.WAYPOINT
        if "router" in proxy.args or len(pod.spec.containers) == 1:
            return ProxyType.ROUTER
    return ProxyType.SIDECAR


def node_id(kind: ProxyType, address: str, pod: str, namespace: str) -> str:
    """Envoy's node id: ``TYPE~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN``."""
    return f"{kind.value}~{address}~{pod}.{namespace}~{namespace}.svc.{DOMAIN}"


def proxy_of(snapshot: Snapshot, resource: Resource, *, dns_capture: bool = True) -> Proxy:
    """The proxy in a Pod; ``dns_capture`` says that the mesh answers the pod's DNS queries."""
    pod = resource.object
    assert isinstance(pod, Pod)
    known = snapshot.services.workload(resource.key)
    workload = known or workload_of_pod(resource, None, snapshot.trust_domain)
    kind = proxy_type(pod)
    addresses = tuple(
        dict.fromkeys(
            ip for ip in (pod.status.pod_ip, *(entry.ip for entry in pod.status.pod_ips)) if ip
        )
    )
    metadata: dict[str, object] = {
        "INTERCEPTION_MODE": pod.metadata.annotations.get(INTERCEPTION_ANNOTATION, "REDIRECT"),
    }
    if dns_capture:
        metadata["DNS_CAPTURE"] = "true"
    return Proxy(
        id=node_id(kind, workload.address, resource.key.name, resource.key.namespace),
        type=kind,
        name=resource.key.name,
        namespace=resource.key.namespace,
        identity=workload.identity,
        labels=workload.labels,
        addresses=addresses,
        locality=workload.locality,
        network=workload.network,
        node=workload.node,
        metadata=metadata,
    )
