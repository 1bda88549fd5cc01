"""When the control plane counts as overloaded, and what goes first then."""

from __future__ import annotations

import logging
import random

import pytest

from lateen.api.kinds import all_kinds
from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change
from lateen.serve.intake import Admitted, Intake
from lateen.serve.overload import CALM, REST, Load
from lateen.serve.overload_notes import OverloadNotes
from lateen.serve.priority import FIRST, URGENT_KINDS, ChangeClass, class_of
from tests.serve.mesh import config_map

AFTER, LONGEST = 2.0, 15.0


def key(kind: str, name: str = "a") -> ObjectKey:
    return ObjectKey("", kind, "default", name)


def written(kind: str, name: str = "a", content: str = "") -> Change:
    """A change of an object of this kind; what is in it does not matter here."""
    return Change(key(kind, name), config_map(name, content=content))


def deleted(kind: str, name: str = "a") -> Change:
    return Change(key(kind, name), None)


def kinds_of(admitted: Admitted | None) -> list[str]:
    return [change.key.kind for change in admitted.changes] if admitted is not None else []


def looked(load: Load, *times: float) -> list[bool]:
    """Whether there is an overload at these times."""
    found = []
    for now in times:
        load.look(now)
        found.append(load.overloaded)
    return found


def overloaded_intake() -> Intake:
    """A push lasted from 0 to 3, and a VirtualService came at 0.5."""
    intake = Intake(Load(AFTER, LONGEST))
    intake.push_begins(0.0)
    intake.receive([written("VirtualService")], 1, 0.5)
    assert intake.admit(0.5) is None
    intake.push_ends(3.0)
    assert intake.load.overloaded
    return intake


# When there is an overload


def test_a_long_push_alone_is_no_overload() -> None:
    load = Load(AFTER, LONGEST)
    load.begins(0.0, whole=True)
    load.ends(60.0)
    assert not load.overloaded


def test_overload_begins_while_a_change_still_waits_for_the_push_under_way() -> None:
    load = Load(AFTER, LONGEST)
    load.begins(0.0, whole=True)
    load.received(1.0)
    load.received(2.5)
    assert load.next_look() == 3.0
    assert looked(load, 2.9, 3.0) == [False, True]
    load.ends(5.0)
    assert load.waited == 4.0


def test_overload_ends_when_no_change_has_waited_half_as_long_for_some_time() -> None:
    load = Load(AFTER, LONGEST)
    for begun, took in ((0.0, 3.0), (5.0, 1.1), (8.0, 0.9), (10.0, 0.5)):
        load.begins(begun, whole=True)
        load.received(begun)
        load.ends(begun + took)
        assert load.overloaded
    # The second push was the last one that had a change wait for one second or longer.
    assert load.next_look() == 5.0 + 1.1 + CALM
    assert looked(load, 16.0, 16.1) == [True, False]


def test_urgent_changes_have_the_control_plane_for_as_long_as_the_storm_had_it() -> None:
    for took, rest in ((2.5, 2.5), (0.5, REST), (40.0, LONGEST - 1.0)):
        load = Load(AFTER, LONGEST)
        load.begins(0.0, whole=True)
        load.ends(took)
        # The oldest has been there since one second before the end.
        assert load.release(took - 1.0) == took + rest
    # However old it is, urgent changes have their turn first.
    assert load.release(0.0) == 40.0 + REST


# What goes first


def test_without_overload_nothing_waits() -> None:
    intake = Intake(Load(AFTER, LONGEST))
    intake.receive([written("VirtualService"), written("Pod")], 7, 0.0)
    assert kinds_of(intake.admit(0.0)) == ["VirtualService", "Pod"]
    assert intake.revision == 7
    assert intake.due() is None


def test_what_comes_while_a_push_is_made_is_admitted_at_its_end() -> None:
    intake = Intake(Load(AFTER, LONGEST))
    intake.push_begins(0.0)
    intake.receive([written("VirtualService")], 1, 0.1)
    assert intake.admit(0.1) is None
    assert intake.standing(0.1).deferred == 0
    assert intake.standing(0.1).waiting == 1
    intake.push_ends(0.3)
    admitted = intake.admit(0.3)
    assert kinds_of(admitted) == ["VirtualService"]
    assert admitted is not None
    assert (admitted.since, admitted.immediate) == (0.1, False)
    assert intake.deferrals == 0


