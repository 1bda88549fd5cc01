"""PeerAuthentication: mesh, namespace, workload, port."""

from __future__ import annotations

from lateen.model.peer_authentication import peer_authentications
from lateen.model.peer_findings import peer_findings
from lateen.model.snapshot import Snapshot
from tests.model.meshes import istio, mesh, pod, rule_ids, service


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


def told(*texts: str) -> list[tuple[str | None, str, str]]:
    return [
        (item.key.name if item.key else None, item.rule, item.message)
        for item in peer_findings(mesh(*texts), "shop")
    ]


SELECTS_WEB = "selector: {matchLabels: {app: web}}"


def test_of_two_policies_with_one_selector_the_older_holds() -> None:
    old = pa("a", f"{{{SELECTS_WEB}, mtls: {{mode: STRICT}}}}", created="2026-01-01T00:00:00Z")
    young = pa("b", f"{{{SELECTS_WEB}, mtls: {{mode: DISABLE}}}}", created="2026-01-02T00:00:00Z")
    [(name, rule, message)] = told(old, young)
    assert (name, rule) == ("b", "LT1008")
    assert "has no effect: PeerAuthentication shop/a" in message
    other = pa("c", "{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}")
    assert told(old, other) == []


def test_a_policy_that_a_wider_older_one_covers_has_no_effect() -> None:
    wide = pa("a", f"{{{SELECTS_WEB}, mtls: {{mode: STRICT}}}}", created="2026-01-01T00:00:00Z")
    narrow = "{selector: {matchLabels: {app: web, version: v1}}, mtls: {mode: DISABLE}}"
    [(name, _, message)] = told(wide, pa("b", narrow, created="2026-01-02T00:00:00Z"))
    assert name == "b"
    assert "has no effect" in message
    assert told(pa("b", narrow, created="2025-01-02T00:00:00Z"), wide) == []


def test_policies_that_overlap_are_told_of_the_pods_that_both_select() -> None:
    texts = (
        pod("one", "10.0.0.1", "{app: web, tier: front}", "shop"),
        pod("two", "10.0.0.2", "{app: other, tier: front}", "shop"),
        pa("a", f"{{{SELECTS_WEB}, mtls: {{mode: STRICT}}}}", created="2026-01-01T00:00:00Z"),
        pa(
            "b",
            "{selector: {matchLabels: {tier: front}}, mtls: {mode: DISABLE}}",
            created="2026-01-02T00:00:00Z",
        ),
    )
    [(name, rule, message)] = told(*texts)
    assert (name, rule) == ("b", "LT1008")
    assert "selects 1 of its 2 workloads, such as pod one" in message


def test_a_port_of_the_service_is_none_of_the_workload() -> None:
    web = service("web", "shop", ports="[{name: http, port: 8000, targetPort: 8080}]")
    policy = pa("a", f"{{{SELECTS_WEB}, portLevelMtls: {{8000: {{mode: STRICT}}}}}}")
    snapshot = mesh(web, pod("one", "10.0.0.1", "{app: web}", "shop"), policy)
    [finding] = peer_findings(snapshot, "shop")
    assert finding.rule == "LT1010"
    assert finding.path == ("spec", "portLevelMtls", "8000")
    assert "port of service web.shop.svc.cluster.local" in finding.message
    assert "8080" in finding.hint


def test_ports_that_a_workload_has_are_not_told() -> None:
    web = service("web", "shop", ports="[{name: http, port: 8000, targetPort: 8080}]")
    ports = "[{containerPort: 9090}]"
    one = pod("one", "10.0.0.1", "{app: web}", "shop", ports=ports)
    levels = "{8080: {mode: STRICT}, 9090: {mode: STRICT}}"
    assert told(web, one, pa("a", f"{{{SELECTS_WEB}, portLevelMtls: {levels}}}")) == []
    wrong = pa("a", f"{{{SELECTS_WEB}, portLevelMtls: {{7070: {{mode: STRICT}}}}}}")
    assert told(web, one, wrong) == [("a", "LT1010", "no selected workload has port 7070")]
    # Nothing is known of the ports of a pod that declares none and that no service selects.
    assert told(pod("one", "10.0.0.1", "{app: web}", "shop"), wrong) == []
