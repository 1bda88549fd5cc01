"""Containers restart, stop and are killed as their policy says."""

from __future__ import annotations

import asyncio
import signal

import pytest

from lateen.runtime import container_worker
from lateen.runtime.container_worker import ContainerWorker


class FakeProcess:
    """A process that ends when the test or a signal says so."""

    pid = 1

    def __init__(self, deaf: bool = False) -> None:
        self.signals: list[int] = []
        self._deaf = deaf
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """Exit status."""
        return await self._end

    async def signal(self, number: int) -> None:
        """SIGTERM may be ignored, SIGKILL not."""
        self.signals.append(number)
        if number == signal.SIGKILL or not self._deaf:
            self.end(-number)

    def end(self, status: int) -> None:
        """End now."""
        if not self._end.done():
            self._end.set_result(status)


class Bench:
    """A worker whose processes the test holds."""

    def __init__(self, policy: str = "Always", deaf: bool = False, grace: float = 30.0) -> None:
        self.processes: list[FakeProcess] = []
        self.deaf = deaf

        async def start() -> FakeProcess:
            self.processes.append(FakeProcess(self.deaf))
            return self.processes[-1]

        self.worker = ContainerWorker(
            {"name": "app"},
            start_process=start,
            execute=lambda _argv: asyncio.sleep(0, 0),
            connect=lambda _port: asyncio.open_connection(),
            on_change=lambda: None,
            restart_policy=policy,
            grace=grace,
        )
        self.run = asyncio.create_task(self.worker.run())

    async def process(self, count: int) -> FakeProcess:
        """The ``count``-th process, once it is there."""
        async with asyncio.timeout(5):
            while len(self.processes) < count or not self.worker.running:
                await asyncio.sleep(0.001)
        return self.processes[count - 1]


@pytest.mark.parametrize(
    ("policy", "status", "restarts"),
    [("Always", 0, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
async def test_restart_policies(policy: str, status: int, restarts: bool) -> None:
    bench = Bench(policy)
    (await bench.process(1)).end(status)
    if restarts:
        await bench.process(2)
        assert bench.worker.last_state["terminated"]["exitCode"] == status
        bench.run.cancel()
    else:
        assert await bench.run == status


async def test_a_container_that_waits_to_start_again_does_not_after_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(container_worker, "FIRST_BACKOFF", 0.05)
    bench = Bench()
    (await bench.process(1)).end(1)
    (await bench.process(2)).end(1)
    await asyncio.sleep(0.01)
    assert bench.worker.state["waiting"]["reason"] == "CrashLoopBackOff"
    await bench.worker.stop(1.0)
    await asyncio.wait_for(bench.run, 5)
    assert len(bench.processes) == 2


async def test_stop_asks_first_and_kills_after_the_grace() -> None:
    bench = Bench(deaf=True)
    process = await bench.process(1)
    await bench.worker.stop(0.05)
    assert process.signals == [signal.SIGTERM, signal.SIGKILL]
    await asyncio.wait_for(bench.run, 5)


async def test_a_failed_probe_kills_only_the_process_it_was_about() -> None:
    bench = Bench(grace=0.05)
    first = await bench.process(1)
    await bench.worker.kill("liveness failed")
    second = await bench.process(2)
    await asyncio.sleep(0.1)
    assert first.signals == [signal.SIGTERM]
    assert second.signals == []
    assert bench.worker.last_state["terminated"]["message"] == "liveness failed"
    bench.run.cancel()
