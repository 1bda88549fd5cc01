"""The changes of a store for one reader, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from lateen.source.stored import Event

SUBSCRIBER_BACKLOG = 65_536
"""Events a slow watcher may fall behind before it must list again (HTTP 410)."""


class Subscription:
    """An ordered stream of `Event`s for one reader; use as an async iterator or with `drain`."""

    def __init__(self, unsubscribe: Callable[[Subscription], None]) -> None:
        self._unsubscribe = unsubscribe
        self._events: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self.overflowed = False
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def put(self, event: Event) -> None:
        """Add an event; a reader that is too far behind is cut off instead of growing."""
        if self._closed:
            # Whatever came after the cut would hide that something is missing.
            return
        if len(self._events) >= SUBSCRIBER_BACKLOG:
            self.overflowed = True
            self._closed = True
        else:
            self._events.append(event)
        self._notify()

    @property
    def waiting(self) -> bool:
        """Whether there are events that were not taken yet."""
        return bool(self._events)

    def drain(self) -> list[Event]:
        """All events that are waiting, without waiting for more."""
        events = list(self._events)
        self._events.clear()
        return events

    async def next_batch(self) -> list[Event]:
        """Wait for events and return all that are there; empty when the subscription ended."""
        while not self._events and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        return self.drain()

    def close(self) -> None:
        """End the subscription; the reader gets what is waiting, then the end."""
        self._closed = True
        self._unsubscribe(self)
        self._notify()

    def _notify(self) -> None:
        if self._loop is None:
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._wake.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while batch := await self.next_batch():
            for event in batch:
                yield event
