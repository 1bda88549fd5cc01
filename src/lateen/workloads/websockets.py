"""A page and an echoing websocket: ``python -m lateen.workloads.websockets [PORT]`` (8888).

``/`` is a page to try it with, ``/ws`` the websocket (RFC 6455): messages come back as they are.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from lateen.workloads.connection import Server, Upgrade
from lateen.workloads.http import Request, Response, html, text
from lateen.workloads.server import run_http
from lateen.workloads.settings import listen_port, main, request_log

MAX_MESSAGE: Final = 1024 * 1024
"""Most bytes of one message, all fragments together."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>WebSocket echo</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}
ol{padding:0;list-style:none}</style></head>
<body><h1>WebSocket echo</h1><p id="state">connecting</p>
<form><input id="line" aria-label="Message" autofocus> <button>Send</button></form>
<ol id="log"></ol>
<script>
const at = id => document.getElementById(id);
const show = line => { const item = document.createElement("li"); item.textContent = line;
  at("log").prepend(item); };
const socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[^/]*$/, "ws"));
socket.onopen = () => at("state").textContent = "connected";
socket.onclose = end => at("state").textContent = "closed (" + end.code + ")";
socket.onmessage = event => show("← " + event.data);
document.querySelector("form").onsubmit = event => { event.preventDefault();
  show("→ " + at("line").value); socket.send(at("line").value); at("line").value = ""; };
</script></body></html>
"""


class EchoSocket(asyncio.Protocol):
    """One open websocket, after the handshake."""

    def __init__(self, transport: asyncio.Transport, server: Server, data: bytes) -> None:
        self._transport = transport
        self._server = server
        self._buffer = bytearray()
        self._message = bytearray()
        self._kind = 0
        self._closing = False
        server.connections.add(self)
        if data:
            self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lost(self)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def drain(self) -> None:
        self._end(1001)  # going away

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._transport.is_closing():
            frame = self._frame()
            if frame is None:
                return
            self._handle(*frame)

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """The next whole frame: final, opcode, payload."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        length, start = second & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start:
            return None
        control = first & 0x08
        # Clients must mask; control frames are short and whole (RFC 6455 sections 5.1 and 5.5).
        if not second & 0x80 or first & 0x70 or (control and (length > 125 or not first & 0x80)):
            self._end(1002)
            return None
        if length > MAX_MESSAGE:
            self._end(1009)
            return None
        if len(buffer) < start + 4 + length:
            return None
        mask = bytes(buffer[start : start + 4])
        payload = bytes(buffer[start + 4 : start + 4 + length])
        del buffer[: start + 4 + length]
        return bool(first & 0x80), first & 0x0F, _unmask(payload, mask)

    def _handle(self, final: bool, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._send(_PONG, payload)
        elif opcode == _CLOSE:
            if self._closing:
                self._transport.close()
            else:
                self._end(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1000)
                self._transport.close()
        elif opcode in (_TEXT, _BINARY, _CONTINUATION):
            if (opcode == _CONTINUATION) != bool(self._kind):
                self._end(1002)
                return
            self._kind = self._kind or opcode
            self._message += payload
            if len(self._message) > MAX_MESSAGE:
                self._end(1009)
            elif final:
                self._echo()
        elif opcode != _PONG:
            self._end(1002)

    def _echo(self) -> None:
        kind, message = self._kind, bytes(self._message)
        self._kind = 0
        self._message.clear()
        if kind == _TEXT:
            try:
                message.decode()
            except UnicodeDecodeError:
                self._end(1007)
                return
        self._send(kind, message)

    def _send(self, opcode: int, payload: bytes) -> None:
        if self._closing:
            return
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, size))
        elif size < 65536:
            head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
        self._transport.write(head + payload)

    def _end(self, code: int) -> None:
        """Send a close frame; the connection goes when the peer answers it, or after a second."""
        if self._closing:
            return
        self._send(_CLOSE, code.to_bytes(2, "big"))
        self._closing = True
        if code not in (1000, 1001):
            self._transport.close()
        else:
            asyncio.get_running_loop().call_later(1.0, self._transport.close)


def _unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask, as one big integer: a loop in Python is forty times slower."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def handshake(request: Request) -> Response:
    """The answer to an opening handshake (RFC 6455 section 4.2)."""
    import base64
    import hashlib

    headers = request.headers
    key = headers.get("sec-websocket-key", "")
    if headers.get("upgrade", "").lower() != "websocket" or not key or request.method != "GET":
        return Response(
            b"open a websocket here\n",
            426,
            headers=(("Upgrade", "websocket"), ("Connection", "Upgrade")),
        )
    if headers.get("sec-websocket-version") != "13":
        return Response(b"version 13 only\n", 426, headers=(("Sec-WebSocket-Version", "13"),))
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return Upgrade(
        (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
        ),
        EchoSocket,
    )


def handle(request: Request) -> Response:
    """The request handler."""
    if request.path == "/ws":
        return handshake(request)
    return html(_PAGE) if request.path == "/" else text("not found\n", 404)


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    return run_http("websockets", listen_port(arguments, 8888), handle, log=request_log())


if __name__ == "__main__":
    main("websockets", program)
