"""As much of HTTP/2 (RFC 9113) as one gRPC stream of a client needs, on a non-blocking TLS socket.

One connection carries one stream, as an Envoy's does. Windows towards us are opened wide; the
server's windows are obeyed. Headers are written as literals and, on the way in, read only at the
end of a stream, for its status.
"""

from __future__ import annotations

import socket
import ssl
import struct
import urllib.parse
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import hpack

from benchmarks.scale.scanner import Incoming, Message

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_MAX_WINDOW = 0x7FFFFFFF
_REFILL = 64 * 1024 * 1024
_INITIAL_WINDOW = 65_535
_READ = 65_536
_BUFFER = bytearray(512 * 1024)
"""What is read; used up before anybody reads again."""
_VIEW = memoryview(_BUFFER)
_HEADER = struct.Struct(">LBL")
"""Of a frame: length and type, flags, stream."""


class StreamEnded(Exception):
    """The server ended the stream or the connection; the message says what it said."""

    def __init__(self, message: str, *, with_status: bool = False) -> None:
        super().__init__(message)
        self.with_status = with_status


@dataclass(slots=True)
class Endpoint:
    """Where to connect to, and how. ``tls`` None is clear text."""

    host: str
    port: int
    path: str
    authority: str
    tls: ssl.SSLContext | None


class Http2Stream:
    """A gRPC stream. The owner polls `socket` and calls `on_ready` when it can be read from or
    written to; `wants_write` says whether the latter matters."""

    def __init__(self, endpoint: Endpoint, incoming: Incoming) -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._endpoint = endpoint
        self.socket: socket.socket = raw
        self._connected = False
        self.secured = endpoint.tls is None
        """Whether the handshake is made, if one has to be."""
        self._handshake_writes = False
        self._out: deque[memoryview] = deque()
        self._in = b""
        """The begin of a frame."""
        self._incoming = incoming
        self._used = 0
        """Up to where frames of what was read have been used up."""
        self._waiting: deque[memoryview] = deque()
        """What the server's windows do not allow yet."""
        self._connection_window = _INITIAL_WINDOW
        self._stream_window = _INITIAL_WINDOW
        self._initial_window = _INITIAL_WINDOW
        self._frame_size = 16_384
        self._consumed = 0
        self.received = 0
        """Bytes of HTTP/2 received."""
        error = raw.connect_ex((endpoint.host, endpoint.port))
        if error not in (0, 11, 115):  # EAGAIN, EINPROGRESS
            raise OSError(error, "cannot connect")
        self._put(
            _PREFACE
            + _settings()
            + _frame(_WINDOW, 0, 0, (_MAX_WINDOW - 65_535).to_bytes(4, "big"))
            + _frame(_HEADERS, 4, 1, _request_headers(endpoint))
        )

    @property
    def wants_write(self) -> bool:
        """Whether to wait for writability."""
        return not self._connected or self._handshake_writes or (self.secured and bool(self._out))

    def send(self, message: bytes) -> None:
        """Queue a gRPC message."""
        prefix = b"\0" + len(message).to_bytes(4, "big")
        self._waiting.append(memoryview(prefix + message))
        self._fill()

    def close(self) -> None:
        """Drop the connection."""
        self.socket.close()

    def on_ready(self) -> Iterator[Message]:
        """Make progress; yields complete messages. Raises `StreamEnded` and ``OSError``."""
        if not self._connected:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "cannot connect")
            self._connected = True
            if self._endpoint.tls is not None:
                self.socket = self._endpoint.tls.wrap_socket(
                    self.socket,
                    server_hostname=self._endpoint.authority,
                    do_handshake_on_connect=False,
                )
        if not self.secured and not self._handshake():
            return
        yield from self._read()
        self.flush()

    def flush(self) -> None:
        """Write what can be written."""
        if not (self._connected and self.secured):
            return
        out = self._out
        while out:
            if len(out) > 1:
                # As Envoy does: what is to be written goes together.
                piece = memoryview(b"".join(out))
                out.clear()
                out.append(piece)
            piece = out[0]
            try:
                sent = self.socket.send(piece[:_READ])
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            if sent < len(piece):
                out[0] = piece[sent:]
            else:
                out.popleft()

    def _put(self, data: bytes) -> None:
        self._out.append(memoryview(data))

    def _handshake(self) -> bool:
        assert isinstance(self.socket, ssl.SSLSocket)
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._handshake_writes = False
            return False
        except ssl.SSLWantWriteError:
            self._handshake_writes = True
            return False
        self._handshake_writes = False
        self.secured = True
        return True

    def _read(self) -> Iterator[Message]:
        while True:
            kept = len(self._in)
            _BUFFER[:kept] = self._in
            end, closed, more = kept, False, True
            while end < len(_BUFFER):
                try:
                    size = self.socket.recv_into(_VIEW[end:])
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    more = False
                    break
                if not size:
                    closed = True
                    break
                end += size
            self.received += end - kept
            yield from self._frames(end)
            self._in = bytes(_VIEW[self._used : end])
            if closed:
                raise StreamEnded("the server closed the connection")
            if not more:
                return

    def _frames(self, end: int) -> Iterator[Message]:
        """Messages in what was read."""
        goes_on, position, consumed = self._incoming.goes_on, 0, 0
        while end - position >= 9:
            first, flags, stream = _HEADER.unpack_from(_BUFFER, position)
            start = position + 9
            if end - start < first >> 8:
                break
            position = start + (first >> 8)
            if first & 0xFF == _DATA:
                consumed += first >> 8
                payload = _VIEW[start:position]
                if not goes_on(payload):
                    yield from self._incoming.add(payload)
            else:
                self._control(first & 0xFF, flags, stream, bytes(_VIEW[start:position]))
        self._used = position
        self._credit(consumed)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW:
            amount = int.from_bytes(payload, "big")
            if stream:
                self._stream_window += amount
            else:
                self._connection_window += amount
            self._fill()
        elif kind == _SETTINGS and not flags & 1:
            self._on_settings(payload)
        elif kind == _PING and not flags & 1:
            self._put(_frame(_PING, 1, 0, payload))
        elif kind == _HEADERS and flags & 1:
            text = f"the server ended the stream: {status_of(payload)}"
            raise StreamEnded(text, with_status=True)
        elif kind in (_RESET, _GOAWAY):
            raise StreamEnded(f"the server said {'RST_STREAM' if kind == _RESET else 'GOAWAY'}")

    def _credit(self, size: int) -> None:
        self._consumed += size
        if self._consumed >= _REFILL:
            amount = self._consumed.to_bytes(4, "big")
            self._put(_frame(_WINDOW, 0, 0, amount) + _frame(_WINDOW, 0, 1, amount))
            self._consumed = 0

    def _on_settings(self, payload: bytes) -> None:
        for position in range(0, len(payload), 6):
            key = int.from_bytes(payload[position : position + 2], "big")
            value = int.from_bytes(payload[position + 2 : position + 6], "big")
            if key == 4:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif key == 5:
                self._frame_size = value
        self._put(_frame(_SETTINGS, 1, 0, b""))
        self._fill()

    def _fill(self) -> None:
        frames: list[bytes | memoryview] = []
        while self._waiting:
            first = self._waiting[0]
            size = min(len(first), self._frame_size, self._connection_window, self._stream_window)
            if size <= 0:
                break
            frames += (_frame_header(size, _DATA, 0, 1), first[:size])
            if size < len(first):
                self._waiting[0] = first[size:]
            else:
                self._waiting.popleft()
            self._connection_window -= size
            self._stream_window -= size
        if frames:
            self._put(b"".join(frames))


