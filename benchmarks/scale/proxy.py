"""One simulated proxy: asks for what Envoy asks for, in its order, and acknowledges."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.scale.http2 import Http2Stream
from benchmarks.scale.responses import Response
from benchmarks.scale.scanner import Message, Scanner
from benchmarks.scale.wire import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    delta_request,
    state_request,
)

_REFERENCES = {CLUSTER: ENDPOINT, LISTENER: ROUTE}
FIRST_RETRY, LONGEST_RETRY = 0.5, 30.0
"""Seconds up to which a proxy waits, by chance, before it tries again: doubled each time until it
is sent something, as Envoy does."""
CONNECT_TIMEOUT = 10.0
"""Seconds within which the handshake must be made, as our Envoys have it."""
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """A proxy to play. ``node`` is a serialised ``core.v3.Node``; certificates are PEM files."""

    name: str
    namespace: str
    node: bytes
    certificate: str = ""


@dataclass(slots=True)
class Totals:
    """What a proxy was sent since the last reset."""

    messages: int = 0
    bytes: int = 0
    resources: int = 0
    removed: int = 0


@functools.lru_cache(maxsize=1024)
def _in_order(names: frozenset[str]) -> tuple[str, ...]:
    """Sorted once for all proxies that ask for the same."""
    return tuple(sorted(names))


class HeldStates:
    """What proxies hold, shared between all that went the same way."""

    def __init__(self) -> None:
        self._next: dict[tuple[int, int], tuple[object, object, Mapping[str, str]]] = {}

    def after(
        self, held: Mapping[str, str], response: Response, *, whole: bool
    ) -> Mapping[str, str]:
        """``held`` after ``response``; with ``whole`` the response replaces everything."""
        key = (id(held), id(response))
        known = self._next.get(key)
        if known is not None and known[0] is held and known[1] is response:
            return known[2]
        after: dict[str, str] = {} if whole else dict(held)
        after.update(response.entries)
        for name in response.removed:
            after.pop(name, None)
        if len(self._next) > 8192:
            self._next.clear()
        self._next[key] = (held, response, after)
        return after


@dataclass(slots=True, eq=False)
class SimulatedProxy:
    """The xDS side of one Envoy. Feed it messages; it writes requests to its stream."""

    spec: ProxySpec
    delta: bool
    scanner: Scanner
    states: HeldStates
    stream: Http2Stream | None = None
    refuses: str = ""
    """Words with which it refuses everything; empty to accept."""
    held: dict[str, Mapping[str, str]] = field(default_factory=dict)
    asked: dict[str, frozenset[str]] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    next_retry: float = FIRST_RETRY
    """Seconds up to which it waits when the connection breaks (kept by its owner)."""
    connecting_since: float = 0.0
    first_at: float = 0.0
    complete_at: float = 0.0
    """When it had all four types after connecting (monotonic seconds)."""
    seen_at: float = 0.0
    """When it acknowledged what is watched for."""
    totals: Totals = field(default_factory=Totals)
    error: str = ""
    _prepared: list[bytes] = field(default_factory=list)
    """What it asks first on the next connection."""

    def prepare(self) -> None:
        """Write down what it will ask when it connects again, which takes an Envoy no time to speak
        of."""
        self.answered.clear()
        if not self.delta:
            self.held.clear()
            self.asked.clear()
        self.asked = dict(self.asked) if self.held else {}
        again = [kind for kind in (ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST) if kind in self.asked]
        self._prepared = [self._first_request(kind) for kind in (CLUSTER, *again)]

    def opened(self, stream: Http2Stream) -> None:
        """A connection was begun: ask, with what is held from before."""
        self.stream, self.connecting_since = stream, time.monotonic()
        self.first_at = self.complete_at = 0.0
        if not self._prepared:
            self.prepare()
        for request in self._prepared:
            stream.send(request)
        self._prepared = []

    def take(self, message: Message, watched: tuple[str, str]) -> None:
        """Take in a response and acknowledge it. ``watched`` is a type and a name (or ""); with a
        route configuration its virtual hosts are."""
        response = self.scanner.scan(message, self.spec.namespace)
        kind = response.type_url
        totals = self.totals
        totals.messages += 1
        totals.bytes += response.size
        totals.resources += len(response.entries)
        totals.removed += len(response.removed)
        if self.refuses:
            self._send(kind, nonce=response.nonce, error=self.refuses)
            return
        whole = not self.delta and kind in (CLUSTER, LISTENER)
        self.held[kind] = self.states.after(self.held.get(kind, _NOTHING), response, whole=whole)
        self._follow(response)
        now = time.monotonic()
        self.first_at = self.first_at or now
        self.answered.add(kind)
        if not self.complete_at and self._is_complete():
            self.complete_at = now
        if not self.seen_at and _is_watched(response, *watched):
            self.seen_at = now

    def _follow(self, response: Response) -> None:
        """Acknowledge, and ask for what the response makes it need."""
        assert self.stream is not None
        kind = response.type_url
        version = response.version
        if self.delta:
            self._send(kind, nonce=response.nonce)
        else:
            names = () if kind in (CLUSTER, LISTENER) else _in_order(self.asked[kind])
            self._send(kind, names=names, nonce=response.nonce, version=version)
        needed = _REFERENCES.get(kind)
        if needed is not None:
            before = self.asked.get(needed)
            fresh = frozenset(response.references) - (before or frozenset())
            if fresh:
                self.asked[needed] = (before or frozenset()) | fresh
                if self.delta:
                    self._send(needed, names=_in_order(fresh))
                else:
                    self._send(needed, names=_in_order(self.asked[needed]))
            elif before is None:
                self.asked[needed] = frozenset()
                self.answered.add(needed)
        if kind == ROUTE and response.references and VIRTUAL_HOST not in self.asked:
            self.stream.send(self._first_request(VIRTUAL_HOST))
        if LISTENER not in self.asked and (kind == ENDPOINT or ENDPOINT in self.answered):
            self.stream.send(self._first_request(LISTENER))

    def _first_request(self, type_url: str) -> bytes:
        """The first one for a type on a stream."""
        names = self.asked.setdefault(type_url, frozenset())
        node = self.spec.node
        if not self.delta:
            return state_request(type_url, names=_in_order(names), node=node)
        have = self.held.get(type_url)
        if have is None or type_url in (ENDPOINT, ROUTE):
            extra = _in_order(names)
        else:
            extra = tuple(sorted(names - have.keys()))
        return delta_request(type_url, subscribe=extra, have=have, node=node)

    def _send(
        self,
        type_url: str,
        *,
        names: tuple[str, ...] = (),
        nonce: str = "",
        version: str = "",
        error: str = "",
    ) -> None:
        assert self.stream is not None
        if self.delta:
            data = delta_request(type_url, subscribe=names, nonce=nonce, error=error)
        else:
            data = state_request(type_url, names=names, version=version, nonce=nonce, error=error)
        self.stream.send(data)

    def _is_complete(self) -> bool:
        if not {CLUSTER, LISTENER} <= self.answered:
            return False
        if VIRTUAL_HOST in self.asked and VIRTUAL_HOST not in self.answered:
            return False
        return all(
            self.asked.get(kind) is not None
            and (kind in self.answered or not self.asked[kind])
            and (not self.delta or kind in self.answered)
            for kind in (ENDPOINT, ROUTE)
        )


def _is_watched(response: Response, type_url: str, name: str) -> bool:
    names = (entry[0] for entry in response.entries)
    if response.type_url == type_url:
        return not name or name in names
    if (response.type_url, type_url) != (VIRTUAL_HOST, ROUTE):
        return False
    return any(not name or found.startswith(f"{name}/") for found in names)
