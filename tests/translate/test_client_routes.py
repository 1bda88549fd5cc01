"""Routes of one client from those of another: what differs, and when all is made anew."""

from __future__ import annotations

from lateen.model.proxy import ProxyType, Scope
from lateen.model.snapshot import Snapshot
from lateen.translate.client_routes import ClientRoutes
from lateen.translate.configuration import all_routes
from lateen.translate.routes import Known
from lateen.translate.view import View
from tests.model.meshes import istio, mesh


def service(name: str, namespace: str) -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        "spec: {ports: [{name: http, port: 80}]}"
    )


def seen_from(snapshot: Snapshot, namespace: str) -> View:
    return View(snapshot, Scope(ProxyType.SIDECAR, namespace))


def changed(snapshot: Snapshot, first: str, second: str) -> dict[str, tuple[str, ...]] | None:
    """Domains of the virtual hosts that a client in ``second`` has instead of those of ``first``;
    they are checked against what it has when all is made for it."""
    known: Known = {}
    one, two = seen_from(snapshot, first), seen_from(snapshot, second)
    all_routes(one, known)
    assert one.egress_facts == two.egress_facts
    found = ClientRoutes(one, known).replacements(two)
    if found is None:
        return None
    expected: Known = {}
    all_routes(two, expected)
    assert found[1] == expected
    return {item.after.name: item.after.domains for item in found[0]}


def test_only_hosts_of_the_two_namespaces_differ() -> None:
    snapshot = mesh(service("web", "one"), service("api", "two"), service("db", "three"))
    found = changed(snapshot, "one", "two")
    assert found is not None
    assert set(found) == {"web.one.svc.cluster.local:80", "api.two.svc.cluster.local:80"}
    assert "api" in found["api.two.svc.cluster.local:80"]
    assert "web" not in found["web.one.svc.cluster.local:80"]


def test_a_short_name_goes_from_one_host_to_another() -> None:
    snapshot = mesh(service("web", "one"), service("web", "two"))
    found = changed(snapshot, "one", "two")
    assert found is not None
    assert "web" in found["web.two.svc.cluster.local:80"]
    assert "web" not in found["web.one.svc.cluster.local:80"]


def test_rules_that_tell_clients_apart_are_made_for_each() -> None:
    rule = (
        "{hosts: [db.three.svc.cluster.local], http: [{match: [{sourceNamespace: two}],"
        " fault: {abort: {httpStatus: 503, percentage: {value: 100}}},"
        " route: [{destination: {host: db.three.svc.cluster.local}}]},"
        " {route: [{destination: {host: db.three.svc.cluster.local}}]}]}"
    )
    snapshot = mesh(service("db", "three"), istio("VirtualService", "rule", rule, "three"))
    found = changed(snapshot, "one", "two")
    assert found is not None
    assert set(found) == {"db.three.svc.cluster.local:80"}


def test_with_a_rule_that_is_there_for_some_clients_alone_all_is_made_again() -> None:
    """Another VirtualService, or none, speaks for the host to the others."""
    rule = (
        "{hosts: [db.three.svc.cluster.local], http: [{match: [{sourceNamespace: two}],"
        " route: [{destination: {host: web.three.svc.cluster.local}}]}]}"
    )
    snapshot = mesh(service("db", "three"), istio("VirtualService", "rule", rule, "three"))
    assert changed(snapshot, "one", "two") is None
    assert changed(snapshot, "two", "one") is None


def test_hosts_that_fight_for_a_name_are_made_anew() -> None:
    entry = "{hosts: [api], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}"
    snapshot = mesh(
        service("web", "one"), service("api", "two"), istio("ServiceEntry", "api", entry, "three")
    )
    assert changed(snapshot, "one", "four") is not None
    assert changed(snapshot, "one", "two") is None
    assert changed(snapshot, "two", "one") is None


def test_namespaces_that_see_something_else_are_not_alike() -> None:
    private = "{hosts: [web], exportTo: [.], http: [{route: [{destination: {host: web}}]}]}"
    snapshot = mesh(service("web", "one"), istio("VirtualService", "own", private, "one"))
    one, two, three = (seen_from(snapshot, name) for name in ("one", "two", "three"))
    assert one.egress_facts != two.egress_facts
    assert two.egress_facts == three.egress_facts
