"""Whom to blame for a rejection, and what happens to the object."""

from __future__ import annotations

from lateen.api.resource import Resource
from lateen.model.change import Change
from lateen.model.discovery import CLUSTER, DiscoveryResource
from lateen.model.proxies import proxy_of
from lateen.model.snapshot import Snapshot, apply
from lateen.serve.generator import MeshGenerator
from lateen.serve.metrics import Metrics
from lateen.serve.push import Rejected
from lateen.serve.quarantine import Quarantine, blamed, describe
from lateen.serve.targets import ScopeTargets
from tests.serve.mesh import config_map, parsed, pod, snapshot_of


def service(version: int) -> Resource:
    return parsed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "a", "resourceVersion": str(version)},
            "spec": {"ports": [{"port": 80}]},
        }
    )


def rejection(
    good: Snapshot | None, snapshot: Snapshot, *origins: Resource, words: str = "bad"
) -> Rejected:
    keys = tuple(item.key for item in origins)
    resource = DiscoveryResource(CLUSTER, "a", "v", b"", keys)
    return Rejected(proxy_of(snapshot, pod("one")), CLUSTER, words, (resource,), good, snapshot)


def test_the_object_that_changed_since_the_last_good_state_is_blamed() -> None:
    old, innocent = config_map("a"), config_map("b")
    good, _ = snapshot_of(old, innocent)
    changed = config_map("a", bad="yes")
    snapshot, _ = apply(good, [Change(changed.key, changed)])
    assert blamed(rejection(good, snapshot, changed, innocent)) is changed


def test_configuration_is_suspected_before_services_and_the_newest_first() -> None:
    first, second = config_map("a"), config_map("b")
    backing = service(900_000)
    snapshot, _ = snapshot_of(first, second, backing)
    found = rejection(None, snapshot, first, second, backing)
    assert blamed(found) is second
    assert blamed(found, {second.key}) is first
    assert blamed(found, {first.key, second.key}) is backing
    assert blamed(found, {first.key, second.key, backing.key}) is None


def test_a_blamed_object_goes_back_to_its_good_form_until_it_changes() -> None:
    old = config_map("a", text="old")
    good, _ = snapshot_of(old)
    bad = config_map("a", bad="yes")
    snapshot, _ = apply(good, [Change(bad.key, bad)])
    quarantine = Quarantine()
    assert quarantine.hold(rejection(good, snapshot, bad), bad) == Change(bad.key, old)
    [entry] = quarantine.entries
    assert describe(entry)["message"] == "bad"
    # The same content listed again, for instance with another status, stays out.
    again = config_map("a", bad="yes")
    assert quarantine.admit([Change(again.key, again)]) == [Change(old.key, old)]
    better = config_map("a", text="better")
    assert quarantine.admit([Change(better.key, better)]) == [Change(better.key, better)]
    assert not quarantine.entries


def test_an_object_without_a_good_form_is_left_out() -> None:
    good, _ = snapshot_of(pod("one"))
    bad = config_map("a", bad="yes")
    snapshot, _ = apply(good, [Change(bad.key, bad)])
    quarantine = Quarantine()
    assert quarantine.hold(rejection(good, snapshot, bad), bad) == Change(bad.key, None)


def test_deleting_a_blamed_object_ends_its_quarantine() -> None:
    bad = config_map("a", bad="yes")
    snapshot, _ = snapshot_of(bad)
    quarantine = Quarantine()
    quarantine.hold(rejection(None, snapshot, bad), bad)
    assert quarantine.admit([Change(bad.key, None)]) == [Change(bad.key, None)]
    assert len(quarantine) == 0


def test_what_is_withheld_is_bounded_and_the_newest_stays() -> None:
    targets = ScopeTargets(MeshGenerator(), Metrics())
    for number in range(1000):
        targets.withhold([DiscoveryResource(CLUSTER, "a", str(number), b"")])
    assert len(targets.withheld) == 256
    assert (CLUSTER, "a", "999") in targets.withheld
