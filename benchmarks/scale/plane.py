"""The server under load: Lateen's control plane as a process of ours, or somebody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from envoy.config.core.v3 import base_pb2

from benchmarks.scale.fleet import Place
from benchmarks.scale.mesh import (
    Raw,
    Size,
    namespace_of,
    objects,
    pod_address,
    pod_labels,
    pod_name,
    proxy_places,
)
from benchmarks.scale.processes import tree_cpu, tree_rss_mb
from benchmarks.scale.proxy import ProxySpec
from lateen.api.resource import Provenance
from lateen.model.service import WorkloadIdentity
from lateen.pki.authority import Authority, load_or_create
from lateen.pki.keys import new_key_and_request
from lateen.source.client import Client
from lateen.source.store import Store, Write
from lateen.source.writing import Document, Writer
from tests.ports import free_port

_START_LIMIT = 120.0


class Process(NamedTuple):
    """A process of a server, with the number of proxies that it has."""

    pid: int
    proxies: int


class Plane(Protocol):
    """What scenarios need of a server."""

    ready_s: float
    """Seconds from its last start to readiness; 0 when somebody else starts it."""

    @property
    def place(self) -> Place:
        """Where proxies connect to."""

    def apply(self, documents: Sequence[Raw], *, wait: bool = False) -> None:
        """Create or change objects; with ``wait`` until proxies have it, where the server tells."""

    def set_pod_status(self, namespace: str, name: str, status: Raw) -> None:
        """Write a pod's status."""

    def restart(self) -> None:
        """End the server and start it again over the same state."""

    def cpu(self) -> float:
        """CPU seconds that all its processes have used so far (0 when unknown)."""

    def rss_mb(self) -> float:
        """Resident memory of all its processes in MB, shared pages once (0 when unknown)."""

    def processes(self) -> list[Process]:
        """Those that serve proxies, the first one first (empty when unknown)."""

    def kill(self, pid: int) -> None:
        """End one of `processes` at once."""

    def counters(self) -> dict[str, float]:
        """Prometheus counters and gauges, summed over their labels (empty when unknown)."""

    def close(self) -> None:
        """End it."""


class LateenPlane:
    """A control plane process of our own over a state directory that holds the mesh.

    ``profile`` is a file for a profile of the whole run (``cProfile``; it slows the run down).
    """

    def __init__(
        self, folder: Path, size: Size, *, options: Sequence[str] = (), profile: str = ""
    ) -> None:
        self._folder = folder
        self._state = folder / "state"
        self._log = folder / "control-plane.log"
        self._options = tuple(options)
        self._profile = profile
        self._port, self._metrics = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._state.mkdir(mode=0o700)
        fill_store(self.store, objects(size))
        self._client = Client(self._state / "api.sock", timeout=120)
        self.ready_s = self._start()
        """Seconds from the start of the process to readiness, the whole mesh loaded."""

    @property
    def authority(self) -> Authority:
        """The authority that signs the proxies' certificates."""
        return load_or_create(self._state / "ca")

    @property
    def place(self) -> Place:
        """See `Plane`."""
        return Place("127.0.0.1", self._port, str(self._state / "ca" / "root-cert.pem"))

    def apply(self, documents: Sequence[Raw], *, wait: bool = False) -> None:
        """See `Plane`."""
        body = {"documents": [{"raw": raw} for raw in documents], "wait": wait, "timeout": 60.0}
        for line in self._client.lines("POST", "/lateen/v1/apply", body):
            if line.get("result") == "refused":
                raise SystemExit(f"the control plane refused an object: {line}")

    def set_pod_status(self, namespace: str, name: str, status: Raw) -> None:
        """See `Plane`."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
        self._client.request("PATCH", path, {"status": status})

    def restart(self) -> None:
        """See `Plane`."""
        self.stop(signal.SIGKILL)
        self.start()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()
        (self._state / "api.sock").unlink(missing_ok=True)

    def start(self) -> None:
        """Start it again after `stop`."""
        self.ready_s = self._start()

    @property
    def store(self) -> Path:
        """The file with its objects."""
        return self._state / "store.db"

    @property
    def connected(self) -> Path:
        """The file with the proxies that were connected lately."""
        return self._state / "connected.json"

    def cpu(self) -> float:
        """See `Plane`."""
        assert self._process is not None
        return tree_cpu(self._process.pid)

    def rss_mb(self) -> float:
        """See `Plane`."""
        assert self._process is not None
        return tree_rss_mb(self._process.pid)

    def processes(self) -> list[Process]:
        """See `Plane`."""
        rows = self._client.request("GET", "/lateen/v1/status").get("workers", [])
        return [Process(row["pid"], row["proxies"]) for row in rows]

    def kill(self, pid: int) -> None:
        """See `Plane`."""
        os.kill(pid, signal.SIGKILL)

    def counters(self) -> dict[str, float]:
        """See `Plane`."""
        return scrape(f"http://127.0.0.1:{self._metrics}/metrics")

    def close(self) -> None:
        """See `Plane`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self, timeout: float) -> Raw:
        """Wait until all proxies have the newest revision; returns what the control plane says."""
        found: Raw = self._client.request("GET", f"/lateen/v1/wait?timeout={timeout}")
        return found

    def log(self) -> str:
        """What the control plane has logged."""
        return self._log.read_text()

    def _start(self) -> float:
        begun = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._launcher(), "-m", "lateen.serve.main",
                    "--state-dir", str(self._state), "--listen", f"127.0.0.1:{self._port}",
                    "--metrics", f"127.0.0.1:{self._metrics}", "--log-level", "warning",
                    *self._options,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        while not (self._state / "api.sock").exists():
            if self._process.poll() is not None or time.monotonic() - begun > _START_LIMIT:
                raise SystemExit(f"the control plane did not start:\n{self.log()[-3000:]}")
            time.sleep(0.01)
        return time.monotonic() - begun

    def _launcher(self) -> list[str]:
        """The interpreter, below the profiler when that is wanted."""
        if not self._profile:
            return [sys.executable]
        return [sys.executable, "-m", "cProfile", "-o", self._profile]


