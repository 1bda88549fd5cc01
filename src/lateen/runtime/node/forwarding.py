"""Keeps the forwarder running: whenever it ends it is started again with all of its listeners.

The listening sockets stay open here, so that the kernel lets clients connect meanwhile and the next
forwarder serves them. Connections that the old one carried are cut: only it had their pipes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lateen.runtime.node import wire
from lateen.runtime.node.channel import Channel
from lateen.runtime.node.errors import NodeError

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
STEADY = 10.0
"""Seconds that a forwarder must have run for the next pause to be the first one again."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Listening:
    message: wire.Message
    listener: socket.socket


class Forwarding:
    """The forwarder and what it listens on."""

    def __init__(self, start: Callable[[], Awaitable[socket.socket]]) -> None:
        """``start`` starts a forwarder and returns the channel to it. May raise `OSError`."""
        self.restarts = 0
        """How often it had to be started again."""
        self._start = start
        self._channel: Channel | None = None
        self._listening: dict[str, _Listening] = {}
        self._lock = asyncio.Lock()
        self._restarting: asyncio.Task[None] | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE

    @property
    def running(self) -> bool:
        """Whether there is a forwarder now."""
        return self._channel is not None and not self._channel.closed

    async def run(self) -> None:
        """Start the first one. Raises `OSError`."""
        async with self._lock:
            await self._begin()

    async def add(self, key: str, message: wire.Message, listener: socket.socket) -> None:
        """Forward the connections of ``listener``, which is kept. Raises `NodeError`."""
        self._listening[key] = _Listening(message, listener)
        async with self._lock:
            try:
                await self._tell(key)
            except wire.ChannelClosed:
                pass  # the next one is told when it starts
            except OSError as error:
                self._listening.pop(key).listener.close()
                raise NodeError(f"{key} is not forwarded: {error.strerror}") from error

    async def remove(self, key: str) -> None:
        """Stop listening; connections that exist go on."""
        found = self._listening.pop(key, None)
        if found is None:
            return
        found.listener.close()
        async with self._lock:
            if self._channel is not None:
                with contextlib.suppress(wire.ChannelClosed):  # the next one is not told of it
                    await self._channel.request({"op": "close", "key": key})

    async def _begin(self) -> None:
        self._channel = Channel(await self._start(), on_close=self._ended)
        self._started = time.monotonic()
        for key in list(self._listening):
            await self._tell(key)

    async def _tell(self, key: str) -> None:
        if self._channel is None:
            raise wire.ChannelClosed("the forwarder is not running")
        found = self._listening[key]
        await self._channel.request({**found.message, "key": key}, (found.listener.fileno(),))

    def _ended(self) -> None:
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.ensure_future(self._restart())

    async def _restart(self) -> None:
        while not self.running:
            lived = time.monotonic() - self._started
            self._pause = FIRST_PAUSE if lived > STEADY else min(self._pause * 2, LONGEST_PAUSE)
            self.restarts += 1
            _log.error(
                "the forwarder has ended after %.1f s and is started again; connections through "
                "published ports and to the outside were cut",
                lived,
            )
            await asyncio.sleep(self._pause)
            async with self._lock:
                try:
                    await self._begin()
                except OSError as error:
                    self._started = time.monotonic()
                    _log.error("the forwarder cannot be started: %s", error)
