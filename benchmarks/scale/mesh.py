"""Generated meshes: services with pods, routing rules and policies, as Kubernetes objects.

Everything follows from `Size` alone, so that a peer can be given exactly the same mesh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Raw = dict[str, Any]

PORTS = (("http", 80), ("http-web", 8080), ("http-api", 9080), ("grpc", 50051), ("tcp", 6379))
_PORT_OF_TEN = (0, 0, 0, 0, 1, 1, 1, 2, 3, 4)
"""Of ten services four speak HTTP on 80, three on 8080, one on 9080, one gRPC, one TCP."""
CREATED = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a mesh is. ``sidecars`` of the namespaces (a share) have a Sidecar that limits
    what they see to themselves and the first namespace. With ``entries`` services and endpoints
    are ServiceEntries and WorkloadEntries instead of Services and Pods."""

    services: int = 100
    endpoints: int = 5
    proxies: int = 100
    namespaces: int = 5
    sidecars: float = 0.0
    entries: bool = False

    def __post_init__(self) -> None:
        if min(self.services, self.endpoints, self.proxies, self.namespaces) < 1:
            raise ValueError("services, endpoints, proxies and namespaces must be at least 1")
        if self.proxies > self.services * self.endpoints:
            raise ValueError(
                f"{self.services} services of {self.endpoints} endpoints are "
                f"{self.services * self.endpoints} pods, too few for {self.proxies} proxies"
            )


def namespace_of(size: Size, service: int) -> str:
    """Namespace of a service."""
    return f"ns{service % size.namespaces}"


def host_of(size: Size, service: int) -> str:
    """Full host name of a service."""
    return f"svc{service}.{namespace_of(size, service)}.svc.cluster.local"


def port_of(service: int) -> tuple[str, int]:
    """Name and number of a service's port."""
    return PORTS[_PORT_OF_TEN[service % 10]]


def cluster_of(size: Size, service: int) -> str:
    """Name of the cluster (and of the load assignment) of a service."""
    return f"outbound|{port_of(service)[1]}||{host_of(size, service)}"


def pod_name(service: int, index: int) -> str:
    """Name of a pod."""
    return f"svc{service}-{index}"


def proxy_places(size: Size) -> Iterator[tuple[int, int]]:
    """Service and pod index of each proxy that connects: first pods first."""
    for number in range(size.proxies):
        yield number % size.services, number // size.services


def objects(size: Size) -> Iterator[Raw]:
    """Every object of the mesh, namespaces first."""
    yield _object("v1", "Namespace", "", "istio-system")
    for number in range(size.namespaces):
        yield _object("v1", "Namespace", "", f"ns{number}", labels={"istio-injection": "enabled"})
    for service in range(size.services):
        yield service_entry(size, service) if size.entries else service_object(size, service)
        for index in range(size.endpoints):
            make = workload_entry if size.entries else pod
            yield make(size, service, index)
        if service % 5 == 0:
            yield virtual_service(size, service, turn=0)
        if service % 2 == 0:
            yield destination_rule(size, service)
    yield peer_authentication("istio-system", "STRICT")
    for number in range(size.namespaces):
        if number % 4 == 1:
            yield peer_authentication(f"ns{number}", "PERMISSIVE")
        if number < size.sidecars * size.namespaces:
            spec = {"egress": [{"hosts": ["./*", "ns0/*", "istio-system/*"]}]}
            yield _object("networking.istio.io/v1", "Sidecar", f"ns{number}", "default", spec=spec)


def service_object(size: Size, service: int) -> Raw:
    """A Service with one port and a selector."""
    name, number = port_of(service)
    return _object(
        "v1",
        "Service",
        namespace_of(size, service),
        f"svc{service}",
        spec={
            "clusterIP": _service_address(service),
            "selector": {"app": f"svc{service}"},
            "ports": [{"name": name, "port": number, "targetPort": number, "protocol": "TCP"}],
        },
    )


def service_entry(size: Size, service: int) -> Raw:
    """The same service as a ServiceEntry that selects WorkloadEntries."""
    name, number = port_of(service)
    protocol = {"tcp": "TCP", "grpc": "GRPC"}.get(name, "HTTP")
    spec = {
        "hosts": [host_of(size, service)],
        "addresses": [_service_address(service)],
        "ports": [{"name": name, "number": number, "protocol": protocol}],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "workloadSelector": {"labels": {"app": f"svc{service}"}},
    }
    space = namespace_of(size, service)
    return _object("networking.istio.io/v1", "ServiceEntry", space, f"svc{service}", spec=spec)


