"""What changes all the time takes the place of what was before and leaves nothing behind."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from weakref import ref

import pytest

from benchmarks.scale.mesh import (
    Raw,
    Size,
    namespace_of,
    objects,
    peer_authentication,
    pod,
    virtual_service,
)
from lateen.api.parse import parse_object
from lateen.api.resource import Resource
from lateen.model.change import Change, ChangeSet
from lateen.model.discovery import ResourceSet
from lateen.model.proxy import ProxyType, Scope
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import EMPTY, Snapshot, apply
from lateen.serve.generator import MeshGenerator

SIZE = Size(services=10, endpoints=2, proxies=1, namespaces=2)
_KEPT_BY_VALUE = {"lateen.ir.cluster.ConnectionPool"}
"""What serialised parts are kept for by value, at most 1,024 (`lateen.envoy.clusters`)."""
GATEWAY = Scope(ProxyType.ROUTER, "istio-system", (("istio", "ingressgateway"),))


def parsed(raw: Raw) -> Change:
    found = parse_object(raw)
    assert isinstance(found, Resource), found
    return Change(found.key, found)


def gateway() -> Raw:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*/*"]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "ingress", "namespace": "istio-system"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }


def rule(service: int, turn: int) -> Raw:
    raw = virtual_service(SIZE, service, turn)
    raw["spec"]["gateways"] = ["mesh", "istio-system/ingress"]
    return raw


def destination_rule(service: int, turn: int) -> Raw:
    space = namespace_of(SIZE, service)
    policy = {"connectionPool": {"tcp": {"maxConnections": turn + 1}}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": f"svc{service}", "namespace": space},
        "spec": {"host": f"svc{service}", "trafficPolicy": policy},
    }


def moved(service: int, index: int, turn: int) -> Raw:
    raw = pod(SIZE, service, index)
    raw["status"]["podIP"] = f"10.{turn}.{service}.{index + 1}"
    return raw


def round_of_changes(turn: int) -> Iterator[Raw]:
    """Every pod moves, every rule and policy changes: as nothing of it was before."""
    for service in range(SIZE.services):
        for index in range(SIZE.endpoints):
            yield moved(service, index, turn)
        if service % 5 == 0:
            yield rule(service, turn)
            yield destination_rule(service, turn)
    for number in range(SIZE.namespaces):
        yield peer_authentication(f"ns{number}", "STRICT" if turn % 2 else "PERMISSIVE")


class Mesh:
    """A snapshot and the resources of some scopes, kept up to date as a server does."""

    def __init__(self) -> None:
        raws = [*objects(SIZE), gateway()]
        self.snapshot, _ = apply(EMPTY, map(parsed, raws))
        self.generator = MeshGenerator()
        self.held = {scope: self.generate(scope) for scope in self.scopes()}

    def scopes(self) -> Iterator[Scope]:
        for resource in self.snapshot.of_kind("", "Pod").values():
            if resource.key.name in ("svc0-0", "svc1-0", "svc2-0"):
                yield scope_of_pod(self.snapshot, resource)
        yield GATEWAY

    def generate(self, scope: Scope) -> ResourceSet:
        return self.generator.generate(self.snapshot, scope)

    def change(self, raws: Iterable[Raw]) -> None:
        self.snapshot, changed = apply(self.snapshot, map(parsed, raws))
        self.update(changed)

    def update(self, changed: ChangeSet) -> None:
        for scope, before in self.held.items():
            self.held[scope] = self.generator.update(self.snapshot, scope, before, changed)

    def round(self, turn: int) -> None:
        for raw in round_of_changes(turn):
            self.change([raw])


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """Reference counts alone have to do: what is in memory for long is rarely looked through."""
    gc.collect()
    gc.disable()
    try:
        yield Mesh()
    finally:
        gc.enable()


def own_objects() -> Counter[str]:
    """Objects of our own classes by class."""
    names = (f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
    return Counter(name for name in names if name.startswith("lateen."))


def test_as_many_objects_are_there_after_each_round_of_changes(mesh: Mesh) -> None:
    for turn in range(1, 3):
        mesh.round(turn)
    before = own_objects()
    for turn in range(3, 6):
        mesh.round(turn)
    after = own_objects()
    more = {kind: (before[kind], after[kind]) for kind in after if after[kind] > before[kind]}
    assert more.keys() <= _KEPT_BY_VALUE


def test_a_snapshot_goes_with_the_next_update(mesh: Mesh) -> None:
    mesh.round(1)
    snapshots: list[ref[Snapshot]] = []
    for raw in round_of_changes(2):
        mesh.change([raw])
        snapshots.append(ref(mesh.snapshot))
        # The last one but one is what the newest update was made from.
        assert [found for found in snapshots[:-2] if found() is not None] == []
