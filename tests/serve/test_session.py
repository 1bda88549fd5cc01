"""Order across types: make before break, and warming clusters get their endpoints."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.model.discovery import CLUSTER
from lateen.serve.protocol import MAX_FLIGHTS, Dialect
from lateen.serve.session import OVERTAKE_AFTER, WARMING_LIMIT, Target
from tests.serve.scripts import Client, Seen, target


def connected(wanted: Target) -> Client:
    """A proxy that has accepted everything there is, in Envoy's order."""
    client = Client()
    client.assign(wanted)
    for kind in ("CDS", "EDS", "LDS", "RDS"):
        names = () if kind in ("CDS", "LDS") else tuple(_names(wanted, kind))
        for seen in client.ask(kind, *names):
            client.ack(seen)
    assert client.session.complete
    return client


def _names(wanted: Target, kind: str) -> list[str]:
    from tests.serve.scripts import SHORT

    return sorted(wanted.view(SHORT[kind]).resources)


def kinds(seen: list[Seen]) -> list[tuple[str, tuple[str, ...]]]:
    return [(item.type, item.names) for item in seen]


BASE = target(1, CDS=["a"], EDS=["a"], LDS=["l"], RDS=["80"])


def test_routes_wait_until_a_new_cluster_has_its_endpoints() -> None:
    client = connected(BASE)
    [clusters] = client.assign(
        target(2, BASE, CDS=["a", "b"], EDS=["a", "b"], LDS=["l"], RDS=["80=b"])
    )
    assert clusters.names == ("b",)
    assert client.ack(clusters) == []
    [endpoints] = client.ask("EDS", "b")
    assert endpoints.names == ("b",)
    [routes] = client.ack(endpoints)
    assert (routes.type, routes.names) == ("RDS", ("80",))
    client.ack(routes)
    assert client.session.synced_version == 2


def test_a_changed_cluster_warms_with_endpoints_that_nobody_asked_for_again() -> None:
    client = connected(BASE)
    sent = client.assign(target(2, BASE, CDS=["a=2"], EDS=["a"], LDS=["l"], RDS=["80"]))
    assert kinds(sent) == [("CDS", ("a",)), ("EDS", ("a",))]


def test_a_reconnecting_proxy_gets_endpoints_of_clusters_that_changed_meanwhile() -> None:
    wanted = target(2, CDS=["a=2", "b"], EDS=["a", "b"])
    endpoints = {n: r.version for n, r in wanted.view(_eds()).resources.items()}
    clusters = {n: r.version for n, r in wanted.view(CLUSTER).resources.items()} | {"a": "old"}
    client = Client()
    client.assign(wanted)
    [first] = client.ask("CDS", have=clusters)
    assert first.names == ("a",)
    [second] = client.ask("EDS", "a", "b", have=endpoints)
    assert (second.type, second.names) == ("EDS", ("a",))


def _eds() -> str:
    from lateen.model.discovery import ENDPOINT

    return ENDPOINT


def test_clusters_go_only_when_routes_no_longer_use_them() -> None:
    base = target(1, CDS=["a", "b"], EDS=["a", "b"], LDS=["l"], RDS=["80=b"])
    client = connected(base)
    [routes] = client.assign(target(2, base, CDS=["a"], EDS=["a"], LDS=["l"], RDS=["80=a"]))
    assert kinds([routes]) == [("RDS", ("80",))]
    [removal] = client.ack(routes)
    assert (removal.type, removal.names, removal.removed) == ("CDS", (), ("b",))
    # The change itself is in force as soon as the routes are acknowledged.
    assert client.session.synced_version == 2
    client.ask("EDS", drop=["b"])
    assert client.ack(removal) == []


def test_listeners_do_not_wait_for_ever_for_a_proxy_that_never_warms() -> None:
    client = connected(BASE)
    [clusters] = client.assign(
        target(2, BASE, CDS=["a", "b"], EDS=["a", "b"], LDS=["l=2"], RDS=["80"])
    )
    client.ack(clusters)
    assert client.read() == []
    assert client.session.wait_until(client.now) == WARMING_LIMIT
    client.now = WARMING_LIMIT + 0.1
    assert kinds(client.read()) == [("LDS", ("l",))]


