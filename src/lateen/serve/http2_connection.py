"""The server's side of one HTTP/2 connection (RFC 9113) that carries gRPC streams: no I/O.

Bytes go in by `ServerConnection.receive`; what the client asks for is told to an `Owner`; what is
to be written comes out of `ServerConnection.output`. Everything a client can make the server keep
or do is bounded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from hpack import Decoder
from hpack.exceptions import HPACKError

from lateen.serve import http2_frames as wire
from lateen.serve.grpc_headers import RESPONSE, Headers, request_headers
from lateen.serve.http2_frames import FRAME_SIZE, HEADER_SIZE, MAX_WINDOW
from lateen.serve.http2_stream import ServerStream

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


class ProtocolViolation(Exception):
    """The client broke the protocol: the connection ends with this HTTP/2 error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


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
        self.window = wire.DEFAULT_WINDOW
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

    @property
    def unfinished(self) -> int:
        """Bytes kept of frames and messages that are not complete."""
        return len(self._in) + sum([len(stream.buffer) for stream in self._streams.values()])

    # In

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Take in bytes. Raises `ProtocolViolation`, after which `output` ends with GOAWAY."""
        try:
            self._receive(data)
        except ProtocolViolation as error:
            self.go_away(error.code, str(error))
            raise

    def _receive(self, data: bytes | bytearray | memoryview) -> None:
        if self._in:
            self._in += data
            data, self._in = self._in, bytearray()
        with memoryview(data) as view:
            used = self._frames(view)
            if used < len(view):
                self._in += view[used:]

    def _frames(self, view: memoryview) -> int:
        """Take in the frames that are whole; how many bytes these are."""
        position, size = 0, len(view)
        if not self.received_any:
            if not wire.PREFACE.startswith(view[: len(wire.PREFACE)]):
                raise ProtocolViolation(wire.PROTOCOL_ERROR, "not an HTTP/2 client")
            if size < len(wire.PREFACE):
                return 0
            position, self.received_any = len(wire.PREFACE), True
        while size - position >= HEADER_SIZE:
            length, kind, flags, number = wire.parse_header(view, position)
            if length > FRAME_SIZE:
                raise ProtocolViolation(wire.FRAME_SIZE_ERROR, "a frame is too long")
            end = position + HEADER_SIZE + length
            if end > size:
                break
            self._frame(kind, flags, number, view[position + HEADER_SIZE : end])
            position = end
        return position

    def _frame(self, kind: int, flags: int, number: int, content: memoryview) -> None:
        if not self._settled and kind != wire.SETTINGS:
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "settings must come first")
        if self._block is not None and (kind != wire.CONTINUATION or number != self._block[0]):
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == wire.DATA:
            self._on_data(flags, number, content)
            return
        payload = bytes(content)
        if kind == wire.WINDOW_UPDATE:
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
                raise ProtocolViolation(wire.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
            self._check_known(number)
            stream = self._streams.get(number)
            if stream is not None:
                self.forget(stream)
                self._owner.reset(stream)
        elif kind == wire.SETTINGS:
            self._on_settings(flags, number, payload)
        elif kind == wire.PING:
            if number or len(payload) != 8:
                code = wire.PROTOCOL_ERROR if number else wire.FRAME_SIZE_ERROR
                raise ProtocolViolation(code, "PING of a wrong shape")
            if not flags & wire.ACK:
                self._answer(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif kind == wire.PRIORITY:
            if not number:
                raise ProtocolViolation(wire.PROTOCOL_ERROR, "PRIORITY without a stream")
            if len(payload) != 5:
                raise ProtocolViolation(wire.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
        elif kind == wire.GOAWAY:
            if number or len(payload) < 8:
                raise ProtocolViolation(wire.PROTOCOL_ERROR, "GOAWAY of a wrong shape")
        elif kind == wire.PUSH_PROMISE:
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "a client cannot push")
        # Frames of other types are extensions, which are ignored (section 5.5).

    def _on_data(self, flags: int, number: int, payload: memoryview) -> None:
        length = len(payload)
        if not number:
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "DATA without a stream")
        if not length:
            self._spend()
        # Padding counts for flow control (section 6.9.1).
        self._credit += length
        if self._credit > _CONNECTION_WINDOW:
            raise ProtocolViolation(wire.FLOW_CONTROL_ERROR, "more data than the window allows")
        if self._credit >= _CONNECTION_WINDOW // 2:
            self._answer(wire.window_update(0, self._credit))
            self._credit = 0
        if flags & wire.PADDED:
            payload = payload[_within(payload)]
        stream = self._streams.get(number)
        if stream is None:
            self._check_known(number)
            return  # ended here already; the client may not know yet
        if stream.half_closed:
            self._fail(stream, wire.STREAM_CLOSED)
            return
        stream.credit += length
        if stream.credit > _STREAM_WINDOW:
            self._fail(stream, wire.FLOW_CONTROL_ERROR)
            return
        if flags & wire.END_STREAM:
            stream.half_closed = True
        elif stream.credit >= _STREAM_WINDOW // 2:
            self._answer(wire.window_update(number, stream.credit))
            stream.credit = 0
        self._take(stream, payload)
        if stream.half_closed and not stream.closed:
            self._owner.finished(stream)

    def _take(self, stream: ServerStream, payload: memoryview) -> None:
        buffer = stream.buffer
        if not buffer and len(payload) >= 5:
            size = int.from_bytes(payload[1:5], "big")
            if len(payload) == size + 5 and not payload[0]:  # nearly always
                self._owner.received(stream, bytes(payload[5:]))
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
            with memoryview(buffer) as view:
                message = bytes(view[5 : size + 5])
            del buffer[: size + 5]
            self._owner.received(stream, message)
        if stream.end is not None or stream.closed:
            buffer.clear()
        elif len(buffer) > FRAME_SIZE:
            held = sum(len(other.buffer) for other in self._streams.values())
            if held > _MAX_BUFFERED:
                raise ProtocolViolation(wire.ENHANCE_YOUR_CALM, "too much unfinished")

    def _on_window(self, number: int, payload: bytes) -> None:
        self._spend(window=True)
        if len(payload) != 4:
            raise ProtocolViolation(wire.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        amount = int.from_bytes(payload, "big") & MAX_WINDOW
        if not number:
            self.window += amount
            if not amount or self.window > MAX_WINDOW:
                code = wire.FLOW_CONTROL_ERROR if amount else wire.PROTOCOL_ERROR
                raise ProtocolViolation(code, "WINDOW_UPDATE by a wrong amount")
            return
        stream = self._streams.get(number)
        if stream is None:
            self._check_known(number)
            return
        stream.window += amount
        if not amount or stream.window > MAX_WINDOW:
            self._fail(stream, wire.FLOW_CONTROL_ERROR if amount else wire.PROTOCOL_ERROR)
        elif stream.pending:
            self.ready(stream)

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "SETTINGS on a stream")
        acknowledges = flags & wire.ACK
        if len(payload) % 6 or (acknowledges and payload):
            raise ProtocolViolation(wire.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if acknowledges:
            if not self._settled:
                raise ProtocolViolation(wire.PROTOCOL_ERROR, "settings must come first")
            return
        self._settled = True
        for key, value in wire.parse_settings(payload):
            if key == wire.SETTING_INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise ProtocolViolation(wire.FLOW_CONTROL_ERROR, "a window is too large")
                difference = value - self._initial_window
                self._initial_window = value
                for stream in self._streams.values():
                    stream.window += difference
                    if stream.window > MAX_WINDOW:
                        raise ProtocolViolation(wire.FLOW_CONTROL_ERROR, "a window is too large")
                    if stream.pending:
                        self.ready(stream)
            elif key == wire.SETTING_ENABLE_PUSH and value > 1:
                raise ProtocolViolation(wire.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
            elif key == wire.SETTING_MAX_FRAME_SIZE and not FRAME_SIZE <= value <= 0xFFFFFF:
                raise ProtocolViolation(wire.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
        self._answer(wire.frame(wire.SETTINGS, wire.ACK, 0, b""))

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        self._spend()
        if not number % 2:
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & wire.PADDED:
            payload = payload[_within(payload)]
        if flags & wire.HAS_PRIORITY:
            if len(payload) < 5:
                raise ProtocolViolation(wire.FRAME_SIZE_ERROR, "HEADERS is too short")
            payload = payload[5:]
        self._block = (number, flags, bytearray(payload), 0)
        if flags & wire.END_HEADERS:
            self._end_block()

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        number, first, block, count = self._block
        block += payload
        if len(block) > _MAX_HEADER_BLOCK or count >= _MAX_CONTINUATIONS:
            raise ProtocolViolation(wire.ENHANCE_YOUR_CALM, "headers are too long")
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
            raise ProtocolViolation(wire.COMPRESSION_ERROR, "headers cannot be read") from error
        stream = self._streams.get(number)
        if stream is not None:  # trailers
            if stream.half_closed or not flags & wire.END_STREAM:
                self._fail(stream, wire.PROTOCOL_ERROR)
                return
            stream.half_closed = True
            self._owner.finished(stream)
            return
        if number <= self._last:
            raise ProtocolViolation(wire.STREAM_CLOSED, "a stream is used again")
        self._last = number
        if self._going or len(self._streams) >= self._limit:
            self._answer(wire.reset(number, wire.REFUSED_STREAM))
            return
        found = request_headers(fields)
        if found is None:
            self._answer(wire.reset(number, wire.PROTOCOL_ERROR))
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
        headers = wire.frame(wire.HEADERS, wire.END_HEADERS, stream.number, RESPONSE)
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
            self._control.append(wire.reset(stream.number, code))
            self.forget(stream)

    def ready(self, stream: ServerStream) -> None:
        """Something is to be sent on ``stream``."""
        if stream not in self._ready:
            self._ready.append(stream)

    @property
    def idle(self) -> bool:
        """Whether nothing can be written now."""
        return not self._control and (not self._ready or self.window <= 0)

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
            data_ = stream.output()
            if stream.closed:
                pass  # forgotten, with its place here
            elif not stream.pending:
                ready.popleft()
            elif data_ is None:
                if self.window <= 0:
                    return None
                ready.popleft()  # its own window is closed: an update brings it back
            else:
                ready.rotate(-1)
            if data_ is not None:
                return data_
        return None

    def _answer(self, data: bytes) -> None:
        self._control.append(data)
        self._control_size += len(data)
        if self._control_size > _MAX_CONTROL:
            raise ProtocolViolation(wire.ENHANCE_YOUR_CALM, "answers are not read")

    def _fail(self, stream: ServerStream, code: int) -> None:
        """A stream error (section 5.4.2)."""
        self._answer(wire.reset(stream.number, code))
        self.forget(stream)
        self._owner.reset(stream)

    def forget(self, stream: ServerStream) -> None:
        """A stream is over."""
        stream.close()
        self._streams.pop(stream.number, None)
        if stream in self._ready:
            self._ready.remove(stream)

    def _check_known(self, number: int) -> None:
        if not number or number > self._last or not number % 2:
            raise ProtocolViolation(wire.PROTOCOL_ERROR, "a frame of a stream that was not opened")

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
            raise ProtocolViolation(wire.ENHANCE_YOUR_CALM, "too many control frames")


_UNIMPLEMENTED, _EXHAUSTED = 12, 8  # gRPC status codes


def _within(payload: bytes | memoryview) -> slice:
    """Where the content of a padded frame is."""
    if not payload or payload[0] >= len(payload):
        raise ProtocolViolation(wire.PROTOCOL_ERROR, "padding is longer than its frame")
    return slice(1, len(payload) - payload[0])
