"""Messages between processes of one control plane, over a pair of connected sockets.

Each message is a length and a MessagePack value. Either side sends notices and calls; a call gets
an answer or an error. The sockets are made by the process that starts the other, so nobody else
can get at them.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

Value = Any
"""What MessagePack can hold."""
Handler = Callable[[str, Value], Awaitable[Value]]
"""Takes the name and the argument of a call or notice; gives the answer to a call."""

MAX_MESSAGE = 512 * 1024 * 1024
MAX_BACKLOG = 256 * 1024 * 1024
"""Bytes that may wait for a reader; one that is further behind is cut off."""
_HEADER = struct.Struct(">I")


class ChannelClosed(Exception):
    """The other process is gone."""


class CallFailed(Exception):
    """The other process could not answer; the message says why."""


class Channel:
    """One end. `run` takes in messages until the other end closes."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._outgoing: socket.socket | None = None
        self._unsent = bytearray()
        self._calls: dict[int, asyncio.Future[Value]] = {}
        self._numbers = itertools.count(1)
        self._work: set[asyncio.Task[None]] = set()
        self.closed = False

    async def open(self, end: socket.socket) -> None:
        """Take over one end of the pair."""
        end.setblocking(False)
        # A transport that cannot write stops reading as well, and would drop what the other end
        # said last. So sending has a descriptor of its own.
        self._outgoing = end.dup()
        self._reader, self._writer = await asyncio.open_unix_connection(sock=end, limit=1 << 20)

    def notify(self, name: str, value: Value = None) -> None:
        """Send a notice; nothing happens when the other end is gone."""
        self._send([0, name, value])

    async def call(self, name: str, value: Value = None, timeout: float = 10.0) -> Value:
        """Ask and wait for the answer.

        Raises `ChannelClosed`, `CallFailed` and ``TimeoutError``.
        """
        if self.closed:
            raise ChannelClosed
        number = next(self._numbers)
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            self._send([number, name, value])
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._calls.pop(number, None)

    async def run(self) -> None:
        """Take in messages, in order, until the other end closes."""
        assert self._reader is not None
        try:
            while True:
                (length,) = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
                if length > MAX_MESSAGE:
                    return
                number, name, value = msgspec.msgpack.decode(await self._reader.readexactly(length))
                if number > 0:
                    task = asyncio.ensure_future(self._answer(number, name, value))
                    self._work.add(task)
                    task.add_done_callback(self._work.discard)
                elif number < 0:
                    self._settle(-number, name, value)
                else:
                    await self._handler(name, value)
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            self.close()

    def close(self) -> None:
        """End it; calls that wait fail."""
        self.closed = True
        self._stop_sending()
        for task in self._work:
            task.cancel()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(ChannelClosed())
        if self._writer is not None:
            self._writer.close()

    async def _answer(self, number: int, name: str, value: Value) -> None:
        try:
            self._send([-number, "", await self._handler(name, value)])
        except (LookupError, ValueError) as error:
            self._send([-number, type(error).__name__, str(error.args[0] if error.args else error)])

    def _settle(self, number: int, error: str, value: Value) -> None:
        future = self._calls.get(number)
        if future is None or future.done():
            return
        if error == "LookupError":
            future.set_exception(LookupError(value))
        elif error:
            future.set_exception(CallFailed(value))
        else:
            future.set_result(value)

    def _send(self, message: list[Value]) -> None:
        if self._outgoing is None:
            return
        data = msgspec.msgpack.encode(message)
        waiting = bool(self._unsent)
        self._unsent += _HEADER.pack(len(data))
        self._unsent += data
        if not waiting:
            self._flush()
            if self._unsent:
                asyncio.get_running_loop().add_writer(self._outgoing, self._resume)
        if len(self._unsent) > MAX_BACKLOG:
            self._outgoing.shutdown(socket.SHUT_RDWR)  # `run` ends when it has read the rest
            self._stop_sending()

    def _flush(self) -> None:
        assert self._outgoing is not None
        try:
            del self._unsent[: self._outgoing.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._stop_sending()  # it is gone; `run` ends when it has read what it said before

    def _resume(self) -> None:
        self._flush()
        if self._outgoing is not None and not self._unsent:
            asyncio.get_running_loop().remove_writer(self._outgoing)

    def _stop_sending(self) -> None:
        self._unsent.clear()
        if self._outgoing is not None:
            asyncio.get_running_loop().remove_writer(self._outgoing)
            self._outgoing.close()
            self._outgoing = None
