"""PeerAuthentication: mesh, namespace, workload, port."""

from __future__ import annotations

from lateen.model.peer_authentication import peer_authentications
from lateen.model.snapshot import Snapshot
from tests.model.meshes import istio, mesh, rule_ids


def pa(name: str, spec: str, namespace: str = "shop", created: str = "") -> str:
    return istio("PeerAuthentication", name, spec, namespace, created)


def mode(snapshot: Snapshot, app: str = "web", port: int | None = None, ns: str = "shop") -> str:
    return peer_authentications(snapshot).mode(ns, {"app": app}, port)


def test_permissive_unless_somebody_says_otherwise() -> None:
    assert mode(mesh()) == "PERMISSIVE"


def test_the_narrower_scope_decides_and_unset_inherits() -> None:
    snapshot = mesh(
        pa("mesh", "{mtls: {mode: STRICT}}", "istio-system"),
        pa("namespace", "{mtls: {mode: UNSET}}"),
        pa("lax", "{mtls: {mode: DISABLE}}", "lax"),
        pa(
            "web",
            "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}, "
            "portLevelMtls: {8080: {mode: DISABLE}, 9090: {mode: UNSET}}}",
        ),
    )
    found = peer_authentications(snapshot)
    assert found.mesh_mode() == "STRICT"
    assert found.namespace_mode("shop") == "STRICT"
    assert found.namespace_mode("lax") == "DISABLE"
    assert mode(snapshot, "other") == "STRICT"
    assert mode(snapshot, "web") == "PERMISSIVE"
    assert mode(snapshot, "web", 8080) == "DISABLE"
    assert mode(snapshot, "web", 9090) == "PERMISSIVE"
    assert [s.key.name for s in found.effective("shop", {"app": "web"}).sources] == [
        "mesh",
        "namespace",
        "web",
    ]


def test_the_oldest_of_a_scope_wins() -> None:
    snapshot = mesh(
        pa("young", "{mtls: {mode: DISABLE}}", created="2026-01-02T00:00:00Z"),
        pa("old", "{mtls: {mode: STRICT}}", created="2026-01-01T00:00:00Z"),
    )
    assert mode(snapshot) == "STRICT"
    assert rule_ids(snapshot) == [("LT1008", "young")]


def test_a_selector_in_the_root_namespace_stays_there() -> None:
    snapshot = mesh(
        pa("web", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}", "istio-system")
    )
    assert mode(snapshot) == "PERMISSIVE"
    assert mode(snapshot, ns="istio-system") == "STRICT"
