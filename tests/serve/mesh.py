"""A small mesh for tests: pods, certificates, a generator that anyone can predict, a server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from envoy.config.cluster.v3 import cluster_pb2

from lateen.api.parse import parse_object
from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change, ChangeSet
from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    DiscoveryResource,
    ResourceSet,
    version_of,
)
from lateen.model.proxy import Proxy, Scope
from lateen.model.service import WorkloadIdentity
from lateen.model.snapshot import EMPTY, Snapshot, apply
from lateen.pki.authority import Authority, load_or_create
from lateen.pki.keys import new_key_and_request
from lateen.serve.control_plane import ControlPlane
from lateen.serve.http2_limits import Limits
from lateen.serve.http2_transport import Http2Transport
from lateen.serve.push import DiscoveryServer, PushOptions, Rejected
from lateen.serve.tls import ServerTls
from lateen.serve.workers import Workers
from tests.ports import free_port

DEFAULT_LIMITS = Limits()
QUICK = PushOptions(debounce=0.01)
_revision = iter(range(1, 1_000_000))


def config_map(name: str, namespace: str = "default", **data: str) -> Resource:
    """An object that `PlainGenerator` turns into a cluster."""
    return parsed(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "resourceVersion": str(next(_revision)),
            },
            "data": data,
        }
    )


def pod(name: str, namespace: str = "default", account: str = "default") -> Resource:
    """A running pod."""
    return parsed(raw_pod(name, namespace, account))


def raw_pod(name: str, namespace: str, account: str = "default") -> dict[str, object]:
    """A running pod as it is written."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "app", "image": "x"}, {"name": "istio-proxy"}],
        },
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }


def parsed(raw: dict[str, object]) -> Resource:
    found = parse_object(raw)
    assert isinstance(found, Resource), found
    return found


def snapshot_of(*resources: Resource, base: Snapshot = EMPTY) -> tuple[Snapshot, ChangeSet]:
    return apply(base, [Change(item.key, item) for item in resources])


def workers_of(plane: ControlPlane, wanted: Callable[[], int], balance_interval: float) -> Workers:
    """Further processes of a control plane that itself has no proxies to give up."""

    async def shed(count: int) -> int:
        return count

    own = plane.certificate()
    tls = ServerTls(own.key, own.issued.chain, plane.authority.trust_bundle)
    arguments = ("--listen", f"127.0.0.1:{free_port()}")
    return Workers(plane, wanted, arguments, lambda: tls, shed, balance_interval)


class PlainGenerator:
    """Each ConfigMap of the proxy's namespace is one static cluster of its name.

    ``bad`` data makes a cluster that Envoy refuses.
    """

    def __init__(self) -> None:
        self.generated = 0

    @property
    def translations(self) -> int:
        return self.generated

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        return Scope(proxy.type, proxy.namespace)

    def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        self.generated += 1
        maps = snapshot.in_namespace("", "ConfigMap", scope.namespace)
        clusters = {name: _cluster(item) for name, item in maps.items()}
        return {CLUSTER: clusters, ENDPOINT: {}, LISTENER: {}}

    def update(
        self, snapshot: Snapshot, scope: Scope, previous: ResourceSet, changes: ChangeSet
    ) -> ResourceSet:
        if not any(key.namespace == scope.namespace for key in changes.keys):
            return previous
        return self.generate(snapshot, scope)


def _cluster(resource: Resource) -> DiscoveryResource:
    data: dict[str, str] = getattr(resource.object, "data", {})
    message = cluster_pb2.Cluster(name=resource.key.name)
    message.type = cluster_pb2.Cluster.STATIC
    message.connect_timeout.FromMilliseconds(int(data.get("timeout", "1000")))
    if "bad" in data:
        message.lb_policy = cluster_pb2.Cluster.RING_HASH
        message.ring_hash_lb_config.minimum_ring_size.value = 10
        message.ring_hash_lb_config.maximum_ring_size.value = 5
    if "padding" in data:
        message.alt_stat_name = "x" * int(data["padding"])
    body = message.SerializeToString(deterministic=True)
    version = version_of(body)
    return DiscoveryResource(CLUSTER, resource.key.name, version, body, (resource.key,))


@dataclasses.dataclass
class Mesh:
    """A running discovery server over gRPC and mutual TLS on loopback."""

    authority: Authority
    server: DiscoveryServer
    generator: PlainGenerator
    port: int
    snapshot: Snapshot
    rejections: list[Rejected]

    def change(self, *resources: Resource, gone: Iterable[ObjectKey] = ()) -> int:
        """Apply objects and publish; returns the snapshot's version."""
        changes = [Change(item.key, item) for item in resources]
        changes += [Change(key, None) for key in gone]
        self.snapshot, changed = apply(self.snapshot, changes)
        self.server.publish(self.snapshot, changed)
        return self.snapshot.version

    def certificate(
        self, namespace: str = "default", account: str = "default", workload: str = "w"
    ) -> tuple[bytes, bytes]:
        """Key and chain of a workload."""
        made = new_key_and_request()
        identity = WorkloadIdentity(namespace, workload, account)
        return made.key, self.authority.sign(made.request, identity).chain


@asynccontextmanager
async def running_mesh(
    tmp_path: Path,
    *resources: Resource,
    options: PushOptions = QUICK,
    limits: Limits = DEFAULT_LIMITS,
) -> AsyncIterator[Mesh]:
    """A server with these objects, until the block ends."""
    authority = load_or_create(tmp_path / "ca")
    own = authority.server_certificate(["localhost"], ["127.0.0.1"])
    tls = ServerTls(own.key, own.issued.chain, authority.trust_bundle)
    rejections: list[Rejected] = []
    generator = PlainGenerator()
    server = DiscoveryServer(generator, options=options, on_rejection=rejections.append)
    transport = Http2Transport("127.0.0.1:0", lambda: tls, server.serve, limits)
    port = await transport.start()
    snapshot, changed = snapshot_of(*resources)
    server.publish(snapshot, changed)
    server.set_ready()
    pushing = asyncio.ensure_future(server.run())
    try:
        yield Mesh(authority, server, generator, port, snapshot, rejections)
    finally:
        pushing.cancel()
        await transport.stop(0.2)
