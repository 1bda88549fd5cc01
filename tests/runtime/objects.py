"""Workloads and pods for tests."""

from __future__ import annotations

from typing import Any

Raw = dict[str, Any]


def workload(replicas: int = 1, version: str = "1", **spec: Any) -> Raw:
    """A workload whose template has a version."""
    return {
        "metadata": {"name": "w", "namespace": "default", "uid": "u"},
        "spec": {
            "replicas": replicas,
            "template": {"metadata": {"labels": {"version": version}}, "spec": {}},
            **spec,
        },
    }


def pod(name: str = "p", *, ready: bool = False, phase: str = "Running", **metadata: Any) -> Raw:
    """A Pod in a state."""
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": phase, "podIP": "10.244.0.20", "conditions": [condition]},
    }


class Objects:
    """ConfigMaps and Secrets to look up."""

    def __init__(self, *objects: Raw) -> None:
        self._objects = {(o["kind"], o["metadata"]["name"]): o for o in objects}

    def find(self, kind: str, namespace: str, name: str) -> Raw | None:
        """The object, if it exists."""
        return self._objects.get((kind, name))
