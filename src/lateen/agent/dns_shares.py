"""Fair shares of cluster DNS: one pod's questions must not keep those of others waiting.

A pod may ask `RATE` questions a second; of what it asks beyond, datagrams are dropped and streams
wait. It may have `CONNECTIONS` TCP connections and `FORWARDS` questions with the machine's
resolvers. When all connections are taken, the idlest of the client that has most makes room.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

RATE = 2_000.0
"""Questions a second of one client."""
BURST = 2_000.0
"""Questions that a client which has been quiet may ask at once."""
CONNECTIONS = 32
ALL_CONNECTIONS = 256
FORWARDS = 64
ALL_FORWARDS = 512
_MOST_CLIENTS = 4_096
"""Clients that are remembered: more addresses than there are pods."""


class Rates:
    """How many questions each client may still ask (a token bucket each)."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens: dict[str, tuple[float, float]] = {}
        """What is left, and when that was so; the client that asked last is last."""

    def take(self, client: str, now: float) -> bool:
        """Count a question; False when it is one too many."""
        left, since = self._tokens.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        allowed = left >= 1.0
        self._tokens[client] = (left - 1.0 if allowed else left, now)
        if len(self._tokens) > _MOST_CLIENTS:
            del self._tokens[next(iter(self._tokens))]
        return allowed

    def wait(self, client: str) -> float:
        """Seconds until the client may ask again."""
        left, _ = self._tokens.get(client, (self._burst, 0.0))
        return max(0.0, (1.0 - left) / self._rate)


class Forwards:
    """Questions that wait for the machine's resolvers, by client."""

    def __init__(self, each: int = FORWARDS, total: int = ALL_FORWARDS) -> None:
        self._each = each
        self._total = total
        self._waiting: Counter[str] = Counter()
        self._sum = 0

    def begin(self, client: str) -> bool:
        """Count one; False when there are too many."""
        if self._waiting[client] >= self._each or self._sum >= self._total:
            return False
        self._waiting[client] += 1
        self._sum += 1
        return True

    def end(self, client: str) -> None:
        """It has its answer, or none."""
        self._sum -= 1
        self._waiting[client] -= 1
        if not self._waiting[client]:
            del self._waiting[client]


class Connections:
    """Open TCP connections by client, each with the function that closes it."""

    def __init__(self, each: int = CONNECTIONS, total: int = ALL_CONNECTIONS) -> None:
        self._each = each
        self._total = total
        self._open: dict[str, dict[object, Callable[[], None]]] = {}
        """The connection that has been idle longest comes first."""

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def add(self, client: str, connection: object, close: Callable[[], None]) -> None:
        """A new one; an idle one of the same client, or of the client with most, makes room."""
        if len(self._open.get(client, ())) >= self._each:
            self._evict(client)
        elif len(self) >= self._total:
            self._evict(max(self._open, key=lambda name: len(self._open[name])))
        self._open.setdefault(client, {})[connection] = close

    def used(self, client: str, connection: object) -> None:
        """It has asked something."""
        mine = self._open.get(client, {})
        if connection in mine:
            mine[connection] = mine.pop(connection)

    def remove(self, client: str, connection: object) -> None:
        """It is gone."""
        mine = self._open.get(client)
        if mine is not None and mine.pop(connection, None) is not None and not mine:
            del self._open[client]

    def _evict(self, client: str) -> None:
        connection, close = next(iter(self._open[client].items()))
        self.remove(client, connection)
        close()


class Seldom:
    """Lets a message through once in ``seconds`` for each subject."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def may(self, subject: str) -> bool:
        """Whether something may be said of ``subject`` now."""
        now = time.monotonic()
        if now - self._said.get(subject, -self._seconds) < self._seconds:
            return False
        if len(self._said) >= _MOST_CLIENTS:
            self._said.clear()
        self._said[subject] = now
        return True
