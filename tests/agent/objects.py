"""Raw Kubernetes objects for the tests."""

from __future__ import annotations

from typing import Any

Raw = dict[str, Any]


def service(name: str, namespace: str = "default", **spec: Any) -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def pod(
    name: str,
    ip: str,
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    ready: bool = True,
    deleting: bool = False,
    **spec: Any,
) -> Raw:
    metadata: Raw = {"name": name, "namespace": namespace, "labels": labels or {}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Running", "podIP": ip, "conditions": [condition]},
    }


def service_entry(
    name: str,
    hosts: list[str],
    namespace: str = "default",
    allocated: dict[str, str] | None = None,
    **spec: Any,
) -> Raw:
    given = [{"host": host, "value": value} for host, value in (allocated or {}).items()]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": hosts, **spec},
        "status": {"addresses": given},
    }


def endpoint_slice(
    name: str,
    service_name: str,
    endpoints: list[Raw],
    ports: list[Raw],
    namespace: str = "default",
) -> Raw:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }
