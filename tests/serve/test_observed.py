"""Clusters on demand: what a sidecar gets at first, and what when it asks."""

from __future__ import annotations

from lateen.model.discovery import CLUSTER
from lateen.model.proxy import ProxyType, Scope
from lateen.model.snapshot import EMPTY, Snapshot
from lateen.serve.observed import eager_clusters
from lateen.serve.protocol import Dialect
from lateen.serve.session import Target
from tests.serve.mesh import parsed, snapshot_of
from tests.serve.scripts import Client, target

NAMES = ["inbound|80||", "PassthroughCluster", "outbound|80||a.x", "outbound|80||b.x"]
SIDECAR = Scope(ProxyType.SIDECAR, "default")


def observed(version: int, *clusters: str) -> Target:
    made = target(version, CDS=clusters)
    made.views[CLUSTER].eager = frozenset(clusters) & {"in", "pass"}
    return made


def mesh(scoping: str, *extra: dict[str, object]) -> Snapshot:
    text = f"defaultConfig: {{proxyMetadata: {{LATEEN_SCOPING: {scoping}}}}}"
    config: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": text},
    }
    return snapshot_of(*(parsed(raw) for raw in (config, *extra)))[0]


def test_what_is_not_asked_for_is_not_sent() -> None:
    client = Client()
    client.assign(observed(1, "in", "pass", "a", "b"))
    [first] = client.ask("CDS")
    assert first.names == ("in", "pass")
    assert client.ack(first) == []
    assert client.session.in_sync
    assert client.assign(observed(2, "in", "pass", "a=2", "b")) == []
    assert client.session.synced_version == 2


def test_what_was_asked_for_is_sent_at_once_and_kept_up_to_date() -> None:
    client = Client()
    client.assign(observed(1, "in", "a", "b"))
    [first] = client.ask("CDS")
    client.ack(first)
    [second] = client.ask("CDS", "a")
    assert second.names == ("a",)
    assert client.ack(second) == []
    [third] = client.assign(observed(2, "in", "a=2", "b=2"))
    assert third.names == ("a",)
    assert client.ack(third) == []
    [gone] = client.assign(observed(3, "in", "b=2"))
    assert gone.removed == ("a",)


def test_a_cluster_that_does_not_exist_is_answered_so_that_the_request_fails_at_once() -> None:
    client = Client()
    client.assign(observed(1, "in", "a"))
    [first] = client.ask("CDS")
    client.ack(first)
    [second] = client.ask("CDS", "nothing")
    assert (second.names, second.removed) == ((), ("nothing",))


def test_a_proxy_that_comes_back_with_what_it_used_is_resent_nothing() -> None:
    wanted = observed(1, "in", "a", "b")
    client = Client()
    client.assign(wanted)
    have = {name: wanted.views[CLUSTER].resources[name].version for name in ("in", "a")}
    [first] = client.ask("CDS", "*", "a", have=have)
    assert (first.names, first.removed) == ((), ())


def test_state_of_the_world_clients_cannot_ask_for_more_and_get_all() -> None:
    client = Client(Dialect.STATE)
    client.assign(observed(1, "in", "a", "b"))
    [first] = client.ask("CDS")
    assert first.names == ("a", "b", "in")


def test_only_sidecars_of_a_mesh_that_says_so_get_clusters_on_demand() -> None:
    assert eager_clusters(EMPTY, SIDECAR, NAMES) is None
    assert eager_clusters(mesh("all"), SIDECAR, NAMES) is None
    assert eager_clusters(mesh("observed"), Scope(ProxyType.ROUTER, "default"), NAMES) is None
    found = eager_clusters(mesh("observed"), SIDECAR, NAMES)
    assert found == frozenset({"inbound|80||", "PassthroughCluster"})


def test_targets_of_mirrors_are_there_from_the_start() -> None:
    rule: dict[str, object] = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "hosts": ["a.x"],
            "http": [
                {"route": [{"destination": {"host": "a.x"}}], "mirror": {"host": "b.x"}},
            ],
        },
    }
    found = eager_clusters(mesh("observed", rule), SIDECAR, NAMES)
    assert found is not None
    assert "outbound|80||b.x" in found
    assert "outbound|80||a.x" not in found
