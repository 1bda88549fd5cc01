"""One HTTP/2 stream of a server: what is to be sent on it, as far as flow control allows."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from lateen.serve import http2_frames as wire
from lateen.serve.grpc_headers import trailers
from lateen.serve.http2_frames import FRAME_SIZE, HEADER_SIZE, Part, Payload

_SLICE = 16
"""Shared frames handed out at once: other frames go in between."""


class Carrier(Protocol):
    """The connection of a stream."""

    window: int
    """Bytes that the client takes at the moment, on all streams."""

    def ready(self, stream: ServerStream) -> None:
        """Something is to be sent on ``stream``."""

    def reset(self, stream: ServerStream, code: int) -> None:
        """Give a stream up."""

    def forget(self, stream: ServerStream) -> None:
        """A stream is over."""


class ServerStream:
    """One stream. ``tag`` is the owner's."""

    __slots__ = (
        "_offset",
        "_queue",
        "buffer",
        "closed",
        "connection",
        "credit",
        "end",
        "half_closed",
        "number",
        "tag",
        "window",
    )

    def __init__(self, connection: Carrier, number: int, window: int) -> None:
        self.connection = connection
        self.number = number
        self.tag: object = None
        self.half_closed = False
        """The client sends nothing more."""
        self.closed = False
        self.end: bytes | None = None
        """Trailers that follow when the queue is empty."""
        self.window = window
        """Bytes that the client takes at the moment."""
        self.buffer = bytearray()
        """The begin of a message."""
        self.credit = 0
        """Bytes received since our window was opened again."""
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
        self.end = trailers(status, text)
        self.connection.ready(self)

    def abandon(self, status: int, text: str) -> None:
        """End the stream with a gRPC status at once, as far as a message is not cut in two."""
        if any(not isinstance(item, Payload) for item in self._queue):
            self.connection.reset(self, wire.CANCEL)
            return
        self._queue.clear()
        self.finish(status, text)

    def close(self) -> None:
        """It is over: nothing more is sent or taken."""
        self.closed = True
        self._queue.clear()
        self.buffer.clear()
        self.end = None

    def output(self) -> bytes | memoryview | None:
        """The next bytes to write; None when its or the connection's window is closed."""
        queue = self._queue
        if not queue:
            return self._ended() if self.end is not None else None
        item = queue[0]
        allowed = min(self.connection.window, self.window)
        if isinstance(item, Payload):
            if allowed >= item.size + 5:
                queue.popleft()
                self._use(item.size + 5)
                if self.number == 1:
                    return item.single
                return wire.frame(wire.DATA, 0, self.number, item.prefix + item.data)
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
            self._use(size)
            return wire.frame(wire.DATA, 0, self.number, item[:size])
        assert isinstance(item, Part)
        return self._part(item, allowed)

    def _part(self, part: Part, allowed: int) -> bytes | memoryview | None:
        if allowed <= 0:
            return None
        start = self._offset
        if self.number == 1 and part.size > FRAME_SIZE and not start % FRAME_SIZE:
            frames = min(allowed // FRAME_SIZE, _SLICE)
            end = min(start + frames * FRAME_SIZE, part.size)
            if part.size - start <= allowed and part.size - start <= frames * FRAME_SIZE:
                end = part.size
            if end > start:
                step = FRAME_SIZE + HEADER_SIZE
                count = -(-(end - start) // FRAME_SIZE)
                place = start // FRAME_SIZE * step
                self._advance(part, end)
                return memoryview(part.framed)[place : place + (end - start) + count * HEADER_SIZE]
        boundary = (start // FRAME_SIZE + 1) * FRAME_SIZE
        end = min(boundary, part.size, start + allowed)
        data = part.slice(start, end)
        self._advance(part, end)
        return wire.frame(wire.DATA, 0, self.number, data)

    def _advance(self, part: Part, end: int) -> None:
        self._use(end - self._offset)
        if end >= part.size:
            self._queue.popleft()
            self._offset = 0
        else:
            self._offset = end

    def _use(self, size: int) -> None:
        self.connection.window -= size
        self.window -= size

    def _ended(self) -> bytes:
        assert self.end is not None
        flags = wire.END_HEADERS | wire.END_STREAM
        data = wire.frame(wire.HEADERS, flags, self.number, self.end)
        if not self.half_closed:
            # The client need not send the rest (section 8.1).
            data += wire.reset(self.number, wire.NO_ERROR)
        self.connection.forget(self)
        return data