def status_of(block: bytes) -> str:
    """Code and words of gRPC in a block of headers. It stands alone, as our settings leave no
    room for a table that outlives it."""
    decoder = hpack.Decoder()
    try:
        found = {str(name): str(value) for name, value in decoder.decode(block)}
    except hpack.HPACKError as error:
        return f"with headers that cannot be read: {error}"
    code, words = found.get("grpc-status", "?"), found.get("grpc-message", "")
    return f"grpc-status {code} {urllib.parse.unquote(words)}".rstrip()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _frame_header(len(payload), kind, flags, stream) + payload


def _frame_header(size: int, kind: int, flags: int, stream: int) -> bytes:
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")


def _settings() -> bytes:
    pairs = ((1, 0), (2, 0), (4, _MAX_WINDOW), (5, 16_777_215))
    body = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)
    return _frame(_SETTINGS, 0, 0, body)


def _request_headers(endpoint: Endpoint) -> bytes:
    """HPACK (RFC 7541): indexed fields of the static table, and literals that are not indexed."""

    def text(value: str) -> bytes:
        data = value.encode()
        if len(data) > 126:
            raise ValueError("header too long for this small encoder")
        return bytes((len(data),)) + data

    scheme = b"\x87" if endpoint.tls is not None else b"\x86"
    return b"".join(
        (
            b"\x83",  # :method POST
            scheme,
            b"\x04" + text(endpoint.path),
            b"\x01" + text(endpoint.authority),
            b"\x00" + text("te") + text("trailers"),
            b"\x00" + text("content-type") + text("application/grpc"),
        )
    )
