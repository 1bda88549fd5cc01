"""xDS fan-out: how fast, and at what cost, a change reaches N connected proxies.

``python -m benchmarks.fanout --proxies 1000 --services 1000 --namespaces 20`` starts the real
control plane as a process, connects simulated proxies over mutual TLS (each with its own
certificate) from processes of their own, changes things, and prints for each scenario the time
from the change to the first and to the last acknowledgement (debounce included), the CPU seconds
and memory of the control plane, and what it sent.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.simulated_proxies import ProxySpec, Tally, play

from lateen.api.resource import Provenance
from lateen.model.service import WorkloadIdentity
from lateen.pki.authority import load_or_create
from lateen.pki.keys import new_key_and_request
from lateen.source.client import Client
from lateen.source.store import Store
from lateen.source.writing import Document, Writer

PORT = 80
_TICKS = os.sysconf("SC_CLK_TCK")
_GIVE_UP = 60.0  # seconds
_SETTLE = 0.5  # seconds without a message after which a change counts as delivered


@dataclass(frozen=True, slots=True)
class Size:
    """How large the mesh is."""

    services: int
    endpoints: int
    proxies: int
    namespaces: int


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario. Times in milliseconds from the change, debounce included; p50 and p99 are
    over the repetitions."""

    scenario: str
    repetitions: int
    first_ack_ms: dict[str, float]
    last_ack_ms: dict[str, float]
    proxies_reached: int
    server_cpu_s: float
    server_rss_mb: float
    bytes_sent: int
    resources_sent: int
    messages: int
    translations: float
    encodings: float


def mesh_objects(size: Size) -> list[dict[str, Any]]:
    """Services without selector, their EndpointSlices, and a pod for each proxy."""
    objects: list[dict[str, Any]] = []
    for number in range(size.services):
        namespace = f"ns{number % size.namespaces}"
        meta = {"name": f"svc{number}", "namespace": namespace}
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta,
                "spec": {"ports": [{"name": "http", "port": PORT, "targetPort": 8080}]},
            }
        )
        objects.append(endpoint_slice(number, namespace, size.endpoints, 0))
    objects += [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"proxy{number}", "namespace": f"ns{number % size.namespaces}"},
            "spec": {"containers": [{"name": "app", "image": "app"}, {"name": "istio-proxy"}]},
            "status": {"phase": "Running", "podIP": "127.0.0.1"},
        }
        for number in range(size.proxies)
    ]
    return objects


