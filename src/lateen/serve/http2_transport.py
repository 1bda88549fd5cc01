"""gRPC over HTTP/2 and mutual TLS on non-blocking sockets: the aggregated discovery service.

Envoy API: ``envoy.service.discovery.v3.AggregatedDiscoveryService``, methods
``DeltaAggregatedResources`` and ``StreamAggregatedResources``. The protocol is in
`lateen.serve.http2_connection`, a connection's socket in `lateen.serve.http2_socket`; here is who
may connect, and when it all ends.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable

from lateen.serve.grpc_methods import SERVICE
from lateen.serve.grpc_stream import GrpcStream
from lateen.serve.handshake_threads import HandshakeThreads
from lateen.serve.handshakes import Handshakes
from lateen.serve.http2_limits import Limits
from lateen.serve.http2_socket import Http2Socket
from lateen.serve.shares import Shares
from lateen.serve.tls import ServerTls, server_context
from lateen.serve.transport import StreamHandler

__all__ = ["SERVICE", "Http2Transport"]

DEFAULT_LIMITS = Limits()
_BACKLOG = 4096
_ACCEPTS = 32
"""Connections accepted before others get their turn."""
_HANDSHAKING = 2
"""Threads that make handshakes. They wait for the interpreter more than they compute, and more of
them take it from the loop more often."""
_LOOK = 0.01
"""Seconds between two looks whether further handshakes may begin."""
_TICK = 5.0
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger(__name__)


class Http2Transport:
    """See `lateen.serve.transport.Transport`."""

    def __init__(
        self,
        address: str,
        tls: Callable[[], ServerTls],
        handler: StreamHandler,
        limits: Limits = DEFAULT_LIMITS,
        *,
        share_port: bool = False,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        """``address`` is ``IP:PORT`` (port 0 picks one); ``tls`` is asked at each handshake.

        With ``share_port`` several processes may listen on one address; the kernel spreads
        connections over them. While it is ``crowded``, because proxies wait for their turn,
        further handshakes wait too (`lateen.serve.handshakes`).
        """
        self.limits = limits
        self.handler = handler
        self.connections: set[Http2Socket] = set()
        self.handshakes: dict[Http2Socket, None] = {}
        """Those whose peer is not known yet, oldest first."""
        self.streams: dict[GrpcStream, None] = {}
        self.stream_shares = Shares("streams", limits.stream_bounds)
        self.connection_shares = Shares("connections", limits.connection_bounds)
        self.unfinished_shares = Shares("bytes of unfinished requests", limits.unfinished_bounds)
        self.draining = False
        self._addresses: dict[str, dict[Http2Socket, None]] = {}
        """Connections of ``handshakes`` by the address that they come from, oldest first."""
        self.turns: Handshakes[Http2Socket] = Handshakes(crowded, limits.handshakes // 2)
        self._looking = False
        self.handshaking = HandshakeThreads(_HANDSHAKING)
        self._address = address
        self._share_port = share_port
        self._tls = tls
        self._used_tls: ServerTls | None = None
        self._context: ssl.SSLContext | None = None
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticking: asyncio.TimerHandle | None = None
        times = (limits.handshake_time, limits.keepalive_time, limits.keepalive_timeout)
        self._interval = min(_TICK, *(time / 2 for time in times))

    @property
    def shares(self) -> tuple[Shares, ...]:
        """What clients have of the bounded quantities of the transport."""
        return self.stream_shares, self.connection_shares, self.unfinished_shares

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop everything runs on."""
        assert self._loop is not None
        return self._loop

    async def start(self) -> int:
        """Begin to accept. Raises ``OSError`` when the address cannot be used."""
        # Kept: to ask for the running loop is a system call (Python 3.11 looks for forks).
        self._loop = asyncio.get_running_loop()
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
        self.handshaking.start(self.loop)
        self.loop.add_reader(listener.fileno(), self._accept)
        self._ticking = self.loop.call_later(self._interval, self._tick)
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
        self.handshaking.stop()

    async def shed(self, count: int) -> int:
        """See `Transport`; spread over a second, so that they do not come back at once. Returns
        how many it were."""
        busy = [connection for connection in self.connections if connection.streams]
        chosen = random.sample(busy, min(count, len(busy)))
        for connection in chosen:
            connection.drain("connect again: another process has more room")
            await asyncio.sleep(min(0.02, 1.0 / len(chosen)))
        return len(chosen)

    def handshake_begun(self, connection: Http2Socket, address: str) -> None:
        """See ``Server``. The oldest of the address, or else of all, makes room for it."""
        same = self._addresses.setdefault(address, {})
        if len(same) >= self.limits.handshakes_per_address:
            next(iter(same)).close()
            same = self._addresses.setdefault(address, same)
        elif len(self.handshakes) >= self.limits.handshakes:
            next(iter(self.handshakes)).close()
            same = self._addresses.setdefault(address, same)
        same[connection] = self.handshakes[connection] = None

    def handshake_over(self, connection: Http2Socket, address: str) -> None:
        """See ``Server``."""
        self.handshakes.pop(connection, None)
        same = self._addresses.get(address)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._addresses[address]

    def look_for_turns(self) -> None:
        """See ``Server``."""
        if not self._looking:
            self._looking = True
            self.loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._looking = False
        for connection in self.turns.due(time.monotonic()):
            connection.begin()
        if self.turns.waiting:
            self.look_for_turns()

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
            if len(self.connections) >= self.limits.connections and not self._make_room():
                accepted.close()
                continue
            try:
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secured = self._current_context().wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                )
            except OSError:
                accepted.close()
                continue
            Http2Socket(self, secured, address[0], _text(address))

    def _make_room(self) -> bool:
        """Close a connection of the client that has most of them, if that is more than one."""
        shares = self.connection_shares
        return shares.make_room(shares.bounds.total - shares.total + 1, 1)

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
        self._ticking = self.loop.call_later(self._interval, self._tick)


def _text(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
