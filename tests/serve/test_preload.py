"""What replicas read for themselves, and processes that come when a mesh grows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from lateen.api.meshconfig import MeshConfig
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.model.change import Change
from lateen.model.snapshot import apply
from lateen.serve import feed
from lateen.serve.control_plane import ControlPlane, ControlPlaneOptions
from lateen.serve.generator import MeshGenerator
from lateen.serve.preload import open_preload, preload_of, read_preload
from lateen.source.embedded import EmbeddedSource
from lateen.source.store import Store, Write
from tests.serve.mesh import workers_of

WEB = ObjectKey("", "Service", "shop", "web")
API = ObjectKey("", "Service", "shop", "api")
OLD = ObjectKey("", "Service", "shop", "old")


def service(key: ObjectKey, port: int = 80) -> Write:
    raw = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {"ports": [{"port": port}]},
    }
    return Write(key, raw, Provenance(f"{key.name}.yaml", 0, 3))


def objects(resources: Iterable[Resource]) -> list[list[Any]]:
    """As values that can be compared."""
    return sorted(feed.encode_changes(Change(item.key, item) for item in resources))


def test_a_replica_reads_what_the_first_process_reads() -> None:
    store = Store()
    store.commit([service(WEB), service(API)], "test")

    preload = preload_of(MeshConfig(), store.all())
    found = read_preload(open_preload(preload))

    expected = [change.resource for change in EmbeddedSource(store).start().changes]
    assert {item.key for item in expected if item} == {WEB, API}
    assert objects(found.resources()) == objects(item for item in expected if item)
    assert preload.differences(found) == []


def test_only_what_the_first_process_sees_otherwise_is_told_later() -> None:
    store = Store()
    store.commit([service(WEB), service(API), service(OLD)], "test")
    preload = preload_of(MeshConfig(), store.all())
    replica = read_preload(open_preload(preload))

    # One is held back in an earlier form, one is left out, and one has come since.
    other = Store()
    other.commit([service(ObjectKey("", "Service", "shop", "new"))] * 9, "test")
    other.commit([service(WEB, 8080)], "test")
    changed = [Change(c.key, c.resource) for c in EmbeddedSource(other).start().changes]
    first, _ = apply(replica, [*changed, Change(OLD, None)])

    told = preload.differences(first)
    assert {change.key.name for change in told} == {"web", "new", "old"}
    assert objects(apply(replica, told)[0].resources()) == objects(first.resources())


async def test_a_process_is_added_when_the_mesh_has_grown(tmp_path: Path) -> None:
    store = Store()
    store.commit([service(WEB)], "test")
    plane = ControlPlane(ControlPlaneOptions(tmp_path), store, MeshGenerator())
    wanted = [1]
    workers = workers_of(plane, lambda: wanted[-1], balance_interval=0.1)
    await workers.prepare()
    plane.load()
    async with AsyncExitStack() as stack:
        stack.callback(store.close)
        stack.callback(plane.close)
        for work in (workers.run(), plane.run()):
            stack.callback(asyncio.ensure_future(work).cancel)
        stack.push_async_callback(workers.stop, 1.0)
        await workers.listen()
        assert not workers.serving()

        wanted.append(2)
        async with asyncio.timeout(30):
            while not workers.serving():
                await asyncio.sleep(0.05)
        assert plane.workers is workers
        [status] = await workers.statuses()
        assert (status["proxies"], status["scopes"]) == ([], 0)
        assert (await plane.everywhere.wait_for(plane.snapshot.version, 10.0)).acknowledged
