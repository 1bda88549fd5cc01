"""What a changed VirtualService replaces, and when more has to be made anew."""

from __future__ import annotations

from typing import Any

import pytest

from lateen.api.parse import parse_object
from lateen.api.resource import Resource
from lateen.model.change import Change
from lateen.model.proxy import ProxyType, Scope
from lateen.model.snapshot import EMPTY, Snapshot, apply
from lateen.translate.impact import impact, routings_for
from lateen.translate.route_update import Replacement, replacements
from lateen.translate.routes import Known, route_configuration
from lateen.translate.view import View

SCOPE = Scope(ProxyType.SIDECAR, "default")


def service(name: str, *ports: int) -> Resource:
    listed = [{"name": f"http-{port}", "port": port} for port in ports]
    return parsed("v1", "Service", name, {"ports": listed})


def virtual_service(name: str, host: str, timeout: str, **spec: Any) -> Resource:
    route = {"timeout": timeout, "route": [{"destination": {"host": "a"}}]}
    body = {"hosts": [host], "http": [route], **spec}
    return parsed("networking.istio.io/v1", "VirtualService", name, body)


def parsed(api_version: str, kind: str, name: str, spec: dict[str, Any]) -> Resource:
    metadata = {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}
    found = parse_object(
        {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
    )
    assert isinstance(found, Resource)
    return found


class Mesh:
    """A mesh whose routes were made once, so that a change finds what was there."""

    def __init__(self, *objects: Resource) -> None:
        self.snapshot: Snapshot = EMPTY
        self.snapshot, _ = apply(EMPTY, [Change(item.key, item) for item in objects])
        self.known: Known = {}
        for name in ("80", "81"):
            route_configuration(View(self.snapshot, SCOPE), name, self.known)

    def change(self, *objects: Resource) -> tuple[Replacement, ...] | None:
        before = self.snapshot
        changes = [Change(item.key, item) for item in objects]
        self.snapshot, changed = apply(before, changes)
        relevant = routings_for(impact(before, self.snapshot, changed), SCOPE)
        return replacements(View(self.snapshot, SCOPE), self.known, relevant, ("80", "81"))


def test_only_the_hosts_of_the_changed_virtual_service_are_made() -> None:
    mesh = Mesh(service("a", 80, 81), service("b", 80), virtual_service("x", "a", "1s"))
    found = mesh.change(virtual_service("x", "a", "2s"))
    assert found is not None
    assert [(item.route, item.after.name) for item in found] == [
        ("80", "a.default.svc.cluster.local:80"),
        ("81", "a.default.svc.cluster.local:81"),
    ]
    for item in found:
        whole = route_configuration(View(mesh.snapshot, SCOPE), item.route)
        assert item.after in whole.virtual_hosts
        assert item.before not in whole.virtual_hosts


def test_a_virtual_service_that_speaks_for_nobody_replaces_nothing() -> None:
    older, younger = virtual_service("x", "a", "1s"), virtual_service("y", "a", "1s")
    mesh = Mesh(service("a", 80), older, younger)
    assert mesh.change(virtual_service("y", "a", "2s")) == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [virtual_service("x", "a", "1s")]),
        ([virtual_service("x", "a", "1s")], [virtual_service("x", "b", "1s")]),
        ([virtual_service("x", "*", "1s")], [virtual_service("x", "*", "2s")]),
        (
            [virtual_service("x", "example.com", "1s")],
            [virtual_service("x", "example.com", "2s")],
        ),
        (
            [virtual_service("x", "a", "1s")],
            [virtual_service("x", "a", "1s", gateways=["mesh", "edge"])],
        ),
    ],
    ids=["new", "other host", "wildcard", "host without a service", "other gateways"],
)
def test_more_is_made_anew_when_more_may_differ(
    before: list[Resource], after: list[Resource]
) -> None:
    mesh = Mesh(service("a", 80), service("b", 80), *before)
    assert mesh.change(*after) is None


def test_what_is_not_known_yet_is_made_whole() -> None:
    mesh = Mesh(service("a", 80), virtual_service("x", "a", "1s"))
    mesh.known.clear()
    assert mesh.change(virtual_service("x", "a", "2s")) is None
