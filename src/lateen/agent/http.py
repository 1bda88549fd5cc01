"""One HTTP/1.1 request over a connection that the caller opens (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, Protocol

import h11

Connect = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a TCP connection to a port on 127.0.0.1 inside the pod's network namespace."""

_CHUNK = 65_536


class Stream(Protocol):
    """A connection that bytes go through, encrypted or not."""

    async def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""

    async def write(self, data: bytes) -> None:
        """Send everything."""


class Reply(NamedTuple):
    """A reply; ``body`` is cut at the limit of the request."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class HttpError(Exception):
    """No usable HTTP reply: the connection failed or what came is not HTTP."""


class PlainStream:
    """A connection as it is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, size: int) -> bytes:
        return await self._reader.read(size)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


async def fetch(
    connect: Connect,
    port: int,
    method: str,
    target: str,
    *,
    timeout: float,
    headers: Iterable[tuple[str, str]] = (),
    limit: int = 1024 * 1024,
) -> Reply:
    """One plain HTTP request. Raises `HttpError`, also when the time is over."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await connect(port)
            try:
                stream = PlainStream(reader, writer)
                return await exchange(
                    stream, method, target, [("Host", "localhost"), *headers], limit
                )
            finally:
                writer.close()
    except TimeoutError as error:
        raise HttpError(f"no reply from port {port} within {timeout:g} s") from error
    except (OSError, EOFError) as error:
        raise HttpError(f"port {port}: {getattr(error, 'strerror', None) or error}") from error


async def exchange(
    stream: Stream, method: str, target: str, headers: list[tuple[str, str]], limit: int
) -> Reply:
    """Send a request without a body and read the reply. Raises `HttpError` or ``OSError``."""
    wire = h11.Connection(h11.CLIENT)
    try:
        fields = [*headers, ("Connection", "close")]
        if method == "POST":
            fields.append(("Content-Length", "0"))
        head = wire.send(h11.Request(method=method, target=target, headers=fields)) or b""
        await stream.write(head + (wire.send(h11.EndOfMessage()) or b""))
        status, body = 0, bytearray()
        found: dict[str, str] = {}
        while True:
            event = wire.next_event()
            if event is h11.NEED_DATA:
                wire.receive_data(await stream.read(_CHUNK))
            elif isinstance(event, h11.Response):
                status = event.status_code
                found = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) >= limit:
                    return Reply(status, found, bytes(body[:limit]))
            elif isinstance(event, h11.EndOfMessage):
                return Reply(status, found, bytes(body))
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise HttpError("the connection was closed without a reply")
    except (h11.LocalProtocolError, h11.RemoteProtocolError) as error:
        raise HttpError(f"not a valid HTTP exchange: {error}") from error
