"""What one pod may take of the control plane's places, and how long a connection lasts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from lateen.model.discovery import CLUSTER, ROUTE, ResourceSet
from lateen.model.proxy import Scope
from lateen.model.snapshot import Snapshot
from lateen.serve.http2_limits import Limits
from lateen.serve.metrics import Metrics
from tests.serve.mesh import QUICK, PlainGenerator, config_map, pod, running_mesh
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


async def ended(proxy: SimulatedProxy) -> None:
    """Read until the server ends the stream."""
    try:
        while True:
            await proxy.read()
    except (grpc.aio.AioRpcError, EOFError):
        return


async def test_made_up_names_are_bounded_and_their_memory_comes_back(tmp_path: Path) -> None:
    resources = (pod("one"), pod("two"), config_map("a"))
    async with (
        running_mesh(tmp_path, *resources) as mesh,
        SimulatedProxy(mesh, "one") as greedy,
        SimulatedProxy(mesh, "two") as other,
    ):
        held = mesh.server.asked.shares
        await greedy.ask()
        await greedy.ack(await greedy.read())
        with contextlib.suppress(grpc.aio.AioRpcError):
            for piece in range(4):
                names = tuple(f"made-up-{piece}-{number}" + "x" * 1000 for number in range(3000))
                await greedy.ask(ROUTE, names=names)
        await ended(greedy)
        assert held.refused == 1
        await other.ask()
        assert (await other.read()).resources
        assert held.total == 0


async def test_claims_of_made_up_resources_are_bounded(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, pod("one"), config_map("a")) as mesh:
        held = mesh.server.asked.shares
        async with SimulatedProxy(mesh, "one") as first, SimulatedProxy(mesh, "one") as second:
            for letter, proxy in (("x", first), ("y", second)):
                claims = {f"made-up-{number}" + letter * 1000: "1" for number in range(3900)}
                await proxy.ask(have=claims)
                if proxy is first:
                    await proxy.read()
            await ended(second)
            assert held.refused == 1
        async with asyncio.timeout(5.0):
            while held.total:
                await asyncio.sleep(0.01)


async def test_a_node_keeps_little(tmp_path: Path) -> None:
    async with (
        running_mesh(tmp_path, pod("one"), config_map("a")) as mesh,
        SimulatedProxy(mesh, "one") as proxy,
    ):
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER)
        request.node.id = proxy.node_id
        request.node.metadata["LABELS"] = "x" * 70_000
        assert proxy._call is not None
        await proxy._call.write(request.SerializeToString())
        await ended(proxy)
        assert await proxy._call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "65536 bytes" in await proxy._call.details()


async def test_made_up_envoy_versions_make_no_series_each() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.connected_of(f"1.{number}.0").inc()
    text = metrics.render().decode()
    assert text.count("pilot_xds{") == 33
    assert 'pilot_xds{version="other"} 68.0' in text


async def test_a_defect_that_a_scope_meets_leaves_nothing_of_its_streams(tmp_path: Path) -> None:
    class Broken(PlainGenerator):
        def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
            raise ZeroDivisionError

    async with running_mesh(tmp_path, pod("one"), config_map("a")) as mesh:
        mesh.server._targets._generator = Broken()
        for _ in range(3):
            async with SimulatedProxy(mesh, "one") as proxy:
                await proxy.ask()
                await ended(proxy)
        assert not mesh.server.connections
        assert mesh.server.metrics.connected_of("")._value.get() == 0