def test_nothing_waits_for_endpoints_that_a_cluster_no_longer_has() -> None:
    """Of a cluster that refuses, say, because its Secret was deleted just after it was sent."""
    client = connected(BASE)
    second = target(2, BASE, CDS=["a", "b"], EDS=["a", "b"], LDS=["l"], RDS=["80=b"])
    [clusters] = client.assign(second)
    client.ack(clusters)
    [endpoints] = client.ask("EDS", "b")
    [routes] = client.ack(endpoints)
    client.ack(routes)
    [clusters] = client.assign(
        target(3, second, CDS=["a", "b=refuses"], EDS=["a"], LDS=["l"], RDS=["80=b"])
    )
    client.ask("EDS", drop=["b"])
    client.ack(clusters)
    assert client.session.synced_version == 3


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_newer_response_overtakes_one_that_is_never_acknowledged(dialect: Dialect) -> None:
    """Envoy acknowledges clusters only when none warms any more, perhaps never."""
    client = Client(dialect)
    client.assign(target(1, CDS=["a", "never-warm"]))
    [stuck] = client.ask("CDS")
    correction = target(2, client.session.target, CDS=["a"])
    assert client.assign(correction) == []
    assert client.session.wait_until(client.now) == OVERTAKE_AFTER
    client.now = OVERTAKE_AFTER
    # The removal waits until nothing refers to the cluster; a new one does not.
    sent = client.assign(target(3, correction, CDS=["a", "b"]))
    assert [name for seen in sent for name in seen.names if name == "b"] == ["b"]
    assert client.session.wait_until(client.now) is None
    [removal] = client.ack(sent[-1])
    assert client.session.synced_version == 3
    client.ack(stuck)  # settled already
    client.ack(removal)
    assert client.session.in_sync


def test_the_removal_of_a_cluster_that_never_warms_is_sent() -> None:
    client = Client()
    client.assign(target(1, CDS=["a", "never-warm"]))
    client.ask("CDS")
    client.assign(target(2, client.session.target, CDS=["a"]))
    client.now = OVERTAKE_AFTER
    [removal] = client.read()
    assert removal.removed == ("never-warm",)


def test_what_is_in_flight_is_bounded_however_long_nothing_is_acknowledged() -> None:
    client = Client()
    client.assign(target(1, CDS=["a"]))
    sent = client.ask("CDS")
    for version in range(2, 50):
        client.now += OVERTAKE_AFTER
        sent += client.assign(target(version, client.session.target, CDS=[f"a={version}"]))
    assert len(sent) == 49
    assert len(client.session.subscriptions[CLUSTER]._flights) == MAX_FLIGHTS
    client.ack(sent[-1])
    assert client.session.synced_version == 49


def test_nothing_overtakes_while_nothing_newer_is_wanted() -> None:
    client = Client()
    client.assign(target(1, CDS=["a"]))
    client.ask("CDS")
    client.now = 5 * OVERTAKE_AFTER
    assert client.read() == []
    assert client.session.wait_until(client.now) is None


def test_a_refused_cluster_does_not_hold_back_routes() -> None:
    client = connected(BASE)
    [clusters] = client.assign(
        target(2, BASE, CDS=["a", "bad"], EDS=["a", "bad"], LDS=["l"], RDS=["80=2"])
    )
    assert kinds(client.nack(clusters)) == [("RDS", ("80",))]


def test_proxies_in_the_same_state_share_one_message() -> None:
    changed = target(2, BASE, CDS=["a=2"], EDS=["a"], LDS=["l"], RDS=["80"])
    first, second = connected(BASE), connected(BASE)
    for client in (first, second):
        client.session.assign(changed)
    [left, *_] = first.session.advance(0.0)
    [right, *_] = second.session.advance(0.0)
    assert left.data is right.data


def test_a_stuck_proxy_keeps_no_later_state_alive() -> None:
    import gc
    import weakref

    stuck = connected(BASE)
    quick = connected(BASE)
    later = target(2, BASE, CDS=["a=2"], EDS=["a"], LDS=["l"], RDS=["80"])
    for seen in quick.assign(later):
        quick.ack(seen)
    stuck.session.advance(0.0)
    watched = weakref.ref(later.views[CLUSTER])
    for number in range(3, 6):
        last = target(number, CDS=[f"a={number}"], EDS=["a"], LDS=["l"], RDS=["80"])
        for seen in quick.assign(last):
            quick.ack(seen)
        stuck.session.assign(last)
    del later
    gc.collect()
    assert watched() is None


