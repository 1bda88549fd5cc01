"""Blocks after ``<!-- live -->`` run in one mesh, page by page in order, and show what is shown.

Output is compared line by line after numbers, addresses and generated names are made equal: each
line of the page (but ``...``) must be among the lines that the command printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lateen.runtime.node.check import check_node_support
from tests.docs.pages import ROOT, Block, blocks_of, written_pages
from tests.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
MESH = "docs-test"
_GENERATED = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b"), "ID"),
    (re.compile(r"-[a-z0-9]{8,10}-[a-z0-9]{5}\b"), "-POD"),
    (re.compile(r"\b\d+(\.\d+){3}(:\d+)?\b"), "ADDRESS"),
    (re.compile(r"uid \d+ pid \d+"), "CALLER"),
    (re.compile(r"as (root|an ordinary user)$"), "as USER"),
    (re.compile(r"\d+(\.\d+)?( ?(ms|s|m|MiB))?\b"), "N"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class LiveMesh:
    """A running mesh and how commands reach it."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command line as a user would, in a folder with the samples."""
        return subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMesh]:
    problems = check_node_support()
    if problems:
        pytest.skip(problems[0].message)
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "samples", folder / "samples")
    state = tmp_path_factory.mktemp("s")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(state),
        "LATEEN_MESH": MESH,
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    live = LiveMesh(folder, environment)
    up = f"lateen up -f samples/bookinfo --publish 80:{free_port()} --publish 443:{free_port()}"
    try:
        started = live.run(f"{up} --drive /productpage --detach", 180)
        assert started.returncode == 0, started.stdout + started.stderr
        yield live
    finally:
        live.run("lateen down")


@pytest.fixture(autouse=True)
def _without_rules(mesh: LiveMesh) -> Iterator[None]:
    """Each page starts with the samples and nothing else, as its reader does."""
    yield
    names = "details productpage ratings reviews"
    for kind in ("vs", "dr"):
        done = mesh.run(f"lateen delete {kind} {names} --ignore-not-found")
        assert done.returncode == 0, done.stderr
    assert mesh.run("lateen scale deploy/details-v1 --replicas 1").returncode == 0


def _live_pages() -> list[Path]:
    return [
        page
        for page in written_pages()
        if any(block.value("live") is not None for block in blocks_of(page))
    ]


@pytest.mark.parametrize("page", _live_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_page_shows_happens(mesh: LiveMesh, page: Path) -> None:
    for block in blocks_of(page):
        name = block.value("file")
        if name:
            (mesh.folder / name).write_text(block.text + "\n", encoding="utf-8")
        if block.value("live") is not None:
            _run(mesh, block)


def _run(mesh: LiveMesh, block: Block) -> None:
    wanted = int((block.value("live") or "exit 0").removeprefix("exit "))
    for command in block.commands:
        done = mesh.run(command.text)
        said = done.stdout + done.stderr
        assert done.returncode == wanted, f"{block}: {command.text}\n{said}"
        printed = {plain(line) for line in said.splitlines()}
        for line in command.output:
            if line.strip() not in ("", "..."):
                assert plain(line) in printed, f"{block}: {line!r} is not in\n{said}"


def plain(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, replacement in _GENERATED:
        line = pattern.sub(replacement, line)
    return line.strip()
