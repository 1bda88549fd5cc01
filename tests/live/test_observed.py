"""Clusters on demand in a whole mesh: the first request works, and only what is used is held."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.live.mesh import SAMPLES, Mesh, eventually, running

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

MESH_CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig:
      proxyMetadata: {LATEEN_SCOPING: observed}
"""
SPLIT = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v3, labels: {version: v3}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 50}
    - {destination: {host: reviews, subset: v3}, weight: 50}
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    config = tmp_path_factory.mktemp("config") / "mesh.yaml"
    config.write_text(MESH_CONFIG)
    with running("-f", str(SAMPLES / "bookinfo"), "-f", str(config), name="observed") as found:
        yield found


def outbound(mesh: Mesh) -> set[str]:
    """Clusters towards services that the client's Envoy holds."""
    data = mesh.run("config", "clusters", "deploy/sleep", "-o", "json").json()["clusters"]
    text = json.dumps(data)
    names = {word for word in text.split('"') if word.startswith("outbound|")}
    return {name for name in names if not name.endswith(";")}  # names of statistics


def test_the_first_request_to_each_service_works_and_fetches_its_cluster(mesh: Mesh) -> None:
    assert outbound(mesh) == set()
    assert mesh.curl("http://reviews:9080/reviews/0").status == 200
    assert outbound(mesh) == {"outbound|9080||reviews.default.svc.cluster.local"}
    assert mesh.curl("http://details:9080/details/0").status == 200
    assert mesh.curl("http://productpage:9080/productpage").status == 200
    assert len(outbound(mesh)) == 3
    assert mesh.get("/productpage").status == 200


def test_a_request_with_a_body_arrives_whole(mesh: Mesh) -> None:
    with mesh.applied(SPLIT):
        found = mesh.curl("http://reviews:9080/reviews/0", "-d", "x" * 100_000)
        assert found.status in (404, 405, 501, 200)  # the sample takes no POST; Envoy did not fail
        assert "upstream" not in found.body


def test_subsets_of_a_split_are_fetched_when_they_are_chosen(mesh: Mesh) -> None:
    with mesh.applied(SPLIT):
        load = mesh.load("http://reviews:9080/reviews/0", 60)
        assert set(load.statuses) == {"200"}
        assert load.failures == []
        assert {name.split("|")[2] for name in outbound(mesh) if "reviews" in name} >= {"v1", "v3"}
    assert mesh.curl("http://reviews:9080/reviews/0").status == 200


def test_a_restarted_control_plane_resends_nothing_of_it(mesh: Mesh) -> None:
    assert mesh.curl("http://details:9080/details/0").status == 200
    before = outbound(mesh)
    os.kill(mesh.process_with("lateen.serve.main"), signal.SIGKILL)

    def in_sync() -> bool:
        result = mesh.run("status", "-o", "json", status=None)
        proxies = result.json()["proxies"] if result.status == 0 else []
        return bool(proxies) and all(item["inSync"] for item in proxies)

    eventually(in_sync, timeout=40)
    assert outbound(mesh) == before
    assert mesh.curl("http://details:9080/details/0").status == 200
    assert mesh.curl("http://ratings:9080/ratings/0").status == 200
    totals = mesh.run("status", "-o", "json").json()
    resent = [
        (item["name"], kind, entry["bytes"])
        for item in totals["proxies"]
        for kind, entry in item["types"].items()
        if kind == "cds" and entry.get("bytes", 0) > 20_000
    ]
    assert resent == []
