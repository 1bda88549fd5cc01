"""Root of a user namespace that has no other users cannot have a node, and is told so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from lateen.runtime.node.check import unmapped

ALL = "         0          0 4294967295\n"
ONLY_ROOT = "         0          0          1\n"


@pytest.mark.parametrize(
    ("uids", "gids", "missing"),
    [
        (ALL, ALL, ""),
        (ONLY_ROOT, ONLY_ROOT, "uid"),
        (ALL, ONLY_ROOT, "gid"),
        ("0 1000 1\n1 100000 65536\n", ALL, ""),
        ("0 1000 1\n1 100000 65533\n", ALL, "uid"),
        ("", ALL, "uid"),
    ],
)
def test_users_that_a_node_needs(uids: str, gids: str, missing: str) -> None:
    assert unmapped(uids, gids) == missing


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare"
)
def test_check_says_it() -> None:
    argv = ["unshare", "-Ur", sys.executable, "-m", "lateen", "check", "--mesh", "no-such-mesh"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert "uid 0 of a user namespace" in result.stdout
    assert "Errno" not in result.stdout + result.stderr
    assert "OSError" not in result.stdout + result.stderr
