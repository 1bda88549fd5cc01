"""What a pair of sidecars costs a request: our configuration against the same bare chain.

Run: ``python -m benchmarks.request_path [--rounds 5] [--seconds 3] [--connections 8]``

Both variants are client → Envoy → mutual TLS → Envoy → application (a third Envoy that answers
itself), HTTP/1.1 with kept connections. ``bare`` is what is left when telemetry, tracing and all
HTTP filters but the router are taken out. All run at once and are loaded in turn, in alternating
order; the figure of a variant is the median of its ratios to ``bare`` in the same round. The load
generator and all Envoys share the machine's cores, so throughput falls with CPU time.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import select
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from lateen.ir.cluster import UpstreamProtocol
from lateen.ir.listener import Listener, Reporter, Telemetry
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.ir.route import DirectResponse, Route, RouteConfiguration, RouteMatch, VirtualHost
from lateen.pki.authority import Authority, load_or_create
from tests.envoy import pair
from tests.ports import free_port

BODY = b"x" * 256
REQUEST = f"GET /x HTTP/1.1\r\nhost: {pair.HOST}\r\nuser-agent: load\r\n\r\n".encode()
_TICKS = os.sysconf("SC_CLK_TCK")


class Round(NamedTuple):
    """One measurement: requests per second, and microseconds of CPU per request of each side."""

    rate: float
    client_cpu: float
    server_cpu: float
    p50: float
    p99: float


class Variant(NamedTuple):
    """A running pair."""

    port: int
    client: pair.Sidecar
    server: pair.Sidecar


def bare(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The same configuration with mutual TLS and routing only."""
    if isinstance(value, list):
        return [bare(item) for item in value if not _is_extra(item)]
    if not isinstance(value, dict):
        return value
    dropped = ("access_log", "access_log_options", "tracing", "bootstrap_extensions")
    return {key: bare(item) for key, item in value.items() if key not in dropped}


def _is_extra(item: Any) -> bool:  # noqa: ANN401 - JSON
    if not isinstance(item, dict):
        return False
    name = item.get("name", "")
    return name == "lateen.peer" or (
        "typed_config" in item
        and (name.startswith("envoy.filters.http.") or name == "lateen.grpc_messages")
        and name != "envoy.filters.http.router"
    )


