"""Small objects that tests store."""

from __future__ import annotations

from typing import Any

from lateen.api.resource import ObjectKey

Raw = dict[str, Any]


def config_map(name: str, namespace: str = "default", **data: str) -> Raw:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def service(name: str, namespace: str = "default", **spec: Any) -> Raw:
    """A Service on port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"port": 80}], **spec},
    }


def service_entry(name: str, *hosts: str, **spec: Any) -> Raw:
    """A ServiceEntry that gets automatic addresses."""
    ports = [{"number": 443, "name": "tls", "protocol": "TLS"}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"hosts": list(hosts), "ports": ports, "resolution": "DNS", **spec},
    }


def pod(name: str, namespace: str = "default", **metadata: Any) -> Raw:
    """A Pod with one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }


def key(name: str, kind: str = "ConfigMap", namespace: str = "default") -> ObjectKey:
    """Key of an object of the core group."""
    return ObjectKey("", kind, namespace, name)
