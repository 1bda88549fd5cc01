"""State-of-the-world xDS as protocol scripts."""

from __future__ import annotations

from lateen.serve.protocol import Dialect
from tests.serve.scripts import Client, target


def state() -> Client:
    return Client(Dialect.STATE)


def test_a_changed_cluster_means_all_clusters_are_listed() -> None:
    client = state()
    client.assign(target(1, CDS=["a", "b"]))
    [first] = client.ask("CDS")
    assert first.names == ("a", "b")
    assert client.ack(first) == []
    [second] = client.assign(target(2, CDS=["a", "b=2"]))
    assert second.names == ("a", "b")


def test_a_cluster_that_goes_is_left_out_only_after_all_else_is_acknowledged() -> None:
    client = state()
    client.assign(target(1, CDS=["old", "kept"], LDS=["l"]))
    [clusters] = client.ask("CDS")
    client.ack(clusters)
    [listeners] = client.ask("LDS")
    client.ack(listeners)
    sent = client.assign(target(2, CDS=["new", "kept"], LDS=["l=2"]))
    assert [(item.type, item.names) for item in sent] == [
        ("CDS", ("kept", "new", "old")),
        ("LDS", ("l",)),
    ]
    assert client.ack(sent[0]) == []
    [last] = client.ack(sent[1])
    assert (last.type, last.names) == ("CDS", ("kept", "new"))


def test_endpoint_updates_carry_only_what_changed() -> None:
    client = state()
    client.assign(target(1, EDS=["a", "b"]))
    [first] = client.ask("EDS", "a", "b")
    assert first.names == ("a", "b")
    client.ack(first, "a", "b")
    [second] = client.assign(target(2, EDS=["a", "b=2"]))
    assert second.names == ("b",)


def test_only_added_names_are_answered() -> None:
    client = state()
    client.assign(target(1, EDS=["a", "b"]))
    [first] = client.ask("EDS", "a")
    client.ack(first, "a")
    [second] = client.ask("EDS", "a", "b", nonce=first.nonce)
    assert second.names == ("b",)
    client.ack(second, "a", "b")
    assert client.ask("EDS", "a", nonce=second.nonce) == []


def test_stale_requests_and_rejections_get_no_response() -> None:
    client = state()
    client.assign(target(1, CDS=["a"]))
    [first] = client.ask("CDS")
    assert client.ask("CDS", nonce="stale") == []
    assert client.nack(first) == []
    assert client.session.rejected
    [second] = client.assign(target(2, CDS=["a=2"]))
    client.ack(second)
    assert client.session.in_sync


def test_reconnect_is_answered_with_everything() -> None:
    client = state()
    client.assign(target(1, EDS=["a", "b"]))
    [first] = client.ask("EDS", "a", "b", version="from-before")
    assert first.names == ("a", "b")


def test_no_names_of_a_named_type_ends_the_subscription() -> None:
    client = state()
    client.assign(target(1, EDS=["a"]))
    [first] = client.ask("EDS", "a")
    client.ack(first, "a")
    assert client.ask("EDS", nonce=first.nonce) == []
    assert client.assign(target(2, EDS=["a=2"])) == []


def test_what_was_refused_and_is_wanted_no_longer_is_never_sent_without_its_content() -> None:
    client = Client(Dialect.STATE)
    base = target(1, CDS=["a"], LDS=["l"])
    client.assign(base)
    for kind in ("CDS", "LDS"):
        for seen in client.ask(kind):
            client.ack(seen)
    [refused] = client.assign(target(2, base, CDS=["a", "bad"], LDS=["l"]))
    client.nack(refused)
    [clusters] = client.assign(target(3, base, CDS=["a", "b"], LDS=["l"]))
    assert clusters.names == ("a", "b")
