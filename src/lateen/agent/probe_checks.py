"""The four kinds of check that a Kubernetes probe can make: one attempt each."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from lateen.agent.http import Connect, HttpError, PlainStream, Reply, Stream, exchange

Execute = Callable[[tuple[str, ...]], Awaitable[int]]
"""Runs a command in the container and gives its exit status."""

USER_AGENT = "kube-probe/1.34"
"""Begins as the kubelet's, by which applications tell probes from visitors."""
BODY_LIMIT = 10 * 1024
_REDIRECTS = 10
_SERVING = 1
_GRPC_CODES = {
    "5": "knows no service of this name",
    "12": "does not implement the gRPC health protocol",
}


class ProbeFailedError(Exception):
    """The check did not succeed; the text says what came instead."""


async def check_http(
    connect: Connect,
    port: int,
    *,
    scheme: str = "HTTP",
    host: str = "",
    path: str = "/",
    headers: tuple[tuple[str, str], ...] = (),
) -> None:
    """GET; 200 to 399 is success. Redirects to the same host are followed.

    TLS is used without verification, as the kubelet does. Raises `ProbeFailedError`.
    """
    secure = scheme.upper() == "HTTPS"
    given = {name.lower() for name, _ in headers}
    fields = [*headers]
    if "host" not in given:
        fields.insert(0, ("Host", f"{host or 'localhost'}:{port}"))
    if "user-agent" not in given:
        fields.append(("User-Agent", USER_AGENT))
    if "accept" not in given:
        fields.append(("Accept", "*/*"))
    target = path if path.startswith("/") else f"/{path}"
    what = f"{scheme.lower()}://:{port}{target}"
    for _ in range(_REDIRECTS + 1):
        reply = await _get(connect, port, secure, target, fields)
        if not 200 <= reply.status < 400:
            raise ProbeFailedError(f"HTTP probe failed with statuscode: {reply.status} ({what})")
        onward = _redirect(reply, port, secure)
        if not onward:
            return
        target = onward
    raise ProbeFailedError(f"HTTP probe stopped after {_REDIRECTS} redirects ({what})")


async def check_tcp(connect: Connect, port: int) -> None:
    """Open a connection. Raises `ProbeFailedError`."""
    try:
        _, writer = await connect(port)
    except OSError as error:
        raise ProbeFailedError(_unreachable(port, error)) from error
    writer.close()


async def check_exec(execute: Execute, command: tuple[str, ...]) -> None:
    """Run a command; status 0 is success. Raises `ProbeFailedError`."""
    try:
        status = await execute(command)
    except OSError as error:
        raise ProbeFailedError(f"{command[0]}: {error.strerror or error}") from error
    if status:
        raise ProbeFailedError(f"{command[0]}: exit status {status}")


async def check_grpc(connect: Connect, port: int, service: str = "") -> None:
    """Ask ``grpc.health.v1.Health/Check`` (gRPC health checking protocol); SERVING is success.

    Raises `ProbeFailedError`.
    """
    # Only here: HTTP/2 costs memory that most pods' probes do not need.
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.exceptions import ProtocolError

    encoded = service.encode()
    message = b"\x0a" + _varint(len(encoded)) + encoded if encoded else b""
    wire = H2Connection(H2Configuration(client_side=True))
    try:
        reader, writer = await connect(port)
    except OSError as error:
        raise ProbeFailedError(_unreachable(port, error)) from error
    try:
        wire.initiate_connection()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":authority": f"localhost:{port}",
            ":path": "/grpc.health.v1.Health/Check",
            "content-type": "application/grpc",
            "te": "trailers",
            "user-agent": USER_AGENT,
        }
        wire.send_headers(1, list(headers.items()))
        wire.send_data(1, struct.pack("!BI", 0, len(message)) + message, end_stream=True)
        writer.write(wire.data_to_send())
        body, found = await _grpc_reply(wire, reader, writer)
    except (OSError, ProtocolError) as error:
        raise ProbeFailedError(f"port {port} does not speak gRPC: {error}") from error
    finally:
        writer.close()
    _judge_grpc(port, service, body, found)


async def _grpc_reply(
    wire: Any,  # noqa: ANN401 - h2 is imported where it is used
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> tuple[bytes, dict[str, str]]:
    from h2 import events

    body = bytearray()
    found: dict[str, str] = {}
    while True:
        data = await reader.read(65_536)
        if not data:
            raise OSError("the connection was closed")
        for event in wire.receive_data(data):
            if isinstance(event, events.DataReceived):
                body += event.data or b""
                wire.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, events.ResponseReceived | events.TrailersReceived):
                found |= {n.decode(): v.decode("latin-1") for n, v in event.headers or []}
            elif isinstance(event, events.StreamEnded):
                return bytes(body), found
            elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
                raise OSError(f"the call was ended with error {int(event.error_code or 0)}")
        if len(body) > BODY_LIMIT:
            raise OSError("the answer is too long")
        writer.write(wire.data_to_send())


def _judge_grpc(port: int, service: str, body: bytes, headers: dict[str, str]) -> None:
    code = headers.get("grpc-status", "")
    if code not in ("", "0"):
        said = _GRPC_CODES.get(code) or headers.get("grpc-message") or f"grpc-status {code}"
        raise ProbeFailedError(f"gRPC probe: the server on port {port} {said}")
    if headers.get(":status") != "200" or len(body) < 5:
        raise ProbeFailedError(f"gRPC probe: port {port} gave no gRPC answer")
    message = body[5:]
    status = message[1] if len(message) >= 2 and message[0] == 0x08 else 0
    if status != _SERVING:
        name = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(status, str(status))
        raise ProbeFailedError(f"gRPC probe: service {service!r} responded with {name}")


async def _get(
    connect: Connect, port: int, secure: bool, target: str, fields: list[tuple[str, str]]
) -> Reply:
    try:
        reader, writer = await connect(port)
        try:
            stream: Stream = PlainStream(reader, writer)
            if secure:
                from lateen.agent.tls_stream import TlsStream

                stream = await TlsStream.open(stream)
            return await exchange(stream, "GET", target, fields, BODY_LIMIT)
        finally:
            writer.close()
    except HttpError as error:
        raise ProbeFailedError(f"HTTP probe: port {port}: {error}") from error
    except OSError as error:
        raise ProbeFailedError(_unreachable(port, error)) from error


def _redirect(reply: Reply, port: int, secure: bool) -> str:
    """Where a redirect to the same host leads; empty when there is nothing to follow."""
    location = reply.headers.get("location", "")
    if not 300 <= reply.status < 400 or not location:
        return ""
    try:
        parts = urlsplit(location)
        other_port = parts.port
    except ValueError:
        return ""
    if parts.scheme and (parts.scheme == "https") != secure:
        return ""
    if parts.hostname and (other_port or (443 if secure else 80)) != port:
        return ""  # to somewhere else: the kubelet takes it as a success, too
    target = parts.path if parts.path.startswith("/") else f"/{parts.path}"
    return f"{target}?{parts.query}" if parts.query else target


def _unreachable(port: int, error: OSError) -> str:
    return f"port {port}: {error.strerror or str(error) or type(error).__name__}"


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
