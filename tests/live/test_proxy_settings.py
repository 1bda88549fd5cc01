"""Settings of proxies, as they arrive in the running Envoys."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.mesh import Mesh, command_line, descendants, short_folder

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig:
      concurrency: 2
      drainDuration: 7s
      discoveryAddress: istiod.elsewhere:15012
      proxyMetadata: {FROM_MESH: "1"}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: default, namespace: default}
spec: {environmentVariables: {FROM_NAMESPACE: "2"}}
---
apiVersion: v1
kind: Pod
metadata:
  name: one
  labels: {app: one}
  annotations:
    proxy.istio.io/config: |
      concurrency: 1
      terminationDrainDuration: 0s
      proxyMetadata: {FROM_POD: "3", LATEEN_APP: forged}
      proxyStatsMatcher: {inclusionPrefixes: [cluster.outbound]}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: lateen/sleep:1}]
---
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: two}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: lateen/sleep:1}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: one}, ports: [{name: http, port: 80}]}
"""


@pytest.fixture(scope="module")
def started() -> Iterator[tuple[Mesh, str]]:
    """The mesh, and what `up` printed."""
    home = short_folder()
    mesh = Mesh(f"settings-{os.getpid()}", home)
    try:
        (home / "mesh.yaml").write_text(MANIFEST)
        yield mesh, mesh.up("-f", str(home / "mesh.yaml")).text
    finally:
        mesh.down()
        shutil.rmtree(home, ignore_errors=True)


def envoys(mesh: Mesh) -> dict[str, tuple[str, dict[str, str]]]:
    """Command line and environment of each Envoy by the workload in its environment."""
    found = {}
    for pid in descendants(mesh.node_pid):
        if "--drain-time-s" in command_line(pid):
            lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
            environment = dict(line.split("=", 1) for line in lines if "=" in line)
            found[environment["LATEEN_WORKLOAD"]] = command_line(pid), environment
    return found


def test_up_and_status_say_what_has_no_effect(started: tuple[Mesh, str]) -> None:
    mesh, printed = started
    status = mesh.run("status", "-v").text
    for said in (printed, status):
        assert (
            "mesh.yaml:10:7: ConfigMap istio-system/istio: discoveryAddress has no effect" in said
        )
        assert "mesh.yaml:27:38: Pod default/one: LATEEN_APP is not given to the proxy" in said


def test_threads_and_drains(started: tuple[Mesh, str]) -> None:
    commands = {name: command for name, (command, _) in envoys(started[0]).items()}
    assert "--concurrency 1 --drain-time-s 7" in commands["one"]
    assert "--concurrency 2 --drain-time-s 7" in commands["two"]


def test_variables(started: tuple[Mesh, str]) -> None:
    environments = {name: environment for name, (_, environment) in envoys(started[0]).items()}
    one, two = environments["one"], environments["two"]
    assert (one["FROM_MESH"], one["FROM_NAMESPACE"], one["FROM_POD"]) == ("1", "2", "3")
    assert one["LATEEN_APP"] == "one"
    assert two["FROM_MESH"] == "1"
    assert "FROM_POD" not in two


def test_further_statistics(started: tuple[Mesh, str]) -> None:
    mesh = started[0]
    assert clusters_in_metrics(mesh, "pod/one")
    assert not clusters_in_metrics(mesh, "pod/two")


def clusters_in_metrics(mesh: Mesh, pod: str) -> bool:
    """Whether a proxy has statistics of the cluster that its application has just called."""
    mesh.exec(pod, "curl", "-s", "http://web/")
    metrics = mesh.exec(pod, "curl", "-s", "localhost:15090/stats/prometheus").out
    return 'envoy_cluster_upstream_cx_total{cluster_name="outbound|80||web' in metrics
