"""The node's byte pump: published ports in, connections to the outside out.

A helper process with no privileges. It gets listening sockets from the main process and, for
egress, connected sockets from the host gateway, and splices (splice(2)) between the two sides, so
that bytes never pass through Python. At most `MAX_CONNECTIONS` at a time; more are refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from lateen.runtime.node import wire

MAX_CONNECTIONS = 4096
_SO_ORIGINAL_DST = 80
_CHUNK = 1 << 18
_MAX_ACCEPTS = 64


@dataclass(slots=True, eq=False)
class _Half:
    """One direction of a connection: bytes from ``source`` to ``sink`` through a pipe."""

    source: socket.socket
    sink: socket.socket
    reader: int
    writer: int
    buffered: int = 0
    ended: bool = False
    """The source has no more to give."""
    done: bool = False
    """... and the sink has got everything."""


@dataclass(slots=True, eq=False)
class _Connection:
    """A pair of sockets and the two directions between them."""

    client: socket.socket
    upstream: socket.socket
    connecting: bool
    halves: tuple[_Half, ...] = field(default=())


class Forwarder:
    """The epoll loop (edge-triggered on data sockets)."""

    def __init__(self, control: socket.socket, gateway: socket.socket) -> None:
        self._epoll = select.epoll()
        self._control = control
        self._gateway = gateway
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._published: dict[str, socket.socket] = {}
        self._pending: dict[int, socket.socket] = {}
        # Answers to what an earlier forwarder asked the gateway may still come.
        self._next_request = int.from_bytes(os.urandom(5)) << 8
        self._open = 0
        self._own: set[tuple[str, int]] = set()

    def run(self) -> None:
        """Serves until the main process closes the control channel."""
        self._watch(self._control, select.EPOLLIN, self._on_control)
        self._watch(self._gateway, select.EPOLLIN, self._on_gateway)
        while True:
            try:
                for fd, events in self._epoll.poll():
                    handler = self._handlers.get(fd)
                    if handler is not None:
                        handler(events)
            except wire.ChannelClosed:
                return

    def _watch(self, sock: socket.socket, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock.fileno(), events)

    def _unwatch(self, sock: socket.socket) -> None:
        if self._handlers.pop(sock.fileno(), None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(sock.fileno())

    # Control

    def _on_control(self, _events: int) -> None:
        message, fds = wire.receive(self._control)
        operation = wire.text(message, "op")
        key = wire.text(message, "key")
        if operation == "close":
            listener = self._published.pop(key, None)
            if listener is not None:
                self._unwatch(listener)
                listener.close()
        else:
            listener = socket.socket(fileno=fds[0])
            listener.setblocking(False)
            self._published[key] = listener
            if operation == "egress":
                self._own.add(listener.getsockname()[:2])
                self._watch(listener, select.EPOLLIN, lambda _: self._accept(listener, None))
            else:
                target = (wire.text(message, "address"), wire.number(message, "port"))
                self._watch(listener, select.EPOLLIN, lambda _: self._accept(listener, target))
        wire.send(self._control, {"id": wire.number(message, "id")})

    def _accept(self, listener: socket.socket, target: tuple[str, int] | None) -> None:
        for _ in range(_MAX_ACCEPTS):
            try:
                client, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    return
                continue
            client.setblocking(False)
            if self._open >= MAX_CONNECTIONS:
                _reset(client)
                continue
            self._open += 1
            if target is None:
                self._ask_gateway(client)
            else:
                self._connect(client, target)

    def _connect(self, client: socket.socket, target: tuple[str, int]) -> None:
        upstream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        upstream.setblocking(False)
        try:
            upstream.connect(target)
        except BlockingIOError:
            pass
        except OSError:
            self._open -= 1
            upstream.close()
            _reset(client)
            return
        self._begin(_Connection(client, upstream, connecting=True))

    def _ask_gateway(self, client: socket.socket) -> None:
        try:
            raw = client.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
        except OSError:
            raw = b""
        port, address = struct.unpack("!2xH4s8x", raw) if raw else (0, b"")
        name = socket.inet_ntoa(address) if raw else ""
        # A connection made to this listener itself has no other destination: refuse the loop.
        if not raw or (name, port) in self._own:
            self._open -= 1
            _reset(client)
            return
        self._next_request += 1
        self._pending[self._next_request] = client
        request = {"id": self._next_request, "op": "connect", "address": name, "port": port}
        try:
            wire.send(self._gateway, request)
        except BlockingIOError:
            self._open -= 1
            _reset(self._pending.pop(self._next_request))

    def _on_gateway(self, _events: int) -> None:
        message, fds = wire.receive(self._gateway)
        client = self._pending.pop(wire.number(message, "id"), None)
        if client is None or not fds:
            for fd in fds:
                os.close(fd)
            if client is not None:
                self._open -= 1
                _reset(client)
            return
        upstream = socket.socket(fileno=fds[0])
        upstream.setblocking(False)
        self._begin(_Connection(client, upstream, connecting=False))

    # Data

    def _begin(self, connection: _Connection) -> None:
        client, upstream = connection.client, connection.upstream
        for sock in (client, upstream):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.halves = (_half(client, upstream), _half(upstream, client))

        def ready(events: int) -> None:
            self._on_data(connection, events)

        flags = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        self._watch(client, flags, ready)
        self._watch(upstream, flags, ready)

    def _on_data(self, connection: _Connection, _events: int) -> None:
        if connection.client.fileno() < 0:
            return
        if connection.connecting:
            error = connection.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._end(connection, reset=True)
                return
            try:
                connection.upstream.getpeername()
            except OSError:
                return  # still on its way
            connection.connecting = False
        try:
            for half in connection.halves:
                _pump(half)
        except OSError:
            self._end(connection, reset=True)
            return
        if all(half.done for half in connection.halves):
            self._end(connection, reset=False)

    def _end(self, connection: _Connection, *, reset: bool) -> None:
        self._open -= 1
        for half in connection.halves:
            os.close(half.reader)
            os.close(half.writer)
        for sock in (connection.client, connection.upstream):
            self._unwatch(sock)
            if reset:
                _reset(sock)
            else:
                sock.close()


def _half(source: socket.socket, sink: socket.socket) -> _Half:
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with contextlib.suppress(OSError):  # beyond the user's pipe quota the default size must do
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _CHUNK)
    return _Half(source, sink, reader, writer)


def _pump(half: _Half) -> None:
    """Moves what can be moved now. Raises `OSError` when one side is broken."""
    source, sink = half.source.fileno(), half.sink.fileno()
    while not half.done:
        moved = False
        if not half.ended:
            try:
                count = os.splice(source, half.writer, _CHUNK, flags=_SPLICE_FLAGS)
                moved = True
                half.ended = count == 0
                half.buffered += count
            except BlockingIOError:
                pass
        if half.buffered:
            try:
                half.buffered -= os.splice(half.reader, sink, half.buffered, flags=_SPLICE_FLAGS)
                moved = True
            except BlockingIOError:
                pass
        elif half.ended:
            half.done = True
            with contextlib.suppress(OSError):
                half.sink.shutdown(socket.SHUT_WR)
        if not moved:
            return


_SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


def _reset(sock: socket.socket) -> None:
    """Closes with a TCP reset, so that the other side learns that it was not served."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
