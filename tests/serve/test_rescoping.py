"""A connection is looked at again whenever its proxy's scope may have changed."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings

from lateen.api.resource import ObjectKey
from lateen.model.change import Change
from lateen.model.proxies import proxy_of
from lateen.model.proxy import Proxy
from lateen.model.scope import scope_of
from lateen.model.snapshot import Snapshot, apply
from lateen.serve.rescoping import movable
from tests.model.meshes import istio, mesh, objects, pod, pod_key, service
from tests.model.test_incremental import steps


@dataclass(frozen=True)
class Connected:
    proxy: Proxy

    @property
    def workload_keys(self) -> tuple[ObjectKey, ...]:
        return (pod_key(self.proxy.name, self.proxy.namespace),)


def connected(snapshot: Snapshot) -> list[Connected]:
    pods = snapshot.of_kind("", "Pod").values()
    return [Connected(proxy_of(snapshot, resource)) for resource in pods]


@settings(max_examples=150, deadline=None)
@given(steps)
def test_no_scope_changes_unseen(batches: list[list[tuple[str, bool]]]) -> None:
    snapshot = mesh(
        *(service(f"s{number}", "one", selector="null") for number in (1, 2)),
        *(pod(f"p{number}", f"10.0.0.{number}", "{app: z}", "one") for number in (1, 2, 3)),
    )
    for batch in batches:
        changes = []
        for text, deleted in batch:
            (resource,) = objects(text)
            changes.append(Change(resource.key, None if deleted else resource))
        following, changed = apply(snapshot, changes)
        may_move = movable(snapshot, following, changed)
        for connection in connected(snapshot):
            if not may_move(connection):
                proxy = connection.proxy
                assert scope_of(following, proxy) == scope_of(snapshot, proxy), changed.keys
        snapshot = following


def test_an_endpoint_slice_that_lists_a_pod_moves_that_pod_alone() -> None:
    before = mesh(
        service("web", selector="null"),
        pod("web-1", "10.0.0.1", "{app: web}"),
        pod("web-2", "10.0.0.2", "{app: web}"),
    )
    (slice_,) = objects(
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}}
        addressType: IPv4
        ports: [{name: http, port: 9080}]
        endpoints: [{addresses: [10.0.0.1]}]
        """
    )
    after, changed = apply(before, [Change(slice_.key, slice_)])
    assert changed.only_endpoints
    may_move = movable(before, after, changed)
    assert [c.proxy.name for c in connected(before) if may_move(c)] == ["web-1"]


def test_a_workload_entry_with_the_address_of_a_pod_moves_that_pod_alone() -> None:
    before = mesh(
        service("db", selector="{vm: db}"),
        pod("web-1", "10.0.0.1", "{app: web}"),
        pod("web-2", "10.0.0.2", "{app: web}"),
    )
    (entry,) = objects(istio("WorkloadEntry", "vm", "{address: 10.0.0.1, labels: {vm: db}}"))
    after, changed = apply(before, [Change(entry.key, entry)])
    may_move = movable(before, after, changed)
    assert [c.proxy.name for c in connected(before) if may_move(c)] == ["web-1"]
