"""A control plane that is not ours under the same load: by its address, or as a process of ours."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale.cluster import Cluster, access_of
from benchmarks.scale.fleet import Place
from benchmarks.scale.mesh import Raw, Size, objects
from benchmarks.scale.plane import Process, scrape
from benchmarks.scale.processes import tree_cpu, tree_rss_mb

_START_LIMIT = 180.0
STILL, CHANGING = "still", "changing"


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """How to reach, change, start and measure a server. All but ``place`` may be left out.

    ``apply`` is a command that gets changed objects as a ``List`` on its standard input, for
    instance ``kubectl apply -f -``; ``folder`` one from which the server reads its objects
    (`write_mesh`); ``kubeconfig`` names a Kubernetes API that it reads them from (`Cluster`).
    With ``start``, a command that runs the server in the foreground, the rig starts, measures,
    restarts and ends it, and waits until ``ready``, a URL, answers; ``pid`` and ``restart`` are
    for servers that somebody else started.
    """

    place: Place
    apply: str = ""
    folder: Path | None = None
    kubeconfig: Path | None = None
    start: str = ""
    ready: str = ""
    restart: str = ""
    pid: int = 0
    metrics: str = ""
    log: Path | None = None


class Peer:
    """See `benchmarks.scale.plane.Plane`."""

    def __init__(self, options: PeerOptions) -> None:
        self._options = options
        config = options.kubeconfig
        self._cluster = Cluster(access_of(config)) if config is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_s = self._start() if options.start else 0.0
        """Seconds from the start of the process to readiness."""

    @property
    def place(self) -> Place:
        """See `Plane`."""
        return self._options.place

    def apply(self, documents: Sequence[Raw], *, wait: bool = False) -> None:
        """See `Plane`; nothing tells what proxies have."""
        options = self._options
        if self._cluster is not None:
            self._cluster.apply(documents)
        elif options.folder is not None:
            for raw in documents:
                _write(options.folder / CHANGING / _file_name(raw), [raw])
        elif options.apply:
            body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
            subprocess.run(shlex.split(options.apply), input=body.encode(), check=True)
        else:
            raise SystemExit(
                "this scenario changes objects: give --kubeconfig FILE, --folder FOLDER or "
                "--apply COMMAND"
            )

    def set_pod_status(self, namespace: str, name: str, status: Raw) -> None:
        """See `Plane`."""
        if self._cluster is not None:
            self._cluster.set_pod_status(namespace, name, status)
            return
        metadata = {"name": name, "namespace": namespace}
        raw = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        self.apply([raw])

    def restart(self) -> None:
        """See `Plane`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.ready_s = self._start()
        elif self._options.restart:
            subprocess.run(shlex.split(self._options.restart), check=True)
        else:
            raise SystemExit("this scenario restarts the server: give --start or --restart COMMAND")

    def cpu(self) -> float:
        """See `Plane`."""
        return self._reading(tree_cpu)

    def rss_mb(self) -> float:
        """See `Plane`."""
        return self._reading(tree_rss_mb)

    def processes(self) -> list[Process]:
        """See `Plane`."""
        return []

    def kill(self, pid: int) -> None:
        """See `Plane`."""
        raise SystemExit("nobody knows which processes of this server have proxies")

    def counters(self) -> dict[str, float]:
        """See `Plane`."""
        return scrape(self._options.metrics) if self._options.metrics else {}

    def close(self) -> None:
        """See `Plane`. What somebody else started is not ours to end."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _reading(self, read: Callable[[int], float]) -> float:
        pid = self._process.pid if self._process is not None else self._options.pid
        return read(pid) if pid else 0.0

    def _start(self) -> float:
        options = self._options
        begun = time.monotonic()
        command = shlex.split(options.start)
        if options.log is None:
            out = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        else:
            with options.log.open("ab") as log:
                self._process = subprocess.Popen(command, stdout=log, stderr=log)
        while not _is_ready(options.ready):
            if self._process.poll() is not None:
                raise SystemExit(f"the server ended with {self._process.returncode}: {command}")
            if time.monotonic() - begun > _START_LIMIT:
                self.close()
                raise SystemExit(f"the server was not ready within {_START_LIMIT:.0f} s")
            time.sleep(0.05)
        return time.monotonic() - begun


def write_mesh(size: Size, folder: Path) -> None:
    """Write a mesh for a server that reads a folder and, on a change, all of it again.

    ``still`` has what most scenarios leave alone, in one file; ``changing`` the objects of the
    first service and the policies, one a file, so that little is read again. Name both to the
    server. What else a scenario changes moves to ``changing`` and wins if that is named first.
    """
    still: list[Raw] = []
    for name in (STILL, CHANGING):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for raw in objects(size):
        if raw["kind"] == "Namespace":
            continue
        owner = raw["metadata"]["name"].partition("-")[0]
        if owner == "svc0" or raw["kind"] == "PeerAuthentication":
            _write(folder / CHANGING / _file_name(raw), [raw])
        else:
            still.append(raw)
    _write(folder / STILL / "mesh.yaml", still)


def _write(path: Path, documents: Iterable[Raw]) -> None:
    """As a stream of YAML documents (JSON is YAML), never half written."""
    draft = path.with_suffix(".draft")
    draft.write_text("\n---\n".join(json.dumps(raw) for raw in documents))
    draft.replace(path)


def _file_name(raw: Raw) -> str:
    metadata = raw["metadata"]
    return f"{raw['kind']}.{metadata.get('namespace', '')}.{metadata['name']}.yaml".lower()


def _is_ready(url: str) -> bool:
    if not url:
        return True
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            ready: bool = answer.status == 200
            return ready
    except (urllib.error.URLError, OSError):
        return False
