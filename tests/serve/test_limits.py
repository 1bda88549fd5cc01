"""What one pod may take of the control plane's places, and how long a connection lasts."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import grpc
import grpc.aio
import pytest

from lateen.serve.http2_limits import Limits
from tests.serve.mesh import QUICK, config_map, pod, running_mesh
from tests.serve.simulated import SimulatedProxy


async def test_a_pod_has_a_limited_number_of_streams(tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, streams_per_proxy=2)
    pods = (pod("one"), pod("two"))
    async with running_mesh(tmp_path, *pods, config_map("a"), options=options) as mesh:
        first, second, third = (SimulatedProxy(mesh, "one") for _ in range(3))
        async with first, second, third, SimulatedProxy(mesh, "two") as other:
            for proxy in (first, second, other):
                await proxy.ask()
                await proxy.ack(await proxy.read())
            await third.ask()
            with pytest.raises((grpc.aio.AioRpcError, EOFError)):
                await third.read()
            assert third._call is not None
            assert await third._call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert mesh.server.metrics.too_many_streams._value.get() == 1
        async with SimulatedProxy(mesh, "one") as again:
            await asyncio.sleep(0.1)
            await again.ask()
            assert (await again.read()).resources


async def test_made_up_workloads_take_nobodys_turn(tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, connecting=1, workload_wait=30.0)
    async with (
        running_mesh(tmp_path, pod("one"), config_map("a"), options=options) as mesh,
        SimulatedProxy(mesh, "made-up") as liar,
        SimulatedProxy(mesh, "one") as one,
    ):
        await liar.ask()
        await asyncio.sleep(0.1)
        await one.ask()
        assert (await one.read()).resources


async def test_a_connection_that_is_old_ends_and_its_proxy_is_resent_nothing(
    tmp_path: Path,
) -> None:
    limits = Limits(connection_age=0.4, keepalive_time=0.2)
    resources = (pod("one"), config_map("a"))
    async with running_mesh(tmp_path, *resources, limits=limits) as mesh:
        async with SimulatedProxy(mesh) as proxy:
            await proxy.ask()
            await proxy.ack(await proxy.read())
            with pytest.raises((grpc.aio.AioRpcError, EOFError)):
                await proxy.read()
            assert proxy._call is not None
            assert await proxy._call.code() is grpc.StatusCode.UNAVAILABLE
        async with SimulatedProxy(mesh) as again:
            await again.ask(have=proxy.versions)
            assert not (await again.read()).resources
