"""What a mesh survives: a killed control plane or proxy, mistakes, and change under load."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.mesh import LOAD_SCRIPT, SAMPLES, Load, Mesh, eventually, read_load, running

pytestmark = [pytest.mark.live, pytest.mark.timeout(150)]
RULES = SAMPLES / "bookinfo" / "rules"
VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews, subset: VERSION}}]}]
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mesh, Path]]:
    """Bookinfo under `up --watch`, and its folder."""
    folder = tmp_path_factory.mktemp("watched")
    for path in (SAMPLES / "bookinfo").glob("*.yaml"):
        shutil.copy(path, folder)
    shutil.copy(RULES / "destination-rules.yaml", folder)
    # The control plane is a user of its own: it must be able to look into the folder.
    for parent in (folder, *folder.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    with running("--watch", str(folder), name="watch") as mesh:
        yield mesh, folder


@contextmanager
def load_at(mesh: Mesh, rate: int, clients: int = 16) -> Iterator[Any]:
    """Requests for the page through the gateway, at a steady rate, while the block runs.

    Yields a list that holds the `Load` after the block.
    """
    url = f"http://127.0.0.1:{mesh.http_port}/productpage"
    argv = [sys.executable, str(LOAD_SCRIPT), url, "3600s", str(clients), f"rate:{rate}"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    found: list[Load] = []
    try:
        time.sleep(0.5)
        yield found
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        found.append(read_load(out))
    finally:
        process.kill()
        process.wait()


def sent(mesh: Mesh) -> dict[str, float]:
    """The control plane's counters of resources that it sent, by type."""
    text = mesh.run("exec", "deploy/sleep", "--", "curl", "-s", "http://10.244.0.1:15014/metrics")
    pattern = r'^lateen_xds_resources_sent_total\{type="(\w+)"\} (\S+)$'
    return {kind: float(value) for kind, value in re.findall(pattern, text.out, re.M)}


def in_sync(mesh: Mesh) -> bool:
    """All proxies are connected and have everything."""
    result = mesh.run("status", "-o", "json", status=None)
    if result.status != 0:
        return False
    proxies = result.json()["proxies"]
    return len(proxies) >= 8 and all(proxy["inSync"] for proxy in proxies)


def test_traffic_outlives_the_control_plane(bookinfo: Mesh) -> None:
    """Killed, it comes back, proxies reconnect, and get nothing that they have already."""
    eventually(lambda: in_sync(bookinfo))
    pid = bookinfo.process_with("lateen.serve.main")
    assert sum(sent(bookinfo).values()) > 100
    with load_at(bookinfo, 50) as result:
        os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        eventually(lambda: bookinfo.process_with("lateen.serve.main") != pid)
        eventually(lambda: in_sync(bookinfo), timeout=40)
    assert result[0].failures == []
    # Nothing in the mesh changed, so that the new process had nothing to tell.
    assert sum(sent(bookinfo).values()) == 0, sent(bookinfo)
    with bookinfo.applied(VIRTUAL_SERVICE.replace("subset: VERSION", "port: {number: 9080}")):
        assert in_sync(bookinfo)


def test_an_envoy_that_dies_comes_back(bookinfo: Mesh) -> None:
    pod = bookinfo.pod("details")
    pid = envoy_of(bookinfo, pod["metadata"]["name"])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: envoy_of(bookinfo, pod["metadata"]["name"]) != pid)
    eventually(lambda: bookinfo.curl("http://details:9080/details/0").status == 200)
    eventually(lambda: in_sync(bookinfo))
    statuses = bookinfo.pod("details")["status"]["containerStatuses"]
    proxy = next(s for s in statuses if s["name"] == "istio-proxy")
    assert proxy["restartCount"] >= 1


def envoy_of(mesh: Mesh, pod: str) -> int:
    """Process id of a pod's proxy: its node id is in its environment or arguments."""
    from tests.live.mesh import descendants

    for pid in descendants(mesh.node_pid):
        folder = Path(f"/proc/{pid}")
        try:
            if "envoy" in os.readlink(folder / "exe"):
                hostname = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
                if pod.encode() in hostname or hostname_of(pid) == pod:
                    return pid
        except OSError:
            continue
    raise LookupError(f"no Envoy of pod {pod}")


