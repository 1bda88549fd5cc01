"""What is done to the mesh, and what is measured of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

from benchmarks.scale.fleet import Fleet, Report, percentile
from benchmarks.scale.mesh import (
    Size,
    cluster_of,
    namespace_of,
    peer_authentication,
    pod_name,
    pod_status,
    port_of,
    virtual_service,
    workload_entry,
)
from benchmarks.scale.plane import Plane
from benchmarks.scale.wire import ENDPOINT, LISTENER, ROUTE

_IDLE = 20.0
"""Seconds for which idleness is measured: a tick of the clock is a hundredth of one."""
_PATIENCE = 5.0
"""Seconds to wait for an acknowledgement that may not come: of a change that changes nothing, as
an earlier run left the mesh so, or that concerns nobody."""
_COUNTERS = ("lateen_translations_total", "lateen_xds_messages_encoded_total")


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds over all repetitions."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario showed. Sums are per repetition.

    ``first_ack_ms`` and ``last_ack_ms`` count from the change (its request to the server being
    sent) to the first and the last acknowledgement; ``debounce_ms`` of it is waiting on purpose.
    ``proxies_reached`` were sent anything at all. Keys whose server does not tell are None.
    """

    scenario: str
    size: Size
    dialect: str
    repetitions: int
    first_ack_ms: Percentiles
    last_ack_ms: Percentiles
    debounce_ms: float
    proxies_reached: int
    server_cpu_s: float
    server_rss_mb: float
    bytes_sent: int
    resources_sent: int
    messages_sent: int
    translations: float | None
    encodings: float | None
    rig_cpu_s: float
    errors: tuple[str, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict)

    def data(self) -> dict[str, object]:
        """As JSON data."""
        return asdict(self)


@dataclass(slots=True)
class Bench:
    """A mesh, a server and its proxies, ready for a scenario."""

    size: Size
    plane: Plane
    fleet: Fleet
    dialect: str
    repetitions: int
    debounce: float
    """Seconds."""
    duration: float
    """Seconds of churn."""
    limit: float = 300.0
    """Seconds after which a scenario gives up."""
    quiet: float = 0.5
    """Seconds without a message after which a change counts as delivered everywhere."""

    def move_pod(self, service: int, index: int, turn: int) -> None:
        """Give a pod another address, that of ``turn``."""
        size = self.size
        if size.entries:
            self.plane.apply([workload_entry(size, service, index, turn)])
            return
        space, name = namespace_of(size, service), pod_name(service, index)
        self.plane.set_pod_status(space, name, pod_status(service, index, turn))


@dataclass(slots=True)
class Meter:
    """Sums over the repetitions of a scenario."""

    bench: Bench
    cpu: float = 0.0
    rig_cpu: float = 0.0
    counters: dict[str, float] = field(default_factory=dict)
    firsts: list[float] = field(default_factory=list)
    lasts: list[float] = field(default_factory=list)
    bytes: int = 0
    resources: int = 0
    messages: int = 0
    reached: int = 0
    errors: list[str] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)

    def start(self, *, fresh: bool = False) -> None:
        """Take the server's readings; ``fresh`` when it is about to be another process."""
        self.cpu = 0.0 if fresh else self.bench.plane.cpu()
        self.counters = {} if fresh else self.bench.plane.counters()
        self.rig_cpu = self.bench.fleet.report().cpu_s

    def add(self, begun: float, acknowledged: list[float], report: Report) -> None:
        """One repetition that began at ``begun``; ``acknowledged`` are monotonic times."""
        if acknowledged:
            self.firsts.append((min(acknowledged) - begun) * 1000)
            self.lasts.append((max(acknowledged) - begun) * 1000)
        self.bytes += report.totals.bytes
        self.resources += report.totals.resources
        self.messages += report.totals.messages
        self.reached = report.reached
        self.errors += report.errors

    def result(self, scenario: str, repetitions: int = 1) -> Result:
        """All of it."""
        bench = self.bench
        now = bench.plane.counters()
        translations, encodings = (
            (now[name] - self.counters.get(name, 0.0)) / repetitions if name in now else None
            for name in _COUNTERS
        )
        return Result(
            scenario=scenario,
            size=bench.size,
            dialect=bench.dialect,
            repetitions=repetitions,
            first_ack_ms=_percentiles(self.firsts),
            last_ack_ms=_percentiles(self.lasts),
            debounce_ms=bench.debounce * 1000,
            proxies_reached=self.reached,
            server_cpu_s=round((bench.plane.cpu() - self.cpu) / repetitions, 3),
            server_rss_mb=round(bench.plane.rss_mb(), 1),
            bytes_sent=self.bytes // repetitions,
            resources_sent=self.resources // repetitions,
            messages_sent=self.messages // repetitions,
            translations=translations,
            encodings=encodings,
            rig_cpu_s=round((bench.fleet.report().cpu_s - self.rig_cpu) / repetitions, 3),
            errors=tuple(dict.fromkeys(self.errors))[:5],
            extra=self.extra,
        )


