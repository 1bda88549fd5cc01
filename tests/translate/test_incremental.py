"""A change rebuilds what depends on it; everything else is the very same object as before."""

from __future__ import annotations

import msgspec
import pytest

from lateen.api.core.pod import Pod
from lateen.api.networking.destination_rule import DestinationRule
from lateen.api.networking.virtual_service import VirtualService
from lateen.api.resource import Resource
from lateen.ir.cluster import Cluster, LoadAssignment
from lateen.ir.listener import Listener
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.ir.route import RouteConfiguration
from lateen.model.change import Change
from lateen.model.snapshot import Snapshot, apply
from lateen.translate.configuration import translate
from tests.translate import golden

Part = Cluster | LoadAssignment | Listener | RouteConfiguration


@pytest.fixture
def case() -> golden.Case:
    return golden.read(golden.CASES / "bookinfo/reviews-80-20.in.yaml")


@pytest.fixture
def before(case: golden.Case) -> Snapshot:
    return golden.snapshot(case)


def changed(old: ProxyConfiguration, new: ProxyConfiguration) -> set[str]:
    """Names of the parts of ``new`` that are not the objects they were."""
    known = {id(part) for part in parts(old)}
    return {
        part.cluster if isinstance(part, LoadAssignment) else part.name
        for part in parts(new)
        if id(part) not in known
    }


def parts(config: ProxyConfiguration) -> list[Part]:
    return [*config.clusters, *config.load_assignments, *config.listeners, *config.routes]


def find(case: golden.Case, kind: str, name: str) -> Resource:
    return next(r for r in case.resources if (r.key.kind, r.key.name) == (kind, name))


def replaced(resource: Resource, changes: object) -> Change:
    return Change(resource.key, Resource(resource.key, changes, resource.provenance))  # type: ignore[arg-type]


def run(
    case: golden.Case, before: Snapshot, change: Change
) -> tuple[ProxyConfiguration, ProxyConfiguration]:
    scope = golden.scope(case, before)
    old = translate(before, scope)
    after, _ = apply(before, [change])
    return old, translate(after, scope)


def test_translating_again_changes_nothing(case: golden.Case, before: Snapshot) -> None:
    scope = golden.scope(case, before)
    assert changed(translate(before, scope), translate(before, scope)) == set()


def test_an_equal_snapshot_gives_equal_parts(case: golden.Case, before: Snapshot) -> None:
    again = golden.snapshot(case)
    scope = golden.scope(case, before)
    assert translate(before, scope) == translate(again, scope)


def test_an_unrelated_object_changes_nothing(case: golden.Case, before: Snapshot) -> None:
    rule = find(case, "DestinationRule", "details")
    assert isinstance(rule.object, DestinationRule)
    elsewhere = msgspec.structs.replace(
        rule.object, spec=msgspec.structs.replace(rule.object.spec, host="nowhere.example")
    )
    key = rule.key._replace(name="other")
    old, new = run(case, before, Change(key, Resource(key, elsewhere)))
    assert changed(old, new) == set()


def test_a_pod_changes_the_load_assignments_of_its_services(
    case: golden.Case, before: Snapshot
) -> None:
    pod = find(case, "Pod", "reviews-v1-0")
    assert isinstance(pod.object, Pod)
    assert pod.object.status is not None
    moved = msgspec.structs.replace(
        pod.object, status=msgspec.structs.replace(pod.object.status, pod_ip="10.244.9.9")
    )
    old, new = run(case, before, replaced(pod, moved))
    host = "reviews.default.svc.cluster.local"
    assert changed(old, new) == {f"outbound|9080|{s}|{host}" for s in ("", "v1", "v2", "v3")}
    assert [id(c) for c in old.clusters] == [id(c) for c in new.clusters]


def test_a_virtual_service_changes_the_routes_of_its_hosts(
    case: golden.Case, before: Snapshot
) -> None:
    rules = find(case, "VirtualService", "reviews")
    assert isinstance(rules.object, VirtualService)
    shorter = msgspec.structs.replace(
        rules.object,
        spec=msgspec.structs.replace(
            rules.object.spec, http=[msgspec.structs.replace(rules.object.spec.http[0], name="x")]
        ),
    )
    old, new = run(case, before, replaced(rules, shorter))
    assert changed(old, new) == {"9080"}
    known = {id(host) for host in old.routes[0].virtual_hosts}
    assert [host.name for host in new.routes[0].virtual_hosts if id(host) not in known] == [
        "reviews.default.svc.cluster.local:9080"
    ]


def test_a_destination_rule_changes_its_clusters_and_the_routes_that_hash(
    case: golden.Case, before: Snapshot
) -> None:
    rule = find(case, "DestinationRule", "reviews")
    assert isinstance(rule.object, DestinationRule)
    fewer = msgspec.structs.replace(
        rule.object, spec=msgspec.structs.replace(rule.object.spec, subsets=[])
    )
    old, new = run(case, before, replaced(rule, fewer))
    host = "reviews.default.svc.cluster.local"
    assert changed(old, new) == {f"outbound|9080||{host}", "9080"}
