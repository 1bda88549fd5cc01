"""Who a pod is, what its proxy is, and what the mesh configuration changes for all."""

from __future__ import annotations

import pytest

from lateen.api.core.pod import Pod
from lateen.api.meshconfig import MeshConfig
from lateen.model.proxies import proxy_of, proxy_type
from lateen.model.proxy import ProxyType
from lateen.model.scope import inbound_findings
from lateen.model.snapshot import with_mesh
from lateen.model.workloads import locality_of, workload_name
from tests.model.meshes import istio, mesh, objects, pod, service


def pod_of(text: str) -> Pod:
    (resource,) = objects(text)
    assert isinstance(resource.object, Pod)
    return resource.object


@pytest.mark.parametrize(
    ("kind", "owner", "template_hash", "expected"),
    [
        ("ReplicaSet", "web-v1-6d8c9f", "6d8c9f", "web-v1"),
        ("ReplicaSet", "web", "6d8c9f", "web"),
        ("StatefulSet", "db", "", "db"),
        ("Job", "backup-28912345", "", "backup"),
        ("Job", "migrate", "", "migrate"),
    ],
)
def test_the_controller_names_the_workload(
    kind: str, owner: str, template_hash: str, expected: str
) -> None:
    labels = f"{{pod-template-hash: '{template_hash}'}}" if template_hash else "{}"
    owned_by = f"{{apiVersion: v1, kind: {kind}, name: {owner}, controller: true}}"
    reference = f"ownerReferences: [{owned_by}]"
    assert workload_name(pod_of(pod("p-1", "10.0.0.1", labels, metadata=reference))) == expected


def test_a_pod_without_controller_is_its_own_workload() -> None:
    assert workload_name(pod_of(pod("sleep", "10.0.0.1", "{}"))) == "sleep"


def test_locality_text() -> None:
    assert locality_of("r/z/s") == locality_of("r.z.s")
    assert locality_of("r").zone == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (pod("p", "10.0.0.1", "{}"), ProxyType.SIDECAR),
        (
            pod(
                "p",
                "10.0.0.1",
                "{}",
                metadata="annotations: {inject.istio.io/templates: 'sidecar, gateway'}",
            ),
            ProxyType.ROUTER,
        ),
        (pod("p", "10.0.0.1", "{}").replace("name: app,", "name: istio-proxy,"), ProxyType.ROUTER),
        (
            pod("p", "10.0.0.1", "{gateway.istio.io/managed: istio.io-mesh-controller}"),
            ProxyType.WAYPOINT,
        ),
    ],
)
def test_the_kind_of_proxy(text: str, expected: ProxyType) -> None:
    assert proxy_type(pod_of(text)) is expected


def test_mesh_defaults_decide_visibility_and_identity() -> None:
    before = mesh(service("web"), pod("web-1", "10.0.0.1", "{app: web}"))
    after, changes = with_mesh(
        before, MeshConfig(default_service_export_to=["."], trust_domain="example.org")
    )
    assert changes.everything
    assert [s.name for s in after.services.visible_to("other")] == []
    (web,) = after.services.visible_to("default")
    assert web.service_accounts == ("spiffe://example.org/ns/default/sa/default",)


def test_service_entries_can_be_kept_to_their_namespace() -> None:
    entry = "{hosts: [x.example.com], ports: [{number: 80, name: http, protocol: HTTP}]}"
    config = """
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: istio, namespace: istio-system}
        data:
          mesh: |
            serviceEntryVisibility:
              applyToSidecars: true
              defaultVisibility: PUBLIC
              policies:
              - visibility: NAMESPACE
                matchingRules: [{namespaceSelector: {matchLabels: {tenant: "yes"}}}]
        ---
        apiVersion: v1
        kind: Namespace
        metadata: {name: tenant, labels: {tenant: "yes"}}
        """
    snapshot = mesh(
        config,
        istio("ServiceEntry", "a", entry, "tenant"),
        istio("ServiceEntry", "b", entry, "free"),
    )
    assert snapshot.mesh_findings == ()
    assert [s.namespace for s in snapshot.services.visible_to("other")] == ["free"]
    assert [s.namespace for s in snapshot.services.visible_to("tenant")] == ["free", "tenant"]


def test_services_that_disagree_on_a_workload_port() -> None:
    snapshot = mesh(
        service("a", selector="{app: web}", created="2026-01-01T00:00:00Z"),
        service(
            "b",
            selector="{app: web}",
            ports="[{name: tcp, port: 80}]",
            created="2026-01-02T00:00:00Z",
        ),
        pod("web-1", "10.0.0.1", "{app: web}"),
    )
    (workload,) = snapshot.of_kind("", "Pod").values()
    (finding,) = inbound_findings(snapshot, proxy_of(snapshot, workload))
    assert finding.rule == "LT1009"
    assert finding.key is not None
    assert finding.key.name == "b"
