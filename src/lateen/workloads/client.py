"""HTTP GET for workloads that call other workloads: one connection per call, one deadline."""

import asyncio
from collections.abc import Mapping
from typing import Final

from lateen.workloads.http import CHUNKED, MAX_BODY, MAX_HEAD, BadRequest, ChunkedBody, Request

FORWARDED: Final = (
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "traceparent",
    "tracestate",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "grpc-trace-bin",
    "sw8",
    "end-user",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
)
"""Headers an application must copy from a request to the calls it makes for it: without the trace
headers a mesh sees separate traces, without the rest later services do not know the user."""


class FetchError(Exception):
    """No answer: the name is unknown, the connection failed or broke, or the deadline passed."""


def forwarded(request: Request) -> dict[str, str]:
    """The headers of ``request`` to send along with calls made for it."""
    return {name: request.headers[name] for name in FORWARDED if name in request.headers}


async def fetch(
    host: str,
    port: int,
    target: str,
    headers: Mapping[str, str],
    timeout: float,
    *,
    tls: bool = False,
) -> tuple[int, bytes]:
    """Status and body of ``GET target``; ``timeout`` in seconds for all of it.

    A connection per call, so that a balancer of connections sees each call, mesh or no mesh.
    Raises FetchError.
    """
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls or None)
            try:
                lines = [f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n"]
                lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
                lines.append("Accept: application/json\r\nConnection: close\r\n\r\n")
                writer.write("".join(lines).encode("latin-1", "replace"))
                return await _read(reader)
            finally:
                writer.close()
    except TimeoutError as error:
        raise FetchError(f"no answer within {timeout:g} s") from error
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, BadRequest) as error:
        raise FetchError(str(error) or type(error).__name__) from error


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, length = 100, 0
    while status < 200:
        status, length = _parse(await reader.readuntil(b"\r\n\r\n"))
    if status in (204, 304):
        return status, b""
    if length >= 0:
        return status, await reader.readexactly(length)
    chunks = ChunkedBody() if length == CHUNKED else None
    buffer = bytearray()
    while data := await reader.read(MAX_HEAD):
        buffer += data
        if chunks is not None and chunks.feed(buffer):
            return status, bytes(chunks.body)
        if len(buffer) > MAX_BODY:
            raise ValueError("the answer is too large")
    if chunks is not None:
        raise EOFError("the answer ended early")
    return status, bytes(buffer)


_UNTIL_CLOSE: Final = -2


def _parse(head: bytes) -> tuple[int, int]:
    """Status and body length (or CHUNKED, or _UNTIL_CLOSE) of a response head."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise ValueError("not an HTTP/1.1 answer")
    length = _UNTIL_CLOSE
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        if name == "transfer-encoding" and value.strip().lower().endswith("chunked"):
            return int(words[1]), CHUNKED
        if name == "content-length":
            length = int(value)
            if not 0 <= length <= MAX_BODY:
                raise ValueError("the answer is too large")
    return int(words[1]), length
