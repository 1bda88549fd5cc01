"""Metrics and access logs under Istio's names, read by a real Prometheus."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.mesh import Mesh, eventually
from tests.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

LABELS = {
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "destination_canonical_service",
    "destination_canonical_revision",
    "request_protocol",
    "response_code",
    "response_flags",
    "grpc_response_status",
    "connection_security_policy",
}
ACCESS_LOG_FIELDS = {
    "authority",
    "bytes_received",
    "bytes_sent",
    "connection_termination_details",
    "downstream_local_address",
    "downstream_remote_address",
    "duration",
    "method",
    "path",
    "protocol",
    "request_id",
    "requested_server_name",
    "response_code",
    "response_code_details",
    "response_flags",
    "route_name",
    "start_time",
    "upstream_cluster",
    "upstream_host",
    "upstream_local_address",
    "upstream_service_time",
    "upstream_transport_failure_reason",
    "user_agent",
    "x_forwarded_for",
}
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.M)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(mesh: Mesh, workload: str, name: str) -> list[dict[str, str]]:
    """Labels of a workload's series with this metric name, as its proxy reports them."""
    text = mesh.exec(workload, "curl", "-s", "http://127.0.0.1:15090/stats/prometheus").out
    return [
        dict(LABEL.findall(labels)) for found, labels, _ in SAMPLE.findall(text) if found == name
    ]


def test_both_sides_report_with_all_labels(bookinfo: Mesh) -> None:
    bookinfo.load("http://reviews:9080/reviews/0", 30)

    def pair() -> Any:
        source = [
            s
            for s in samples(bookinfo, "deploy/sleep", "istio_requests_total")
            if s["destination_workload"] == "reviews-v1" and s["response_code"] == "200"
        ]
        destination = [
            s
            for s in samples(bookinfo, "deploy/reviews-v1", "istio_requests_total")
            if s["source_workload"] == "sleep" and s["reporter"] == "destination"
        ]
        return (source[0], destination[0]) if source and destination else None

    source, destination = eventually(pair)
    for labels in (source, destination):
        assert set(labels) >= LABELS, LABELS - set(labels)
        assert labels["source_principal"] == "spiffe://cluster.local/ns/default/sa/sleep"
        assert (
            labels["destination_principal"]
            == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
        )
        assert labels["destination_service"] == "reviews.default.svc.cluster.local"
        assert labels["destination_version"] == "v1"
        assert labels["request_protocol"] == "http"
    assert source["reporter"] == "source"
    assert destination["connection_security_policy"] == "mutual_tls"


@pytest.mark.parametrize(
    "name",
    [
        "istio_request_duration_milliseconds_bucket",
        "istio_request_bytes_sum",
        "istio_response_bytes_count",
    ],
)
def test_histograms(bookinfo: Mesh, name: str) -> None:
    bookinfo.load("http://reviews:9080/reviews/0", 10)
    eventually(lambda: samples(bookinfo, "deploy/sleep", name))


def test_access_log_has_all_fields(bookinfo: Mesh) -> None:
    agent = f"fields-{time.time()}"
    bookinfo.curl("http://reviews:9080/reviews/0", "-A", agent)
    for workload in ("deploy/sleep",):

        def line(workload: str = workload) -> Any:
            log = bookinfo.logs(workload, "-c", "istio-proxy").splitlines()
            return next((entry for entry in log if agent in entry), None)

        entry = json.loads(eventually(line))
        assert set(entry) == ACCESS_LOG_FIELDS
        assert (entry["path"], entry["response_code"]) == ("/reviews/0", 200)
        assert entry["upstream_cluster"] == "outbound|9080||reviews.default.svc.cluster.local"


@pytest.fixture(scope="module")
def prometheus() -> str:
    """Path of the real Prometheus, installed from the distribution when that is possible."""
    found = shutil.which("prometheus")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # Do not let the package start its own service here.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "prometheus"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False)
            subprocess.run(command, env=environment, capture_output=True, check=False)
        found = shutil.which("prometheus")
    if found is None:
        pytest.fail("this test needs Prometheus: as root, `apt-get install prometheus`")
    return found


CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: envoy
    metrics_path: /stats/prometheus
    static_configs: [{{targets: [{targets}]}}]
  - job_name: control-plane
    static_configs: [{{targets: ["10.244.0.1:15014"]}}]
"""


@pytest.fixture
def scraped(bookinfo: Mesh, prometheus: str, tmp_path: Path) -> Iterator[str]:
    """A Prometheus inside the mesh's network that reads all proxies; its URL in there."""
    pods = [*bookinfo.pods(), *bookinfo.pods("istio-system")]
    targets = ", ".join(f'"{p["status"]["podIP"]}:15090"' for p in pods)
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(targets=targets))
    port = free_port()
    argv = [
        *("nsenter", "-t", str(bookinfo.node_network_pid()), "-n", prometheus),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=10.244.0.1:{port}",
    ]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield f"http://10.244.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(os.geteuid() != 0, reason="entering the node's network needs root")
def test_a_real_prometheus_scrapes_the_mesh(bookinfo: Mesh, scraped: str) -> None:
    """All targets are up, and Istio's dashboards' first query has an answer."""
    for _ in range(5):
        assert bookinfo.get("/productpage").status == 200

    def ask(query: str) -> list[dict[str, Any]]:
        url = f"{scraped}/api/v1/query?query={urllib.parse.quote(query)}"
        argv = ("nsenter", "-t", str(bookinfo.node_network_pid()), "-n", "curl", "-s", url)
        out = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        # Until its storage is open, Prometheus answers "Service Unavailable", which is not JSON.
        answered = out.startswith("{")
        result: list[dict[str, Any]] = json.loads(out)["data"]["result"] if answered else []
        return result

    eventually(lambda: len(ask("up == 1")) == len(ask("up")) > 8, timeout=30)
    query = (
        'sum by (source_workload, destination_workload) (istio_requests_total{reporter="source"})'
    )

    def edges() -> set[tuple[str, str]]:
        return {
            (r["metric"]["source_workload"], r["metric"]["destination_workload"])
            for r in ask(query)
        }

    wanted = {
        ("istio-ingressgateway", "productpage-v1"),
        ("productpage-v1", "details-v1"),
        ("reviews-v3", "ratings-v1"),
    }
    eventually(lambda: wanted <= edges(), timeout=20)
    assert ask("pilot_xds")
    quantile = (
        "histogram_quantile(0.5, sum(rate(istio_request_duration_milliseconds_bucket[1m])) by (le))"
    )
    eventually(lambda: ask(quantile), timeout=20)