@pytest.mark.parametrize("kind", sorted(URGENT_KINDS | {"Namespace", "ServiceAccount", "Node"}))
def test_urgent_changes_overtake_others_during_an_overload(kind: str) -> None:
    intake = overloaded_intake()
    intake.receive([written("DestinationRule"), written(kind)], 2, 3.1)
    assert kinds_of(intake.admit(3.1)) == [kind]
    assert intake.standing(3.1).deferred == 2


def test_deferred_changes_are_merged_and_arrive_together_in_their_newest_form() -> None:
    intake = overloaded_intake()
    for step in range(100):
        content = written("VirtualService", str(step % 10), str(step))
        intake.receive([content], 2 + step, 3.0 + step / 100)
        assert intake.admit(3.0 + step / 100) is None
    assert intake.standing(4.0).data() == {
        "overloaded": True,
        "seconds": 1.0,
        "deferredChanges": 11,
        "oldestSeconds": 3.5,
        "deferredByClass": {"routes": 11},
    }
    due = intake.due()
    assert due == 6.0  # as long after the push as it took
    admitted = intake.admit(due)
    assert admitted is not None
    assert admitted.immediate
    assert admitted.since == 0.5
    newest = {change.key.name: change.resource for change in admitted.changes}
    assert len(admitted.changes) == len(newest) == 11
    for name, resource in newest.items():
        if name != "a":
            assert resource is not None
            assert getattr(resource.object, "data")["content"] == str(90 + int(name))  # noqa: B009
    assert intake.deferrals == 101
    assert intake.longest == 5.5


def test_a_deletion_takes_the_place_of_what_was_deferred_before_it() -> None:
    intake = overloaded_intake()
    intake.receive([deleted("VirtualService")], 2, 3.1)
    assert intake.admit(3.1) is None
    admitted = intake.admit(6.0)
    assert admitted is not None
    assert admitted.changes == (deleted("VirtualService"),)


def test_a_revision_is_reached_when_all_up_to_it_has_been_admitted() -> None:
    intake = Intake(Load(AFTER, LONGEST))
    intake.receive([written("Service")], 10, 0.0)
    intake.admit(0.0)
    intake.push_begins(0.0)
    intake.receive([written("VirtualService")], 11, 0.5)
    intake.receive([written("Pod")], 12, 0.6)
    assert kinds_of(intake.admit(0.6)) == ["Pod"]
    # The Pod is in the snapshot, but who waits for revision 12 waits for 11 as well.
    assert intake.revision == 10
    intake.push_ends(3.0)
    # Changed again, the rule keeps its place: revision 11 has not been reached.
    intake.receive([written("VirtualService")], 13, 3.1)
    assert intake.admit(3.1) is None
    assert intake.revision == 10
    intake.admit(6.0)
    assert intake.revision == 13


@pytest.mark.parametrize(
    "change",
    [
        deleted("AuthorizationPolicy"),
        deleted("PeerAuthentication"),
        deleted("RequestAuthentication"),
        Change(ObjectKey("", "ConfigMap", "istio-system", "istio"), config_map("istio")),
    ],
    ids=lambda change: change.key.kind,
)
def test_taking_away_a_policy_or_changing_the_mesh_overtakes_nothing(change: Change) -> None:
    intake = overloaded_intake()
    intake.receive([change], 2, 3.1)
    admitted = intake.admit(3.1)
    assert kinds_of(admitted) == ["VirtualService", change.key.kind]
    assert admitted is not None
    assert admitted.immediate


def test_when_the_overload_is_over_nothing_is_deferred_any_more() -> None:
    intake = overloaded_intake()
    intake.admit(6.0)
    intake.push_begins(6.0)
    intake.push_ends(6.5)
    assert intake.due() == 3.0 + CALM
    assert intake.admit(3.0 + CALM) is None
    assert not intake.load.overloaded
    intake.receive([written("VirtualService")], 3, 20.0)
    admitted = intake.admit(20.0)
    assert admitted is not None
    assert not admitted.immediate


