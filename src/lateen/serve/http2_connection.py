"""The server's side of one HTTP/2 connection (RFC 9113) that carries gRPC streams: no I/O.

Bytes go in by `ServerConnection.receive`; what the client asks for is told to an `Owner`; what is
to be written comes out of `ServerConnection.output`. Everything a client can make the server keep
or do is bounded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from hpack import Decoder, Encoder, HeaderTuple
from hpack.exceptions import HPACKError

from lateen.serve import http2_frames as wire
from lateen.serve.http2_frames import FRAME_SIZE, HEADER_SIZE, MAX_WINDOW, Part, Payload

MAX_REQUEST_BYTES = 4 * 1024 * 1024
_STREAM_WINDOW = 4 * 1024 * 1024
_CONNECTION_WINDOW = 8 * 1024 * 1024
_MAX_BUFFERED = 8 * 1024 * 1024
_MAX_HEADER_BLOCK = 64 * 1024
_MAX_HEADER_LIST = 32 * 1024
_MAX_CONTINUATIONS = 16
_PERIOD = 10.0
_BUDGET = 1000
"""Frames that carry no message, per ten seconds."""
_WINDOW_BUDGET = 50_000
"""WINDOW_UPDATE frames per ten seconds: a client that reads fast sends many."""
_MAX_CONTROL = 64 * 1024
"""Bytes of answers to control frames that may wait for a client that does not read."""
_SLICE = 16 * (FRAME_SIZE + HEADER_SIZE)
"""Bytes of shared frames handed out at once: other frames go in between."""


class ConnectionError_(Exception):
    """The client broke the protocol: the connection ends with this HTTP/2 error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Headers:
    """A request's headers; names are lower case, of repeated ones the last counts."""

    fields: dict[str, str]

    def get(self, name: str) -> str:
        """A header's value; empty when there is none."""
        return self.fields.get(name, "")


class Owner(Protocol):
    """Is told what the client does."""

    def opened(self, stream: ServerStream, headers: Headers) -> None:
        """A new stream."""

    def received(self, stream: ServerStream, message: bytes) -> None:
        """A whole gRPC message."""

    def finished(self, stream: ServerStream) -> None:
        """The client sends nothing more on this stream."""

    def reset(self, stream: ServerStream) -> None:
        """The client gave the stream up."""


class ServerStream:
    """One stream. ``tag`` is the owner's."""

    __slots__ = (
        "_buffer",
        "_credit",
        "_offset",
        "_queue",
        "_window",
        "closed",
        "connection",
        "end",
        "half_closed",
        "number",
        "tag",
    )

    def __init__(self, connection: ServerConnection, number: int, window: int) -> None:
        self.connection = connection
        self.number = number
        self.tag: object = None
        self.half_closed = False
        """The client sends nothing more."""
        self.closed = False
        self.end: bytes | None = None
        """Trailers that follow when the queue is empty."""
        self._window = window
        self._buffer = bytearray()
        self._credit = 0
        self._queue: deque[Part | Payload | bytes] = deque()
        self._offset = 0

    @property
    def pending(self) -> bool:
        """Whether something waits to be handed out."""
        return bool(self._queue) or self.end is not None

    def send(self, payload: Payload) -> None:
        """Queue a message."""
        if self.closed or self.end is not None:
            return
        if payload.fits:
            self._queue.append(payload)
        else:
            self._queue.append(payload.prefix)
            self._queue.extend(part for part in payload.parts if part.size)
        self.connection.ready(self)

    def finish(self, status: int, text: str = "") -> None:
        """End the stream with a gRPC status once what is queued is written."""
        if self.closed or self.end is not None:
            return
        self.end = _trailers(status, text)
        self.connection.ready(self)

    def abandon(self, status: int, text: str) -> None:
        """End the stream with a gRPC status at once, as far as a message is not cut in two."""
        if self._offset or any(isinstance(item, Part) for item in self._queue):
            self.connection.reset(self, wire.CANCEL)
            return
        self._queue.clear()
        self.finish(status, text)