def cold_connect(bench: Bench) -> Result:
    """All proxies connect at once and hold nothing; acknowledged means complete."""
    meter = Meter(bench)
    meter.start()
    begun, report = connect_all(bench)
    meter.add(begun, report.complete_at, report)
    settled = bench.fleet.settle(bench.quiet, 30)
    meter.extra["complete"] = len(settled.complete_at)
    meter.extra["idle_cpu_percent"] = _idle_cpu(bench)
    return meter.result("cold-connect")


def endpoint_change(bench: Bench) -> Result:
    """One pod of one service gets another address."""

    def change(turn: int) -> None:
        pod = min(1, bench.size.endpoints - 1)
        bench.move_pod(0, pod, turn)

    return _changes(bench, "endpoint-change", ENDPOINT, cluster_of(bench.size, 0), change)


def route_change(bench: Bench) -> Result:
    """A VirtualService that all namespaces see gets another timeout."""
    service = _http_service(bench.size)
    name = str(port_of(service)[1])
    return _changes(
        bench,
        "route-change",
        ROUTE,
        name,
        lambda turn: bench.plane.apply([virtual_service(bench.size, service, turn)]),
    )


def private_route_change(bench: Bench) -> Result:
    """A VirtualService that only its own namespace sees gets another timeout."""
    service = _http_service(bench.size)
    bench.plane.apply([virtual_service(bench.size, service, 99, ".")], wait=True)
    bench.fleet.settle(bench.quiet, 30)
    return _changes(
        bench,
        "private-route-change",
        ROUTE,
        str(port_of(service)[1]),
        lambda turn: bench.plane.apply([virtual_service(bench.size, service, turn, ".")]),
        expected=_proxies_in(bench.size, namespace_of(bench.size, service)),
    )


def namespace_policy(bench: Bench) -> Result:
    """The mutual TLS mode of one namespace changes."""
    space = namespace_of(bench.size, 0)

    def change(turn: int) -> None:
        mode = "PERMISSIVE" if turn % 2 else "STRICT"
        bench.plane.apply([peer_authentication(space, mode)])

    bench.plane.apply([peer_authentication(space, "STRICT")], wait=True)
    bench.fleet.settle(bench.quiet, 30)
    expected = _proxies_in(bench.size, space)
    return _changes(bench, "namespace-policy", LISTENER, "", change, expected=expected)


def mesh_policy(bench: Bench) -> Result:
    """The mutual TLS mode of the whole mesh changes."""

    def change(turn: int) -> None:
        mode = "PERMISSIVE" if turn % 2 else "STRICT"
        bench.plane.apply([peer_authentication("istio-system", mode)])

    bench.plane.apply([peer_authentication("istio-system", "STRICT")], wait=True)
    bench.fleet.settle(bench.quiet, 30)
    return _changes(bench, "mesh-policy", LISTENER, "", change, expected=0)


def rolling_restart(bench: Bench) -> Result:
    """A fifth of all services restart: their pods get other addresses, one after the other."""
    meter = Meter(bench)
    _, report = connect_all(bench)
    bench.fleet.settle(bench.quiet, 30)
    bench.fleet.mark(ENDPOINT)
    meter.start()
    begun = time.monotonic()
    for service in range(0, bench.size.services, 5):
        for index in range(bench.size.endpoints):
            bench.move_pod(service, index, 1)
    changed = time.monotonic()
    report = bench.fleet.settle(max(bench.quiet, 3 * bench.debounce), bench.limit)
    meter.add(begun, [*report.seen_at[:1], report.last_message_at], report)
    meter.extra["changing_s"] = round(changed - begun, 2)
    meter.extra["after_last_change_ms"] = round((report.last_message_at - changed) * 1000, 1)
    return meter.result("rolling-restart")


