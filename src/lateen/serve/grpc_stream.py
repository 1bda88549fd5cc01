"""One gRPC stream as the rest of ``serve`` sees it (`lateen.serve.transport.Stream`)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from lateen.pki.identity import SpiffeId
from lateen.serve.http2_frames import Payload
from lateen.serve.http2_stream import ServerStream
from lateen.serve.protocol import Dialect
from lateen.serve.transport import Receiver, Refusal, StreamClosed, StreamHandler

STATUS = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}
"""gRPC status codes by name."""
_log = logging.getLogger(__name__)


class Writer(Protocol):
    """The connection of a stream."""

    @property
    def clear(self) -> bool:
        """Whether everything handed out has been taken by the socket."""

    def flush(self) -> None:
        """Write what there is, as far as the socket takes it."""

    def pause(self) -> None:
        """Read nothing more for now; the client waits."""

    def resume(self) -> None:
        """Take back one `pause`."""

    def ended(self, stream: GrpcStream) -> None:
        """A stream's handler is done."""


class GrpcStream:
    """A `lateen.serve.transport.Stream`."""

    def __init__(
        self,
        connection: Writer,
        stream: ServerStream,
        dialect: Dialect,
        identity: SpiffeId,
        peer: str,
    ) -> None:
        self.dialect = dialect
        self.identity = identity
        self.peer = peer
        self.work: asyncio.Task[None] | None = None
        self._connection = connection
        self._stream = stream
        self._inbox: deque[bytes] = deque()
        self._receiver: Receiver | None = None
        self._unwritten = False
        self._closed = False
        self._event = asyncio.Event()
        self._end: tuple[str, str] | None = None

    @property
    def sent_away(self) -> bool:
        """See `Stream`."""
        return self._end is not None

    def start(self, handler: StreamHandler) -> None:
        """Begin to serve it."""
        self.work = asyncio.get_running_loop().create_task(self._serve(handler))

    async def receive(self) -> bytes | None:
        """See `Stream`."""
        while not self._inbox:
            if self._closed:
                return None
            self._event.clear()
            await self._event.wait()
        message = self._inbox.popleft()
        if not self._inbox:
            self._connection.resume()
        return message

    async def send(self, message: bytes) -> None:
        """See `Stream`."""
        written = self.write(Payload.of(message))
        while not written:
            if self._closed:
                raise StreamClosed("the stream broke")
            self._event.clear()
            await self._event.wait()
            written = not self._unwritten
        if self._closed and self._stream.closed:
            raise StreamClosed("the stream broke")

    def attach(self, receiver: Receiver) -> None:
        """See `Stream`."""
        self._receiver = receiver
        while self._inbox and not self._closed:
            receiver.received(self._inbox.popleft())
            if not self._inbox:
                self._connection.resume()
        if self._closed:
            receiver.closed()

    def write(self, *messages: Payload) -> bool:
        """See `Stream`."""
        for message in messages:
            self._stream.send(message)
        self._connection.flush()
        self._unwritten = self._stream.pending or not self._connection.clear
        return not self._unwritten

    def take(self, message: bytes) -> None:
        """A request came."""
        if self._closed:
            return
        if self._receiver is not None:
            self._receiver.received(message)
            return
        if not self._inbox:
            # A thousand proxies that wait for their turn would fill the memory with what they
            # hold, and reading it would keep those whose turn it is waiting.
            self._connection.pause()
        self._inbox.append(message)
        self._event.set()

    def tell_written(self) -> None:
        """The socket has taken what the connection could hand out."""
        if self._unwritten and not self._stream.pending:
            self._unwritten = False
            self._event.set()
            if self._receiver is not None and not self._closed:
                self._receiver.writable()

    def end(self, code: str, text: str) -> None:
        """End it with a status from our side."""
        if self._end is None:
            self._end = (code, text)
        if self.work is not None:
            self.work.cancel()

    def broke(self, *, by_client: bool = False) -> None:
        """The client has closed it, gave it up, or is gone."""
        if self._closed:
            return
        self._closed = True
        self._event.set()
        if self._receiver is not None:
            self._receiver.closed()
        elif not by_client and self.work is not None:
            self.work.cancel()

    async def _serve(self, handler: StreamHandler) -> None:
        code, text = "OK", ""
        try:
            await handler(self)
        except Refusal as refusal:
            code, text = refusal.code, str(refusal)
        except StreamClosed:
            pass
        except asyncio.CancelledError:
            if self._end is None and not self._closed:
                code, text = "UNAVAILABLE", "the control plane is stopping"
        except Exception:
            # A defect of ours ends this stream with a status, not the connection's other streams.
            _log.exception("serving %s (%s) failed", self.identity, self.peer)
            code, text = "INTERNAL", "an error of the control plane"
        if self._end is not None:
            code, text = self._end
        self._closed = True
        self._receiver = None
        if self._inbox:
            self._inbox.clear()
            self._connection.resume()
        self._stream.abandon(STATUS.get(code, STATUS["UNKNOWN"]), text)
        self._connection.ended(self)
