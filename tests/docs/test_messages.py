"""Messages that docs/troubleshooting.md explains, each produced by what it is said to mean.

Those that need pods are in tests/live.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from lateen.cli import mesh as mesh_commands
from lateen.cli.apply import print_wait
from lateen.cli.bring_up import Progress, bring_up
from lateen.cli.errors import CommandError
from lateen.cli.mesh_findings import print_held
from lateen.cli.mesh_state import mesh_state
from lateen.runtime.limits import machine_limits
from tests.docs.pages import DOCS

GOOD = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}"


def explained(text: str) -> bool:
    """Whether the page has ``text`` in the first column of a table."""
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    return any(text in row.split(" | ")[0] for row in page.splitlines() if row.startswith("|"))


def up(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    manifest = home / "good.yaml"
    if not manifest.exists() and home.exists():
        manifest.write_text(GOOD)
    return subprocess.run(
        [sys.executable, "-m", "lateen", "up", "-d", "-f", str(manifest), *words],
        env={"XDG_STATE_HOME": str(home), **_without("XDG_STATE_HOME")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _without(name: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != name}


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    result = up(tmp_path, "--ca", str(tmp_path / "ca"))
    assert result.returncode == 2
    assert "holds no usable authority" in result.stderr
    assert explained("holds no usable authority")


def test_a_mesh_configuration_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("outboundTrafficPolicy: {mode: NONE}\n")
    result = up(tmp_path, "--mesh-config", str(tmp_path / "mesh.yaml"))
    assert result.returncode == 1
    assert "is no usable mesh configuration" in result.stderr
    assert f"{tmp_path}/mesh.yaml:1" in result.stdout
    assert explained("is no usable mesh configuration")


def test_a_state_folder_with_a_long_path(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    result = up(long)
    assert result.returncode == 3
    assert "is too long for Unix sockets" in result.stderr
    assert explained("is too long for Unix sockets")


def test_a_state_folder_that_cannot_be_made() -> None:
    result = up(Path("/proc/lateen"))
    assert result.returncode == 3
    assert "cannot use /proc/lateen" in result.stderr
    assert explained("cannot use FOLDER")


def test_a_host_port_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CommandError, match="host port 80 needs root"):
        mesh_commands._ports(["80:80"])
    assert explained("host port N needs root")


def test_manifests_with_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {prots: []}}")
    progress = Progress(time.monotonic(), 1.0, threading.Event())
    node = cast("Any", None)  # nothing is asked of it before the files are good
    with pytest.raises(CommandError, match=r"[1-9] errors in the manifests; nothing was started"):
        bring_up(mesh_state("none"), node, [str(path)], "default", False, progress)
    assert f"{path}:1:" in capsys.readouterr().out
    assert explained("errors in the manifests; nothing was started")


def test_limits_of_the_machine(tmp_path: Path) -> None:
    said = [limit.message for limit in machine_limits(1_000_000, tmp_path) if not limit.good]
    for part in ("inotify: room for ", "MiB of memory available, "):
        assert any(part in message for message in said), said
        assert explained(part)


@pytest.mark.parametrize(
    ("in_force", "text"),
    [
        (True, "is held back, its last good version is in force"),
        (False, "is left out, as it never had a good version"),
    ],
)
def test_what_is_held_back(capsys: pytest.CaptureFixture[str], in_force: bool, text: str) -> None:
    subject = {"kind": "EnvoyFilter", "namespace": "shop", "name": "a"}
    print_held({"object": subject, "inForce": in_force, "file": "a.yaml", "line": 2})
    assert f"a.yaml:2: EnvoyFilter shop/a {text}" in capsys.readouterr().out
    assert explained(text)


def test_a_wait_that_ends_too_early(capsys: pytest.CaptureFixture[str]) -> None:
    waited = {
        "acknowledged": False,
        "seconds": 1.5,
        "laggards": [{"proxy": "a.shop", "rejection": ""}],
    }
    print_wait(waited, 30.0)
    said = capsys.readouterr().out
    assert "not live everywhere after 1.5 s; not acknowledged by:\n    a.shop" in said
    assert "held back" not in said, "nothing was rejected"
    assert explained("not live everywhere after ... s")