def fill_store(path: Path, documents: Iterable[Raw]) -> None:
    """Write a mesh into the store file of a control plane that does not run."""
    store = Store(path)
    writer = Writer(store)
    written = list(documents)
    outcomes = writer.apply([Document(raw, Provenance()) for raw in written], "scale", "scale")
    # As in Kubernetes, applying an object leaves its status alone.
    status = {
        outcome.key: raw["status"]
        for outcome, raw in zip(outcomes, written, strict=True)
        if "status" in raw
    }
    store.commit(
        [
            Write(stored.key, {**stored.raw, "status": status[stored.key]}, durable=False)
            for stored in store.all()
            if stored.key in status
        ],
        "scale",
    )
    store.close()
    refused = [outcome for outcome in outcomes if outcome.result == "refused"]
    if refused:
        raise SystemExit(f"the generated mesh is not valid: {refused[0]}")


def proxy_specs(size: Size, folder: Path, authority: Authority | None) -> list[ProxySpec]:
    """The proxies that connect, each with a key and certificate of its own (PEM, in ``folder``).

    Without ``authority`` they have none, for servers that take clear text.
    """
    specs = []
    folder.mkdir(mode=0o700, exist_ok=True)
    for service, index in proxy_places(size):
        namespace, name = namespace_of(size, service), pod_name(service, index)
        certificate = ""
        if authority is not None:
            made = new_key_and_request()
            identity = WorkloadIdentity(namespace, f"svc{service}", f"svc{service}")
            chain = authority.sign(made.request, identity).chain
            file = folder / f"{name}.{namespace}.pem"
            file.touch(mode=0o600)
            file.write_bytes(made.key + chain)
            certificate = str(file)
        specs.append(ProxySpec(name, namespace, _node(size, service, index), certificate))
    return specs


def _node(size: Size, service: int, index: int) -> bytes:
    namespace, name = namespace_of(size, service), pod_name(service, index)
    address = pod_address(service, index)
    node = base_pb2.Node(
        id=f"sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local",
        cluster=f"svc{service}.{namespace}",
    )
    node.metadata.update(
        {
            "NAMESPACE": namespace,
            "NAME": name,
            "CLUSTER_ID": "Kubernetes",
            "INSTANCE_IPS": address,
            "SERVICE_ACCOUNT": f"svc{service}",
            "LABELS": pod_labels(service, index),
            "ISTIO_VERSION": "1.30.0",
        }
    )
    body: bytes = node.SerializeToString()
    return body


def scrape(url: str) -> dict[str, float]:
    """Samples of a Prometheus endpoint, summed over labels."""
    found: dict[str, float] = {}
    with urllib.request.urlopen(url, timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                with contextlib.suppress(ValueError):
                    found[name] = found.get(name, 0.0) + float(value)
    return found
