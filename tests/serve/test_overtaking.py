"""An endpoint change overtakes a storm of VirtualServices in a control plane whose pushes are slow.

Nothing here measures time: the control plane's clock is moved on by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from lateen.api.parse import parse_object, to_raw
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.model.change import Change, ChangeSet
from lateen.model.discovery import CLUSTER, ENDPOINT, ROUTE, VIRTUAL_HOST, ResourceSet
from lateen.model.proxy import Proxy, Scope
from lateen.model.snapshot import Snapshot, apply
from lateen.model.snapshot import snapshot_of as made_of
from lateen.serve import feed
from lateen.serve.control_plane import ControlPlane, ControlPlaneOptions
from lateen.serve.debug_proxies import push_status
from lateen.serve.followers import Followers
from lateen.serve.generator import MeshGenerator
from lateen.serve.http2_transport import Http2Transport
from lateen.serve.tls import ServerTls
from lateen.serve.worker import Worker
from lateen.source.store import Store, Write
from tests.serve.mesh import QUICK, Mesh, PlainGenerator
from tests.serve.simulated import SimulatedProxy

Raw = dict[str, Any]
NAMESPACES = [f"n{number}" for number in range(8)]
WEB = "outbound|80||web.n0.svc.cluster.local"
STORM = 30
TYPES = ((CLUSTER, ()), (ENDPOINT, (WEB,)), (ROUTE, ("80",)), (VIRTUAL_HOST, ()))


def an_object(version: str, kind: str, namespace: str, name: str, **fields: object) -> Raw:
    metadata: Raw = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def pod(namespace: str) -> Raw:
    return an_object(
        "v1", "Pod", namespace, "one",
        spec={"containers": [{"name": "app", "image": "x"}, {"name": "istio-proxy"}]},
        status={"phase": "Running", "podIP": "127.0.0.1"},
    )  # fmt: skip


def service(name: str) -> Raw:
    spec = {"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]}
    return an_object("v1", "Service", "n0", name, spec=spec)


def endpoints(*addresses: str) -> Raw:
    """Where the service is, kept by hand."""
    raw = an_object(
        "discovery.k8s.io/v1", "EndpointSlice", "n0", "web-1",
        addressType="IPv4",
        ports=[{"name": "http", "port": 8080}],
        endpoints=[{"addresses": [address]} for address in addresses],
    )  # fmt: skip
    raw["metadata"]["labels"]["kubernetes.io/service-name"] = "web"
    return raw


def rule(number: int, timeout: int) -> Raw:
    """One route of a host of its own; all proxies have them in one route configuration."""
    destination = {"destination": {"host": "web.n0.svc.cluster.local"}}
    http = [{"timeout": f"{timeout}s", "route": [destination]}]
    spec = {"hosts": [f"host-{number}.example.com"], "http": http}
    return an_object("networking.istio.io/v1", "VirtualService", "n0", f"rule-{number}", spec=spec)


def key_of(raw: Raw) -> ObjectKey:
    group = raw["apiVersion"].rpartition("/")[0]
    return ObjectKey(group, raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"])


class Clock:
    """The time that passes, and what is added to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


class SlowGenerator:
    """The mesh's own generator, checked against translations from scratch, to which routes seem to
    cost a second per scope."""

    def __init__(self, clock: Clock) -> None:
        self.during: Callable[[], None] | None = None
        """Called once, in the middle of the next push of routes."""
        self._clock = clock
        self._inner = MeshGenerator(verify=True)

    @property
    def translations(self) -> int:
        return self._inner.translations

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        return self._inner.scope_of(snapshot, proxy)

    def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        return self._inner.generate(snapshot, scope)

    def update(
        self, snapshot: Snapshot, scope: Scope, previous: ResourceSet, changes: ChangeSet
    ) -> ResourceSet:
        if any(key.kind == "VirtualService" for key in changes.keys):
            self._clock.added += 1.0
            during, self.during = self.during, None
            if during is not None:
                during()
        return self._inner.update(snapshot, scope, previous, changes)


