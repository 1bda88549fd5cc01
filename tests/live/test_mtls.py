"""Mutual TLS: on the wire, in policies, in the identities that applications are told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lateen.runtime.node.netlink import BRIDGE
from tests.live.mesh import SAMPLES, Mesh

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

PLAIN_CLIENT = """
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: plain, namespace: outside}
spec:
  selector: {matchLabels: {app: plain}}
  template:
    metadata: {labels: {app: plain, sidecar.istio.io/inject: "false"}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: sleep, image: lateen/sleep:1}]
"""


@pytest.fixture(scope="module")
def mesh(bookinfo: Mesh) -> Iterator[Mesh]:
    """Bookinfo with httpbin in the mesh and a client outside of it."""
    httpbin = str(SAMPLES / "httpbin" / "httpbin.yaml")
    bookinfo.apply(httpbin)
    bookinfo.apply_text(PLAIN_CLIENT)
    bookinfo.run("restart", "deploy/httpbin", "-n", "default")
    wait_for(bookinfo, "outside", "plain")
    yield bookinfo
    bookinfo.delete_text(PLAIN_CLIENT)
    bookinfo.run("delete", "-f", httpbin)


def wait_for(mesh: Mesh, namespace: str, name: str) -> None:
    """Until a Deployment is complete."""
    mesh.run("scale", f"deploy/{name}", "-n", namespace, "--replicas", "1")


def capture(mesh: Mesh, seconds: float) -> subprocess.Popen[str]:
    """Starts `capture.py` on the bridge between the pods."""
    script = Path(__file__).with_name("capture.py").read_text()
    pid = mesh.node_network_pid()
    argv = ["nsenter", "-t", str(pid), "-n", sys.executable, "-c", script, BRIDGE, str(seconds)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "capturing"
    return process


def captured(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What it saw."""
    out, _ = process.communicate(timeout=30)
    found: list[dict[str, Any]] = json.loads(out.splitlines()[-1])
    return found


HTTP = re.compile(r"(GET|POST) /\S* HTTP/1|HTTP/1\.[01] \d{3}")


@pytest.mark.skipif(os.geteuid() != 0, reason="opening a packet socket in the node needs root")
def test_no_plaintext_between_pods(mesh: Mesh) -> None:
    """The gateway to productpage, it to the others: nothing on the bridge reads as HTTP."""
    address = {
        name: mesh.pod(prefix)["status"]["podIP"]
        for name, prefix in (("page", "productpage"), ("reviews", "reviews-v1"))
    }
    running = capture(mesh, 3)
    for _ in range(10):
        assert mesh.get("/productpage").status == 200
    assert mesh.curl("http://reviews:9080/reviews/0").status == 200
    records = captured(running)
    pods = {p["status"]["podIP"] for p in mesh.pods()}
    pods |= {p["status"]["podIP"] for p in mesh.pods("istio-system")}
    between = [r for r in records if r["source"] in pods and r["destination"] in pods]
    tls = [r for r in between if r["text"][:1] in ("\x16", "\x17")]
    assert {r["destination"] for r in tls} >= set(address.values())
    readable = [r for r in between if HTTP.search(r["text"])]
    assert not readable, readable[:3]


@pytest.mark.skipif(os.geteuid() != 0, reason="opening a packet socket in the node needs root")
def test_the_capture_sees_plaintext(mesh: Mesh) -> None:
    """The same capture does see HTTP from a pod without a sidecar, so it would have seen it."""
    running = capture(mesh, 2)
    assert plain(mesh, "http://httpbin.default:8000/get") == 200
    assert any(HTTP.search(r["text"]) for r in captured(running))


def plain(mesh: Mesh, url: str) -> int:
    """Status of a request from the pod without a sidecar; 0 when the connection is refused."""
    return mesh.curl(url, source="deploy/plain", namespace="outside").status


def test_a_long_request_outlives_a_change_of_policy(mesh: Mesh) -> None:
    """What is under way when a policy comes has 45 s to end, on the connection that it came on."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(mesh.curl, "http://httpbin:8000/delay/8")
        time.sleep(1.0)
        with mesh.applied(policy("httpbin", "default", selector=HTTPBIN)):
            assert answer.result().status == 200


def test_identity_of_the_caller(mesh: Mesh) -> None:
    """The application learns who calls; a client outside the mesh cannot pretend."""
    answer = mesh.curl("http://httpbin:8000/headers")
    headers = {k.lower(): v for k, v in json.loads(answer.body)["headers"].items()}
    value = str(headers["x-forwarded-client-cert"])
    assert "By=spiffe://cluster.local/ns/default/sa/httpbin" in value
    assert "URI=spiffe://cluster.local/ns/default/sa/sleep" in value
    forged = mesh.exec(
        "deploy/plain",
        *("curl", "-s", "-H", "x-forwarded-client-cert: By=evil;URI=spiffe://evil"),
        "http://httpbin.default:8000/headers",
        namespace="outside",
    )
    assert "evil" not in forged.out


POLICY = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {selector}
  mtls: {{mode: {mode}}}
  {ports}
"""
HTTPBIN = "selector: {matchLabels: {app: httpbin}}"


def policy(
    name: str, namespace: str, mode: str = "STRICT", selector: str = "", ports: str = ""
) -> str:
    """A PeerAuthentication."""
    return POLICY.format(name=name, namespace=namespace, mode=mode, selector=selector, ports=ports)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(policy("default", "istio-system"), id="mesh"),
        pytest.param(policy("default", "default"), id="namespace"),
        pytest.param(policy("httpbin", "default", selector=HTTPBIN), id="workload"),
        pytest.param(
            policy(
                "httpbin",
                "default",
                "PERMISSIVE",
                HTTPBIN,
                "portLevelMtls: {8080: {mode: STRICT}}",
            ),
            id="port",
        ),
    ],
)
def test_strict_refuses_plaintext(mesh: Mesh, text: str) -> None:
    """PERMISSIVE lets a pod without sidecar in, STRICT does not; injected pods notice nothing."""
    assert plain(mesh, "http://httpbin.default:8000/get") == 200
    with mesh.applied(text):
        assert plain(mesh, "http://httpbin.default:8000/get") == 0
        assert mesh.curl("http://httpbin:8000/get").status == 200
        assert mesh.get("/productpage").status == 200
    deadline = time.monotonic() + 5
    while plain(mesh, "http://httpbin.default:8000/get") != 200:
        assert time.monotonic() < deadline


def test_the_narrower_policy_wins(mesh: Mesh) -> None:
    """STRICT for the mesh, PERMISSIVE for one workload, DISABLE for one port of it."""
    everything = policy("default", "istio-system")
    workload = policy("httpbin", "default", "PERMISSIVE", HTTPBIN)
    with mesh.applied(everything), mesh.applied(workload):
        assert plain(mesh, "http://httpbin.default:8000/get") == 200
        assert plain(mesh, "http://details.default:9080/details/0") == 0
