"""What goes first during an overload makes no difference in the end."""

from __future__ import annotations

import random

import pytest

from lateen.model.change import Change
from lateen.model.discovery import ResourceSet
from lateen.model.proxy import Scope
from lateen.model.snapshot import EMPTY, apply
from lateen.serve.generator import MeshGenerator
from lateen.serve.intake import Intake
from lateen.serve.overload import Load
from tests.scale.test_incremental import a_change, beginning, watched


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.timeout(120)
def test_deferred_changes_lead_to_what_changes_in_order_lead_to(seed: int) -> None:
    """Endpoints before their services, policies before routes: each state on the way is translated
    without an error, updates equal translations from scratch, and the end is the same."""
    chance = random.Random(seed)
    changes = beginning()
    chance.shuffle(changes)
    changes += [a_change(chance) for _ in range(25)]
    in_order, _ = apply(EMPTY, changes)
    intake = Intake(Load(2.0, 15.0))
    generator = MeshGenerator(verify=True)
    snapshot, now, revision = EMPTY, 0.0, 0
    held: dict[Scope, ResourceSet] = {}

    def admit() -> None:
        nonlocal snapshot, held
        admitted = intake.admit(now)
        if admitted is None:
            return
        snapshot, changed = apply(snapshot, admitted.changes)
        held = {
            scope: generator.generate(snapshot, scope)
            if scope not in held
            else generator.update(snapshot, scope, held[scope], changed)
            for scope in watched(snapshot)
        }

    while changes:
        some: list[Change] = [changes.pop(0) for _ in range(min(len(changes), 5))]
        intake.push_begins(now)
        revision += len(some)
        intake.receive(some, revision, now)
        admit()
        now += chance.choice((0.1, 3.0, 8.0))
        intake.push_ends(now)
        admit()
    now += 60.0
    admit()
    assert intake.deferrals > 0
    assert intake.revision == revision

    fresh = MeshGenerator()
    assert set(watched(in_order)) == held.keys()
    for scope in held:
        wanted = fresh.generate(in_order, scope)
        for type_url, items in wanted.items():
            got = {name: item.version for name, item in held[scope][type_url].items()}
            assert got == {name: item.version for name, item in items.items()}