RESOURCES = {
    "CDS": ("a", "a=2", "b", "b=2"),
    "EDS": ("a", "a=2", "b"),
    "LDS": ("l", "l=2", "m"),
    "RDS": ("80", "80=2", "81"),
    "VHDS": ("80/a", "80/a=2", "81/a"),
}
NAMES = {"EDS": ("a", "b"), "RDS": ("80", "81")}


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, object]]:
    """What happens to a session: new targets, answers, requests."""
    wanted = st.fixed_dictionaries(
        {kind: st.lists(st.sampled_from(names), max_size=3) for kind, names in RESOURCES.items()}
    )
    one_changes = st.sampled_from(sorted(RESOURCES)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.lists(st.sampled_from(RESOURCES[kind])))
    )
    step = st.one_of(
        st.tuples(st.just("target"), wanted),
        st.tuples(st.just("change"), one_changes),
        st.tuples(st.just("ask"), st.sampled_from(sorted(RESOURCES))),
        st.tuples(st.just("drop"), st.sampled_from(sorted(NAMES))),
        st.tuples(st.just("ack"), st.integers(0, 3)),
        st.tuples(st.just("ack"), st.integers(0, 3)),
        st.tuples(st.just("nack"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.just(None)),
    )
    return draw(st.lists(step, max_size=25))


class Watched(Client):
    """A client whose session looks at all types each time when ``thorough``."""

    def __init__(self, dialect: Dialect, *, thorough: bool) -> None:
        super().__init__(dialect)
        self.thorough = thorough
        self.open: list[Seen] = []

    def read(self) -> list[Seen]:
        if self.thorough:
            self.session._moving = None
        seen = super().read()
        self.open += seen
        return seen


@pytest.mark.parametrize("dialect", Dialect)
@settings(max_examples=60, deadline=None)
@given(steps())
def test_looking_only_at_types_that_changed_sends_what_looking_at_all_sends(
    dialect: Dialect, script: list[tuple[str, object]]
) -> None:
    wanted: dict[str, list[str]] = {kind: [names[0]] for kind, names in RESOURCES.items()}
    last = target(1, None, **wanted)
    quick, thorough = (Watched(dialect, thorough=value) for value in (False, True))
    for client in (quick, thorough):
        client.assign(last)
        for kind in RESOURCES:
            for seen in client.ask(kind, *NAMES.get(kind, ())):
                client.open.remove(seen)
                client.ack(seen, *NAMES.get(seen.type, ()))
    for number, (action, value) in enumerate(script, 2):
        if action == "target":
            assert isinstance(value, dict)
            wanted = value
        elif action == "change":
            assert isinstance(value, tuple)
            wanted = {**wanted, value[0]: value[1]}
        if action in ("target", "change"):
            last = target(number, last, **wanted)
        results = [act(client, action, value, last) for client in (quick, thorough)]
        left, right = ([(s.type, s.names, s.removed) for s in seen] for seen in results)
        assert left == right
        assert quick.session.in_sync == thorough.session.in_sync


def act(client: Watched, action: str, value: object, wanted: Target) -> list[Seen]:
    if action in ("target", "change"):
        return client.assign(wanted)
    if action == "wait":
        client.now += WARMING_LIMIT + 1
        return client.read()
    if action in ("ack", "nack"):
        assert isinstance(value, int)
        if value >= len(client.open):
            return []
        seen = client.open.pop(value)
        names = NAMES.get(seen.type, ())
        return client.ack(seen, *names) if action == "ack" else client.nack(seen, *names)
    assert isinstance(value, str)
    if action == "drop":
        return client.ask(value, drop=NAMES[value][:1])
    return client.ask(value, *NAMES.get(value, ()))


def test_each_secret_is_a_response_of_its_own_and_a_refused_one_harms_no_other() -> None:
    client = Client()
    client.assign(target(1, SDS=["a", "b", "c"]))
    [first] = client.ask("SDS", "a", "b", "c")
    [second] = client.ack(first)
    [third] = client.nack(second, words="Failed to load private key from <inline>")
    assert [*first.names, *second.names, *third.names] == ["a", "b", "c"]
    assert client.ack(third) == []
    assert (client.session.rejected, client.session.in_sync) == (True, False)
    # Another version is tried.
    [again] = client.assign(target(2, client.session.target, SDS=["a", "b=2", "c"]))
    assert again.names == ("b",)
    client.ack(again)
    assert (client.session.rejected, client.session.in_sync) == (False, True)


def test_a_secret_that_goes_while_another_is_refused_is_removed() -> None:
    client = Client()
    client.assign(target(1, SDS=["a", "b"]))
    [first] = client.ask("SDS", "a", "b")
    [second] = client.nack(first)
    client.ack(second)
    [removal] = client.assign(target(2, client.session.target, SDS=["a"]))
    assert (removal.names, removal.removed) == ((), ("b",))
    client.ack(removal)
    assert (client.session.rejected, client.session.in_sync) == (True, False)
    [last] = client.assign(target(3, client.session.target, SDS=[]))
    assert last.removed == ("a",)
    client.ack(last)
    assert (client.session.rejected, client.session.in_sync) == (False, True)
