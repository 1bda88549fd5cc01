"""The control plane as a process, with real Envoys as its proxies."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.live import LiveMesh, live_mesh, until

pytestmark = [pytest.mark.envoy, pytest.mark.live, pytest.mark.timeout(110)]

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080, targetPort: 9080}]
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer:
      consistentHash:
        httpHeaderName: x-user
        ringHash: {minimumRingSize: %d}
"""
CLUSTER = "outbound|9080||reviews.default.svc.cluster.local"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[LiveMesh]:
    with live_mesh(tmp_path) as found:
        found.apply(SERVICE, wait=False)
        for name in ("reviews", "sleep"):
            found.add_pod(name)
            found.start_envoy(name)
        found.wait_connected("reviews", "sleep")
        yield found


def ring_size(mesh: LiveMesh, name: str = "sleep") -> int:
    dump = json.loads(mesh.admin(name, "/config_dump?resource=dynamic_active_clusters"))
    for entry in dump["configs"]:
        if entry["cluster"]["name"] == CLUSTER:
            return int(entry["cluster"].get("ring_hash_lb_config", {}).get("minimum_ring_size", 0))
    return -1


def test_a_refused_object_goes_back_to_its_last_good_form_and_all_else_goes_on(
    mesh: LiveMesh,
) -> None:
    assert mesh.apply(RULE % 1024)["acknowledged"]
    assert ring_size(mesh) == 1024

    # More than Envoy's limit of 8Mi, which no validation of Istio knows.
    result = mesh.apply(RULE % 9_000_000, path="bad.yaml")
    assert not result["acknowledged"]
    [rejection] = result["rejections"]
    assert rejection["object"]["name"] == "reviews"
    assert rejection["object"]["kind"] == "DestinationRule"
    assert (rejection["file"], rejection["line"]) == ("bad.yaml", 1)
    assert "ring" in rejection["message"]
    assert ring_size(mesh) == 1024

    [held] = mesh.status()["quarantined"]
    assert held["source"] == "bad.yaml:1"
    assert mesh.apply(SERVICE.replace("reviews", "ratings"))["acknowledged"]
    assert "lateen_quarantined_objects 1.0" in mesh.metrics()

    # Also a control plane that starts again does not try it again.
    assert mesh.stop_control_plane() == 0
    mesh.start_control_plane()
    mesh.wait_connected("reviews", "sleep")
    assert [item["source"] for item in mesh.status()["quarantined"]] == ["bad.yaml:1"]
    assert ring_size(mesh) == 1024

    # A new form of the object is tried.
    assert mesh.apply(RULE % 2048)["acknowledged"]
    assert mesh.status()["quarantined"] == []
    assert ring_size(mesh) == 2048


def test_proxies_reconnect_to_a_new_control_plane_and_are_resent_nothing(mesh: LiveMesh) -> None:
    assert mesh.stop_control_plane(signal.SIGKILL) != 0
    before = mesh.admin("sleep", "/config_dump?resource=dynamic_active_clusters")
    mesh.start_control_plane()
    mesh.wait_connected("reviews", "sleep")
    assert mesh.admin("sleep", "/config_dump?resource=dynamic_active_clusters") == before
    sent = [line for line in mesh.metrics().splitlines() if "resources_sent_total{" in line]
    assert {line.split()[-1] for line in sent} == {"0.0"}, sent


def test_a_proxy_with_another_workloads_certificate_is_refused(mesh: LiveMesh) -> None:
    mesh.add_pod("admin", account="admin")
    # A certificate that is valid in the mesh, but another pod's.
    mesh.start_envoy("admin", certificate_of="sleep")
    until(
        lambda: 'lateen_xds_refused_total{code="PERMISSION_DENIED"}' in mesh.metrics(),
        "refusal",
        details=(mesh.folder / "admin.log").read_text,
    )
    assert mesh.proxy("admin") == {}


def test_status_and_config_show_what_proxies_run(mesh: LiveMesh) -> None:
    proxy = mesh.proxy("sleep")
    assert proxy["identity"] == "spiffe://cluster.local/ns/default/sa/default"
    assert proxy["envoyVersion"] == "1.40.0"
    assert {proxy["types"][kind]["state"] for kind in ("cds", "eds", "lds", "rds")} == {"SYNCED"}
    config = mesh.api.request("GET", "/lateen/v1/proxies/sleep.default/config?type=clusters")
    [dump] = config["configs"]
    names = {entry["cluster"]["name"] for entry in dump["dynamic_active_clusters"]}
    held = json.loads(mesh.admin("sleep", "/config_dump?resource=dynamic_active_clusters"))
    assert names == {entry["cluster"]["name"] for entry in held["configs"]}


def test_an_endpoint_change_sends_that_services_endpoints_and_nothing_else(
    mesh: LiveMesh,
) -> None:
    def sent(kind: str) -> float:
        prefix = f'lateen_xds_resources_sent_total{{type="{kind}"}}'
        lines = [line for line in mesh.metrics().splitlines() if line.startswith(prefix)]
        return float(lines[0].split()[-1]) if lines else 0.0

    before = {kind: sent(kind) for kind in ("cds", "eds", "lds", "rds")}
    mesh.api.request(
        "PATCH",
        "/api/v1/namespaces/default/pods/reviews/status",
        {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    )
    until(lambda: sent("eds") > before["eds"], "endpoints sent")
    time.sleep(0.3)
    after = {kind: sent(kind) for kind in ("cds", "eds", "lds", "rds")}
    assert {kind: after[kind] - before[kind] for kind in after} == {
        "cds": 0.0, "eds": 2.0, "lds": 0.0, "rds": 0.0,
    }  # fmt: skip


def test_an_envoy_that_speaks_state_of_the_world_gets_the_same(mesh: LiveMesh) -> None:
    mesh.add_pod("old")
    mesh.start_envoy("old", dialect="GRPC")
    mesh.wait_connected("old")
    assert mesh.proxy("old")["dialect"] == "state-of-the-world"
    assert mesh.apply(RULE % 1024)["acknowledged"]
    assert ring_size(mesh, "old") == 1024
    mesh.api.request("DELETE", "/api/v1/namespaces/default/services/reviews")
    for name in ("old", "sleep"):
        until(lambda name=name: ring_size(mesh, name) == -1, f"cluster gone from {name}")  # type: ignore[misc]
    assert mesh.apply(SERVICE)["acknowledged"]
    assert ring_size(mesh, "old") == 1024