def without_histograms(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Counters only, to see what histograms cost."""
    if isinstance(value, list):
        return [without_histograms(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: without_histograms(item) for key, item in value.items() if key != "histograms"}


def same(value: Any) -> Any:  # noqa: ANN401 - JSON
    """As generated."""
    return value


VARIANTS: dict[str, tuple[Callable[[Any], Any], bool, bool]] = {
    "bare": (bare, True, True),
    "no telemetry": (same, False, False),
    "counters only": (without_histograms, True, False),
    "metrics": (same, True, False),
    "metrics and log": (same, True, True),
}
"""Name to transformation, metrics on, access log on."""


def application() -> tuple[int, ProxyConfiguration]:
    """An Envoy that answers every request itself."""
    port = free_port()
    route = Route("default", RouteMatch(), DirectResponse(200, BODY))
    routes = RouteConfiguration(str(port), (VirtualHost("all", ("*",), (route,)),))
    listener = pair.http_listener(port, Telemetry(Reporter.SOURCE, False, False, False))
    return port, ProxyConfiguration(listeners=(listener,), routes=(routes,))


@contextlib.contextmanager
def variant(directory: Path, authority: Authority, app: int, name: str) -> Iterator[Variant]:
    """Start the pair of a variant."""
    transform, metrics, log = VARIANTS[name]
    port, inbound = free_port(), free_port()
    http1 = ("istio-http/1.1", "istio", "http/1.1")
    server = ProxyConfiguration(
        clusters=(pair.inbound_cluster("inbound|8080||", app),),
        listeners=(_reporting(pair.inbound_listener(inbound, "inbound|8080||"), metrics, log),),
    )
    telemetry = Telemetry(Reporter.SOURCE, access_log=log, metrics=metrics)
    client = ProxyConfiguration(
        clusters=(pair.outbound_cluster(port, UpstreamProtocol.HTTP1, http1),),
        load_assignments=(pair.assignment(port, inbound),),
        listeners=(pair.http_listener(port, telemetry),),
        routes=(pair.route_to(str(port), pair.outbound_name(port)),),
    )
    place = directory / name.replace(" ", "-")
    with (
        pair.sidecar(place / "s", authority, pair.SERVER, server, transform=transform) as one,
        pair.sidecar(place / "c", authority, pair.CLIENT, client, transform=transform) as two,
    ):
        yield Variant(port, two, one)


def _reporting(listener: Listener, metrics: bool, log: bool) -> Listener:
    chains = tuple(
        replace(
            chain,
            filter=replace(
                chain.filter,
                telemetry=replace(chain.filter.telemetry, metrics=metrics, access_log=log),
            ),
        )
        for chain in listener.filter_chains
    )
    return replace(listener, filter_chains=chains)


def load(port: int, connections: int, seconds: float) -> list[float]:
    """Ask over kept connections, one request in flight on each; latencies in seconds."""
    poller = select.epoll()
    sockets: dict[int, socket.socket] = {}
    started: dict[int, float] = {}
    latencies: list[float] = []
    for _ in range(connections):
        made = socket.create_connection((pair.LOCALHOST, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[made.fileno()] = made
        poller.register(made.fileno(), select.EPOLLIN)
    clock = time.perf_counter
    end = clock() + seconds
    for number, connection in sockets.items():
        started[number] = clock()
        connection.sendall(REQUEST)
    while (now := clock()) < end:
        for number, _ in poller.poll(1):
            connection = sockets[number]
            answer = connection.recv(65536)
            if not answer.endswith(BODY[:64]):
                if not answer:
                    raise ConnectionError("the proxy closed a connection")
                continue
            now = clock()
            latencies.append(now - started[number])
            started[number] = now
            connection.sendall(REQUEST)
    for connection in sockets.values():
        connection.close()
    return latencies


def _load_process(port: int, connections: int, seconds: float, out: Any) -> None:  # noqa: ANN401
    out.send(load(port, connections, seconds))


def measure(target: Variant, connections: int, seconds: float) -> Round:
    """Load a pair from another process and read what its Envoys used."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    arguments = (target.port, connections, seconds, theirs)
    process = multiprocessing.Process(target=_load_process, args=arguments)
    before = (_cpu(target.client), _cpu(target.server))
    process.start()
    latencies = sorted(ours.recv())
    process.join()
    used = (_cpu(target.client) - before[0], _cpu(target.server) - before[1])
    count = len(latencies)
    return Round(
        count / seconds,
        used[0] / count * 1e6,
        used[1] / count * 1e6,
        latencies[count // 2] * 1e3,
        latencies[count * 99 // 100] * 1e3,
    )


def _cpu(proxy: pair.Sidecar) -> float:
    text = Path(f"/proc/{proxy.process.pid}/stat").read_text()
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def private_megabytes(proxy: pair.Sidecar) -> float:
    """Private memory that is not the program file (``Private_Dirty`` of smaps_rollup)."""
    text = Path(f"/proc/{proxy.process.pid}/smaps_rollup").read_text()
    lines = [line for line in text.splitlines() if line.startswith("Private_Dirty")]
    return sum(int(line.split()[1]) for line in lines) / 1024


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    options = parser.parse_args()
    names = ["bare", *(name for name in options.only if name != "bare")]
    results: dict[str, list[Round]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = load_or_create(directory / "ca")
        port, configuration = application()
        stack.enter_context(pair.sidecar(directory / "app", authority, pair.SERVER, configuration))
        running = {
            name: stack.enter_context(variant(directory, authority, port, name)) for name in names
        }
        for target in running.values():
            measure(target, options.connections, 0.5)
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                results[name].append(measure(running[name], options.connections, options.seconds))
        _print(
            results, {name: private_megabytes(target.client) for name, target in running.items()}
        )


def _print(results: dict[str, list[Round]], memory: dict[str, float]) -> None:
    print(
        f"{'variant':18}{'req/s':>8}{'ratio':>7}  range        CPU us/req client+server"
        "   p50 ms  p99 ms  private MB"
    )
    for name, rounds in results.items():
        ratios = [one.rate / base.rate for one, base in zip(rounds, results["bare"], strict=True)]
        middle = Round(*(statistics.median(column) for column in zip(*rounds, strict=True)))
        print(
            f"{name:18}{middle.rate:8.0f}{statistics.median(ratios):7.2f}"
            f"  {min(ratios):.2f}-{max(ratios):.2f}"
            f"{middle.client_cpu:15.1f} + {middle.server_cpu:.1f}"
            f"{middle.p50:15.2f}{middle.p99:8.2f}{memory[name]:12.1f}"
        )


if __name__ == "__main__":
    main()
