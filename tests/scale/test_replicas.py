"""A server of several processes and many proxies that move between them: nothing is sent twice.

Counts only, with a real control plane and real streams; no bound is on time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.scale.fleet import Fleet, Report
from benchmarks.scale.mesh import Size, cluster_of, virtual_service
from benchmarks.scale.plane import LateenPlane, proxy_specs
from benchmarks.scale.processes import process_tree, tree_cpu, tree_rss_mb
from benchmarks.scale.scenarios import Bench, connect_all
from benchmarks.scale.wire import ENDPOINT
from benchmarks.scale.worker_loss import worker_loss
from lateen.serve import connected_file
from lateen.serve.workers import surpluses
from lateen.source.store import Store, Write
from tests.serve.live import until

SIZE = Size(services=20, endpoints=3, proxies=45, namespaces=3)
CLUSTER = cluster_of(SIZE, 0)
WORKERS = 3

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LateenPlane]:
    options = ("--debounce", "0.05", "--workers", str(WORKERS), "--balance-interval", "1")
    plane = LateenPlane(tmp_path_factory.mktemp("replicas"), SIZE, options=options)
    yield plane
    plane.close()


@pytest.fixture(scope="module")
def bench(plane: LateenPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    specs = proxy_specs(SIZE, tmp_path_factory.mktemp("certificates"), plane.authority)
    fleet = Fleet(specs, plane.place, delta=True, workers=1)
    bench = Bench(SIZE, plane, fleet, "delta", 1, debounce=0.05, duration=3.0, limit=60.0)
    connect_all(bench)
    yield bench
    fleet.close()


def test_a_process_that_dies_costs_connections_and_no_resources(bench: Bench) -> None:
    result = worker_loss(bench)

    assert result.errors == ()
    assert result.extra["moved"] > 0
    assert result.resources_sent == 0
    assert len(bench.plane.processes()) == WORKERS
    assert sum(process.proxies for process in bench.plane.processes()) == SIZE.proxies


def test_a_change_meanwhile_reaches_every_proxy_once(bench: Bench) -> None:
    settled(bench)
    [before] = bench.fleet.versions(ENDPOINT, CLUSTER)
    bench.fleet.mark()

    bench.plane.kill(busiest(bench))
    bench.move_pod(0, 1, 1)
    bench.fleet.wait(lambda _: before not in bench.fleet.versions(ENDPOINT, CLUSTER), bench.limit)
    report = settled(bench)

    [(after, holders)] = bench.fleet.versions(ENDPOINT, CLUSTER).items()
    assert (after != before, holders) == (True, SIZE.proxies)
    assert report.totals.resources == SIZE.proxies


def test_who_waits_for_a_change_waits_for_proxies_that_lost_their_process(
    bench: Bench, plane: LateenPlane
) -> None:
    settled(bench)
    assert plane.wait(30)["acknowledged"]
    held = bench.fleet.versions(ENDPOINT, CLUSTER)

    plane.kill(busiest(bench))
    bench.move_pod(0, 1, 2)
    found = plane.wait(60)

    assert (found["acknowledged"], found["proxies"], found["laggards"]) == (True, SIZE.proxies, [])
    assert not bench.fleet.versions(ENDPOINT, CLUSTER) & held


def test_a_process_that_does_not_answer_has_acknowledged_nothing(
    bench: Bench, plane: LateenPlane
) -> None:
    settled(bench)
    stuck = busiest(bench)
    assert plane.wait(30)["acknowledged"]

    os.kill(stuck, signal.SIGSTOP)
    try:
        plane.apply([virtual_service(SIZE, 0, 7)])
        found = plane.wait(1)
    finally:
        os.kill(stuck, signal.SIGCONT)

    assert found["laggards"]
    assert not found["acknowledged"]
    assert all("does not answer" in item["rejection"] for item in found["laggards"])
    assert plane.wait(60)["acknowledged"]


def test_who_waits_waits_for_proxies_that_are_on_the_way_to_another_process(
    bench: Bench, plane: LateenPlane
) -> None:
    settled(bench)
    bench.fleet.mark()
    plane.kill(busiest(bench))

    moved: set[int] = set()
    bench.fleet.wait(lambda _: len(bench.plane.processes()) == WORKERS, bench.limit)
    while any(surpluses([process.proxies for process in plane.processes()])) or not moved:
        moved.add(plane.wait(30)["proxies"])

    assert moved == {SIZE.proxies}
    assert settled(bench).ended > 0


def test_who_waits_waits_for_proxies_whose_connection_has_reached_its_age(tmp_path: Path) -> None:
    with (
        contextlib.closing(
            LateenPlane(tmp_path, SIZE, options=("--max-connection-age", "3"))
        ) as plane,
        contextlib.closing(
            Fleet(proxy_specs(SIZE, tmp_path, plane.authority), plane.place, delta=True, workers=1)
        ) as fleet,
    ):
        connect_all(Bench(SIZE, plane, fleet, "delta", 1, debounce=0.1, duration=3.0, limit=60.0))
        fleet.mark()
        seen: set[int] = set()
        while fleet.report().ended < SIZE.proxies:
            seen.add(plane.wait(30)["proxies"])

    assert seen == {SIZE.proxies}


def test_who_waits_after_a_restart_waits_for_those_that_were_connected(tmp_path: Path) -> None:
    with (
        contextlib.closing(LateenPlane(tmp_path, SIZE)) as plane,
        contextlib.closing(
            Fleet(proxy_specs(SIZE, tmp_path, plane.authority), plane.place, delta=True, workers=1)
        ) as fleet,
    ):
        connect_all(Bench(SIZE, plane, fleet, "delta", 1, debounce=0.1, duration=3.0, limit=60.0))
        until(lambda: len(connected_file.read(plane.connected)) == SIZE.proxies, "the file has all")
        plane.restart()

        found = plane.wait(60)

        assert (found["acknowledged"], found["proxies"]) == (True, SIZE.proxies)
        assert len(connected_file.read(plane.connected)) == SIZE.proxies


def test_all_processes_are_measured(plane: LateenPlane) -> None:
    [first, *others] = [process.pid for process in plane.processes()]

    assert set(process_tree(first)) >= {first, *others}
    assert tree_cpu(first) > sum(tree_cpu(pid) for pid in others) > 0
    alone = [tree_rss_mb(pid) for pid in others]
    assert max(alone) < tree_rss_mb(first) < tree_rss_mb(first) + sum(alone)


def test_streams_end_with_a_status_and_another_store_with_the_same_objects_sends_nothing(
    bench: Bench, plane: LateenPlane
) -> None:
    settled(bench)
    bench.fleet.mark()

    plane.stop(signal.SIGTERM)
    write_anew(plane.store)
    plane.start()
    report = settled(bench)

    assert report.cut == 0
    assert report.ended > 0
    assert report.totals.resources == 0


def write_anew(path: Path) -> None:
    """Have a store come to its objects by another history: other order, other revisions."""
    before = Store(path)
    written = [Write(stored.key, stored.raw) for stored in before.all()]
    before.close()
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    random.Random(1).shuffle(written)
    after = Store(path)
    after.commit(written[::3], "detour")
    after.commit([Write(write.key, None) for write in written[::6]], "detour")
    after.commit(written, "again")
    assert after.revision != before.revision
    after.close()


def busiest(bench: Bench) -> int:
    """The process, not the first one, that has the most proxies."""
    return max(bench.plane.processes()[1:], key=lambda process: process.proxies).pid


def settled(bench: Bench) -> Report:
    """Wait until all processes are there and all proxies connected, and none is to move."""

    def spread() -> bool:
        counts = [process.proxies for process in bench.plane.processes()]
        connected = bench.fleet.report().connected
        whole = len(counts) == WORKERS and sum(counts) == connected == SIZE.proxies
        return whole and not any(surpluses(counts))

    until(spread, "proxies are spread", bench.limit)
    return bench.fleet.settle(0.5, 30)
