"""Control planes with the same objects give the same bytes under the same versions.

Any number of replicas relies on it, and so does a restart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.scale.agreement import Versions, meshes, versions
from tests.translate.golden import ROOT

HISTORIES = ("1", "2")


@pytest.mark.timeout(120)
def test_neither_history_nor_hash_seed_shows() -> None:
    others = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.scale.agreement", history],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": history}, stdout=subprocess.PIPE,
        )
        for history in HISTORIES
    ]  # fmt: skip
    own = {mesh[0]: versions(mesh, 0) for mesh in meshes()}

    for other in others:
        output, _ = other.communicate()
        assert other.returncode == 0
        found: dict[str, Versions] = dict(map(json.loads, output.splitlines()))
        assert found.keys() == own.keys()
        assert [line for name in own for line in different(name, own[name], found[name])] == []


def different(mesh: str, left: Versions, right: Versions) -> list[str]:
    """Scopes and resources that are not the same, in words."""
    lines = [f"{mesh}: scope {scope}" for scope in left.keys() ^ right.keys()]
    for scope in left.keys() & right.keys():
        for type_url, resources in left[scope].items():
            ours, theirs = resources.items(), right[scope][type_url].items()
            lines += [f"{mesh}: {type_url} {name}" for name, _ in ours ^ theirs]
    return lines