class ServerConnection:
    """See the module. ``streams`` bounds how many may be open at a time."""

    def __init__(self, owner: Owner, *, streams: int) -> None:
        self.received_any = False
        """Whether the client's preface has come."""
        self.pings_sent = 0
        self._owner = owner
        self._limit = streams
        self._decoder = Decoder(max_header_list_size=_MAX_HEADER_LIST)
        self._streams: dict[int, ServerStream] = {}
        self._last = 0
        self._in = bytearray()
        self._block: tuple[int, int, bytearray, int] | None = None
        self._window = wire.DEFAULT_WINDOW
        self._initial_window = wire.DEFAULT_WINDOW
        self._credit = 0
        self._settled = False
        self._ready: deque[ServerStream] = deque()
        self._control: list[bytes] = [
            wire.settings(
                {
                    wire.SETTING_MAX_CONCURRENT_STREAMS: streams,
                    wire.SETTING_INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
                    wire.SETTING_MAX_HEADER_LIST_SIZE: _MAX_HEADER_LIST,
                }
            ),
            wire.window_update(0, _CONNECTION_WINDOW - wire.DEFAULT_WINDOW),
        ]
        self._control_size = 0
        self._going = False
        self._period = 0.0
        self._spent = self._window_spent = 0

    @property
    def streams(self) -> Iterable[ServerStream]:
        """Those that are open."""
        return tuple(self._streams.values())

    # In

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take in bytes. Raises `ConnectionError_`, after which `output` ends with GOAWAY."""
        try:
            self._receive(data)
        except ConnectionError_ as error:
            self.go_away(error.code, str(error))
            raise

    def _receive(self, data: bytes | bytearray | memoryview) -> None:
        buffer = self._in
        buffer += data
        position, size = 0, len(buffer)
        if not self.received_any:
            if not wire.PREFACE.startswith(buffer[: len(wire.PREFACE)]):
                raise ConnectionError_(wire.PROTOCOL_ERROR, "not an HTTP/2 client")
            if size < len(wire.PREFACE):
                return
            position, self.received_any = len(wire.PREFACE), True
        while size - position >= HEADER_SIZE:
            length, kind, flags, number = wire.parse_header(buffer, position)
            if length > FRAME_SIZE:
                raise ConnectionError_(wire.FRAME_SIZE_ERROR, "a frame is too long")
            end = position + HEADER_SIZE + length
            if end > size:
                break
            self._frame(kind, flags, number, bytes(buffer[position + HEADER_SIZE : end]))
            position = end
        del buffer[:position]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if not self._settled and kind != wire.SETTINGS:
            raise ConnectionError_(wire.PROTOCOL_ERROR, "settings must come first")
        if self._block is not None and (kind != wire.CONTINUATION or number != self._block[0]):
            raise ConnectionError_(wire.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == wire.DATA:
            self._on_data(flags, number, payload)
        elif kind == wire.WINDOW_UPDATE:
            self._on_window(number, payload)
        elif kind == wire.HEADERS:
            self._on_headers(flags, number, payload)
        elif kind == wire.CONTINUATION:
            self._on_continuation(flags, payload)
        else:
            self._spend()
            self._on_other(kind, flags, number, payload)

    def _on_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == wire.RST_STREAM:
            if len(payload) != 4:
                raise ConnectionError_(wire.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
            self._check_known(number)
            stream = self._streams.get(number)
            if stream is not None:
                self._forget(stream)
                self._owner.reset(stream)
        elif kind == wire.SETTINGS:
            self._on_settings(flags, number, payload)
        elif kind == wire.PING:
            if number or len(payload) != 8:
                code = wire.PROTOCOL_ERROR if number else wire.FRAME_SIZE_ERROR
                raise ConnectionError_(code, "PING of a wrong shape")
            if not flags & wire.ACK:
                self._answer(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif kind == wire.PRIORITY:
            if not number:
                raise ConnectionError_(wire.PROTOCOL_ERROR, "PRIORITY without a stream")
            if len(payload) != 5:
                raise ConnectionError_(wire.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
        elif kind == wire.GOAWAY:
            if number or len(payload) < 8:
                raise ConnectionError_(wire.PROTOCOL_ERROR, "GOAWAY of a wrong shape")
        elif kind == wire.PUSH_PROMISE:
            raise ConnectionError_(wire.PROTOCOL_ERROR, "a client cannot push")
        # Frames of other types are extensions, which are ignored (section 5.5).

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        length = len(payload)
        if not number:
            raise ConnectionError_(wire.PROTOCOL_ERROR, "DATA without a stream")
        if not length:
            self._spend()
        # Padding counts for flow control (section 6.9.1).
        self._credit += length
        if self._credit > _CONNECTION_WINDOW:
            raise ConnectionError_(wire.FLOW_CONTROL_ERROR, "more data than the window allows")
        if self._credit >= _CONNECTION_WINDOW // 2:
            self._answer(wire.window_update(0, self._credit))
            self._credit = 0
        if flags & wire.PADDED:
            payload = _unpadded(payload)
        stream = self._streams.get(number)
        if stream is None:
            self._check_known(number)
            return  # ended here already; the client may not know yet
        if stream.half_closed:
            self._fail(stream, wire.STREAM_CLOSED)
            return
        stream._credit += length
        if stream._credit > _STREAM_WINDOW:
            self._fail(stream, wire.FLOW_CONTROL_ERROR)
            return
        if flags & wire.END_STREAM:
            stream.half_closed = True
        elif stream._credit >= _STREAM_WINDOW // 2:
            self._answer(wire.window_update(number, stream._credit))
            stream._credit = 0
        self._take(stream, payload)
        if stream.half_closed and not stream.closed:
            self._owner.finished(stream)

    def _take(self, stream: ServerStream, payload: bytes) -> None:
        buffer = stream._buffer
        if not buffer and len(payload) >= 5:
            size = int.from_bytes(payload[1:5], "big")
            if len(payload) == size + 5 and not payload[0]:  # nearly always
                self._owner.received(stream, payload[5:])
                return
        buffer += payload
        while len(buffer) >= 5 and not stream.closed and stream.end is None:
            size = int.from_bytes(buffer[1:5], "big")
            if buffer[0]:
                stream.abandon(_UNIMPLEMENTED, "compressed messages are not taken")
                return
            if size > MAX_REQUEST_BYTES:
                stream.abandon(_EXHAUSTED, f"a message is larger than {MAX_REQUEST_BYTES} bytes")
                return
            if len(buffer) < size + 5:
                break
            message = bytes(buffer[5 : size + 5])
            del buffer[: size + 5]
            self._owner.received(stream, message)
        if stream.end is not None or stream.closed:
            buffer.clear()
        elif len(buffer) > FRAME_SIZE:
            held = sum(len(other._buffer) for other in self._streams.values())
            if held > _MAX_BUFFERED:
                raise ConnectionError_(wire.ENHANCE_YOUR_CALM, "too much unfinished")

    def _on_window(self, number: int, payload: bytes) -> None:
        self._spend(window=True)
        if len(payload) != 4:
            raise ConnectionError_(wire.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        amount = int.from_bytes(payload, "big") & MAX_WINDOW
        if not number:
            self._window += amount
            if not amount or self._window > MAX_WINDOW:
                code = wire.FLOW_CONTROL_ERROR if amount else wire.PROTOCOL_ERROR
                raise ConnectionError_(code, "WINDOW_UPDATE by a wrong amount")
            return
        stream = self._streams.get(number)
        if stream is None:
            self._check_known(number)
            return
        stream._window += amount
        if not amount or stream._window > MAX_WINDOW:
            self._fail(stream, wire.FLOW_CONTROL_ERROR if amount else wire.PROTOCOL_ERROR)
        elif stream.pending:
            self.ready(stream)

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionError_(wire.PROTOCOL_ERROR, "SETTINGS on a stream")
        acknowledges = flags & wire.ACK
        if len(payload) % 6 or (acknowledges and payload):
            raise ConnectionError_(wire.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if acknowledges:
            if not self._settled:
                raise ConnectionError_(wire.PROTOCOL_ERROR, "settings must come first")
            return
        self._settled = True
        for key, value in wire.parse_settings(payload):
            if key == wire.SETTING_INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise ConnectionError_(wire.FLOW_CONTROL_ERROR, "a window is too large")
                difference = value - self._initial_window
                self._initial_window = value
                for stream in self._streams.values():
                    stream._window += difference
                    if stream._window > MAX_WINDOW:
                        raise ConnectionError_(wire.FLOW_CONTROL_ERROR, "a window is too large")
                    if stream.pending:
                        self.ready(stream)
            elif key == wire.SETTING_ENABLE_PUSH and value > 1:
                raise ConnectionError_(wire.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
            elif key == wire.SETTING_MAX_FRAME_SIZE and not FRAME_SIZE <= value <= 0xFFFFFF:
                raise ConnectionError_(wire.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
        self._answer(wire.frame(wire.SETTINGS, wire.ACK, 0, b""))

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        self._spend()
        if not number % 2:
            raise ConnectionError_(wire.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & wire.PADDED:
            payload = _unpadded(payload)
        if flags & wire.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionError_(wire.FRAME_SIZE_ERROR, "HEADERS is too short")
            payload = payload[5:]
        self._block = (number, flags, bytearray(payload), 0)
        if flags & wire.END_HEADERS:
            self._end_block()

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionError_(wire.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        number, first, block, count = self._block
        block += payload
        if len(block) > _MAX_HEADER_BLOCK or count >= _MAX_CONTINUATIONS:
            raise ConnectionError_(wire.ENHANCE_YOUR_CALM, "headers are too long")
        self._block = (number, first, block, count + 1)
        if flags & wire.END_HEADERS:
            self._end_block()

    def _end_block(self) -> None:
        assert self._block is not None
        number, flags, block, _ = self._block
        self._block = None
        try:
            # Also for a stream that is refused: the table is the connection's.
            fields = self._decoder.decode(bytes(block))
        except (HPACKError, UnicodeDecodeError) as error:
            raise ConnectionError_(wire.COMPRESSION_ERROR, "headers cannot be read") from error
        stream = self._streams.get(number)
        if stream is not None:  # trailers
            if stream.half_closed or not flags & wire.END_STREAM:
                self._fail(stream, wire.PROTOCOL_ERROR)
                return
            stream.half_closed = True
            self._owner.finished(stream)
            return
        if number <= self._last:
            raise ConnectionError_(wire.STREAM_CLOSED, "a stream is used again")
        self._last = number
        if self._going or len(self._streams) >= self._limit:
            self._answer(_reset(number, wire.REFUSED_STREAM))
            return
        found = _checked(fields)
        if found is None:
            self._answer(_reset(number, wire.PROTOCOL_ERROR))
            return
        stream = ServerStream(self, number, self._initial_window)
        stream.half_closed = bool(flags & wire.END_STREAM)
        self._streams[number] = stream
        self._owner.opened(stream, found)
        if stream.half_closed and not stream.closed:
            self._owner.finished(stream)

    # Out

    def respond(self, stream: ServerStream) -> None:
        """Send the response's headers; must come before anything else on the stream."""
        headers = wire.frame(wire.HEADERS, wire.END_HEADERS, stream.number, _RESPONSE)
        self._control.append(headers)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.pings_sent += 1
        self._control.append(wire.frame(wire.PING, 0, 0, self.pings_sent.to_bytes(8, "big")))

    def go_away(self, code: int = wire.NO_ERROR, text: str = "") -> None:
        """Take no new streams, and say so."""
        if self._going:
            return
        self._going = True
        body = self._last.to_bytes(4, "big") + code.to_bytes(4, "big") + text.encode()[:200]
        self._control.append(wire.frame(wire.GOAWAY, 0, 0, body))

    def reset(self, stream: ServerStream, code: int) -> None:
        """Give a stream up."""
        if not stream.closed:
            self._control.append(_reset(stream.number, code))
            self._forget(stream)

    def ready(self, stream: ServerStream) -> None:
        """Something is to be sent on ``stream``."""
        if stream not in self._ready:
            self._ready.append(stream)

    @property
    def idle(self) -> bool:
        """Whether nothing can be written now."""
        return not self._control and (not self._ready or self._window <= 0)

    def output(self) -> bytes | memoryview | None:
        """The next bytes to write; None when there are none, or windows are closed."""
        if self._control:
            data = b"".join(self._control)
            self._control.clear()
            self._control_size = 0
            return data
        ready = self._ready
        while ready:
            stream = ready[0]
            data_ = self._next(stream)
            if stream.closed:
                pass  # forgotten, with its place here
            elif not stream.pending:
                ready.popleft()
            elif data_ is None:
                if self._window <= 0:
                    return None
                ready.popleft()  # its own window is closed: an update brings it back
            else:
                ready.rotate(-1)
            if data_ is not None:
                return data_
        return None

    def _next(self, stream: ServerStream) -> bytes | memoryview | None:
        """The next piece of one stream; None when its or the connection's window is closed."""
        queue = stream._queue
        if not queue:
            return self._ended(stream) if stream.end is not None else None
        item = queue[0]
        allowed = min(self._window, stream._window)
        if isinstance(item, Payload):
            if allowed >= item.size + 5:
                queue.popleft()
                self._use(stream, item.size + 5)
                if stream.number == 1:
                    return item.single
                return wire.frame(wire.DATA, 0, stream.number, item.prefix + item.data)
            queue[0] = item.prefix
            for place, part in enumerate((part for part in item.parts if part.size), 1):
                queue.insert(place, part)
            item = queue[0]
        if isinstance(item, bytes):
            size = min(len(item), allowed)
            if size <= 0:
                return None
            if size < len(item):
                queue[0] = item[size:]
            else:
                queue.popleft()
            self._use(stream, size)
            return wire.frame(wire.DATA, 0, stream.number, item[:size])
        assert isinstance(item, Part)
        return self._part(stream, item, allowed)

    def _part(self, stream: ServerStream, part: Part, allowed: int) -> bytes | memoryview | None:
        if allowed <= 0:
            return None
        start = stream._offset
        if stream.number == 1 and part.size > FRAME_SIZE and not start % FRAME_SIZE:
            frames = min(allowed // FRAME_SIZE, _SLICE // (FRAME_SIZE + HEADER_SIZE))
            end = min(start + frames * FRAME_SIZE, part.size)
            if part.size - start <= allowed and part.size - start <= frames * FRAME_SIZE:
                end = part.size
            if end > start:
                step = FRAME_SIZE + HEADER_SIZE
                count = -(-(end - start) // FRAME_SIZE)
                place = start // FRAME_SIZE * step
                self._advance(stream, part, end)
                return memoryview(part.framed)[place : place + (end - start) + count * HEADER_SIZE]
        boundary = (start // FRAME_SIZE + 1) * FRAME_SIZE
        end = min(boundary, part.size, start + allowed)
        data = part.slice(start, end)
        self._advance(stream, part, end)
        return wire.frame(wire.DATA, 0, stream.number, data)

    def _advance(self, stream: ServerStream, part: Part, end: int) -> None:
        self._use(stream, end - stream._offset)
        if end >= part.size:
            stream._queue.popleft()
            stream._offset = 0
        else:
            stream._offset = end

    def _use(self, stream: ServerStream, size: int) -> None:
        self._window -= size
        stream._window -= size

    def _ended(self, stream: ServerStream) -> bytes:
        assert stream.end is not None
        flags = wire.END_HEADERS | wire.END_STREAM
        data = wire.frame(wire.HEADERS, flags, stream.number, stream.end)
        if not stream.half_closed:
            # The client need not send the rest (section 8.1).
            data += _reset(stream.number, wire.NO_ERROR)
        self._forget(stream)
        return data

    def _answer(self, data: bytes) -> None:
        self._control.append(data)
        self._control_size += len(data)
        if self._control_size > _MAX_CONTROL:
            raise ConnectionError_(wire.ENHANCE_YOUR_CALM, "answers are not read")

    def _fail(self, stream: ServerStream, code: int) -> None:
        """A stream error (section 5.4.2)."""
        self._answer(_reset(stream.number, code))
        self._forget(stream)
        self._owner.reset(stream)

    def _forget(self, stream: ServerStream) -> None:
        stream.closed = True
        stream._queue.clear()
        stream._buffer.clear()
        stream.end = None
        self._streams.pop(stream.number, None)
        if stream in self._ready:
            self._ready.remove(stream)

    def _check_known(self, number: int) -> None:
        if not number or number > self._last or not number % 2:
            raise ConnectionError_(wire.PROTOCOL_ERROR, "a frame of a stream that was not opened")

    def _spend(self, *, window: bool = False) -> None:
        """Count a frame that is cheap to send and brings nothing. Floods of these end here."""
        now = time.monotonic()
        if now - self._period > _PERIOD:
            self._period, self._spent, self._window_spent = now, 0, 0
        if window:
            self._window_spent += 1
        else:
            self._spent += 1
        if self._spent > _BUDGET or self._window_spent > _WINDOW_BUDGET:
            raise ConnectionError_(wire.ENHANCE_YOUR_CALM, "too many control frames")


_UNIMPLEMENTED, _EXHAUSTED = 12, 8  # gRPC status codes
_CONNECTION_SPECIFIC = frozenset(
    {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}
)
_RESPONSE = Encoder().encode([(":status", "200"), ("content-type", "application/grpc", True)])


def _trailers(status: int, text: str) -> bytes:
    fields = [("grpc-status", str(status), True)]
    if text:
        # gRPC over HTTP/2, "Status-Message": percent-encoded UTF-8.
        safe = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
        fields.append(("grpc-message", quote(text[:1000], safe=safe), True))
    return Encoder().encode(fields)


def _reset(number: int, code: int) -> bytes:
    return wire.frame(wire.RST_STREAM, 0, number, code.to_bytes(4, "big"))


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionError_(wire.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def _checked(fields: Iterable[HeaderTuple]) -> Headers | None:
    """The headers of a well-formed request (section 8.2 and 8.3); None otherwise."""
    found: dict[str, str] = {}
    regular = False
    for name, value in fields:
        if not name or name != name.lower() or any(c in value for c in "\0\r\n"):
            return None
        if name.startswith(":"):
            if regular or name in found or name not in _PSEUDO:
                return None
        else:
            regular = True
            if name in _CONNECTION_SPECIFIC or (name == "te" and value != "trailers"):
                return None
        found[name] = value
    if not (found.get(":method") and found.get(":scheme") and found.get(":path")):
        return None
    return Headers(found)


_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
