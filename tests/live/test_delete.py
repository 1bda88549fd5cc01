"""Deleting: what is deleted has ended when the command returns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.mesh import SAMPLES, Mesh, eventually

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

POD = """
apiVersion: v1
kind: Pod
metadata: {name: slow, labels: {app: slow}}
spec:
  containers:
  - name: main
    image: busybox
    # It takes a while to end, so that a command that does not wait is found out.
    command: [sh, -c, 'trap "sleep 2; exit 0" TERM; while true; do sleep 0.1; done']
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: slow}
spec:
  selector: {matchLabels: {app: slow}}
  template:
    metadata: {labels: {app: slow}}
    spec: {containers: [{name: main, image: lateen/sleep:1}]}
"""


@pytest.fixture
def mesh(bookinfo: Mesh) -> Iterator[Mesh]:
    """The mesh, without what a test leaves of the workload."""
    yield bookinfo
    bookinfo.run("delete", "deploy", "slow", "--ignore-not-found")
    bookinfo.run("delete", "pod", "slow", "--ignore-not-found")


def pods(mesh: Mesh) -> list[str]:
    """Names of the workload's pods, those that are ending too."""
    found = mesh.run("get", "pods", "-o", "json").json()["items"]
    named = [pod["metadata"] for pod in found if pod["metadata"]["labels"].get("app") == "slow"]
    return [metadata["name"] for metadata in named]


def is_running(mesh: Mesh) -> bool:
    """Whether the workload's pod is ready."""
    found = mesh.run("get", "pods", "-o", "json").json()["items"]
    mine = [pod for pod in found if pod["metadata"]["labels"].get("app") == "slow"]
    return bool(mine) and all(pod.get("status", {}).get("phase") == "Running" for pod in mine)


@pytest.mark.parametrize(
    ("text", "name"), [(POD, "pod/slow"), (DEPLOYMENT, "deploy/slow")], ids=["pod", "deployment"]
)
def test_delete_returns_when_the_pods_have_ended(mesh: Mesh, text: str, name: str) -> None:
    """So that the same can be applied at once, and runs."""
    mesh.run("apply", "-f", "-", stdin=text)
    eventually(lambda: is_running(mesh))
    result = mesh.run("delete", name)
    assert "waiting for 1 pods to end" in result.text
    assert pods(mesh) == []
    assert "created" in mesh.run("apply", "-f", "-", stdin=text).out
    eventually(lambda: is_running(mesh))


def test_delete_need_not_wait_and_apply_says_what_it_meets(mesh: Mesh) -> None:
    mesh.run("apply", "-f", "-", stdin=POD)
    eventually(lambda: is_running(mesh))
    mesh.run("delete", "pod", "slow", "--no-wait")
    assert pods(mesh) == ["slow"]
    result = mesh.run("apply", "-f", "-", "--no-wait", stdin=POD)
    assert "Pod default/slow is being deleted: what is applied now goes with it" in result.text
    assert "then apply it again" in result.text
    eventually(lambda: pods(mesh) == [])


def test_delete_gives_up_after_its_timeout_and_names_the_pod(mesh: Mesh) -> None:
    mesh.run("apply", "-f", "-", stdin=POD)
    eventually(lambda: is_running(mesh))
    result = mesh.run("delete", "pod", "slow", "--timeout", "0.2", status=1)
    assert "default/slow" in result.err
    assert "lateen ps" in result.err
    eventually(lambda: pods(mesh) == [])


def test_what_has_no_pods_is_not_waited_for(mesh: Mesh) -> None:
    rules = str(SAMPLES / "bookinfo" / "rules" / "reviews-v3.yaml")
    mesh.run("apply", "-f", rules)
    assert "waiting" not in mesh.run("delete", "-f", rules).text
