"""When changes are pushed while others keep coming."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from pathlib import Path

import pytest

from lateen.api.resource import ObjectKey
from lateen.model.change import ChangeSet
from lateen.serve.pending import PendingChanges
from lateen.serve.priority import URGENT_KINDS
from tests.serve.mesh import QUICK, config_map, pod, running_mesh
from tests.serve.simulated import SimulatedProxy


def change(kind: str, name: str = "a") -> ChangeSet:
    return ChangeSet(keys=frozenset({ObjectKey("", kind, "default", name)}))


def test_a_storm_is_merged_until_the_longest_wait() -> None:
    pending = PendingChanges(0.1, 10.0, 1.0)
    for step in range(200):
        pending.add(change("VirtualService", str(step)), step * 0.05)
    assert pending.due() == 10.0
    taken = pending.take()
    assert taken is not None
    assert len(taken.changes.keys) == 200
    assert pending.due() is None


def test_endpoints_and_policies_do_not_wait_for_a_storm() -> None:
    for kind in URGENT_KINDS:
        pending = PendingChanges(0.1, 10.0, 1.0)
        pending.add(change("VirtualService"), 0.0)
        pending.add(change(kind), 2.0)
        for step in range(40, 80):
            pending.add(change("VirtualService"), step * 0.05)
        assert pending.due() == 3.0
        pending.take()
        pending.add(change("VirtualService"), 4.0)
        assert pending.due() == pytest.approx(4.1)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_nothing_waits_longer_than_its_bound(seed: int) -> None:
    chance = random.Random(seed)
    pending = PendingChanges(0.1, 10.0, 1.0)
    now, waiting, pushed = 0.0, dict[str, tuple[float, float]](), set[str]()
    for number in range(500):
        now += chance.choice((0.01, 0.05, 0.09, 0.3))
        due = pending.due()
        if due is not None and due <= now:
            taken = pending.take()
            assert taken is not None
            names = {key.name for key in taken.changes.keys}
            assert names == waiting.keys()
            assert all(due <= since + bound for since, bound in waiting.values())
            pushed |= names
            waiting.clear()
        kind, bound = chance.choice((("Pod", 1.0), ("VirtualService", 10.0), ("Service", 10.0)))
        pending.add(change(kind, str(number)), now)
        waiting[str(number)] = now, bound
    assert pushed | waiting.keys() == {str(number) for number in range(500)}


async def test_pods_arrive_while_configuration_never_comes_to_rest(tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, debounce=0.5, debounce_max=600.0, debounce_urgent=0.05)
    resources = (pod("one"), config_map("a"))
    async with (
        running_mesh(tmp_path, *resources, options=options) as mesh,
        SimulatedProxy(mesh) as proxy,
    ):
        await proxy.ask()
        await proxy.ack(await proxy.read())

        async def storm() -> None:
            for number in itertools.count(1):
                mesh.change(config_map("a", timeout=str(number)))
                await asyncio.sleep(0.02)

        storming = asyncio.ensure_future(storm())
        try:
            for number in range(5):
                mesh.change(pod(f"new-{number}"))
                version = mesh.snapshot.version
                # Without the bound there would be no push at all as long as the storm lasts.
                await proxy.ack(await proxy.read(20))
                assert mesh.server.pushed_version >= version
        finally:
            storming.cancel()
