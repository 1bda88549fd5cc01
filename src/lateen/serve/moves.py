"""Proxies that are on their way to another process, or back: theirs has ended or sent them away.

Whoever waits for an acknowledgement waits for them as well, for some time: no process speaks for
them at the moment, but they run the configuration of before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

EXPECTED_WITHIN = 15.0
"""Seconds after which a proxy that has not come back counts as gone. Envoy tries again after half a
second at first and after some seconds when that fails."""
EXPECTED_AFTER_START = 35.0
"""Seconds for those of a control plane that has just started again: while there was nobody to
connect to, they came to try once in 30 s (the longest that Envoy waits)."""


class Moves:
    """Who is on the way, by node id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.departures = 0
        """How often proxies have left."""
        self._clock = clock
        self._until: dict[str, float] = {}
        """When each counts as gone."""
        self._first = math.inf
        """When the first of them does, or earlier."""

    def left(self, proxies: Iterable[str], within: float = EXPECTED_WITHIN) -> None:
        """The connections of these proxies are gone, and not because of the proxies; they may be
        back ``within`` seconds."""
        self.departures += 1
        until = self._clock() + within
        self._until |= dict.fromkeys(proxies, until)
        self._first = min(self._first, until)
        self._drop_lost()

    def forget(self, proxies: Iterable[str]) -> None:
        """These are connected again, or will never be."""
        for proxy in proxies:
            self._until.pop(proxy, None)

    def away(self) -> list[str]:
        """Node ids of those who have not come back yet and may still."""
        self._drop_lost()
        return sorted(self._until)

    def _drop_lost(self) -> None:
        now = self._clock()
        if now < self._first:
            return
        self._until = {proxy: until for proxy, until in self._until.items() if now < until}
        self._first = min(self._until.values(), default=math.inf)
