"""Envoy itself loads what every case leads to."""

from __future__ import annotations

import pytest

from lateen.envoy.build import resources
from lateen.envoy.loading import check
from lateen.model.discovery import DiscoveryResource
from tests.translate import golden

_PER_START = 24
_PATHS = golden.paths()
_BATCHES = [_PATHS[start : start + _PER_START] for start in range(0, len(_PATHS), _PER_START)]


@pytest.mark.envoy
@pytest.mark.parametrize("number", range(len(_BATCHES)))
def test_envoy_loads_the_cases(number: int) -> None:
    """Cases share an Envoy where their resources are the same or have different names."""
    shared: dict[tuple[str, str], DiscoveryResource] = {}
    alone: list[list[DiscoveryResource]] = []
    for path in _BATCHES[number]:
        made = [
            resource
            for named in resources(golden.configuration(golden.read(path))).values()
            for resource in named.values()
        ]
        if all(
            shared.get((part.type_url, part.name), part).version == part.version for part in made
        ):
            shared.update({(part.type_url, part.name): part for part in made})
        else:
            alone.append(made)
    problems = check(shared.values())
    for made in alone:
        problems += check(made)
    # Certificates that a case names by path are on no disk here.
    assert [problem for problem in problems if "/etc/" not in problem] == []
