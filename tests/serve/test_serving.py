"""The server over real gRPC and mutual TLS, with simulated proxies."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import grpc
import grpc.aio
import pytest

from lateen.model.discovery import CLUSTER, ENDPOINT
from lateen.serve import waiting
from lateen.serve.push import PushOptions
from tests.serve.mesh import config_map, pod, running_mesh
from tests.serve.simulated import SimulatedProxy

NARROW = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
"""Flow control windows of a client that shall not take much ahead of its reader."""


async def refused(proxy: SimulatedProxy) -> grpc.StatusCode:
    await proxy.ask()
    with pytest.raises((grpc.aio.AioRpcError, EOFError)) as caught:
        await proxy.read()
    assert proxy._call is not None
    del caught
    return await proxy._call.code()


async def test_a_proxy_gets_its_configuration_and_only_what_changes_later(tmp_path: Path) -> None:
    async with (
        running_mesh(tmp_path, pod("one"), config_map("a"), config_map("b")) as mesh,
        SimulatedProxy(mesh) as proxy,
    ):
        await proxy.ask()
        first = await proxy.read()
        assert sorted(item.name for item in first.resources) == ["a", "b"]
        await proxy.ack(first)
        version = mesh.change(config_map("a", timeout="2000"))
        second = await proxy.read()
        assert [item.name for item in second.resources] == ["a"]
        waiting = asyncio.ensure_future(mesh.server.wait_for(version, 5))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await proxy.ack(second)
        result = await waiting
        assert result.acknowledged
        assert result.proxies == 1


async def test_a_certificate_of_another_workload_is_refused(tmp_path: Path) -> None:
    async with running_mesh(
        tmp_path, pod("one"), pod("two", account="admin"), config_map("a")
    ) as mesh:
        cases = {
            "another namespace": SimulatedProxy(mesh, identity=("other", "default")),
            "another account": SimulatedProxy(mesh, "two", identity=("default", "default")),
            "no such pod": SimulatedProxy(mesh, "three"),
            "another type": SimulatedProxy(mesh, kind="router"),
        }
        mesh.server.options = PushOptions(workload_wait=0.1)
        for case, proxy in cases.items():
            async with proxy:
                assert await refused(proxy) is grpc.StatusCode.PERMISSION_DENIED, case
        async with SimulatedProxy(mesh, kind="nonsense") as proxy:
            assert await refused(proxy) is grpc.StatusCode.INVALID_ARGUMENT


async def connect(proxy: SimulatedProxy) -> None:
    await proxy.ask()
    await proxy.read()


async def test_without_a_certificate_of_the_mesh_there_is_no_connection(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, pod("one")) as mesh:
        from lateen.pki.authority import load_or_create

        mine, mesh.authority = mesh.authority, load_or_create(tmp_path / "other")
        proxy = SimulatedProxy(mesh)
        mesh.authority = mine
        async with proxy:
            with pytest.raises(grpc.aio.AioRpcError):
                await connect(proxy)


async def test_a_pod_that_appears_a_moment_later_is_waited_for(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, config_map("a")) as mesh, SimulatedProxy(mesh) as proxy:
        await proxy.ask()
        await asyncio.sleep(0.2)
        mesh.change(pod("one"))
        assert len((await proxy.read()).resources) == 1


async def test_reconnect_is_resent_nothing_that_the_proxy_holds(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, pod("one"), config_map("a"), config_map("b")) as mesh:
        async with SimulatedProxy(mesh) as proxy:
            await proxy.ask()
            await proxy.ack(await proxy.read())
            held = dict(proxy.versions)
        mesh.change(config_map("b", timeout="5"))
        async with SimulatedProxy(mesh) as proxy:
            await asyncio.sleep(0.1)
            await proxy.ask(have=held)
            response = await proxy.read()
            assert [item.name for item in response.resources] == ["b"]
            await proxy.ack(response)
            assert await proxy.silent()


async def test_only_proxies_whose_scope_changes_are_sent_anything(tmp_path: Path) -> None:
    async with (
        running_mesh(
            tmp_path, pod("one"), pod("two", "other"), config_map("a"), config_map("a", "other")
        ) as mesh,
        SimulatedProxy(mesh) as one,
        SimulatedProxy(mesh, "two", "other") as two,
    ):
        for proxy in (one, two):
            await proxy.ask()
            await proxy.ack(await proxy.read())
        version = mesh.change(config_map("a", "other", timeout="7"))
        await two.ack(await two.read())
        assert (await mesh.server.wait_for(version, 5)).acknowledged
        assert await one.silent()


async def test_one_translation_and_one_encoding_serve_all_proxies_of_a_scope(
    tmp_path: Path,
) -> None:
    names = [f"p{index}" for index in range(10)]
    async with running_mesh(tmp_path, *map(pod, names), config_map("a")) as mesh:
        proxies = [SimulatedProxy(mesh, name) for name in names]
        for proxy in proxies:
            await proxy.__aenter__()
            await proxy.ask()
            await proxy.ack(await proxy.read())
        before = mesh.generator.generated
        encoded = mesh.server.metrics.messages_encoded.labels("cds")._value.get()
        mesh.change(config_map("a", timeout="2"))
        for proxy in proxies:
            await proxy.ack(await proxy.read())
        assert mesh.generator.generated - before == 1
        assert mesh.server.metrics.messages_encoded.labels("cds")._value.get() - encoded == 1
        for proxy in proxies:
            await proxy.__aexit__(None, None, None)


async def test_a_rejection_is_reported_with_its_resources_and_the_last_good_state(
    tmp_path: Path,
) -> None:
    async with (
        running_mesh(tmp_path, pod("one"), config_map("a"), config_map("b")) as mesh,
        SimulatedProxy(mesh) as proxy,
    ):
        await proxy.ask()
        await proxy.ack(await proxy.read())
        await asyncio.sleep(0.05)
        good = mesh.snapshot
        version = mesh.change(config_map("a", bad="yes"), config_map("b", timeout="3"))
        await proxy.nack(await proxy.read(), "a: no good")
        result = await mesh.server.wait_for(version, 0.5)
        assert not result.acknowledged
        [laggard] = result.laggards
        assert (laggard.proxy, laggard.rejection) == ("one.default", "a: no good")
        [rejected] = mesh.rejections
        assert sorted(item.name for item in rejected.resources) == ["a", "b"]
        assert rejected.good is good


async def test_a_proxy_that_does_not_read_delays_no_other(tmp_path: Path) -> None:
    big = [config_map(f"c{index}", padding="100000") for index in range(100)]
    async with (
        running_mesh(tmp_path, pod("one"), pod("slow"), *big) as mesh,
        SimulatedProxy(mesh) as one,
        SimulatedProxy(mesh, "slow", options=NARROW) as slow,
    ):
        await slow.ask()
        await one.ask()
        await one.ack(await one.read(20))
        for number in range(5):
            mesh.change(config_map("c0", timeout=str(number + 5)))
            response = await one.read()
            assert [item.name for item in response.resources] == ["c0"]
            await one.ack(response)
        result = await mesh.server.wait_for(mesh.snapshot.version, 0.3)
        assert [laggard.proxy for laggard in result.laggards] == ["slow.default"]
        # It reads again: what it was being sent, then straight the newest state.
        await slow.ack(await slow.read(20))
        response = await slow.read()
        assert [item.name for item in response.resources] == ["c0"]
        await slow.ack(response)
        assert (await mesh.server.wait_for(mesh.snapshot.version, 5)).acknowledged


async def _silent(proxy: SimulatedProxy) -> None:
    """Asks for its configuration and acknowledges nothing."""
    await proxy.ask()


async def _refuses_all(proxy: SimulatedProxy) -> None:
    await proxy.ask()
    while True:
        await proxy.nack(await proxy.read(60), "I like nothing")


async def _busy_with_another_type(proxy: SimulatedProxy) -> None:
    """Acknowledges endpoints without end, and never clusters."""
    await proxy.ask()
    await proxy.read()
    for number in itertools.count():
        await proxy.ask(ENDPOINT, names=(f"e{number}",))
        response = await proxy.read(60)
        if response.type_url == ENDPOINT:
            await proxy.ack(response)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("behave", [_silent, _refuses_all, _busy_with_another_type])
async def test_a_proxy_that_never_acknowledges_delays_nobody(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    behave: Callable[[SimulatedProxy], Coroutine[None, None, None]],
) -> None:
    monkeypatch.setattr(waiting, "UNRESPONSIVE_AFTER", 1.5)
    async with (
        running_mesh(tmp_path, pod("one"), pod("odd"), config_map("a")) as mesh,
        SimulatedProxy(mesh) as one,
        SimulatedProxy(mesh, "odd") as odd,
    ):
        odd_one = asyncio.create_task(behave(odd))
        await one.ask()
        await one.ack(await one.read())
        version = mesh.change(config_map("a", timeout="7"))
        waited = asyncio.create_task(mesh.server.wait_for(version, 30))
        await one.ack(await one.read())
        begun = time.monotonic()
        result = await waited
        # It is named within the time that it has, and at once when that is over already.
        assert time.monotonic() - begun < 4
        assert not result.acknowledged
        assert [item.proxy for item in result.laggards] == ["odd.default"]
        version = mesh.change(config_map("a", timeout="8"))
        waited = asyncio.create_task(mesh.server.wait_for(version, 30))
        await one.ack(await one.read())
        begun = time.monotonic()
        [found] = (await waited).laggards
        assert time.monotonic() - begun < 1
        assert found.proxy == "odd.default"
        assert "cds" in found.types
        assert found.unsettled >= 1.5
        odd_one.cancel()


async def test_a_proxy_that_never_reads_is_reported_and_costs_one_message(tmp_path: Path) -> None:
    big = [config_map(f"c{index}", padding="100000") for index in range(100)]
    options = PushOptions(debounce=0.01, write_timeout=0.2)
    async with (
        running_mesh(tmp_path, pod("slow"), *big, options=options) as mesh,
        SimulatedProxy(mesh, "slow", options=NARROW) as slow,
    ):
        await slow.ask()
        for number in range(20):
            await asyncio.sleep(0.05)
            mesh.change(config_map("c0", timeout=str(number + 5)))
        [connection] = mesh.server.connections
        assert connection.slow
        assert connection.record(CLUSTER).responses == 1


async def test_a_burst_of_changes_is_merged_into_one_push(tmp_path: Path) -> None:
    options = PushOptions(debounce=0.1)
    async with (
        running_mesh(tmp_path, pod("one"), config_map("a"), options=options) as mesh,
        SimulatedProxy(mesh) as proxy,
    ):
        await proxy.ask()
        await proxy.ack(await proxy.read())
        await asyncio.sleep(0.2)
        before = mesh.generator.generated
        for number in range(20):
            mesh.change(config_map("a", timeout=str(number + 1)))
            await asyncio.sleep(0.005)
        response = await proxy.read()
        await proxy.ack(response)
        assert (await mesh.server.wait_for(mesh.snapshot.version, 5)).acknowledged
        assert mesh.generator.generated - before == 1
        assert await proxy.silent()


async def test_connecting_proxies_take_turns(tmp_path: Path) -> None:
    options = PushOptions(connecting=1, connecting_limit=1.0)
    async with (
        running_mesh(tmp_path, pod("one"), pod("two"), config_map("a"), options=options) as mesh,
        SimulatedProxy(mesh) as one,
        SimulatedProxy(mesh, "two") as two,
    ):
        await one.ask()
        await one.read()
        await two.ask()
        assert mesh.server.metrics.waiting._value.get() <= 1
        # The first never completes; its turn ends by time.
        assert (await two.read(5)).type_url == CLUSTER
