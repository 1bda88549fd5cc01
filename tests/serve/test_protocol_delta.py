"""Delta xDS as protocol scripts: a request, then what must (not) come back."""

from __future__ import annotations

import pytest

from lateen.serve.protocol import MAX_NAMES, ProtocolError
from tests.serve.scripts import Client, Seen, target


def shape(seen: list[Seen]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(item.type, item.names, item.removed) for item in seen]


def started(*clusters: str) -> tuple[Client, Seen]:
    client = Client()
    client.assign(target(1, CDS=clusters))
    [first] = client.ask("CDS")
    return client, first


def test_asking_for_nothing_is_a_wildcard_for_clusters() -> None:
    _, first = started("a", "b")
    assert (first.type, first.names, first.removed) == ("CDS", ("a", "b"), ())


def test_first_request_is_answered_even_with_nothing() -> None:
    client = Client()
    client.assign(target(1))
    assert shape(client.ask("CDS")) == [("CDS", (), ())]


def test_acknowledgement_gets_no_response_and_settles_the_version() -> None:
    client, first = started("a")
    assert client.session.synced_version == 0
    assert client.ack(first) == []
    assert client.session.in_sync
    assert client.session.synced_version == 1


def test_only_the_difference_is_sent() -> None:
    client, first = started("a", "b", "c")
    client.ack(first)
    assert shape(client.assign(target(2, CDS=["a", "b=2", "c"]))) == [("CDS", ("b",), ())]


def test_an_equal_target_sends_nothing_and_counts_at_once() -> None:
    client, first = started("a")
    client.ack(first)
    assert client.assign(target(2, CDS=["a"])) == []
    assert client.session.synced_version == 2


def test_rejection_gets_no_response_and_is_not_repeated() -> None:
    client, first = started("a")
    assert client.nack(first, words="a is bad") == []
    assert client.session.rejected
    assert not client.session.in_sync
    assert client.assign(target(2, client.session.target, CDS=["a"])) == []
    assert shape(client.assign(target(3, CDS=["a=2"]))) == [("CDS", ("a",), ())]


def test_after_a_rejection_everything_that_was_refused_is_sent_again() -> None:
    """The proxy may have taken "a=2" and refused only "b=2", or refused both."""
    client, first = started("a", "b")
    client.ack(first)
    [second] = client.assign(target(2, CDS=["a=2", "b=2"]))
    client.nack(second, words="b is bad")
    [third] = client.assign(target(3, CDS=["a=2", "b"]))
    assert third.names == ("a", "b")
    client.ack(third)
    assert client.session.in_sync
    assert not client.session.rejected


def test_a_refused_addition_that_is_withdrawn_leaves_nothing_behind() -> None:
    client, first = started("a")
    client.ack(first)
    [second] = client.assign(target(2, CDS=["a", "new"]))
    client.nack(second)
    [third] = client.assign(target(3, CDS=["a"]))
    assert (third.names, third.removed) == ((), ("new",))
    client.ack(third)
    assert client.session.in_sync


def test_stale_nonces_are_ignored() -> None:
    client, first = started("a")
    client.ack(first)
    [second] = client.assign(target(2, CDS=["a=2"]))
    assert client.ask("CDS", nonce=first.nonce) == []
    assert client.ask("CDS", nonce="never-sent", error="x") == []
    assert not client.session.in_sync
    assert not client.session.rejected
    client.ack(second)
    assert client.session.in_sync


def test_one_response_is_in_flight_and_the_newest_target_is_next() -> None:
    client, first = started("a")
    assert client.assign(target(2, CDS=["a=2"])) == []
    assert client.assign(target(3, CDS=["a=3"])) == []
    assert shape(client.ack(first)) == [("CDS", ("a",), ())]
    assert client.session.target is not None
    assert client.session.target.version == 3


def test_reconnect_with_versions_is_resent_nothing() -> None:
    wanted = target(1, CDS=["a", "b"], EDS=["a", "b"])
    versions = {
        name: item.version for name, item in next(iter(wanted.views.values())).resources.items()
    }
    client = Client()
    client.assign(wanted)
    assert shape(client.ask("CDS", have=versions)) == [("CDS", (), ())]


