"""gRPC over HTTP/2 and mutual TLS on non-blocking sockets: the aggregated discovery service.

Envoy API: ``envoy.service.discovery.v3.AggregatedDiscoveryService``, methods
``DeltaAggregatedResources`` and ``StreamAggregatedResources``. The protocol itself is in
`lateen.serve.http2_connection`; here are sockets, handshakes, timers, and streams as the rest of
``serve`` sees them. What is to be sent stays shared and unencrypted until the socket takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lateen.pki.errors import PkiError
from lateen.pki.identity import SpiffeId
from lateen.serve.http2_connection import ConnectionError_, Headers, ServerConnection, ServerStream
from lateen.serve.http2_frames import Payload
from lateen.serve.protocol import Dialect
from lateen.serve.tls import ServerTls, peer_identity, server_context
from lateen.serve.transport import Receiver, Refusal, StreamClosed, StreamHandler

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_METHODS = {
    f"/{SERVICE}/DeltaAggregatedResources": Dialect.DELTA,
    f"/{SERVICE}/StreamAggregatedResources": Dialect.STATE,
}
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
_BACKLOG = 4096
_ACCEPTS = 32
"""Connections accepted before others get their turn."""
_READS = 16
_READ = 65_536
_MAX_INBOX = 8 * 1024 * 1024
_TICK = 5.0
_LINGER = 1.0
"""How long the end of a connection waits for the client to have read it."""
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger(__name__)
_WANTED = (ssl.SSLWantReadError, BlockingIOError)
_BUFFER = bytearray(_READ)
"""What a read brings; it is used up before the next."""
_VIEW = memoryview(_BUFFER)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients may ask of the server. Times in seconds."""

    streams: int = 20_000
    streams_per_connection: int = 16
    connections: int = 20_000
    handshakes: int = 2_000
    """Connections whose peer is not known yet."""
    handshake_time: float = 10.0
    """From the connection to the end of the handshake."""
    first_stream: float = 30.0
    """A connection without a stream ends after this long."""
    keepalive_time: float = 30.0
    keepalive_timeout: float = 10.0