class Follower:
    """A further process without proxies: what it is told, it applies to a snapshot of its own."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.snapshot = plane.snapshot
        self.versions: list[int] = []

    def changed(self, changes: Iterable[Change], version: int, *, immediate: bool) -> None:
        rows = feed.encode_changes(changes)
        self.snapshot, _ = apply(self.snapshot, feed.decode_changes(rows))
        self.versions.append(version)

    def serving(self) -> list[Worker]:
        """Asked by whoever waits for the newest version, which has been told by then."""
        assert self.plane.snapshot.version in self.versions
        return []


class Running:
    """A control plane with a proxy in each namespace, which reads and acknowledges everything."""

    def __init__(self, plane: ControlPlane, generator: SlowGenerator, clock: Clock) -> None:
        self.plane = plane
        self.generator = generator
        self.clock = clock
        self.seen: list[tuple[str, str]] = []
        """Type and name of each resource that the first proxy was sent, in order."""

    def write(self, raws: Iterable[Raw]) -> int:
        """Write to the store; returns the revision."""
        place = Provenance("test.yaml", 0, 1)
        writes = [Write(key_of(raw), raw, place) for raw in raws]
        return self.plane.store.commit(writes, "test")[-1].revision

    async def follow(self, proxy: SimulatedProxy, *, first: bool) -> None:
        for type_url, names in TYPES:
            await proxy.ask(type_url, names=names)
        while True:
            response = await proxy.read(60)
            if first:
                self.seen += [(response.type_url, item.name) for item in response.resources]
            await proxy.ack(response)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)

    def from_scratch(self) -> Snapshot:
        """What the store holds, without any history."""
        found = [parse_object(item.raw, item.provenance) for item in self.plane.store.all()]
        return made_of(item for item in found if isinstance(item, Resource))

    def metric(self, name: str, **labels: str) -> float:
        return self.plane.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    clock = Clock()
    generator = SlowGenerator(clock)
    options = ControlPlaneOptions(tmp_path, addresses=("127.0.0.1",), push=QUICK)
    store = Store()
    plane = ControlPlane(options, store, generator, clock)
    mesh = Running(plane, generator, clock)
    mesh.write([*map(pod, NAMESPACES), service("web"), endpoints("10.0.0.1"), rule(0, 1)])
    plane.load()
    own = plane.certificate()
    tls = ServerTls(own.key, own.issued.chain, plane.authority.trust_bundle)
    transport = Http2Transport("127.0.0.1:0", lambda: tls, plane.server.serve)
    port = await transport.start()
    reached = Mesh(plane.authority, plane.server, PlainGenerator(), port, plane.snapshot, [])
    tasks = [asyncio.ensure_future(plane.run())]
    async with AsyncExitStack() as stack:
        stack.callback(store.close)
        stack.callback(plane.close)
        stack.push_async_callback(transport.stop, 0.2)
        for namespace in NAMESPACES:
            proxy = await stack.enter_async_context(SimulatedProxy(reached, "one", namespace))
            first = namespace == NAMESPACES[0]
            tasks.append(asyncio.ensure_future(mesh.follow(proxy, first=first)))
        await mesh.until(
            lambda: (
                len(plane.server.connections) == len(NAMESPACES)
                and all(
                    len(item.session.subscriptions) == len(TYPES) and item.session.in_sync
                    for item in plane.server.connections
                )
            )
        )
        assert len(plane.server.scopes) == len(NAMESPACES)
        try:
            yield mesh
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_endpoint_overtakes_a_storm_of_routes_and_the_storm_arrives(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as mesh:
        plane = mesh.plane
        written: list[int] = []

        def storm() -> None:
            """While a push of a route is made, many more are changed, and then an endpoint."""
            written.append(mesh.write(rule(number, 5) for number in range(STORM)))
            written.append(mesh.write([endpoints("10.0.0.1", "10.0.0.2")]))

        follower = Follower(plane)
        plane.workers = cast("Followers", follower)
        mesh.generator.during = storm
        mesh.write([rule(0, 2)])
        await mesh.until(lambda: len(written) == 2)
        before, mesh.seen = mesh.seen, []
        assert (ENDPOINT, WEB) in before
        waiting = [asyncio.ensure_future(plane.wait(revision, 30.0)) for revision in written]
        await mesh.until(lambda: (ENDPOINT, WEB) in mesh.seen)

        # The first route came with the push that was under way, nothing of the storm.
        hosts = {name for type_url, name in mesh.seen if type_url == VIRTUAL_HOST}
        assert hosts <= {"80/host-0.example.com:80"}
        assert len(plane.snapshot.of_kind("networking.istio.io", "VirtualService")) == 1
        assert len(follower.snapshot.of_kind("networking.istio.io", "VirtualService")) == 1
        assert plane.revision < written[0]
        standing = plane.standing
        assert (standing.overloaded, standing.deferred) == (True, STORM)
        assert standing.classes == {"routes": STORM}
        assert mesh.metric("lateen_overloaded") == 1.0
        assert mesh.metric("lateen_deferred_changes") == STORM
        assert mesh.metric("lateen_deferrals_total", **{"class": "routes"}) == STORM
        shown = push_status(plane, {})
        assert isinstance(shown, dict)
        assert shown["overload"]["deferredByClass"] == {"routes": STORM}
        # Nobody is told that what is deferred were live, nor what was written after it.
        assert not any(task.done() for task in waiting)

        # After a while the storm's turn comes; whatever changes next shows that it has.
        mesh.clock.added += 60.0
        mesh.write([endpoints("10.0.0.1", "10.0.0.3")])
        results = await asyncio.gather(*waiting)
        assert [result.acknowledged for result in results] == [True, True]
        hosts = {name for type_url, name in mesh.seen if type_url == VIRTUAL_HOST}
        assert len(hosts) == STORM
        await mesh.until(lambda: plane.revision == plane.store.revision)
        await mesh.until(lambda: plane.server.waiting == 0)
        await mesh.until(lambda: all(c.session.in_sync for c in plane.server.connections))
        expected, fresh = mesh.from_scratch(), MeshGenerator()
        for state in plane.server.scopes.values():
            wanted = fresh.generate(expected, state.scope)
            for type_url, items in wanted.items():
                held = {name: item.version for name, item in state.resources[type_url].items()}
                assert held == {name: item.version for name, item in items.items()}
        assert mesh.metric("pilot_total_xds_internal_errors_total") == 0.0

        assert follower.versions[-1] == plane.snapshot.version
        assert {r.key: to_raw(r) for r in follower.snapshot.resources()} == {
            r.key: to_raw(r) for r in plane.snapshot.resources()
        }

        # Long after the last late push the overload is over.
        mesh.clock.added += 60.0
        mesh.write([endpoints("10.0.0.4")])
        await mesh.until(lambda: mesh.metric("lateen_overloaded") == 0.0)
        assert plane.standing.deferred == 0
