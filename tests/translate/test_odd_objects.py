"""What validation accepts, Envoy loads: objects at the edges of what is valid.

``odd/`` has what was found once. Mutants (`tests.translate.mutants`) look for more: a few here, the
same every time, and as many as wanted with ``python -m tests.translate.loads``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lateen.api.validate import validate_all
from lateen.model.definitions import one_form
from tests.translate import loads, mutants
from tests.translate.mutants import Mutant
from tests.translate.test_silent_fields import parsed

FOLDER = Path(__file__).parent / "odd"
_COUNT = 10
"""Seeds for each kind; about half of them give a valid mutant."""


@pytest.mark.envoy
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_envoy_loads_what_was_found(path: Path) -> None:
    raws = [raw for raw in yaml.safe_load_all(path.read_text()) if raw]
    found = [parsed(raw) for raw in raws]
    resources = tuple(resource for resource in found if resource is not None)
    assert len(resources) == len(raws)
    assert [f for f in validate_all(resources) if f.severity.value == "error"] == []
    case = Mutant("ServiceEntry", 0, tuple(raws), resources)
    proxies = loads.changed(case)
    assert proxies
    assert [said for proxy in proxies if (said := loads.listeners(proxy))] == []
    assert loads.alone(case) == []


@pytest.mark.envoy
@pytest.mark.timeout(180)
def test_envoy_loads_mutants() -> None:
    found = [mutants.mutant(kind, seed) for kind in mutants.KINDS for seed in range(_COUNT)]
    valid = [mutant for mutant in found if mutant is not None]
    assert len(valid) > _COUNT * len(mutants.KINDS) // 3
    assert [f"{mutant}: {said}" for mutant, said in loads.refusals(valid)] == []


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("10.9.9.9/32", "10.9.9.9"),
        ("10.9.9.77/24", "10.9.9.0/24"),
        ("FD00:0::1", "fd00::1"),
        ("fd00::1/128", "fd00::1"),
        ("fd00::77/64", "fd00::/64"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("no address", "no address"),
    ],
)
def test_an_address_has_one_form(text: str, form: str) -> None:
    assert one_form(text) == form
