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

    def account(self) -> bool:
        """Count again what its streams hold of requests; false when it is too much."""

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
        self.work: asyncio.Task[tuple[str, str]] | None = None
        self.held = 0
        """Bytes of requests that wait here, or that the handler has taken and may still keep: it
        has not asked for the next."""
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
        # Not at the end of `_serve`: a task that is cancelled before its first step never runs.
        self.work.add_done_callback(self._finish)

    async def receive(self) -> bytes | None:
        """See `Stream`."""
        self._count()
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
        self._count()
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
        self.held += len(message)
        self._event.set()

    def _count(self) -> None:
        """What the handler took before, it has used by now."""
        held = sum(map(len, self._inbox))
        if held != self.held:
            self.held = held
            self._connection.account()

    def evict(self, text: str) -> None:
        """See `lateen.serve.shares.Holder`."""
        self.end("RESOURCE_EXHAUSTED", text)

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

    async def _serve(self, handler: StreamHandler) -> tuple[str, str]:
        """Run the handler. Returns the gRPC status code and its text."""
        try:
            await handler(self)
        except Refusal as refusal:
            return refusal.code, str(refusal)
        except StreamClosed:
            pass
        except Exception:
            # A defect of ours ends this stream with a status, not the connection's other streams.
            _log.exception("serving %s (%s) failed", self.identity, self.peer)
            return "INTERNAL", "an error of the control plane"
        return "OK", ""

    def _finish(self, work: asyncio.Task[tuple[str, str]]) -> None:
        """End the stream and give back all that it holds: the handler has ended, or never began."""
        if self._end is not None:
            code, text = self._end
        elif not work.cancelled():
            code, text = work.result()
        elif self._closed:
            code, text = "OK", ""
        else:
            code, text = "UNAVAILABLE", "the control plane is stopping"
        self._closed = True
        self._receiver = None
        if self._inbox:
            self._inbox.clear()
            self._connection.resume()
        self._stream.abandon(STATUS.get(code, STATUS["UNKNOWN"]), text)
        self._connection.ended(self)
