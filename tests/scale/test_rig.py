"""The rig itself: it sends what the generated classes read, and reads what was sent."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from benchmarks.scale import mesh
from benchmarks.scale.report import plot
from benchmarks.scale.wire import CLUSTER, ENDPOINT, ROUTE, Scanner, delta_request, state_request
from lateen.api.parse import parse_object
from lateen.api.resource import Resource
from lateen.model.discovery import DiscoveryResource
from lateen.serve.wire import encode_delta, encode_state


def test_requests_are_what_the_generated_classes_read() -> None:
    delta = discovery_pb2.DeltaDiscoveryRequest.FromString(
        delta_request(ENDPOINT, subscribe=("a", "b"), have={"c": "1"}, nonce="n", error="no")
    )
    state = discovery_pb2.DiscoveryRequest.FromString(
        state_request(ROUTE, names=("80",), version="3", nonce="n", error="no")
    )

    assert (delta.type_url, list(delta.resource_names_subscribe)) == (ENDPOINT, ["a", "b"])
    assert dict(delta.initial_resource_versions) == {"c": "1"}
    assert (delta.response_nonce, delta.error_detail.message) == ("n", "no")
    assert (state.type_url, list(state.resource_names), state.version_info) == (ROUTE, ["80"], "3")
    assert (state.response_nonce, state.error_detail.code) == ("n", 13)


@pytest.mark.parametrize("before", [(), ("first",), ("first", "second")])
def test_messages_that_begin_alike_are_read_as_if_alone(before: tuple[str, ...]) -> None:
    common = [cluster(f"common{number}", 2000) for number in range(60)]
    scanner = Scanner(delta=True)
    for nonce, other in enumerate(before):
        scanner.scan(encode_delta(CLUSTER, [*common, cluster(other, 10)], (), str(nonce)))

    found = scanner.scan(encode_delta(CLUSTER, [*common, cluster("own", 10)], ("gone",), "n"))

    names = [*(item.name for item in common), "own"]
    assert [name for name, _ in found.entries] == names
    assert list(found.references) == names
    assert (found.type_url, found.nonce, found.removed) == (CLUSTER, "n", ("gone",))


def test_state_of_the_world_responses_are_read() -> None:
    body = b"\x0a\x05names"  # field 1: the name
    item = DiscoveryResource(ROUTE, "names", "v", body)

    found = Scanner(delta=False).scan(encode_state(ROUTE, [item], "n", "7"))

    assert (found.nonce, found.version, found.entries[0][0]) == ("n", "7", "names")


def test_the_generated_mesh_is_valid_and_has_the_size_asked_for() -> None:
    size = mesh.Size(services=20, endpoints=3, proxies=30, namespaces=4, sidecars=0.5)

    found = [parse_object(raw) for raw in mesh.objects(size)]

    assert all(isinstance(item, Resource) for item in found)
    kinds = [item.key.kind for item in found if isinstance(item, Resource)]
    assert (kinds.count("Service"), kinds.count("Pod")) == (20, 60)
    assert (kinds.count("VirtualService"), kinds.count("DestinationRule")) == (4, 10)
    assert kinds.count("Sidecar") == 2
    assert len(set(mesh.proxy_places(size))) == 30


def test_more_proxies_than_pods_are_refused() -> None:
    with pytest.raises(ValueError, match="too few for 7 proxies"):
        mesh.Size(services=2, endpoints=3, proxies=7, namespaces=1)


def test_plots_are_well_formed() -> None:
    drawn = ElementTree.fromstring(plot("a < b", "proxies", {"one": [(0, 1), (100, 3.5)]}))

    assert drawn.tag.endswith("svg")


def cluster(name: str, size: int) -> DiscoveryResource:
    """With endpoints by EDS; its name for statistics makes it ``size`` bytes long at least."""
    body = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, alt_stat_name="x" * size)
    return DiscoveryResource(CLUSTER, name, f"v-{name}", body.SerializeToString())
