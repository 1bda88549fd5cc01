"""One HTTP/1.1 connection of a built-in workload, and what all connections share.

Requests that arrive whole and handlers that answer at once never cost a task or a future: that is
what keeps a simple request near a hundred microseconds. No idle timeout closes a kept-alive
connection, because a proxy that reuses it at that very moment would turn the close into a 503.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from lateen.workloads.http import (
    CHUNKED,
    MAX_HEAD,
    REASONS,
    BadRequest,
    ChunkedBody,
    Handler,
    Request,
    Response,
    parse_head,
    text,
)

REQUEST_TIMEOUT: Final = 60.0
"""Seconds a client may take to send the rest of a request it has begun."""
LINGER: Final = 0.05
"""Seconds between SIGTERM and closing what is idle: what is already in the kernel's queues, new
connections and requests on kept-alive ones, is still answered."""
_CLOSE_WAIT: Final = 1.0
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(Protocol):
    """What the server asks of a connection when it shuts down."""

    def drain(self) -> None:
        """Close now when idle, otherwise after what is in flight."""


class Upgrade(Response):
    """A 101 answer that hands the connection over.

    ``take_over`` gets the transport, the server and the bytes already read, and returns the new
    protocol; it must be in ``server.connections`` until it is lost.
    """

    __slots__ = ("take_over",)

    def __init__(
        self,
        headers: Sequence[tuple[str, str]],
        take_over: Callable[[asyncio.Transport, "Server", bytes], asyncio.BaseProtocol],
    ) -> None:
        super().__init__(status=101, headers=headers)
        self.take_over = take_over


class Server:
    """State shared by all connections of one workload."""

    def __init__(self, handler: Handler, log: Callable[[str], None] | None = None) -> None:
        self.handler = handler
        self.log = log
        self.draining = False
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        self._second = -1
        self._date = ""

    def date(self) -> str:
        """The Date header's value now (RFC 9110 section 5.6.7)."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            now = time.gmtime(second)
            day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[now.tm_wday]
            month = "JanFebMarAprMayJunJulAugSepOctNovDec"[now.tm_mon * 3 - 3 : now.tm_mon * 3]
            self._date = time.strftime(f"{day}, %d {month} %Y %H:%M:%S GMT", now)
        return self._date

    def lost(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self.empty.set()

    async def drain(self, listeners: Sequence[asyncio.Server]) -> None:
        """Stop accepting, answer what is in flight, return when every connection is closed."""
        self.draining = True
        await asyncio.sleep(LINGER)
        for listener in listeners:
            listener.close()
        for connection in list(self.connections):
            connection.drain()
        while self.connections:
            self.empty.clear()
            await self.empty.wait()


class HttpConnection(asyncio.Protocol):
    """One client connection: requests in, answers out, in order."""

    __slots__ = (
        "_body",
        "_buffer",
        "_can_write",
        "_closing",
        "_eof",
        "_length",
        "_peer",
        "_request",
        "_scanned",
        "_server",
        "_task",
        "_timer",
        "_transport",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._scanned = 0
        self._request: Request | None = None
        self._length = 0
        self._body: ChunkedBody | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._can_write: asyncio.Event | None = None
        self._closing = False
        self._eof = False
        self._peer = ""
        self._transport: asyncio.Transport

    # --- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]).removeprefix("::ffff:") if peer else "-"
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._stop_timer()
        if self._can_write is not None:
            self._can_write.set()
        if self._task is not None:
            self._task.cancel()
        self._server.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._buffer += data
        if self._task is None:
            self._process()
        elif len(self._buffer) > MAX_HEAD:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        # A client may close its sending half and still wait for the answer (RFC 9112 section 9.6).
        if self._closing or (self._task is None and self._can_write is None):
            return False
        self._eof = True
        return True

    def pause_writing(self) -> None:
        self._can_write = asyncio.Event()

    def resume_writing(self) -> None:
        if self._can_write is not None:
            self._can_write.set()
            self._can_write = None
        if self._task is None and not self._closing:
            self._process()

    def drain(self) -> None:
        if self._task is None and self._request is None and not self._buffer:
            self._close()

    # --- reading ----------------------------------------------------------------------------

    def _process(self) -> None:
        """Serve every whole request in the buffer, until one must be waited for."""
        try:
            while self._task is None and self._can_write is None and not self._closing:
                if not self._read_request():
                    break
                request = self._request
                assert request is not None
                self._dispatch(request)
        except BadRequest as error:
            self._refuse(error)
            return
        waiting = self._request is not None or bool(self._buffer)
        if self._eof and self._task is None and self._can_write is None:
            self._close()
        elif self._task is None and waiting and not self._closing:
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(REQUEST_TIMEOUT, self._timed_out)
        else:
            self._stop_timer()

    def _read_request(self) -> bool:
        """True when ``self._request`` is complete with its body."""
        buffer = self._buffer
        if self._request is None:
            while buffer.startswith(b"\r\n"):  # allowed between requests, RFC 9112 section 2.2
                del buffer[:2]
            end = buffer.find(b"\r\n\r\n", self._scanned)
            if end > MAX_HEAD or (end < 0 and len(buffer) > MAX_HEAD):
                raise BadRequest(431, f"request headers may have {MAX_HEAD} bytes at most")
            if buffer and not 0x21 <= buffer[0] <= 0x7E:
                # TLS or another protocol: waiting for an empty line would only look like a hang.
                raise BadRequest(400, "this port speaks plain HTTP/1.1")
            if end < 0:
                self._scanned = max(0, len(buffer) - 3)
                return False
            self._scanned = 0
            head = bytes(buffer[:end])
            del buffer[: end + 4]
            request, self._length = parse_head(head)
            request.peer = self._peer
            self._request = request
            if self._length == 0:
                return True
            if self._length == CHUNKED:
                self._body = ChunkedBody()
            expects = request.headers.get("expect", "").lower() == "100-continue"
            if expects and not buffer and request.version == "HTTP/1.1":
                self._transport.write(_CONTINUE)
        if self._length == 0:
            return True
        request = self._request
        if self._body is not None:
            if not self._body.feed(buffer):
                return False
            request.body = bytes(self._body.body)
            self._body = None
        else:
            if len(buffer) < self._length:
                return False
            request.body = bytes(buffer[: self._length])
            del buffer[: self._length]
        return True

    def _timed_out(self) -> None:
        self._timer = None
        self._refuse(BadRequest(408, "the request took too long to arrive"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- answering --------------------------------------------------------------------------

    def _dispatch(self, request: Request) -> None:
        try:
            answer = self._server.handler(request)
        except BadRequest as error:
            answer = text(error.message + "\n", error.status)
        except Exception as error:
            # Whatever a sample's handler raises is an answer 500 with its trace on standard error:
            # one request must not end the server.
            answer = _failed(request, error)
        if isinstance(answer, Response) and answer.stream is None:
            self._request = None
            self._write(request, answer)
        else:
            self._task = asyncio.get_running_loop().create_task(self._answer_later(request, answer))

    async def _answer_later(self, request: Request, answer: Response | Awaitable[Response]) -> None:
        try:
            try:
                response = answer if isinstance(answer, Response) else await answer
            except BadRequest as error:
                response = text(error.message + "\n", error.status)
            except Exception as error:  # as in `_dispatch`
                response = _failed(request, error)
            if response.stream is None:
                self._write(request, response)
            else:
                await self._write_stream(request, response)
        finally:
            self._task = None
            self._request = None
            if not self._closing:
                self._transport.resume_reading()
                self._process()
                if self._server.draining:
                    self.drain()

    def _write(self, request: Request, response: Response) -> None:
        if self._closing:
            return
        if isinstance(response, Upgrade):
            self._transport.write(self._head(request, response, "", close=False))
            self._log(request, response, 0)
            left = bytes(self._buffer)
            self._closing = True
            protocol = response.take_over(self._transport, self._server, left)
            self._transport.set_protocol(protocol)
            self._server.lost(self)
            return
        close = self._closes(request)
        status = response.status
        bodiless = status in (204, 304) or status < 200
        length = "" if bodiless else f"Content-Length: {len(response.body)}\r\n"
        head = self._head(request, response, length, close=close)
        silent = bodiless or request.method == "HEAD"
        self._transport.write(head if silent else head + response.body)
        self._log(request, response, 0 if silent else len(response.body))
        if close:
            self._close()

    async def _write_stream(self, request: Request, response: Response) -> None:
        assert response.stream is not None
        chunked = request.version == "HTTP/1.1"
        framing = "Transfer-Encoding: chunked\r\n" if chunked else ""
        if not chunked:
            request.close = True
        head = self._head(request, response, framing, close=self._closes(request))
        self._transport.write(head)
        sent = 0
        if request.method != "HEAD":
            try:
                async for part in response.stream:
                    if self._can_write is not None:
                        await self._can_write.wait()
                    if self._closing:
                        return
                    if part:
                        self._transport.write(
                            b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
                        )
                        sent += len(part)
            except Exception as error:
                # The status has gone out already: only a broken connection tells the client.
                _failed(request, error)
                self._transport.abort()
                return
            if chunked:
                self._transport.write(b"0\r\n\r\n")
        self._log(request, response, sent)
        if self._closes(request):
            self._close()

    def _closes(self, request: Request) -> bool:
        # Pipelined requests that are here already are answered before a close that is our idea.
        return request.close or ((self._server.draining or self._eof) and not self._buffer)

    def _head(self, request: Request, response: Response, framing: str, *, close: bool) -> bytes:
        status = response.status
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in response.headers]
        if framing and response.content_type:
            lines.append(f"Content-Type: {response.content_type}\r\n")
        lines.append(framing)
        if close:
            lines.append("Connection: close\r\n")
        elif request.version == "HTTP/1.0":
            lines.append("Connection: keep-alive\r\n")
        lines.append(f"Date: {self._server.date()}\r\n\r\n")
        return "".join(lines).encode("latin-1", "replace")

    def _refuse(self, error: BadRequest) -> None:
        if self._closing:
            return
        self._stop_timer()
        self._buffer.clear()
        request = self._request or Request("GET", "-", "HTTP/1.1", {}, [])
        request.close = True
        request.peer = self._peer
        self._request = None
        self._write(request, text(error.message + "\n", error.status))

    def _close(self) -> None:
        """Send what is written, then close once the client has seen the end of it.

        Closing at once would reset the connection if the client had sent more meanwhile, and a
        reset may destroy the answer before the client reads it (RFC 9112 section 9.6).
        """
        if self._closing:
            return
        self._closing = True
        self._stop_timer()
        if self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except (OSError, RuntimeError):
            self._transport.close()
            return
        asyncio.get_running_loop().call_later(_CLOSE_WAIT, self._transport.close)

    def _log(self, request: Request, response: Response, sent: int) -> None:
        if self._server.log is not None:
            self._server.log(
                f'{request.peer} "{request.method} {request.target} {request.version}" '
                f"{response.status} {sent}"
            )


def _failed(request: Request, error: Exception) -> Response:
    import traceback

    sys.stderr.write(f"{request.method} {request.target} failed\n")
    traceback.print_exception(error)
    return text("internal error\n", 500)
