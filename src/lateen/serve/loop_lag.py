"""How late the event loop runs timers: whatever holds it up delays every proxy."""

from __future__ import annotations

import asyncio
from typing import Protocol

INTERVAL = 1.0
"""Seconds between two measurements."""


class Observer(Protocol):
    """Takes values in seconds, for instance a Prometheus histogram."""

    def observe(self, amount: float) -> None:
        """Take one value."""


async def watch_lag(observer: Observer, interval: float = INTERVAL) -> None:
    """Tell ``observer`` how late each timer ran, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        observer.observe(max(0.0, loop.time() - due))
