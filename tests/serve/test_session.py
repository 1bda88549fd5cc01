"""Order across types: make before break, and warming clusters get their endpoints."""

from __future__ import annotations

from lateen.model.discovery import CLUSTER
from lateen.serve.session import WARMING_LIMIT, Target
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