def endpoint_slice(service: int, namespace: str, count: int, turn: int) -> dict[str, Any]:
    """The endpoints of a service; another ``turn`` gives the first one another address."""
    first, rest = divmod(service, 250)
    addresses = [f"10.{first}.{rest}.{index + 1}" for index in range(count)]
    if turn:
        addresses[0] = f"10.{first}.{rest}.{100 + turn % 100}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"svc{service}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": f"svc{service}"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}} for address in addresses
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def virtual_service(turn: int, export_to: str) -> dict[str, Any]:
    """A rule for one host, with another timeout each turn."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "svc0", "namespace": "ns0"},
        "spec": {
            "hosts": ["svc0"],
            "exportTo": [export_to],
            "http": [
                {
                    "timeout": f"{turn + 1}s",
                    "route": [{"destination": {"host": "svc0"}}],
                }
            ],
        },
    }


class Rig:
    """The control plane and the worker processes."""

    def __init__(self, size: Size, workers: int, target: str, folder: Path, log: Path) -> None:
        self.size = size
        self._state = folder / "state"
        self._target = target
        self._log = log
        self._plane: subprocess.Popen[bytes] | None = None
        self._pipes: list[Connection] = []
        self._processes: list[multiprocessing.Process] = []
        self._workers = workers
        self._prepare()

    @property
    def api(self) -> Client:
        return Client(self._state / "api.sock", timeout=120)

    def start(self) -> float:
        """Start the control plane; returns the seconds until it is ready."""
        begun = time.monotonic()
        with self._log.open("ab") as log:
            self._plane = subprocess.Popen(
                [
                    sys.executable, "-m", "lateen.serve.main", "--state-dir", str(self._state),
                    "--listen", self._target, "--metrics", "127.0.0.1:0", "--log-level", "warning",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        while not (self._state / "api.sock").exists():
            if self._plane.poll() is not None:
                raise SystemExit(f"the control plane ended:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def restart(self) -> None:
        """Kill the control plane and start it again."""
        assert self._plane is not None
        self._plane.kill()
        self._plane.wait()
        (self._state / "api.sock").unlink(missing_ok=True)
        self.start()

    def connect(self) -> float:
        """Connect all proxies; returns the monotonic time when the last was complete."""
        self._tell("connect")
        last: float = max(pipe.recv() for pipe in self._pipes)
        return last

    def take(self) -> list[Tally]:
        """What arrived since the last call, by worker."""
        self._tell("take")
        return [pipe.recv() for pipe in self._pipes]

    def settle(self, tallies: list[Tally], proxies: int = 0) -> list[Tally]:
        """Collect until nothing arrives any more, and at least ``proxies`` have been reached."""
        deadline = time.monotonic() + _GIVE_UP
        while True:
            time.sleep(_SETTLE)
            more = self.take()
            enough = len(_reached(tallies)) >= proxies or time.monotonic() > deadline
            if enough and not any(tally.messages for tally in more):
                return [tally for tally in tallies if tally.messages]
            tallies += more

    def cpu(self) -> float:
        """CPU seconds of the control plane so far."""
        assert self._plane is not None
        fields = Path(f"/proc/{self._plane.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss(self) -> float:
        """Resident memory of the control plane in MB."""
        assert self._plane is not None
        status = Path(f"/proc/{self._plane.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def counters(self) -> dict[str, float]:
        """Translations and encodings so far."""
        found = self.api.request("GET", "/lateen/v1/counters")
        return {str(name): float(value) for name, value in found.items()}

    def close(self) -> None:
        """End everything."""
        for pipe in self._pipes:
            pipe.send("end")
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
        if self._plane is not None and self._plane.poll() is None:
            self._plane.send_signal(signal.SIGTERM)
            try:
                self._plane.wait(10)
            except subprocess.TimeoutExpired:
                self._plane.kill()

    def _prepare(self) -> None:
        """Fill the store, sign certificates, start the workers (not yet connected)."""
        self._state.mkdir(mode=0o700)
        store = Store(self._state / "store.db")
        documents = [Document(raw, Provenance()) for raw in mesh_objects(self.size)]
        refused = [
            outcome
            for outcome in Writer(store).apply(documents, "benchmark", "benchmark")
            if outcome.result == "refused"
        ]
        store.close()
        if refused:
            raise SystemExit(f"the mesh is not valid: {refused[0]}")
        authority = load_or_create(self._state / "ca")
        specs = []
        for number in range(self.size.proxies):
            namespace = f"ns{number % self.size.namespaces}"
            made = new_key_and_request()
            identity = WorkloadIdentity(namespace, f"proxy{number}")
            chain = authority.sign(made.request, identity).chain
            node = f"sidecar~127.0.0.1~proxy{number}.{namespace}~{namespace}.svc.cluster.local"
            specs.append(ProxySpec(number, node, made.key, chain))
        context = multiprocessing.get_context("spawn")
        for worker in range(self._workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=play,
                args=(
                    theirs, specs[worker :: self._workers], self._target,
                    authority.trust_bundle, (str(PORT),),
                ),
                daemon=True,
            )  # fmt: skip
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)  # type: ignore[arg-type]  # a spawn process is one

    def _tell(self, command: str) -> None:
        for pipe in self._pipes:
            pipe.send(command)


def _reached(tallies: list[Tally]) -> set[int]:
    return {number for tally in tallies for number in tally.proxies}


def measure(
    rig: Rig,
    scenario: str,
    repetitions: int,
    change: Callable[[int], object],
    *,
    restarts: bool = False,
) -> Result:
    """Run ``change`` some times and see how each reaches the proxies.

    With ``restarts`` the control plane is a new process afterwards, so proxies lose their streams
    and its counters begin at zero.
    """
    rig.settle([])
    cpu, before = (
        (0.0, dict.fromkeys(rig.counters(), 0.0)) if restarts else (rig.cpu(), rig.counters())
    )
    firsts, lasts, reached = [], [], 0
    total = Tally()
    for turn in range(repetitions):
        begun = time.monotonic()
        change(turn)
        tallies: list[Tally] = []
        while not any(tally.messages for tally in tallies):
            time.sleep(0.2)
            tallies += rig.take()
        tallies = rig.settle(tallies, rig.size.proxies if restarts else 0)
        firsts.append((min(t.first for t in tallies) - begun) * 1000)
        lasts.append((max(t.last for t in tallies) - begun) * 1000)
        reached = len(_reached(tallies))
        for tally in tallies:
            total.bytes += tally.bytes
            total.resources += tally.resources
            total.messages += tally.messages
            if tally.errors and not restarts:
                raise SystemExit(f"a proxy failed: {tally.errors[0]}")
    after = rig.counters()
    return Result(
        scenario,
        repetitions,
        _percentiles(firsts),
        _percentiles(lasts),
        reached,
        round((rig.cpu() - cpu) / repetitions, 3),
        round(rig.rss(), 1),
        total.bytes // repetitions,
        total.resources // repetitions,
        total.messages // repetitions,
        (after["translations"] - before["translations"]) / repetitions,
        (after["encodings"] - before["encodings"]) / repetitions,
    )


def run(size: Size, repetitions: int, workers: int, target: str) -> list[Result]:
    """All scenarios, one after the other, on one control plane."""
    folder = Path(tempfile.mkdtemp(prefix="lateen-fanout-"))
    rig = Rig(size, workers, target, folder, folder / "control-plane.log")
    try:
        ready = rig.start()
        print(f"control plane ready after {ready:.2f} s, {rig.rss():.0f} MB", file=sys.stderr)
        results = [_cold_connect(rig)]
        api = rig.api

        def endpoint(turn: int) -> object:
            body = endpoint_slice(0, "ns0", size.endpoints, turn + 1)
            path = "/apis/discovery.k8s.io/v1/namespaces/ns0/endpointslices/svc0-1"
            return api.request("PUT", path, body)

        def apply(raw: dict[str, Any]) -> object:
            body = {"documents": [{"raw": raw}], "wait": False}
            return list(api.lines("POST", "/lateen/v1/apply", body))

        results.append(measure(rig, "endpoint-change", repetitions, endpoint))
        everywhere = lambda turn: apply(virtual_service(turn, "*"))  # noqa: E731
        results.append(measure(rig, "route-change", repetitions, everywhere))
        apply(virtual_service(0, "."))
        own = lambda turn: apply(virtual_service(turn + 1, "."))  # noqa: E731
        results.append(measure(rig, "route-change-one-namespace", repetitions, own))
        results.append(measure(rig, "reconnect", 1, lambda _turn: rig.restart(), restarts=True))
        return results
    finally:
        rig.close()
        shutil.rmtree(folder, ignore_errors=True)


def _cold_connect(rig: Rig) -> Result:
    cpu, before = rig.cpu(), rig.counters()
    begun = time.monotonic()
    rig.connect()
    tallies = rig.settle(rig.take())
    arrivals = [moment for tally in tallies for moment in tally.arrivals]
    after = rig.counters()
    return Result(
        "cold-connect",
        1,
        _percentiles([(min(arrivals) - begun) * 1000]),
        _percentiles([(max(tally.last for tally in tallies) - begun) * 1000]),
        len(_reached(tallies)),
        round(rig.cpu() - cpu, 2),
        round(rig.rss(), 1),
        sum(tally.bytes for tally in tallies),
        sum(tally.resources for tally in tallies),
        sum(tally.messages for tally in tallies),
        after["translations"] - before["translations"],
        after["encodings"] - before["encodings"],
    )


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    return {"p50": at(0.5), "p99": at(0.99)}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=__doc__)
    parser.add_argument("--proxies", type=int, default=100)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--endpoints", type=int, default=5)
    parser.add_argument("--namespaces", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--listen", default="127.0.0.1:15912")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    found = parser.parse_args()
    size = Size(found.services, found.endpoints, found.proxies, found.namespaces)
    results = run(size, found.repetitions, found.workers, found.listen)
    if found.output == "json":
        print(json.dumps({"size": asdict(size), "results": [asdict(r) for r in results]}, indent=2))
        return 0
    print(f"{'scenario':28}{'first ACK ms':>16}{'last ACK ms':>18}{'proxies':>9}", end="")
    print(
        f"{'CPU s':>8}{'RSS MB':>8}{'KB sent':>10}{'resources':>11}{'translated':>12}{'encoded':>9}"
    )
    for r in results:
        first = f"{r.first_ack_ms['p50']:.0f} / {r.first_ack_ms['p99']:.0f}"
        last = f"{r.last_ack_ms['p50']:.0f} / {r.last_ack_ms['p99']:.0f}"
        print(f"{r.scenario:28}{first:>16}{last:>18}{r.proxies_reached:>9}", end="")
        print(f"{r.server_cpu_s:>8}{r.server_rss_mb:>8.0f}{r.bytes_sent / 1024:>10.0f}", end="")
        print(f"{r.resources_sent:>11}{r.translations:>12.1f}{r.encodings:>9.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