def test_changes_are_counted_by_class_when_they_are_deferred() -> None:
    counted: list[tuple[ChangeClass, int]] = []
    intake = Intake(Load(AFTER, LONGEST), lambda found, count: counted.append((found, count)))
    intake.push_begins(0.0)
    intake.receive([written("Service"), written("Sidecar"), written("Sidecar", "b")], 1, 0.1)
    intake.admit(0.1)
    assert counted == []
    intake.push_ends(3.0)
    intake.receive([written("Telemetry"), written("Pod")], 2, 3.1)
    assert counted == [
        (ChangeClass.SERVICES, 1),
        (ChangeClass.VISIBILITY, 2),
        (ChangeClass.TELEMETRY, 1),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_in_whatever_order_changes_come_all_arrive_in_time_and_the_last_form_stays(
    seed: int,
) -> None:
    """A random day: what has been admitted equals what was received, per object in order."""
    chance = random.Random(seed)
    intake = Intake(Load(AFTER, LONGEST))
    received: dict[ObjectKey, Resource | None] = {}
    admitted: dict[ObjectKey, Resource | None] = {}
    waiting: dict[ObjectKey, tuple[float, int]] = {}
    forms: dict[ObjectKey, list[Resource | None]] = {}
    now, ends, revision, last_push, longest_push = 0.0, 0.0, 0, 0.0, 0.0
    pushing = False

    def take() -> None:
        found = intake.admit(now)
        for change in found.changes if found is not None else ():
            # Never an older form over a newer one.
            earlier = forms[change.key]
            place = next(i for i, form in enumerate(earlier) if form is change.resource)
            del earlier[: place + 1]
            since, _ = waiting.pop(change.key)
            # What is due while a push is made goes in at its end, or with the next step here.
            late = longest_push + 0.5
            urgent = class_of(change.key) in FIRST
            assert now <= (since if urgent else max(since + LONGEST, last_push + REST) + late)
            admitted[change.key] = change.resource
        assert intake.revision == min((before for _, before in waiting.values()), default=revision)

    for step in range(600):
        now += chance.choice((0.02, 0.1, 0.4))
        if pushing and now >= ends:
            pushing, last_push = False, now
            intake.push_ends(now)
        elif not pushing and chance.random() < 0.3:
            pushing = True
            took = chance.choice((0.05, 0.5, 3.0, 6.0)) if step < 500 else 0.05
            longest_push, ends = max(longest_push, took + 0.5), now + took
            intake.push_begins(now)
        take()
        if chance.random() < 0.7 and step < 550:
            kind = chance.choice(("Pod", "VirtualService", "Service", "AuthorizationPolicy"))
            name = str(chance.randint(0, 5))
            resource = config_map(name) if chance.random() < 0.8 else None
            change = Change(key(kind, name), resource)
            forms.setdefault(change.key, []).append(resource)
            received[change.key] = resource
            waiting.setdefault(change.key, (now, revision))
            revision += 1
            intake.receive([change], revision, now)
            take()
    intake.push_ends(now)
    now += LONGEST + CALM
    take()
    assert not waiting
    assert admitted == received


def test_every_kind_that_has_a_class_exists() -> None:
    known = {kind for _, kind in all_kinds()}
    classes = {kind: class_of(key(kind)) for kind in known}
    assert set(classes.values()) == set(ChangeClass)
    assert known >= URGENT_KINDS
    assert classes["Deployment"] is ChangeClass.OTHER
    assert ChangeClass.OTHER not in FIRST


# What is said


def test_the_log_says_that_an_overload_begins_and_ends_and_not_more_than_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    notes = OverloadNotes(LONGEST)
    intake = Intake(Load(AFTER, LONGEST))

    def overload(begins: float) -> None:
        intake.push_begins(begins)
        intake.receive([written("VirtualService")], 1, begins)
        intake.push_ends(begins + 3.0)
        notes.note(intake, begins + 3.0)
        intake.admit(begins + 6.0)
        intake.admit(begins + 3.0 + CALM)
        notes.note(intake, begins + 3.0 + CALM)

    overload(0.0)
    begun, over = [record.getMessage() for record in caplog.records]
    assert begun.startswith("overloaded: a change waited 3.0 s for the push before it.")
    assert "1 other changes are deferred, the oldest for 3.0 s so far" in begun
    assert over == ("no longer overloaded, after 10 s: 1 changes were deferred, for 6.0 s at most")
    overload(20.0)
    overload(40.0)
    assert len(caplog.records) == 2
    overload(80.0)
    assert len(caplog.records) == 4
    assert "overloaded (and 2 times since this was last said):" in caplog.records[2].getMessage()