def reconnect(bench: Bench) -> Result:
    """The server is killed and comes back; all proxies return with what they hold."""
    meter = Meter(bench)
    connect_all(bench)
    bench.fleet.settle(bench.quiet, 30)
    bench.fleet.disconnect()
    bench.plane.restart()
    bench.fleet.mark()
    meter.start(fresh=True)
    meter.cpu = bench.plane.cpu()
    meter.extra["ready_s"] = round(bench.plane.ready_s, 2)
    meter.extra["cpu_until_ready_s"] = round(meter.cpu, 2)
    begun, report = connect_all(bench)
    meter.add(begun, report.complete_at, report)
    return meter.result("reconnect")


def churn(bench: Bench) -> Result:
    """Endpoints, routes and policies change all the time; memory must not grow."""
    meter = Meter(bench)
    connect_all(bench)
    bench.fleet.settle(bench.quiet, 30)
    bench.fleet.mark()
    meter.start()
    begun, turn = time.monotonic(), 0
    memory: list[float] = []
    size = bench.size
    while time.monotonic() - begun < bench.duration:
        turn += 1
        service = turn * 7 % size.services
        index = turn % size.endpoints
        bench.move_pod(service, index, turn // size.services + 1)
        if turn % 10 == 0:
            target = turn % size.services // 10 * 10
            bench.plane.apply([virtual_service(size, target, turn)])
        if turn % 50 == 0:
            mode = "STRICT" if turn % 100 else "PERMISSIVE"
            bench.plane.apply([peer_authentication(namespace_of(size, turn), mode)])
        if turn % 10 == 1:  # looking at memory costs the server some time
            memory.append(bench.plane.rss_mb())
        time.sleep(0.1)
    report = bench.fleet.settle(max(bench.quiet, 3 * bench.debounce), bench.limit)
    meter.add(begun, [report.last_message_at], report)
    warm = memory[len(memory) // 5 :] or memory
    half = len(warm) // 2
    early, late = statistics.median(warm[: half or 1]), statistics.median(warm[half:])
    meter.extra["changes"] = turn
    meter.extra["cpu_percent"] = round(
        100 * (bench.plane.cpu() - meter.cpu) / (time.monotonic() - begun), 1
    )
    meter.extra["memory_growth_percent"] = round(100 * (late - early) / early, 2) if early else 0.0
    return meter.result("churn")


def slow_readers(bench: Bench) -> Result:
    """A tenth of the proxies stop reading while routes change; the others must not notice."""
    connect_all(bench)
    bench.fleet.settle(bench.quiet, 30)
    before = bench.plane.rss_mb()
    stuck = max(1, bench.size.proxies // 10)
    bench.fleet.stop_reading(stuck)
    service = _http_service(bench.size)
    result = _changes(
        bench,
        "slow-readers",
        ROUTE,
        str(port_of(service)[1]),
        lambda turn: bench.plane.apply([virtual_service(bench.size, service, turn)]),
        expected=bench.size.proxies - stuck,
        connect=False,
    )
    grown = round(bench.plane.rss_mb() - before, 1)
    bench.fleet.stop_reading(0)
    bench.fleet.settle(bench.quiet, 60)
    return _with(result, stuck=stuck, memory_growth_mb=grown)


def nack(bench: Bench) -> Result:
    """A tenth of the proxies refuse what they are sent: it must cost no more than that.

    A control plane that takes refused configuration back from everyone sends it twice.
    """
    connect_all(bench)
    bench.fleet.settle(bench.quiet, 30)
    refusing = max(1, bench.size.proxies // 10)
    bench.fleet.refuse(refusing, "the rig refuses this")
    result = _changes(
        bench,
        "nack",
        ENDPOINT,
        cluster_of(bench.size, 0),
        lambda turn: bench.move_pod(0, 0, turn),
        expected=0,
        connect=False,
    )
    bench.fleet.refuse(0, "")
    return _with(result, refusing=refusing)


SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    "cold-connect": cold_connect,
    "endpoint-change": endpoint_change,
    "route-change": route_change,
    "private-route-change": private_route_change,
    "namespace-policy": namespace_policy,
    "mesh-policy": mesh_policy,
    "rolling-restart": rolling_restart,
    "reconnect": reconnect,
    "churn": churn,
    "slow-readers": slow_readers,
    "nack": nack,
}
"""By the name of the command line, in the order in which `all` runs them."""


def _changes(
    bench: Bench,
    scenario: str,
    type_url: str,
    name: str,
    change: Callable[[int], object],
    *,
    expected: int | None = None,
    connect: bool = True,
) -> Result:
    """Repeat ``change``; each time wait until every proxy concerned has acknowledged it.

    ``expected`` is how many these are: by default all that hold the resource; 0 means that it is
    not known, then silence after the first one ends the wait.
    """
    if connect:
        connect_all(bench)
    fleet = bench.fleet
    fleet.settle(bench.quiet, 30)
    if expected is None:
        expected = fleet.holders(type_url, name)
    meter = Meter(bench)
    # The first change of a kind loads code and fills caches that later ones find.
    fleet.mark(type_url, name)
    change(1)
    _wait_for_acknowledgements(bench, expected or 1, _PATIENCE)
    fleet.settle(max(bench.quiet, 3 * bench.debounce), bench.limit)
    meter.start()
    written: list[float] = []
    for turn in range(2, bench.repetitions + 2):
        fleet.mark(type_url, name)
        begun = time.monotonic()
        change(turn)
        written.append((time.monotonic() - begun) * 1000)
        _wait_for_acknowledgements(bench, expected or 1, bench.limit if expected else _PATIENCE)
        report = fleet.settle(max(bench.quiet, 3 * bench.debounce), bench.limit)
        meter.add(begun, report.seen_at, report)
        if expected and len(report.seen_at) < expected:
            meter.errors.append(f"{len(report.seen_at)} of {expected} proxies acknowledged")
    meter.extra["written_ms"] = round(statistics.median(written), 1)
    return meter.result(scenario, bench.repetitions)


def _wait_for_acknowledgements(bench: Bench, count: int, limit: float) -> None:
    bench.fleet.wait(lambda report: len(report.seen_at) >= count, limit, poll=0.02)


def connect_all(bench: Bench) -> tuple[float, Report]:
    """Connect all proxies; returns when that began and the report when all were complete."""
    fleet = bench.fleet
    report = fleet.report()
    if report.connected == fleet.size and len(report.complete) == fleet.size:
        return time.monotonic(), report
    begun = time.monotonic()
    fleet.connect()
    report = fleet.wait(lambda found: len(found.complete) >= fleet.size, bench.limit, poll=0.2)
    if len(report.complete) < fleet.size:
        raise SystemExit(
            f"only {len(report.complete)} of {fleet.size} proxies got their configuration within "
            f"{bench.limit:.0f} s; {report.errors[0] if report.errors else 'no error'}"
        )
    return begun, report


def _idle_cpu(bench: Bench) -> float:
    """CPU use of the server with all proxies connected and nothing going on, in percent."""
    begun, cpu = time.monotonic(), bench.plane.cpu()
    time.sleep(min(_IDLE, bench.duration))
    return round(100 * (bench.plane.cpu() - cpu) / (time.monotonic() - begun), 2)


def _http_service(size: Size) -> int:
    """A service that speaks HTTP and has a VirtualService."""
    return next(service for service in range(0, size.services, 5) if port_of(service)[0] != "tcp")


def _proxies_in(size: Size, namespace: str) -> int:
    return sum(
        namespace_of(size, number % size.services) == namespace for number in range(size.proxies)
    )


def _percentiles(values: list[float]) -> Percentiles:
    return Percentiles(round(percentile(values, 0.5), 1), round(percentile(values, 0.99), 1))


def _with(result: Result, **extra: float) -> Result:
    return replace(result, extra={**result.extra, **extra})
