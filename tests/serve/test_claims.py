"""What a reconnecting proxy claims to hold: compared as bytes, read when it differs."""

from __future__ import annotations

import gc
from weakref import ref

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from lateen.model.discovery import CLUSTER, DiscoveryResource
from lateen.serve.claims import Claims, MalformedClaim, encode_claim
from lateen.serve.protocol import DeltaRequest, Dialect
from lateen.serve.sharing import layered, shared
from lateen.serve.views import View, from_claims, intern_names, shared_view
from lateen.serve.wire import parse_request

VERSIONS = st.dictionaries(st.text(max_size=200), st.text(max_size=40), max_size=8)


def resource(name: str, version: str = "1") -> DiscoveryResource:
    return DiscoveryResource(CLUSTER, name, version, b"")


def claims(*resources: DiscoveryResource) -> Claims:
    return Claims([encode_claim(item.name, item.version) for item in resources])


@given(VERSIONS)
def test_a_request_claims_what_the_map_of_the_generated_class_holds(
    versions: dict[str, str],
) -> None:
    message = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER)
    message.initial_resource_versions.update(versions)
    request = parse_request(Dialect.DELTA, message.SerializeToString())
    assert isinstance(request, DeltaRequest)
    assert request.initial_versions == versions


@given(VERSIONS)
def test_entries_are_written_as_the_generated_class_writes_them(versions: dict[str, str]) -> None:
    message = discovery_pb2.DeltaDiscoveryRequest()
    message.initial_resource_versions.update(versions)
    entry = discovery_pb2.DeltaDiscoveryRequest.InitialResourceVersionsEntry
    written = {entry(key=k, value=v).SerializeToString() for k, v in versions.items()}
    full = {key: value for key, value in versions.items() if key and value}
    assert {encode_claim(key, value) for key, value in full.items()} <= written


def test_a_proxy_that_has_what_it_shall_have_holds_the_target_itself() -> None:
    common = shared(CLUSTER, [resource("a"), resource("b")])
    target = View(CLUSTER, layered(common, [resource("own")]))
    held = claims(resource("own"), resource("b"), resource("a"))
    assert from_claims(CLUSTER, held, target) is target
    base = shared_view(CLUSTER, common)
    assert from_claims(CLUSTER, claims(resource("a"), resource("b")), base) is base


@pytest.mark.parametrize(
    "held",
    [
        (resource("a"), resource("b", "2"), resource("own")),
        (resource("a"), resource("b"), resource("own", "2")),
        (resource("a"), resource("c"), resource("own")),
        (resource("a"), resource("b")),
        (resource("a"), resource("b"), resource("own"), resource("more")),
        (resource("a"), resource("a"), resource("own")),
    ],
)
def test_a_proxy_that_has_anything_else_is_brought_to_it(
    held: tuple[DiscoveryResource, ...],
) -> None:
    common = shared(CLUSTER, [resource("a"), resource("b")])
    target = View(CLUSTER, layered(common, [resource("own")]))
    view = from_claims(CLUSTER, claims(*held), target)
    assert {name: item.version for name, item in view.resources.items()} == {
        item.name: item.version for item in held
    }
    step = view.step(target, removals=True)
    assert {item.name for item in step.changed} == {
        item.name for item in target.resources.values() if item.version != versions(held, item.name)
    }
    assert set(step.removed) == {item.name for item in held} - target.resources.keys()


def versions(held: tuple[DiscoveryResource, ...], name: str) -> str | None:
    return next((item.version for item in held if item.name == name), None)


def test_proxies_that_hold_the_same_share_a_view() -> None:
    one, other = (resource("a"), resource("b")), (resource("b"), resource("a"))
    assert from_claims(CLUSTER, claims(*one)) is from_claims(CLUSTER, claims(*other))


def test_names_are_one_object_for_all_who_ask_for_them_and_none_when_nobody_does() -> None:
    """Whoever asks for ever new names must not fill the memory, here nor in the view they cover."""
    view = View(CLUSTER, {"a": resource("a")})
    names = intern_names(["a", "b"])
    assert intern_names(("b", "a")) is names
    assert view.within(names)
    gone = ref(names)

    del names
    gc.collect()

    assert gone() is None


@pytest.mark.parametrize("entry", [b"\x0a", b"\x0a\x05ab", b"\x1a\x00", b"\x0a\x01\xff"])
def test_an_entry_that_is_none_is_said_to_be_so(entry: bytes) -> None:
    with pytest.raises(MalformedClaim):
        dict(Claims([entry]))


@given(st.binary(max_size=20))
def test_nothing_else_than_malformed_claims_is_raised(entry: bytes) -> None:
    try:
        names = list(Claims([entry]))
    except MalformedClaim:
        return
    assert len(names) == 1
