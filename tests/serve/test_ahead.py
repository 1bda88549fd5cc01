"""What proxies that were connected will ask for is made before a control plane serves again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lateen.api.resource import ObjectKey, Provenance
from lateen.model.proxy import Proxy, Scope
from lateen.model.snapshot import Snapshot
from lateen.serve import connected_file
from lateen.serve.control_plane import ControlPlane, ControlPlaneOptions
from lateen.serve.generator import MeshGenerator
from lateen.serve.push import DiscoveryServer
from lateen.source.store import Store, Write
from tests.serve.mesh import PlainGenerator, config_map, pod, raw_pod, running_mesh, snapshot_of
from tests.serve.simulated import SimulatedProxy

LIMIT = 60.0


def node_id(name: str, namespace: str = "default") -> str:
    return f"sidecar~127.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local"


async def test_a_proxy_that_was_expected_waits_for_no_translation(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, pod("one"), config_map("a")) as mesh:
        assert mesh.server.translate_ahead([node_id("one")], LIMIT) == 1
        assert mesh.generator.generated == 1
        async with SimulatedProxy(mesh) as proxy:
            await proxy.ask()
            assert [item.name for item in (await proxy.read()).resources] == ["a"]
            assert mesh.generator.generated == 1
            mesh.server.forget_unused()
            assert len(mesh.server.scopes) == 1


async def test_what_was_made_ahead_follows_changes_until_somebody_has_it(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, pod("one"), config_map("a")) as mesh:
        mesh.server.translate_ahead([node_id("one")], LIMIT)
        version = mesh.change(config_map("a", timeout="2000"), config_map("b"))
        assert (await mesh.server.wait_for(version, 5)).acknowledged
        async with SimulatedProxy(mesh) as proxy:
            await proxy.ask()
            first = await proxy.read()
            assert sorted(item.name for item in first.resources) == ["a", "b"]
            await proxy.ack(first)
            assert await proxy.silent()


async def test_what_nobody_came_for_is_forgotten(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, pod("one"), pod("two", "other")) as mesh:
        assert mesh.server.translate_ahead([node_id("one"), node_id("two", "other")], LIMIT) == 2
        assert len(mesh.server.scopes) == 2
        async with SimulatedProxy(mesh) as proxy:
            await proxy.ask()
            mesh.change(config_map("a"))
            await proxy.read()
            mesh.server.forget_unused()
            assert {scope.namespace for scope in mesh.server.scopes} == {"default"}


class Brittle(PlainGenerator):
    """Meets a defect in one namespace."""

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        found = super().scope_of(snapshot, proxy)
        if found.namespace == "broken":
            raise RuntimeError("a defect")
        return found


def test_one_proxy_that_cannot_be_translated_keeps_nobody_else_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = DiscoveryServer(Brittle())
    server.publish(*snapshot_of(pod("one"), pod("two", "broken"), pod("three", "other")))
    ids = [node_id("two", "broken"), "nonsense", node_id("gone"), node_id("one")]
    with caplog.at_level(logging.ERROR):
        assert server.translate_ahead([*ids, node_id("three", "other")], LIMIT) == 2
    assert {scope.namespace for scope in server.scopes} == {"default", "other"}
    [record] = caplog.records
    assert node_id("two", "broken") in record.getMessage()


class Unreadable(dict[str, Any]):
    """Resources in which a defect shows only when they are looked at."""

    def items(self) -> NoReturn:
        raise RuntimeError("a defect")


async def test_a_scope_of_which_nothing_could_be_made_is_made_when_its_proxy_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_mesh(tmp_path, pod("one"), config_map("a")) as mesh:
        with monkeypatch.context() as patch:
            patch.setattr(mesh.generator, "generate", lambda *_: Unreadable())
            assert mesh.server.translate_ahead([node_id("one")], LIMIT) == 0
        async with SimulatedProxy(mesh) as proxy:
            await proxy.ask()
            assert [item.name for item in (await proxy.read()).resources] == ["a"]


def test_serving_is_not_put_off_for_longer_than_was_allowed() -> None:
    server = DiscoveryServer(PlainGenerator())
    server.publish(*snapshot_of(pod("one")))
    assert server.translate_ahead([node_id("one")], 0.0) == 0
    assert not server.scopes


def test_a_control_plane_that_starts_again_makes_what_its_proxies_had(tmp_path: Path) -> None:
    store = Store()
    key = ObjectKey("", "Pod", "default", "one")
    store.commit([Write(key, raw_pod("one", "default"), Provenance())], "test")
    connected_file.write(tmp_path / "connected.json", [node_id("one"), node_id("gone")])
    plane = ControlPlane(ControlPlaneOptions(tmp_path), store, MeshGenerator())
    plane.load()
    assert [scope.namespace for scope in plane.server.scopes] == ["default"]
    assert plane.server.ready
    plane.close()
    store.close()
