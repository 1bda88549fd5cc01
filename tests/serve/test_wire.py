"""Responses joined by hand are what the generated classes read."""

from __future__ import annotations

import contextlib

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from lateen.model.discovery import CLUSTER, DiscoveryResource, version_of
from lateen.serve import wire
from lateen.serve.protocol import Dialect

RESOURCES = st.lists(
    st.builds(
        DiscoveryResource,
        st.just(CLUSTER),
        st.text(max_size=300),
        st.text(max_size=40),
        st.binary(max_size=70_000) | st.lists(st.binary(max_size=9_000), max_size=4).map(tuple),
    ),
    max_size=5,
)


@given(RESOURCES, st.lists(st.text(max_size=200), max_size=5), st.text(max_size=20))
def test_delta_responses_parse_back(
    resources: list[DiscoveryResource], removed: list[str], nonce: str
) -> None:
    data = wire.encode_delta(CLUSTER, resources, removed, nonce, "7")
    parsed = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
    assert (parsed.type_url, parsed.nonce, parsed.system_version_info) == (CLUSTER, nonce, "7")
    assert list(parsed.removed_resources) == removed
    assert [(r.name, r.version, r.resource.value) for r in parsed.resources] == [
        (r.name, r.version, r.body) for r in resources
    ]
    assert all(r.resource.type_url == CLUSTER for r in parsed.resources)


@given(RESOURCES, st.text(max_size=20), st.text(max_size=20))
def test_state_responses_parse_back(
    resources: list[DiscoveryResource], nonce: str, version: str
) -> None:
    data = wire.encode_state(CLUSTER, resources, nonce, version)
    parsed = discovery_pb2.DiscoveryResponse.FromString(data)
    assert (parsed.type_url, parsed.nonce, parsed.version_info) == (CLUSTER, nonce, version)
    assert [r.value for r in parsed.resources] == [r.body for r in resources]


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_a_message_in_pieces_is_the_same_resource_as_a_whole_one(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    cut = DiscoveryResource(CLUSTER, "a", "v", tuple(pieces))
    assert version_of(tuple(pieces)) == version_of(whole)
    assert (cut.body, cut.size) == (whole, len(whole))
    assert b"".join(cut.pieces) == whole


@pytest.mark.parametrize("extensions", [0, 600])
def test_a_request_for_a_debug_type_is_told_whatever_its_node_is(extensions: int) -> None:
    delta = discovery_pb2.DeltaDiscoveryRequest()
    state = discovery_pb2.DiscoveryRequest(version_info="1", resource_names=["a"])
    for dialect, request in ((Dialect.DELTA, delta), (Dialect.STATE, state)):
        request.node.id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local"
        for number in range(extensions):  # an Envoy names some five hundred
            request.node.extensions.add(name=f"envoy.{number}", category="x" * 100)
        request.type_url = CLUSTER
        assert not wire.asks_to_debug(dialect, request.SerializeToString())
        request.type_url = "istio.io/debug/syncz"
        assert wire.asks_to_debug(dialect, request.SerializeToString())
        request.ClearField("node")
        assert wire.asks_to_debug(dialect, request.SerializeToString())


def test_what_is_no_request_asks_for_nothing() -> None:
    assert not wire.asks_to_debug(Dialect.DELTA, b"\x0a" + b"\xff" * 9)


def test_an_empty_named_resource_is_a_route_configuration_or_load_assignment() -> None:
    body = wire.encode_named_empty("9080")
    assert route_pb2.RouteConfiguration.FromString(body).name == "9080"
    assert endpoint_pb2.ClusterLoadAssignment.FromString(body).cluster_name == "9080"


def test_a_name_is_found_only_as_a_whole_field() -> None:
    body = wire.encode_named_empty("kubernetes://credential-two")
    assert wire.mentions(body, "kubernetes://credential-two")
    assert not wire.mentions(body, "kubernetes://credential")


def test_requests_carry_node_versions_and_the_proxys_words() -> None:
    message = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce="n")
    message.node.id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local"
    message.node.metadata["DNS_CAPTURE"] = "true"
    message.node.user_agent_build_version.version.major_number = 1
    message.node.user_agent_build_version.version.minor_number = 40
    message.initial_resource_versions["x"] = "1"
    message.error_detail.message = "no" * 10_000
    request, node = wire.parse_delta(message.SerializeToString())
    assert node is not None
    assert (node.version, dict(node.metadata)) == ("1.40.0", {"DNS_CAPTURE": "true"})
    assert request.initial_versions == {"x": "1"}
    assert request.error is not None
    assert len(request.error.message) == 4096


@pytest.mark.parametrize("dialect", Dialect)
@given(data=st.data())
def test_the_node_is_read_without_the_rest(dialect: Dialect, data: st.DataObject) -> None:
    if dialect is Dialect.DELTA:
        message = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER)
        message.initial_resource_versions["x"] = "1"
    else:
        message = discovery_pb2.DiscoveryRequest(type_url=CLUSTER)
        message.version_info = data.draw(st.text(max_size=300))
    if data.draw(st.booleans()):
        message.node.id = data.draw(st.text(max_size=300))
        message.node.metadata["NAME"] = "a"
    body = message.SerializeToString()
    whole = (wire.parse_delta if dialect is Dialect.DELTA else wire.parse_state)(body)
    assert wire.parse_node(dialect, body) == whole[1]
    assert wire.parse_request(dialect, body) == whole[0]


@given(st.lists(st.text(max_size=8), max_size=5), st.sampled_from([0, 63, 64, 1000]))
def test_few_names_and_many_are_read_alike(names: list[str], more: int) -> None:
    wanted = [*names, *(f"outbound|80||svc{number}.shop" for number in range(more))]
    message = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER)
    message.resource_names_subscribe.extend(wanted)
    first, _ = wire.parse_delta(message.SerializeToString())
    message.ClearField("resource_names_subscribe")
    message.resource_names_subscribe.extend(reversed(wanted))
    second, _ = wire.parse_delta(message.SerializeToString())

    assert set(first.subscribe) == set(second.subscribe) == set(wanted)
    assert (first.subscribe is second.subscribe) == (len(wanted) >= 64 or not wanted)


@pytest.mark.parametrize("count", [1, 100])
def test_a_name_that_is_not_text_is_no_request(count: int) -> None:
    body = b"\x1a\x02\xff\xfe" * count  # resource_names_subscribe
    with pytest.raises(DecodeError):
        discovery_pb2.DeltaDiscoveryRequest.FromString(body)
    with pytest.raises(wire.MalformedRequest):
        wire.parse_delta(body)


@given(st.sampled_from(list(Dialect)), st.binary(max_size=40))
def test_what_is_no_request_is_refused_and_nothing_else(dialect: Dialect, body: bytes) -> None:
    with contextlib.suppress(wire.MalformedRequest):
        wire.parse_node(dialect, body)
