"""Logs of the long-running processes, bounded in rate and width.

Peers cause lines: a connection that breaks the protocol, a stream that is refused, a question that
has no answer. Every line of the code has a budget of its own, so that none can fill the disk, slow
the process down or push the others out of a log that is rotated.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

BURST = 100
"""Lines of one kind (one place in the code) that are written at once."""
PER_SECOND = 20 / 60
"""Lines of one kind that are written in the long run."""
WIDTH = 4_000
"""Characters of a message; the rest is counted."""


@dataclass(slots=True)
class _Kind:
    budget: float
    at: float
    since: float = 0.0
    left_out: int = 0


class Bounded(logging.Filter):
    """Lets `BURST` lines of each kind through, then `PER_SECOND`; the next one says how many were
    left out. Messages longer than `WIDTH` are cut."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, int], _Kind] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written. See `logging.Filter`."""
        now = self._clock()
        with self._lock:
            # Places in the code, of which there are as many as there is code.
            kind = self._kinds.setdefault((record.pathname, record.lineno), _Kind(BURST, now))
            kind.budget = min(BURST, kind.budget + (now - kind.at) * PER_SECOND)
            kind.at = now
            if kind.budget < 1:
                if not kind.left_out:
                    kind.since = now
                kind.left_out += 1
                return False
            kind.budget -= 1
            left_out, kind.left_out = kind.left_out, 0
        message = record.getMessage()
        if left_out or len(message) > WIDTH:
            record.msg = _cut(message)
            record.args = None
            if left_out:
                record.msg += (
                    f" (and {left_out} like it in the last {now - kind.since:.0f} s, left out)"
                )
        return True


def _cut(message: str) -> str:
    more = len(message) - WIDTH
    return f"{message[:WIDTH]}... ({more} more characters)" if more > 0 else message


def configure(level: str = "INFO", process: str = "") -> None:
    """Sends the log of this process to standard error; ``process`` is named in each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Bounded())
    name = f" {process}" if process else ""
    logging.basicConfig(
        level=level,
        format=f"%(asctime)s %(levelname)s{name} %(name)s: %(message)s",
        handlers=[handler],
    )
