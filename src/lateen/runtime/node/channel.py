"""Requests and replies over a `wire` channel, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from lateen.runtime.node import wire

Reply = tuple[wire.Message, list[int]]


class Channel:
    """One end of a channel: `request` waits for the reply with its number.

    Messages without a pending number go to ``on_event``. When the other side has gone, waiting and
    later requests raise `wire.ChannelClosed`.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_event: Callable[[wire.Message], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_event = on_event
        self._on_close = on_close
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._last = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """The other side, or `close`, ended it."""
        return self._sock.fileno() < 0

    async def request(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> Reply:
        """Sends a request; returns the reply and its descriptors (the caller closes them).

        Raises `OSError` when the reply reports an error.
        """
        if self.closed:
            raise wire.ChannelClosed("the other process has ended")
        self._last += 1
        number = self._last
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[number] = future
        try:
            while True:
                try:
                    wire.send(self._sock, {**message, "id": number}, fds)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.001)  # a full socket buffer drains in no time
            reply, received = await future
        finally:
            self._waiting.pop(number, None)
        if "error" in reply:
            for fd in received:
                os.close(fd)
            raise OSError(wire.number(reply, "errno"), wire.text(reply, "error"))
        return reply, received

    def fail_waiting(self, error: OSError) -> None:
        """Requests that wait get no answer any more."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def close(self) -> None:
        """Closes this end; waiting requests fail."""
        if self.closed:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(wire.ChannelClosed("the other process has ended"))
        if self._on_close is not None:
            self._on_close()

    def _readable(self) -> None:
        try:
            message, fds = wire.receive(self._sock)
        except BlockingIOError:
            return
        except (wire.ChannelClosed, ValueError):
            self.close()
            return
        future = self._waiting.get(wire.number(message, "id", 0))
        if future is not None and not future.done():
            future.set_result((message, fds))
            return
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        if self._on_event is not None and "event" in message:
            self._on_event(message)
