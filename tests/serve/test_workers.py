"""A control plane of several processes, with real Envoys as its proxies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from lateen.serve import connected_file
from lateen.serve import workers as workers_module
from lateen.serve.control_plane import ControlPlane, ControlPlaneOptions
from lateen.serve.everywhere import behind, joined
from lateen.serve.generator import MeshGenerator
from lateen.serve.moves import EXPECTED_WITHIN, Moves
from lateen.serve.push import Acknowledgement
from lateen.serve.worker import Worker, start
from lateen.serve.workers import arriving, surpluses
from lateen.source.store import Store
from tests.serve.live import METRICS_PORT, LiveMesh, live_mesh, until
from tests.serve.mesh import pod, snapshot_of, workers_of
from tests.serve.test_control_plane import RULE, SERVICE, ring_size

NAMES = ("reviews", "sleep", "third", "fourth")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[LiveMesh]:
    options = ("--workers", "2", "--balance-interval", "600")
    with live_mesh(tmp_path, *options) as found:
        found.apply(SERVICE, wait=False)
        for name in NAMES:
            found.add_pod(name)
            found.start_envoy(name)
        found.wait_connected(*NAMES)
        yield found


def workers(mesh: LiveMesh) -> list[dict[str, Any]]:
    return list(mesh.status()["workers"])


def spread(mesh: LiveMesh) -> None:
    """Have both processes serve somebody: the kernel may have given all to one."""
    if min(worker["proxies"] for worker in workers(mesh)) > 0:
        return
    for _ in range(20):
        mesh.stop_envoy("fourth")
        mesh.start_envoy("fourth")
        mesh.wait_connected("fourth")
        if min(worker["proxies"] for worker in workers(mesh)) > 0:
            return
    pytest.fail("all connections come to one process")


def resources_sent(mesh: LiveMesh) -> dict[str, float]:
    """By type; processes that have ended no longer count."""
    rows = [x for x in mesh.metrics().splitlines() if "resources_sent_total{" in x]
    return {row.split()[0]: float(row.split()[1]) for row in rows}


@pytest.mark.envoy
@pytest.mark.live
@pytest.mark.timeout(110)
def test_proxies_of_a_killed_process_go_to_another_and_are_resent_nothing(mesh: LiveMesh) -> None:
    spread(mesh)
    first, second = workers(mesh)
    assert first["proxies"] + second["proxies"] == len(NAMES)
    assert mesh.apply(RULE % 1024)["acknowledged"]
    assert {ring_size(mesh, name) for name in NAMES} == {1024}
    dumps = {
        name: mesh.admin(name, "/config_dump?resource=dynamic_active_clusters") for name in NAMES
    }

    own = first_process_sent(mesh)
    os.kill(second["pid"], signal.SIGKILL)
    until(lambda: len(workers(mesh)) == 2 and second not in workers(mesh), "another replica")
    mesh.wait_connected(*NAMES)
    until(lambda: sum(worker["proxies"] for worker in workers(mesh)) == len(NAMES), "all proxies")
    # Whatever the first process and the new replica have sent since is what was resent.
    assert resources_sent(mesh) == own
    for name in NAMES:
        assert mesh.admin(name, "/config_dump?resource=dynamic_active_clusters") == dumps[name]

    assert mesh.apply(RULE % 2048)["acknowledged"]
    assert {ring_size(mesh, name) for name in NAMES} == {2048}


def first_process_sent(mesh: LiveMesh) -> dict[str, float]:
    text = mesh._http(METRICS_PORT, "/metrics?process=first")
    rows = [row for row in text.splitlines() if "resources_sent_total{" in row]
    return {row.split()[0]: float(row.split()[1]) for row in rows}


@pytest.mark.envoy
@pytest.mark.live
@pytest.mark.timeout(110)
def test_status_wait_quarantine_and_debugging_cover_all_processes(mesh: LiveMesh) -> None:
    spread(mesh)
    status = mesh.status()
    assert [item["name"] for item in status["proxies"]] == sorted(NAMES)
    assert {row["proxy"] for row in json.loads(mesh._http(METRICS_PORT, "/debug/syncz"))} == {
        f"{name}.default" for name in NAMES
    }
    for name in NAMES:
        assert json.loads(mesh._http(METRICS_PORT, f"/debug/config_dump?proxyID={name}.default"))
        config = mesh.api.request("GET", f"/lateen/v1/proxies/{name}.default/config?type=clusters")
        assert config["configs"]
    assert 'pilot_xds{version="1.40.0"} 4.0' in mesh.metrics()
    assert mesh._http(METRICS_PORT, "/metrics/proxies").count("lateen_proxy_in_sync{") == 4

    # Envoys of both processes refuse it; it is put back once, for all.
    assert mesh.apply(RULE % 1024)["acknowledged"]
    result = mesh.apply(RULE % 9_000_000, path="bad.yaml")
    assert not result["acknowledged"]
    assert [rejection["file"] for rejection in result["rejections"]] == ["bad.yaml"]
    [held] = mesh.status()["quarantined"]
    assert held["inForce"] is not None
    mesh.wait_connected(*NAMES)
    assert {ring_size(mesh, name) for name in NAMES} == {1024}
    assert mesh.apply(RULE % 2048)["acknowledged"]
    assert {ring_size(mesh, name) for name in NAMES} == {2048}


@pytest.mark.envoy
@pytest.mark.live
@pytest.mark.timeout(110)
def test_a_process_with_more_than_its_share_sheds_proxies(tmp_path: Path) -> None:
    with live_mesh(tmp_path, "--workers", "2", "--balance-interval", "1") as mesh:
        mesh.apply(SERVICE, wait=False)
        for name in NAMES:
            mesh.add_pod(name)
            mesh.start_envoy(name)
        mesh.wait_connected(*NAMES)
        for worker in workers(mesh)[1:]:
            os.kill(worker["pid"], signal.SIGKILL)
        until(lambda: len(workers(mesh)) == 2, "another replica")
        until(
            lambda: sorted(worker["proxies"] for worker in workers(mesh)) in ([1, 3], [2, 2]),
            "balance",
            timeout=40,
        )
        mesh.wait_connected(*NAMES)
        pids = [worker["pid"] for worker in workers(mesh)]
        assert mesh.stop_control_plane() == 0
        for pid in pids:
            until(lambda pid=pid: not alive(pid), "end of all processes")  # type: ignore[misc]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_proxies_are_missed_while_their_process_is_still_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of what a process says and its own end nobody else may speak for them."""
    proxy = "sidecar~127.0.0.1~one.default~default.svc.cluster.local"
    replicas: list[Worker] = []

    async def lingering(*arguments: Any, **options: Any) -> Worker:
        replica = await start(*arguments, **options)
        end_of_process = replica.process.wait

        async def late() -> int:
            await asyncio.sleep(3)
            return await end_of_process()

        monkeypatch.setattr(replica.process, "wait", late)
        replicas.append(replica)
        return replica

    monkeypatch.setattr(workers_module, "start", lingering)

    store = Store()
    plane = ControlPlane(ControlPlaneOptions(tmp_path), store, MeshGenerator())
    plane.snapshot, _ = snapshot_of(pod("one"))
    workers = workers_of(plane, lambda: 2, balance_interval=600)
    async with AsyncExitStack() as stack:
        stack.callback(store.close)
        stack.callback(plane.close)
        stack.callback(asyncio.ensure_future(workers.run()).cancel)
        stack.push_async_callback(workers.stop, 1.0)
        await workers.listen()
        [replica] = replicas
        replica.arrived(proxy)
        assert (await plane.everywhere.wait_for(0, 5)).acknowledged

        replica.process.kill()
        async with asyncio.timeout(5):
            while not replica.channel.closed:
                await asyncio.sleep(0.01)

        found = await plane.everywhere.wait_for(0, 0.2)
        assert plane.everywhere.proxies() == {proxy}
        assert [item.proxy for item in found.laggards] == ["one.default"]
        assert not found.acknowledged


