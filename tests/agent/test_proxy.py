"""The supervisor with a real Envoy."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lateen.agent import envoy_admin
from lateen.agent.envoy_admin import Load, load_of
from lateen.agent.http import HttpError, fetch
from lateen.agent.proxy import ProxySupervisor, exit_text, restart_delay
from tests.agent.envoys import Pod

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(60)]


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    made = Pod(tmp_path)
    made.write_bootstrap()
    yield made
    await made.clean_up()


def supervisor(pod: Pod, changes: list[tuple[bool, int, str]] | None = None) -> ProxySupervisor:
    def changed() -> None:
        if changes is not None:
            changes.append((proxy.ready, proxy.restarts, proxy.last_exit))

    proxy = ProxySupervisor(
        pod.start,
        pod.connect,
        bootstrap_path=str(pod.bootstrap),
        environment={"PATH": os.environ["PATH"]},
        concurrency=1,
        on_change=changed,
        drain_seconds=5.0,
    )
    return proxy


async def until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_start_ready_stop(pod: Pod) -> None:
    changes: list[tuple[bool, int, str]] = []
    proxy = supervisor(pod, changes)
    await proxy.start()
    assert await proxy.wait_ready(20)
    assert changes == [(True, 0, "")]
    assert proxy.started_at
    pids = [proxy.pid]
    await proxy.stop(grace=5)
    pids.append(proxy.pid)
    assert pids == [pod.started[0].pid, None]
    assert (proxy.ready, proxy.restarts, proxy.last_exit) == (False, 0, "exit code 0")
    with pytest.raises(HttpError):
        await fetch(pod.connect, 15000, "GET", "/ready", timeout=1)


async def test_an_envoy_killed_by_hand_comes_back(pod: Pod) -> None:
    proxy = supervisor(pod)
    await proxy.start()
    assert await proxy.wait_ready(20)
    pod.fail_starts = 1  # and the first attempt to start it again fails
    os.kill(pod.started[0].pid, signal.SIGKILL)
    await until(lambda: proxy.restarts == 1)
    assert await proxy.wait_ready(20)
    assert proxy.pid == pod.started[1].pid
    await proxy.stop()


async def test_why_it_ended_is_told(pod: Pod) -> None:
    proxy = supervisor(pod)
    await proxy.start()
    assert await proxy.wait_ready(20)
    os.kill(pod.started[0].pid, signal.SIGKILL)
    await until(lambda: proxy.last_exit)
    assert proxy.last_exit == "killed by SIGKILL"
    assert await proxy.wait_ready(20)
    await proxy.stop()


async def test_a_bootstrap_that_envoy_refuses(pod: Pod) -> None:
    pod.bootstrap.write_text("{}{")
    proxy = supervisor(pod)
    await proxy.start()
    assert not await proxy.wait_ready(2.0)
    assert proxy.last_exit == "exit code 1"
    assert 1 <= proxy.restarts <= 4  # at once, then with growing delays
    await proxy.stop()


async def test_draining_lets_a_request_finish(pod: Pod) -> None:
    release = asyncio.Event()

    async def application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(application, "127.0.0.1", pod.ports[8080])
    proxy = supervisor(pod)
    await proxy.start()
    assert await proxy.wait_ready(20)
    request = asyncio.create_task(fetch(pod.connect, 15006, "GET", "/", timeout=20))
    await until(lambda: server.sockets)
    await asyncio.sleep(0.3)
    drain = asyncio.create_task(proxy.drain(15))
    await asyncio.sleep(0.5)
    assert not proxy.ready
    load = await envoy_admin.load(pod.connect, 15000)
    assert load is not None
    assert load.requests == 1
    assert not drain.done()
    release.set()
    reply = await request
    assert (reply.status, reply.body) == (200, b"ok")
    assert reply.headers["connection"] == "close"
    await drain
    await proxy.stop()
    server.close()


async def test_stop_while_it_waits_for_a_restart(pod: Pod) -> None:
    proxy = supervisor(pod)
    await proxy.start()
    assert await proxy.wait_ready(20)
    pod.fail_starts = 100
    os.kill(pod.started[0].pid, signal.SIGKILL)
    await until(lambda: proxy.last_exit.startswith("could not be started"))
    await proxy.stop()
    assert proxy.pid is None


def test_delays_and_texts() -> None:
    assert [restart_delay(n) for n in range(5)] == [0, 0, 0.25, 0.5, 1.0]
    assert restart_delay(100) == 30.0
    assert exit_text(137) == exit_text(-9) == "killed by SIGKILL"
    assert exit_text(0) == "exit code 0"
    assert exit_text(255) == "exit code 255"


def test_load_of_a_sidecar_counts_inbound_only() -> None:
    stats = "\n".join(
        [
            "http.admin.downstream_rq_active: 1",
            "http.agent.downstream_rq_active: 1",
            "http.inbound_0.0.0.0_9080.downstream_rq_active: 2",
            "http.outbound_0.0.0.0_9080.downstream_rq_active: 7",
            "listener.0.0.0.0_15001.downstream_cx_active: 9",
            "listener.0.0.0.0_15006.downstream_cx_active: 4",
            "listener.0.0.0.0_15006.worker_0.downstream_cx_active: 4",
            "listener.0.0.0.0_15021.downstream_cx_active: 1",
            "tcp.inbound|3306||.downstream_cx_active: 3",
            "tcp.outbound|27017||mongo.downstream_cx_active: 1",
        ]
    )
    assert load_of(stats) == Load(connections=4, requests=2, streams=3)


def test_load_of_a_gateway_counts_everything() -> None:
    stats = (
        "http.outbound_0.0.0.0_8080.downstream_rq_active: 7\n"
        "listener.0.0.0.0_8080.downstream_cx_active: 9\n"
        "listener.admin.downstream_cx_active: 1\n"
    )
    assert load_of(stats) == Load(connections=9, requests=7, streams=0)
    assert load_of("http.x.downstream_cx_active: 1") is None