class Http2Transport:
    """See `lateen.serve.transport.Transport`."""

    def __init__(
        self,
        address: str,
        tls: Callable[[], ServerTls],
        handler: StreamHandler,
        limits: Limits = Limits(),
        *,
        share_port: bool = False,
    ) -> None:
        """``address`` is ``IP:PORT`` (port 0 picks one); ``tls`` is asked at each handshake.

        With ``share_port`` several processes may listen on one address; the kernel spreads
        connections over them.
        """
        self.limits = limits
        self.handler = handler
        self.connections: set[_Connection] = set()
        self.handshakes: dict[_Connection, None] = {}
        """Those whose peer is not known yet, oldest first."""
        self.streams: dict[_Http2Stream, None] = {}
        self.draining = False
        self._address = address
        self._share_port = share_port
        self._tls = tls
        self._used_tls: ServerTls | None = None
        self._context: ssl.SSLContext | None = None
        self._listener: socket.socket | None = None
        self._ticking: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop everything runs on."""
        return asyncio.get_running_loop()

    async def start(self) -> int:
        """Begin to accept. Raises ``OSError`` when the address cannot be used."""
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._current_context()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._share_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, int(port)))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            if isinstance(error, ssl.SSLError):
                raise
            raise OSError(
                f"cannot listen on {self._address}; is another control plane running? ({error})"
            ) from error
        self._listener = listener
        self.loop.add_reader(listener.fileno(), self._accept)
        self._ticking = self.loop.call_later(_TICK, self._tick)
        return int(listener.getsockname()[1])

    async def stop(self, grace: float) -> None:
        """Refuse new streams, close the open ones so that proxies reconnect, then stop."""
        self.draining = True
        self._close_listener()
        if self._ticking is not None:
            self._ticking.cancel()
        for connection in list(self.connections):
            connection.drain("the control plane is stopping")
        deadline = time.monotonic() + grace
        while self.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.close()
        # Handlers have been told; let them end.
        works = [stream.work for stream in self.streams if stream.work is not None]
        if works:
            await asyncio.wait(works, timeout=1.0)

    async def shed(self, count: int) -> int:
        """See `Transport`; spread over a second, so that they do not come back at once. Returns
        how many it were."""
        busy = [connection for connection in self.connections if connection.streams]
        chosen = random.sample(busy, min(count, len(busy)))
        for connection in chosen:
            connection.drain("connect again: another process has more room")
            await asyncio.sleep(min(0.02, 1.0 / len(chosen)))
        return len(chosen)

    def _current_context(self) -> ssl.SSLContext:
        tls = self._tls()
        if self._context is None or tls is not self._used_tls:
            self._context, self._used_tls = server_context(tls), tls
        return self._context

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(_ACCEPTS):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                _log.error("cannot accept connections: %s; trying again in a second", error)
                self.loop.remove_reader(self._listener.fileno())
                self.loop.call_later(1.0, self._accept_again)
                return
            if len(self.connections) >= self.limits.connections:
                accepted.close()
                continue
            if len(self.handshakes) >= self.limits.handshakes:
                next(iter(self.handshakes)).close()
            try:
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secured = self._current_context().wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                )
            except OSError:
                accepted.close()
                continue
            _Connection(self, secured, _text(address))

    def _accept_again(self) -> None:
        if self._listener is not None:
            self.loop.add_reader(self._listener.fileno(), self._accept)

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self.loop.remove_reader(listener.fileno())
            listener.close()

    def _tick(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self._ticking = self.loop.call_later(_TICK, self._tick)


class _Connection:
    """One TCP connection: its handshake, then HTTP/2 (it is the connection's ``Owner``)."""

    __slots__ = (
        "_begun",
        "_closing",
        "_continues",
        "_draining",
        "_fd",
        "_handshaking",
        "_head",
        "_heard",
        "_http2",
        "_identity",
        "_peer",
        "_pinged",
        "_socket",
        "_transport",
        "_waiting",
        "_writing",
        "streams",
    )

    def __init__(self, transport: Http2Transport, secured: ssl.SSLSocket, peer: str) -> None:
        self._transport = transport
        self._socket = secured
        self._fd = secured.fileno()
        self._peer = peer
        self._identity: SpiffeId | None = None
        self._http2 = ServerConnection(self, streams=transport.limits.streams_per_connection)
        self.streams: set[_Http2Stream] = set()
        self._begun = self._heard = time.monotonic()
        self._pinged = False
        self._handshaking = True
        self._waiting = False
        """The socket takes nothing at the moment."""
        self._writing = False
        self._continues = False
        self._draining = self._closing = False
        self._head: memoryview | None = None
        transport.connections.add(self)
        transport.handshakes[self] = None
        transport.loop.add_reader(self._fd, self._readable)

    # Sockets

    def _readable(self) -> None:
        if self._handshaking and not self._handshake():
            return
        if self._closing:
            self._discard()
            return
        try:
            self._read()
        except ConnectionError_ as error:
            _log.info("%s: %s", self._peer, error)
            self._fail_streams()
            self._end()
        except OSError:  # also TLS errors
            self.close()

    def _handshake(self) -> bool:
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._transport.loop.add_writer(self._fd, self._write_handshake)
            return False
        except OSError as error:
            _log.debug("handshake with %s failed: %s", self._peer, error)
            self.close()
            return False
        self._handshaking = False
        self._transport.handshakes.pop(self, None)
        self._begun = self._heard = time.monotonic()
        if self._socket.selected_alpn_protocol() != "h2":
            self.close()
            return False
        with contextlib.suppress(PkiError):  # told to each stream, which can carry the words
            self._identity = peer_identity(self._socket.getpeercert())
        self.flush()
        return self._fd >= 0

    def _write_handshake(self) -> None:
        self._transport.loop.remove_writer(self._fd)
        if self._handshake():
            self._readable()

    def _read(self) -> None:
        secured, http2 = self._socket, self._http2
        for _ in range(_READS):
            try:
                size = secured.recv_into(_BUFFER)
            except (*_WANTED, ssl.SSLWantWriteError):
                break
            if not size:
                self.close()
                return
            http2.receive(_VIEW[:size])
            if self._fd < 0 or self._closing:
                return
            if not secured.pending():
                break
        else:
            # What TLS has read already does not wake the loop.
            if not self._continues:
                self._continues = True
                self._transport.loop.call_soon(self._continue)
        self._heard = time.monotonic()
        self._pinged = False
        if not http2.idle:
            self.flush()

    def _continue(self) -> None:
        self._continues = False
        if self._fd >= 0:
            self._readable()

    def flush(self) -> None:
        """Write what there is, as far as the socket takes it."""
        if self._handshaking or self._waiting or self._writing or self._fd < 0:
            return
        self._writing = True
        try:
            self._write()
        except OSError:
            self.close()
        finally:
            self._writing = False
        if self.clear:
            for stream in tuple(self.streams):
                stream.tell_written()

    def _write(self) -> None:
        send, output = self._socket.send, self._http2.output
        head = self._head
        while True:
            if head is None:
                found = output()
                if found is None:
                    self._head = None
                    break
                head = memoryview(found)
            try:
                sent = send(head)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                self._head = head
                self._waiting = True
                self._transport.loop.add_writer(self._fd, self._writable)
                return
            if self._fd < 0:
                return
            head = head[sent:] if sent < len(head) else None
            self._head = head
        if self._closing:
            self._say_goodbye()

    def _writable(self) -> None:
        self._transport.loop.remove_writer(self._fd)
        self._waiting = False
        self.flush()

    @property
    def clear(self) -> bool:
        """Whether everything handed out has been taken by the socket."""
        return self._head is None and not self._waiting

    # The end

    def drain(self, text: str) -> None:
        """End all streams and then the connection, telling the client to come back."""
        if self._handshaking:
            self.close()
            return
        self._http2.go_away()
        self._draining = True
        for stream in list(self.streams):
            stream.end("UNAVAILABLE", text)
        if not self.streams:
            self._end()

    def _end(self) -> None:
        """Write what is left, then close."""
        if self._closing or self._fd < 0:
            return
        self._closing = True
        self._transport.loop.call_later(_LINGER, self.close)
        self.flush()

    def _say_goodbye(self) -> None:
        """Close our side. Closing at once could make the kernel drop what is under way."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.unwrap()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def _discard(self) -> None:
        try:
            while self._fd >= 0 and self._socket.recv(_READ):
                pass
        except _WANTED:
            return
        except (OSError, ValueError):
            pass
        self.close()

    def close(self) -> None:
        """End it at once."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        loop = self._transport.loop
        loop.remove_reader(fd)
        loop.remove_writer(fd)
        self._socket.close()
        self._head = None
        self._transport.connections.discard(self)
        self._transport.handshakes.pop(self, None)
        self._fail_streams()

    def _fail_streams(self) -> None:
        for stream in list(self.streams):
            stream.broke()

    def check(self, now: float) -> None:
        """Look at the clock: handshakes and silent peers end."""
        limits = self._transport.limits
        silent = now - self._heard
        if self._handshaking:
            if now - self._begun > limits.handshake_time:
                self.close()
        elif silent > limits.keepalive_time + limits.keepalive_timeout and self._pinged:
            self.close()
        elif not self.streams and now - self._begun > limits.first_stream:
            self._http2.go_away()
            self._end()
        elif silent > limits.keepalive_time and not self._pinged:
            self._pinged = True
            self._http2.ping()
            self.flush()

    # Owner

    def opened(self, stream: ServerStream, headers: Headers) -> None:
        """See ``Owner``."""
        transport = self._transport
        self._http2.respond(stream)
        dialect = _METHODS.get(headers.get(":path"))
        if headers.get(":method") != "POST" or not headers.get("content-type").startswith(
            "application/grpc"
        ):
            stream.finish(STATUS["INTERNAL"], "this server speaks gRPC")
        elif dialect is None:
            stream.finish(STATUS["UNIMPLEMENTED"], f"there is no method {headers.get(':path')}")
        elif transport.draining:
            stream.finish(STATUS["UNAVAILABLE"], "the control plane is stopping")
        elif len(transport.streams) >= transport.limits.streams:
            stream.finish(STATUS["RESOURCE_EXHAUSTED"], "too many streams")
        elif self._identity is None:
            words = "the client certificate must carry exactly one SPIFFE ID"
            stream.finish(STATUS["UNAUTHENTICATED"], words)
        else:
            made = _Http2Stream(self, stream, dialect, self._identity, self._peer)
            stream.tag = made
            self.streams.add(made)
            made.start(transport)

    def received(self, stream: ServerStream, message: bytes) -> None:
        """See ``Owner``."""
        if isinstance(stream.tag, _Http2Stream):
            stream.tag.take(message)

    def finished(self, stream: ServerStream) -> None:
        """See ``Owner``."""
        if isinstance(stream.tag, _Http2Stream):
            stream.tag.broke(by_client=True)

    def reset(self, stream: ServerStream) -> None:
        """See ``Owner``."""
        if isinstance(stream.tag, _Http2Stream):
            stream.tag.broke()

    def ended(self, stream: _Http2Stream) -> None:
        """A stream's handler is done."""
        self.streams.discard(stream)
        self._transport.streams.pop(stream, None)
        self._begun = time.monotonic()
        if self._draining and not self.streams:
            self._end()
        else:
            self.flush()


class _Http2Stream:
    """A `lateen.serve.transport.Stream`."""

    def __init__(
        self,
        connection: _Connection,
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
        self._inbox_size = 0
        self._receiver: Receiver | None = None
        self._unwritten = False
        self._closed = False
        self._event = asyncio.Event()
        self._end: tuple[str, str] | None = None

    def start(self, transport: Http2Transport) -> None:
        """Begin to serve it."""
        transport.streams[self] = None
        self.work = transport.loop.create_task(self._serve(transport.handler))

    async def receive(self) -> bytes | None:
        """See `Stream`."""
        while not self._inbox:
            if self._closed:
                return None
            self._event.clear()
            await self._event.wait()
        message = self._inbox.popleft()
        self._inbox_size -= len(message)
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
        if self._closed:
            receiver.closed()

    def write(self, message: Payload) -> bool:
        """See `Stream`."""
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
        self._inbox_size += len(message)
        if self._inbox_size > _MAX_INBOX:
            self.end("RESOURCE_EXHAUSTED", "too many requests before the first was answered")
            return
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
            _log.exception("serving %s (%s) failed", self.identity, self.peer)
            code, text = "INTERNAL", "an error of the control plane"
        if self._end is not None:
            code, text = self._end
        self._closed = True
        self._receiver = None
        self._stream.abandon(STATUS.get(code, STATUS["UNKNOWN"]), text)
        self._connection.ended(self)


def _text(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
