"""Proxies that are on their way to another process, or back: theirs has died or sent them away.

Whoever waits for an acknowledgement waits for them as well, for some time: no process speaks for
them at the moment, but they run the configuration of before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

EXPECTED_WITHIN = 15.0
"""Seconds after which a proxy that has not come back counts as gone. Envoy tries again after half a
second at first and after some seconds when that fails."""


class Moves:
    """Who is on the way, by node id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.departures = 0
        """How often proxies have left."""
        self._clock = clock
        self._since: dict[str, float] = {}
        """Oldest first."""

    def left(self, proxies: Iterable[str]) -> None:
        """The connections of these proxies are gone, and not because of the proxies."""
        self.departures += 1
        now = self._clock()
        for proxy in proxies:
            self._since.pop(proxy, None)
            self._since[proxy] = now
        self._drop_lost(now)

    def forget(self, proxies: Iterable[str]) -> None:
        """These are connected again, or will never be."""
        for proxy in proxies:
            self._since.pop(proxy, None)

    def away(self) -> list[str]:
        """Node ids of those who have not come back yet and may still."""
        self._drop_lost(self._clock())
        return sorted(self._since)

    def _drop_lost(self, now: float) -> None:
        while self._since:
            proxy, since = next(iter(self._since.items()))
            if now - since < EXPECTED_WITHIN:
                return
            del self._since[proxy]