def hostname_of(pid: int) -> str:
    """Hostname in a process's UTS namespace."""
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-u", "hostname"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def test_a_broken_file_changes_nothing(watched: tuple[Mesh, Path]) -> None:
    """Its last good version stays, no request is lost, `status` has file and line."""
    mesh, folder = watched
    path = folder / "reviews.yaml"
    path.write_text(VIRTUAL_SERVICE.replace("VERSION", "v3"))
    url = "http://reviews:9080/reviews/0"
    eventually(lambda: mesh.load(url, 20).share("reviews-v3") == 1.0)
    with load_at(mesh, 50) as result:
        path.write_text(VIRTUAL_SERVICE.replace("VERSION", "v1").replace("http:", "htpp:"))
        found = eventually(lambda: broken(mesh, path))
        (folder / "noise.yaml").write_text("kind: [unfinished\n  - nonsense: {\n")
        eventually(lambda: broken(mesh, folder / "noise.yaml"))
        assert mesh.load(url, 20).share("reviews-v3") == 1.0
    assert result[0].failures == []
    assert found["line"] == 7
    assert f"{path}:7" in mesh.run("status", status=1).out
    path.write_text(VIRTUAL_SERVICE.replace("VERSION", "v2"))
    (folder / "noise.yaml").unlink()
    eventually(lambda: mesh.load(url, 20).share("reviews-v2") == 1.0)
    assert mesh.run("status").status == 0
    path.unlink()
    eventually(lambda: mesh.run("get", "vs", "reviews", status=None).status == 1)


def broken(mesh: Mesh, path: Path) -> Any:
    """What `status` says of a file, if anything."""
    data = mesh.run("status", "-o", "json", status=None).json()
    return next((f for f in data["broken"] if f.get("file") == str(path)), None)


def test_what_a_proxy_rejects_is_held_back(bookinfo: Mesh) -> None:
    """A DestinationRule that only Envoy refuses: named, held back, and everything else goes on."""
    text = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details-odd, namespace: default}
spec:
  host: details
  trafficPolicy:
    tls:
      mode: SIMPLE
      caCertificates: /no/such/file.pem
"""
    result = bookinfo.apply_text(text, status=None)
    try:
        if result.status == 1:
            data = bookinfo.run("status", "-o", "json", status=1).json()
            assert [q["object"]["name"] for q in data["quarantined"]] == ["details-odd"]
        # Accepted or held back, other services and other changes are not concerned.
        assert bookinfo.curl("http://reviews:9080/reviews/0").status == 200
        with bookinfo.applied(VIRTUAL_SERVICE.replace("subset: VERSION", "port: {number: 9080}")):
            assert bookinfo.curl("http://reviews:9080/reviews/0").status == 200
    finally:
        bookinfo.delete_text(text)
    eventually(lambda: bookinfo.run("status", status=None).status == 0)
    assert bookinfo.curl("http://details:9080/details/0").status == 200


def test_change_under_load_loses_nothing(bookinfo: Mesh) -> None:
    """200 requests a second, routing changes and pod restarts meanwhile: none fails.

    benchmarks/soak.py does it with 100 changes and 20 restarts.
    """
    bookinfo.apply(RULES / "destination-rules.yaml")
    restarts = ["reviews-v1", "productpage-v1"]
    with load_at(bookinfo, 200) as result:
        for number in range(6):
            version = ("v1", "v2", "v3")[number % 3]
            bookinfo.apply_text(VIRTUAL_SERVICE.replace("VERSION", version))
            if number % 3 == 2:
                bookinfo.run("restart", f"deploy/{restarts[number // 3]}")
    bookinfo.run("delete", "vs/reviews")
    load = result[0]
    assert load.failures == [], json.dumps(load.failures, indent=1)
    assert load.total > 500
