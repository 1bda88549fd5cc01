"""The whole of Bookinfo without root: user namespaces, forwarded ports, all else the same."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.mesh import SAMPLES, Mesh, descendants, eventually, running

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="all other tests run as an ordinary user then"),
]
USER = 64_321
"""A uid without an account: nothing in the mesh may need one."""


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """Bookinfo, brought up by that user."""
    with running("-f", str(SAMPLES / "bookinfo"), name="user", user=USER) as found:
        yield found


def test_the_page_is_served(mesh: Mesh) -> None:
    answer = mesh.get("/productpage")
    assert answer.status == 200
    assert "Book Reviews" in answer.body


def test_nothing_runs_as_root(mesh: Mesh) -> None:
    """All processes of the mesh are the user's, and so is all that it keeps, for nobody else."""
    for pid in (mesh.node_pid, *descendants(mesh.node_pid)):
        assert Path(f"/proc/{pid}").stat().st_uid == USER or not Path(f"/proc/{pid}/exe").exists()
    assert stat.S_IMODE(mesh.folder.stat().st_mode) == 0o700
    assert mesh.folder.stat().st_uid == USER


def test_commands_and_rules_work(mesh: Mesh) -> None:
    rules = SAMPLES / "bookinfo" / "rules"
    mesh.apply(rules / "destination-rules.yaml")
    mesh.apply(rules / "reviews-v3.yaml")
    load = mesh.load("http://reviews:9080/reviews/0", 100)
    assert load.statuses == {"200": 100}
    assert load.share("reviews-v3") == 1.0
    mesh.run("restart", "deploy/reviews-v3")
    assert mesh.run("status").status == 0
    entry = json.loads(
        eventually(lambda: mesh.logs("deploy/sleep", "-c", "istio-proxy").splitlines())[-1]
    )
    assert entry["response_code"] == 200


def test_it_is_mutual_tls(mesh: Mesh) -> None:
    assert mesh.get("/productpage").status == 200

    def secured() -> bool:
        url = "localhost:15090/stats/prometheus"
        lines = mesh.exec("deploy/details-v1", "curl", "-s", url).out.splitlines()
        requests = [line for line in lines if line.startswith("istio_requests_total{")]
        return any('connection_security_policy="mutual_tls"' in line for line in requests)

    eventually(secured)
