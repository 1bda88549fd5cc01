"""What it costs when one of several processes dies, until everything is as before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from benchmarks.scale.fleet import Report
from benchmarks.scale.plane import Process
from benchmarks.scale.scenarios import Bench, Meter, Result, connect_all
from lateen.serve.workers import surpluses

_POLL = 0.25


def worker_loss(bench: Bench) -> Result:
    """The process with the most proxies is killed; they go to the others, it is started again, and
    gets its share back. Acknowledged means complete at another process.

    ``extra`` has how many proxies moved when it died (``moved``) and when it was back
    (``moved_back``), and when it served again and all had their share (``back_ms``,
    ``balanced_ms``, from its death). Nothing may be sent again: ``resources_sent`` must be 0.
    """
    connect_all(bench)
    fleet = bench.fleet
    fleet.settle(bench.quiet, 30)
    before = bench.plane.processes()
    if len(before) < 2:
        raise SystemExit(
            "this scenario needs a server of several processes: "
            "--server-option=--workers --server-option=3"
        )
    killed = max(before[1:], key=lambda process: process.proxies)
    meter = Meter(bench)
    fleet.mark()
    meter.start()
    begun = time.monotonic()
    bench.plane.kill(killed.pid)
    report = fleet.wait(
        lambda found: found.connected == fleet.size and _since(found, begun) >= killed.proxies,
        bench.limit,
    )
    moved, settled = [at for at in report.complete_at if at > begun], time.monotonic()
    meter.extra["moved"] = len(moved)
    for name, condition in (
        ("back_ms", lambda now: len(now) == len(before) and killed.pid not in _pids(now)),
        ("balanced_ms", lambda now: _balanced([process.proxies for process in now], fleet.size)),
    ):
        _wait(bench, condition)
        meter.extra[name] = round((time.monotonic() - begun) * 1000, 1)
    fleet.settle(bench.quiet, 30)
    report = fleet.wait(lambda found: found.connected == fleet.size, bench.limit)
    meter.extra["moved_back"] = _since(report, settled)
    # Connections that end are what this is about.
    report.errors.clear()
    if report.connected < fleet.size:
        meter.errors.append(f"{report.connected} of {fleet.size} proxies came back")
    meter.add(begun, moved, report)
    # What the killed process had counted is gone.
    return replace(meter.result("worker-loss"), translations=None, encodings=None)


def _since(report: Report, begun: float) -> int:
    """How many proxies have connected anew and are complete again."""
    return sum(at > begun for at in report.complete_at)


def _balanced(counts: list[int], size: int) -> bool:
    return sum(counts) == size and not any(surpluses(counts))


def _pids(processes: list[Process]) -> set[int]:
    return {process.pid for process in processes}


def _wait(bench: Bench, condition: Callable[[list[Process]], bool]) -> None:
    deadline = time.monotonic() + bench.limit
    while not condition(bench.plane.processes()):
        if time.monotonic() > deadline:
            raise SystemExit(f"the processes are not back: {bench.plane.processes()}")
        time.sleep(_POLL)