def test_reconnect_is_sent_what_changed_and_told_what_is_gone() -> None:
    wanted = target(2, CDS=["a", "b=2"])
    held = {"a": "", "b": "old", "gone": "old"}
    held["a"] = next(iter(wanted.views.values())).resources["a"].version
    client = Client()
    client.assign(wanted)
    [first] = client.ask("CDS", have=held)
    assert (first.names, first.removed) == (("b",), ())
    [second] = client.ack(first)
    assert (second.names, second.removed) == ((), ("gone",))


def test_names_are_subscribed_one_by_one_and_answered_alone() -> None:
    client = Client()
    client.assign(target(1, EDS=["a", "b", "c"]))
    [first] = client.ask("EDS", "a")
    assert first.names == ("a",)
    client.ack(first)
    [second] = client.ask("EDS", "b")
    assert second.names == ("b",)
    client.ack(second)
    assert shape(client.assign(target(2, EDS=["a=2", "b", "c=2"]))) == [("EDS", ("a",), ())]


def test_names_added_while_a_response_is_under_way_are_answered_at_once() -> None:
    client = Client()
    client.assign(target(1, EDS=["a", "b"]))
    client.ask("EDS", "a")
    assert shape(client.ask("EDS", "b")) == [("EDS", ("b",), ())]


def test_unsubscribing_gets_no_response_and_ends_updates() -> None:
    client = Client()
    client.assign(target(1, EDS=["a", "b"]))
    [first] = client.ask("EDS", "a", "b")
    client.ack(first)
    assert client.ask("EDS", drop=["a"]) == []
    assert client.assign(target(2, EDS=["a=2", "b"])) == []
    assert client.session.in_sync


def test_a_held_name_that_is_asked_again_is_sent_again() -> None:
    client = Client()
    client.assign(target(1, EDS=["a"]))
    [first] = client.ask("EDS", "a")
    client.ack(first)
    assert shape(client.ask("EDS", "a")) == [("EDS", ("a",), ())]


def test_endpoints_that_do_not_exist_are_named_as_removed() -> None:
    client = Client()
    client.assign(target(1, EDS=["a"]))
    assert shape(client.ask("EDS", "a", "none")) == [("EDS", ("a",), ("none",))]


def test_a_star_and_its_removal_switch_the_wildcard() -> None:
    client = Client()
    client.assign(target(1, CDS=["a", "b"]))
    [first] = client.ask("CDS", "*")
    assert first.names == ("a", "b")
    client.ack(first)
    assert client.ask("CDS", drop=["*"]) == []
    assert client.assign(target(2, CDS=["a=2", "b"])) == []


def test_unknown_routes_are_sent_empty_so_that_listeners_get_ready() -> None:
    client = Client()
    client.assign(target(1, RDS=["80"]))
    assert shape(client.ask("RDS", "80", "9080")) == [("RDS", ("80", "9080"), ())]


def test_a_route_that_goes_stays_with_proxies_that_still_use_it() -> None:
    client = Client()
    client.assign(target(1, RDS=["80", "81"]))
    [first] = client.ask("RDS", "80", "81")
    client.ack(first)
    assert client.assign(target(2, RDS=["81"])) == []
    assert client.session.in_sync
    assert shape(client.assign(target(3, RDS=["80=2", "81"]))) == [("RDS", ("80",), ())]


def test_a_route_that_appears_later_replaces_the_empty_one() -> None:
    client = Client()
    client.assign(target(1, RDS=[]))
    [first] = client.ask("RDS", "80")
    client.ack(first)
    assert client.assign(target(2, RDS=[])) == []
    assert shape(client.assign(target(3, RDS=["80"]))) == [("RDS", ("80",), ())]


def test_names_and_types_are_bounded() -> None:
    client = Client()
    with pytest.raises(ProtocolError, match="names"):
        client.ask("EDS", *(f"n{index}" for index in range(MAX_NAMES + 1)))
