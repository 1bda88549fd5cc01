"""Many simulated proxies in processes of their own, driven over pipes."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import select
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.scale.http2 import Endpoint, Http2Stream, StreamEnded
from benchmarks.scale.proxy import (
    CONNECT_TIMEOUT,
    FIRST_RETRY,
    LONGEST_RETRY,
    HeldStates,
    ProxySpec,
    SimulatedProxy,
    Totals,
)
from benchmarks.scale.scanner import Incoming, Scanner

T = TypeVar("T")
_CONNECTS = 8
"""Connections begun before others get their turn: proxies are processes of their own."""
_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"


@dataclass(frozen=True, slots=True)
class Place:
    """The server that proxies connect to. Without ``trust`` the connection is in clear text."""

    host: str
    port: int
    trust: str = ""
    server_name: str = "istiod.istio-system.svc"


@dataclass(slots=True)
class Report:
    """What happened to the proxies of a worker since the last mark. Times are monotonic."""

    connected: int = 0
    complete: list[float] = field(default_factory=list)
    """Seconds from the begin of the connection to complete configuration."""
    complete_at: list[float] = field(default_factory=list)
    first_at: list[float] = field(default_factory=list)
    seen_at: list[float] = field(default_factory=list)
    """When each proxy acknowledged what is watched for."""
    reached: int = 0
    """Proxies that were sent anything."""
    totals: Totals = field(default_factory=Totals)
    last_message_at: float = 0.0
    errors: list[str] = field(default_factory=list)
    ended: int = 0
    """Streams that the server ended with a status."""
    cut: int = 0
    """Streams that broke off."""
    cpu_s: float = 0.0

    def merge(self, other: Report) -> None:
        """Add another worker's report."""
        self.connected += other.connected
        for name in ("complete", "complete_at", "first_at", "seen_at", "errors"):
            getattr(self, name).extend(getattr(other, name))
        for name in ("reached", "ended", "cut"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("messages", "bytes", "resources", "removed"):
            setattr(self.totals, name, getattr(self.totals, name) + getattr(other.totals, name))
        self.last_message_at = max(self.last_message_at, other.last_message_at)
        self.cpu_s += other.cpu_s


class Fleet:
    """The proxies as the scenarios see them."""

    def __init__(self, specs: list[ProxySpec], place: Place, *, delta: bool, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.size = len(specs)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for index in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, specs[index::workers], place, delta), daemon=True
            )
            with _ciphers_of_envoy():
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._ask("hello")

    def limit(self, count: int) -> None:
        """Have only the first ``count`` proxies connect from now on."""
        self.size = count
        for index, pipe in enumerate(self._pipes):
            pipe.send(("limit", self._share(count, index)))
            pipe.recv()

    def connect(self) -> None:
        """Connect all that are not connected; they stay connected from then on."""
        self._ask("connect")

    def disconnect(self) -> None:
        """Close all connections. What proxies hold they keep."""
        self._ask("disconnect")

    def mark(self, type_url: str = "", name: str = "") -> None:
        """Begin to count anew, and to watch for a resource (any of its type without a name)."""
        self._ask("mark", type_url, name)

    def report(self) -> Report:
        """What happened since the last mark."""
        total = Report()
        for part in self._ask("report"):
            total.merge(part)
        return total

    def holders(self, type_url: str, name: str) -> int:
        """How many proxies hold a resource."""
        return sum(self._ask("holders", type_url, name))

    def versions(self, type_url: str, name: str) -> Counter[str]:
        """How many proxies hold which version of a resource ("": none)."""
        return sum(self._ask("versions", type_url, name), Counter())

    def names(self, type_url: str) -> set[str]:
        """All names of a type that any proxy holds."""
        return set().union(*self._ask("names", type_url))

    def stop_reading(self, count: int) -> None:
        """Make ``count`` proxies stop reading (0: all read again)."""
        for index, pipe in enumerate(self._pipes):
            pipe.send(("stop-reading", self._share(count, index)))
            pipe.recv()

    def refuse(self, count: int, words: str) -> None:
        """Make ``count`` proxies refuse what they are sent (0: none)."""
        for index, pipe in enumerate(self._pipes):
            pipe.send(("refuse", self._share(count, index), words))
            pipe.recv()

    def _share(self, count: int, worker: int) -> int:
        """How many of ``count`` proxies fall to one worker."""
        workers = len(self._pipes)
        return count // workers + (worker < count % workers)

    def wait(self, until: Callable[[Report], bool], timeout: float, poll: float = 0.05) -> Report:
        """Poll `report` until ``until`` holds or ``timeout`` seconds have passed."""
        deadline = time.monotonic() + timeout
        while True:
            report = self.report()
            if until(report) or time.monotonic() >= deadline:
                return report
            time.sleep(poll)

    def settle(self, quiet: float, timeout: float) -> Report:
        """Wait until no message has come for ``quiet`` seconds."""
        begun = time.monotonic()

        def is_quiet(report: Report) -> bool:
            return time.monotonic() - max(begun, report.last_message_at) >= quiet

        return self.wait(is_quiet, timeout)

    def close(self) -> None:
        """End the workers."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send(("end",))
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()

    def _ask(self, *command: object) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(command)
        return [pipe.recv() for pipe in self._pipes]


def _work(pipe: Connection, specs: list[ProxySpec], place: Place, delta: bool) -> None:
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        _Worker(pipe, specs, place, delta).run()


class _Worker:
    def __init__(self, pipe: Connection, specs: list[ProxySpec], place: Place, delta: bool) -> None:
        self._pipe = pipe
        self._place = place
        self._delta = delta
        scanner, states = Scanner(delta=delta), HeldStates()
        self._proxies = [SimulatedProxy(spec, delta, scanner, states) for spec in specs]
        self._contexts = {spec.certificate: _tls(place, spec.certificate) for spec in specs}
        self._poll = select.epoll()
        self._poll.register(pipe.fileno(), select.EPOLLIN)
        self._by_fd: dict[int, SimulatedProxy] = {}
        self._masks: dict[int, int] = {}
        self._retry: dict[int, float] = {}
        self._connecting: dict[int, float] = {}
        """Until when connections (by descriptor) must be made, oldest first."""
        self._limit = len(specs)
        self._wanted = False
        self._deaf: set[int] = set()
        self._watched = ("", "")
        self._last_message = 0.0
        self._errors: list[str] = []
        self._ended = self._cut = 0

    def run(self) -> None:
        while True:
            timeout = 0.01 if self._retry else 0.1 if self._connecting else -1.0
            for fd, _ in self._poll.poll(timeout):
                if fd == self._pipe.fileno():
                    if not self._command():
                        return
                elif (proxy := self._by_fd.get(fd)) is not None:
                    self._serve(fd, proxy)
            if self._connecting:
                self._give_up()
            if self._retry:
                self._reconnect()

    def _command(self) -> bool:
        command, *arguments = self._pipe.recv()
        if command == "end":
            return False
        handler = getattr(self, "_on_" + command.replace("-", "_"))
        self._pipe.send(handler(*arguments))
        return True

    def _on_hello(self) -> None:
        return None

    def _on_limit(self, count: int) -> None:
        self._limit = count

    def _on_connect(self) -> None:
        self._wanted = True
        for index, proxy in enumerate(self._proxies[: self._limit]):
            if proxy.stream is None:
                self._retry[index] = 0.0

    def _on_disconnect(self) -> None:
        self._wanted = False
        self._retry.clear()
        for proxy in self._proxies:
            if proxy.stream is not None:
                self._drop(proxy)
                proxy.prepare()

    def _on_mark(self, type_url: str, name: str) -> None:
        self._watched = (type_url, name)
        self._errors.clear()
        self._ended = self._cut = 0
        for proxy in self._proxies:
            proxy.seen_at = 0.0
            proxy.totals = Totals()

    def _on_report(self) -> Report:
        report = Report(last_message_at=self._last_message, errors=self._errors[:20])
        report.ended, report.cut = self._ended, self._cut
        report.cpu_s = time.process_time()
        for proxy in self._proxies:
            report.connected += proxy.stream is not None and bool(proxy.first_at)
            if proxy.complete_at:
                report.complete.append(proxy.complete_at - proxy.connecting_since)
                report.complete_at.append(proxy.complete_at)
            if proxy.first_at:
                report.first_at.append(proxy.first_at)
            if proxy.seen_at:
                report.seen_at.append(proxy.seen_at)
            totals = proxy.totals
            report.reached += totals.messages > 0
            report.totals.messages += totals.messages
            report.totals.bytes += totals.bytes
            report.totals.resources += totals.resources
            report.totals.removed += totals.removed
        return report

    def _on_holders(self, type_url: str, name: str) -> int:
        return sum(name in proxy.held.get(type_url, ()) for proxy in self._proxies)

    def _on_versions(self, type_url: str, name: str) -> Counter[str]:
        return Counter(proxy.held.get(type_url, {}).get(name, "") for proxy in self._proxies)

    def _on_names(self, type_url: str) -> set[str]:
        states = {id(held): held for p in self._proxies if (held := p.held.get(type_url))}
        return set().union(*states.values())

    def _on_stop_reading(self, count: int) -> None:
        for fd in self._deaf:
            if fd in self._by_fd:
                self._poll.modify(fd, self._masks[fd])
        self._deaf = set(list(self._by_fd)[:count])
        for fd in self._deaf:
            self._poll.modify(fd, 0)

    def _on_refuse(self, count: int, words: str) -> None:
        for index, proxy in enumerate(self._proxies):
            proxy.refuses = words if index < count else ""

    def _reconnect(self) -> None:
        now = time.monotonic()
        ready = (index for index, due in self._retry.items() if due <= now)
        for index in list(itertools.islice(ready, _CONNECTS)):
            del self._retry[index]
            proxy = self._proxies[index]
            try:
                incoming = Incoming(proxy.scanner, proxy.spec.namespace)
                stream = Http2Stream(self._endpoint(proxy.spec), incoming)
            except OSError as error:
                self._failed(proxy, error)
                continue
            fd = stream.socket.fileno()
            self._by_fd[fd] = proxy
            self._masks[fd] = select.EPOLLIN | select.EPOLLOUT
            self._poll.register(fd, self._masks[fd])
            self._connecting[fd] = now + CONNECT_TIMEOUT
            proxy.opened(stream)

    def _give_up(self) -> None:
        now = time.monotonic()
        for fd, until in list(self._connecting.items()):
            proxy = self._by_fd[fd]
            if proxy.stream is not None and proxy.stream.secured:
                del self._connecting[fd]
            elif until <= now:
                self._failed(proxy, TimeoutError("not connected in time"))
            else:
                break

    def _endpoint(self, spec: ProxySpec) -> Endpoint:
        method = "DeltaAggregatedResources" if self._delta else "StreamAggregatedResources"
        place, context = self._place, self._contexts[spec.certificate]
        return Endpoint(place.host, place.port, f"{_SERVICE}/{method}", place.server_name, context)

    def _serve(self, fd: int, proxy: SimulatedProxy) -> None:
        stream = proxy.stream
        assert stream is not None
        try:
            for message in stream.on_ready():
                self._last_message = time.monotonic()
                proxy.next_retry = FIRST_RETRY
                proxy.take(message, self._watched)
        except (OSError, StreamEnded) as error:
            self._failed(proxy, error)
            return
        mask = select.EPOLLIN | (select.EPOLLOUT if stream.wants_write else 0)
        if mask != self._masks[fd] and fd not in self._deaf:
            self._masks[fd] = mask
            self._poll.modify(fd, mask)

    def _failed(self, proxy: SimulatedProxy, error: Exception) -> None:
        self._errors.append(f"{proxy.spec.name}.{proxy.spec.namespace}: {error}")
        if proxy.first_at:
            by_server = isinstance(error, StreamEnded) and error.with_status
            self._ended += by_server
            self._cut += not by_server
        if proxy.stream is not None:
            self._drop(proxy)
        if self._wanted:
            wait = random.uniform(0.0, proxy.next_retry)
            self._retry[self._proxies.index(proxy)] = time.monotonic() + wait
            proxy.next_retry = min(2 * proxy.next_retry, LONGEST_RETRY)

    def _drop(self, proxy: SimulatedProxy) -> None:
        stream, proxy.stream = proxy.stream, None
        if stream is None:
            return
        fd = stream.socket.fileno()
        if fd >= 0:
            self._poll.unregister(fd)
        self._by_fd.pop(fd, None)
        self._masks.pop(fd, None)
        self._deaf.discard(fd)
        self._connecting.pop(fd, None)
        stream.close()
        proxy.first_at = 0.0


@contextlib.contextmanager
def _ciphers_of_envoy() -> Iterator[None]:
    """Processes started meanwhile prefer the ciphers that Envoy prefers: Python's ``ssl`` cannot
    set those of TLS 1.3, and OpenSSL reads them when a process first uses it."""
    before = os.environ.get("OPENSSL_CONF")
    os.environ["OPENSSL_CONF"] = str(Path(__file__).with_name("tls.cnf"))
    try:
        yield
    finally:
        if before is None:
            del os.environ["OPENSSL_CONF"]
        else:
            os.environ["OPENSSL_CONF"] = before


def _tls(place: Place, certificate: str) -> ssl.SSLContext | None:
    """A proxy's side of TLS, read before it connects, as an Envoy's is."""
    if not place.trust:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(place.trust)
    if certificate:
        context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])
    return context


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed; 0 without values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
