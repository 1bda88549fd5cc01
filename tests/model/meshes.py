"""Small meshes from YAML."""

from __future__ import annotations

from textwrap import dedent

from lateen.api.parse import parse_documents
from lateen.api.resource import ObjectKey, Resource
from lateen.model.snapshot import Snapshot, snapshot_of


def objects(text: str) -> list[Resource]:
    """The objects in a YAML text."""
    result = parse_documents(dedent(text), "mesh.yaml")
    assert result.findings == []
    return result.resources


def mesh(*texts: str) -> Snapshot:
    """The snapshot of the objects in some YAML texts."""
    return snapshot_of(resource for text in texts for resource in objects(text))


def service(
    name: str,
    namespace: str = "default",
    *,
    ports: str = "[{name: http, port: 80}]",
    created: str = "2026-01-01T00:00:00Z",
    selector: str = "",
    more: str = "",
    annotations: str = "{}",
) -> str:
    """A Service that selects ``app: NAME``."""
    return f"""
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
  creationTimestamp: "{created}"
  annotations: {annotations}
spec:
  selector: {selector or "{app: " + name + "}"}
  ports: {ports}
  {more}
---
"""


def pod(
    name: str,
    ip: str,
    labels: str,
    namespace: str = "default",
    *,
    ready: bool = True,
    account: str = "default",
    spec: str = "",
    metadata: str = "",
    ports: str = "[]",
) -> str:
    """A Pod with one container and a status."""
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {labels}
  {metadata}
spec:
  serviceAccountName: {account}
  containers: [{{name: app, image: app, ports: {ports}}}]
  {spec}
status:
  phase: Running
  podIP: {ip}
  conditions: [{{type: Ready, status: "{ready}"}}]
---
"""


def pod_key(name: str, namespace: str = "default") -> ObjectKey:
    """The key of a Pod."""
    return ObjectKey("", "Pod", namespace, name)


def istio(kind: str, name: str, spec: str, namespace: str = "default", created: str = "") -> str:
    """An object of networking.istio.io or security.istio.io."""
    group = "security" if kind == "PeerAuthentication" else "networking"
    stamp = f'creationTimestamp: "{created}"' if created else ""
    return f"""
apiVersion: {group}.istio.io/v1
kind: {kind}
metadata:
  name: {name}
  namespace: {namespace}
  {stamp}
spec: {spec}
---
"""


def rule_ids(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Rule and object name of every finding."""
    return [(f.rule, f.key.name if f.key is not None else "") for f in snapshot.findings]