def test_only_what_is_above_the_mean_is_shed_and_only_beyond_a_fifth() -> None:
    assert surpluses([500, 500]) == [0, 0]
    assert surpluses([590, 410]) == [0, 0]
    assert surpluses([700, 300]) == [200, 0]
    assert surpluses([1000, 0, 0, 0]) == [750, 0, 0, 0]
    assert surpluses([1, 0]) == [0, 0]


def test_nobody_is_shed_while_proxies_arrive() -> None:
    assert arriving(0, 300)
    assert arriving(300, 400)
    assert not arriving(1000, 1000)
    assert not arriving(1000, 1010)
    assert not arriving(1000, 500)
    assert not arriving(1, 2)


def test_proxies_that_lost_their_process_are_away_until_they_are_seen_or_too_long() -> None:
    now = 100.0
    moves = Moves(lambda: now)
    moves.left(["one", "two", "three"])
    assert (moves.departures, moves.away()) == (1, ["one", "three", "two"])

    moves.forget(["two", "somebody else"])
    now += EXPECTED_WITHIN / 2
    moves.left(["four"])
    assert moves.away() == ["four", "one", "three"]

    now += EXPECTED_WITHIN / 2
    assert moves.away() == ["four"]

    moves.left(["four", "five"])
    now += EXPECTED_WITHIN / 2
    moves.left(["five"])
    now += EXPECTED_WITHIN / 2
    assert moves.away() == ["five"]

    moves.left(["slow"], within=3 * EXPECTED_WITHIN)
    now += 2 * EXPECTED_WITHIN
    assert moves.away() == ["slow"]
    now += EXPECTED_WITHIN
    assert moves.away() == []


def test_who_was_connected_is_read_from_its_file_if_there_is_a_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "connected.json"
    assert connected_file.read(path) == []

    connected_file.write(path, {"two", "one"})
    assert connected_file.read(path) == ["one", "two"]
    assert path.stat().st_mode & 0o077 == 0
    assert not caplog.records

    path.write_text('{"not": "a list"}')
    assert connected_file.read(path) == []
    connected_file.write(tmp_path / "no folder" / "connected.json", [])
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_one_process_that_is_behind_is_enough_for_all_to_be() -> None:
    stuck = behind(["sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"], "does not answer")

    found = joined((Acknowledgement(True, 3), stuck))

    assert (found.acknowledged, found.proxies) == (False, 3)
    assert [(item.proxy, item.rejection) for item in found.laggards] == [
        ("web-1.shop", "does not answer")
    ]
