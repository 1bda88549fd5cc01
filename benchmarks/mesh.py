"""A throw-away mesh for a benchmark: brought up by the command line, removed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lateen.source.client import Client
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class BenchMesh:
    """A mesh with a name, a state home and a gateway port of its own."""

    name: str
    state_home: Path
    port: int

    @property
    def folder(self) -> Path:
        """The mesh's state directory."""
        return self.state_home / "lateen" / self.name

    @property
    def url(self) -> str:
        """Of the ingress gateway."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        """A client of its API."""
        return Client(self.folder / "api.sock", 60.0)

    def lateen(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line; raises ``CalledProcessError`` when it fails."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            check=True,
            capture_output=True,
            text=True,
        )

    def start_up(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`lateen up --detach`, not waited for."""
        publish = ["--publish", f"80:{self.port}", "--publish", f"443:{free_port()}"]
        return subprocess.Popen(
            self.command("up", "--detach", *publish, *arguments),
            env=self.environment(),
            stdout=subprocess.DEVNULL,
        )

    def command(self, verb: str, *arguments: str) -> list[str]:
        """A command line of the program for this mesh."""
        return [sys.executable, "-m", "lateen", verb, "--mesh", self.name, *arguments]

    def environment(self) -> dict[str, str]:
        """The environment that leads to this mesh's state."""
        return {**os.environ, "XDG_STATE_HOME": str(self.state_home)}


@contextlib.contextmanager
def bench_mesh() -> Iterator[BenchMesh]:
    """A mesh that is not running yet, and surely gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="lateen-bench-"))
    mesh = BenchMesh("bench", home, free_port())
    try:
        yield mesh
    finally:
        subprocess.run(
            mesh.command("down"), env=mesh.environment(), check=False, capture_output=True
        )
        shutil.rmtree(home, ignore_errors=True)


def first_answer(url: str, timeout: float = 60.0) -> float:
    """Seconds (monotonic clock) at which ``url`` first answered 200. Raises ``TimeoutError``."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return time.monotonic()
        except (urllib.error.URLError, OSError):
            time.sleep(0.01)
    raise TimeoutError(f"{url} does not answer 200 after {timeout:g} s")


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def private_megabytes(pid: int) -> float:
    """Private memory of a process (``smaps_rollup``: private clean and dirty), in MB."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private"):
            total += int(line.split()[1])
    return total / 1024
