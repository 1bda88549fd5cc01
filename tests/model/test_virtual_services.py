"""VirtualServices: order, visibility, names and delegates."""

from __future__ import annotations

from lateen.model.virtual_services import EffectiveVirtualService, most_specific, virtual_services
from tests.model.meshes import istio, mesh, rule_ids


def vs(name: str, spec: str, namespace: str = "default", created: str = "") -> str:
    return istio("VirtualService", name, spec, namespace, created)


ROUTE = "http: [{route: [{destination: {host: reviews}}]}]"


def test_names_are_resolved_in_the_namespace_of_the_object() -> None:
    snapshot = mesh(
        vs(
            "reviews",
            "{hosts: [reviews, Reviews.example.com], gateways: [mesh, gw, edge/gw], "
            "http: [{match: [{gateways: [gw]}], route: [{destination: {host: reviews}}], "
            "mirror: {host: shadow}}], "
            "tcp: [{route: [{destination: {host: db.prod}}]}]}",
            "shop",
        )
    )
    (found,) = virtual_services(snapshot).all
    assert found.hosts == ("reviews.shop.svc.cluster.local", "reviews.example.com")
    assert found.gateways == ("mesh", "shop/gw", "edge/gw")
    rule = found.http[0]
    assert rule.route.match[0].gateways == ["shop/gw"]
    assert (rule.source.key.name, rule.index) == ("reviews", 0)
    assert [d.host for d in found.destinations()] == [
        "reviews.shop.svc.cluster.local",
        "shadow.shop.svc.cluster.local",
        "db.prod",
    ]


def test_private_rules_come_first_then_exported_then_public_oldest_first() -> None:
    def of(name: str, export: str, created: int, namespace: str = "shop") -> str:
        spec = f"{{hosts: [a.example.com], exportTo: [{export}], {ROUTE}}}"
        return vs(name, spec, namespace, f"2026-01-0{created}T00:00:00Z")

    snapshot = mesh(
        of("public-old", "'*'", 1),
        of("public-young", "'*'", 5),
        of("private", ".", 4),
        of("exported", "shop", 3, "other"),
        of("hidden", "other", 2, "other"),
    )
    rules = virtual_services(snapshot)
    assert [v.name for v in rules.for_mesh("shop")] == [
        "private",
        "exported",
        "public-old",
        "public-young",
    ]
    assert [v.name for v in rules.for_gateway("shop/gw", "shop")] == []


def test_the_most_specific_host_speaks_for_a_service() -> None:
    snapshot = mesh(
        vs("all", f"{{hosts: ['*.example.com'], {ROUTE}}}", created="2026-01-01T00:00:00Z"),
        vs("some", f"{{hosts: ['*.a.example.com'], {ROUTE}}}", created="2026-01-02T00:00:00Z"),
    )
    candidates = virtual_services(snapshot).for_mesh("default")

    def speaker(hostname: str) -> str | None:
        found: EffectiveVirtualService | None = most_specific(hostname, candidates)
        return found.name if found is not None else None

    assert speaker("x.a.example.com") == "some"
    assert speaker("x.example.com") == "all"
    assert speaker("example.org") is None


def test_a_route_delegates_to_routes_of_another_object() -> None:
    snapshot = mesh(
        vs(
            "root",
            "{hosts: [a.example.com], http: [{name: r, match: [{uri: {prefix: /shop}, "
            "headers: {x: {exact: '1'}}}], timeout: 3s, delegate: {name: leaf, namespace: team}}, "
            "{route: [{destination: {host: rest}}]}]}",
        ),
        vs(
            "leaf",
            "{http: [{name: a, match: [{uri: {exact: /shop/a}}], timeout: 1s, "
            "route: [{destination: {host: a}}]}, "
            "{name: b, match: [{uri: {prefix: /other}}], route: [{destination: {host: b}}]}, "
            "{name: c, route: [{destination: {host: c}}]}]}",
            "team",
        ),
    )
    rules = virtual_services(snapshot)
    (found,) = rules.all
    merged = [rule.route for rule in found.http]
    assert [route.name for route in merged] == ["r-a", "r-c", ""]
    assert [route.timeout for route in merged] == ["1s", "3s", None]
    first = merged[0].match[0]
    assert first.uri is not None
    assert first.uri.exact == "/shop/a"
    assert first.headers["x"].exact == "1"
    assert merged[0].route[0].destination.host == "a.team.svc.cluster.local"
    assert [(r.source.key.name, r.index) for r in found.http] == [
        ("leaf", 0),
        ("leaf", 2),
        ("root", 1),
    ]
    assert rule_ids(snapshot) == [("LT1006", "leaf")]


def test_a_delegate_that_cannot_be_used_drops_only_its_route() -> None:
    root = (
        "{hosts: [a.example.com], http: [{delegate: {name: leaf, namespace: team}}, "
        "{route: [{destination: {host: rest}}]}]}"
    )
    leaf = "{exportTo: [.], http: [{route: [{destination: {host: a}}]}]}"
    for snapshot in (mesh(vs("root", root)), mesh(vs("root", root), vs("leaf", leaf, "team"))):
        (found,) = virtual_services(snapshot).all
        assert [rule.index for rule in found.http] == [1]
        assert rule_ids(snapshot) == [("LT1005", "root")]


def test_rules_for_other_clients_do_not_count_as_destinations() -> None:
    snapshot = mesh(
        vs(
            "a",
            "{hosts: [a.example.com], http: [{match: [{sourceNamespace: other}], "
            "route: [{destination: {host: hidden}}]}, {route: [{destination: {host: seen}}]}]}",
        )
    )
    (found,) = virtual_services(snapshot).all
    assert [d.host for d in found.destinations("default")] == ["seen.default.svc.cluster.local"]