def workload_entry(size: Size, service: int, index: int, turn: int = 0) -> Raw:
    """The same pod as a WorkloadEntry; another ``turn`` gives it another address."""
    spec = {
        "address": pod_address(service, index, turn),
        "labels": pod_labels(service, index),
        "serviceAccount": f"svc{service}",
    }
    space, name = namespace_of(size, service), pod_name(service, index)
    return _object("networking.istio.io/v1", "WorkloadEntry", space, name, spec=spec)


def pod(size: Size, service: int, index: int, turn: int = 0) -> Raw:
    """A ready pod with a sidecar; another ``turn`` gives it another address."""
    raw = _object(
        "v1",
        "Pod",
        namespace_of(size, service),
        pod_name(service, index),
        labels=pod_labels(service, index),
        spec={
            "serviceAccountName": f"svc{service}",
            "nodeName": f"node{index}",
            "containers": [
                {"name": "app", "image": "app"},
                {"name": "istio-proxy", "image": "auto"},
            ],
        },
    )
    raw["status"] = pod_status(service, index, turn)
    return raw


def pod_status(service: int, index: int, turn: int = 0) -> Raw:
    """Status of a ready pod."""
    return {
        "phase": "Running",
        "podIP": pod_address(service, index, turn),
        "conditions": [{"type": "Ready", "status": "True"}],
    }


def pod_address(service: int, index: int, turn: int = 0) -> str:
    """Address of a pod."""
    block, rest = divmod(service, 250)
    return f"10.{100 + block}.{rest + 1}.{index + 1 + size_of_turn(turn)}"


def size_of_turn(turn: int) -> int:
    """How far apart the addresses of successive turns are (two alternate)."""
    return 120 * (turn % 2)


def virtual_service(size: Size, service: int, turn: int, export_to: str = "*") -> Raw:
    """A rule for the host of a service; another ``turn`` gives it another timeout."""
    host = f"svc{service}"
    spec: Raw = {"hosts": [host], "exportTo": [export_to]}
    if port_of(service)[0] == "tcp":
        spec["tcp"] = [{"route": [{"destination": {"host": host}}]}]
    else:
        spec["http"] = [
            {
                "name": "canary",
                "match": [{"headers": {"x-canary": {"exact": "true"}}}],
                "timeout": f"{turn % 50 + 1}s",
                "route": [{"destination": {"host": host}}],
            },
            {"name": "stable", "route": [{"destination": {"host": host}}]},
        ]
    return _object(
        "networking.istio.io/v1", "VirtualService", namespace_of(size, service), host, spec=spec
    )


def destination_rule(size: Size, service: int) -> Raw:
    """Outlier detection and connection limits for a service."""
    spec = {
        "host": f"svc{service}",
        "trafficPolicy": {
            "connectionPool": {"tcp": {"maxConnections": 100}},
            "outlierDetection": {"consecutive5xxErrors": 5, "interval": "10s"},
        },
    }
    return _object(
        "networking.istio.io/v1",
        "DestinationRule",
        namespace_of(size, service),
        f"svc{service}",
        spec=spec,
    )


def peer_authentication(namespace: str, mode: str) -> Raw:
    """The mutual TLS mode of a namespace (of the mesh in ``istio-system``)."""
    return _object(
        "security.istio.io/v1",
        "PeerAuthentication",
        namespace,
        "default",
        spec={"mtls": {"mode": mode}},
    )


def _service_address(service: int) -> str:
    block, rest = divmod(service, 250)
    return f"10.96.{block + 1}.{rest + 1}"


def pod_labels(service: int, index: int) -> dict[str, str]:
    """Labels of a pod."""
    return {
        "app": f"svc{service}",
        "version": f"v{index % 2 + 1}",
        "security.istio.io/tlsMode": "istio",
    }


def _object(
    api_version: str,
    kind: str,
    namespace: str,
    name: str,
    *,
    spec: Raw | None = None,
    labels: dict[str, str] | None = None,
) -> Raw:
    metadata: Raw = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    raw: Raw = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    if spec is not None:
        raw["spec"] = spec
    return raw
