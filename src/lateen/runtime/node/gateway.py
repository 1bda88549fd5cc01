"""The host gateway: the one process of a node that stays in the machine's own network.

It opens sockets there when the node asks (published ports, connections to the outside, datagram
sockets to the machine's DNS resolvers) and hands them over; it never carries traffic. It is also
the node's guardian: when it ends the kernel ends the node, and when the node ends it ends too.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lateen.runtime.node import wire

MAX_PENDING = 512
_CONNECT_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class _Pending:
    channel: socket.socket
    request: int
    sock: socket.socket
    deadline: float


class Gateway:
    """Serves the node's requests and passes news to whoever launched the node."""

    def __init__(
        self,
        channels: list[socket.socket],
        launcher: socket.socket | None,
        lifeline: int | None,
        init_pid: int,
        stop_seconds: float,
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._launcher = launcher
        self._lifeline = lifeline
        self._init_pid = init_pid
        self._stop_seconds = stop_seconds
        self._kill_at: float | None = None
        self._pending: dict[socket.socket, _Pending] = {}
        # The node's own program asks the machine's resolvers, wherever they are; the forwarder
        # asks for pods.
        self._own = channels[0]
        for channel in channels:
            self._selector.register(channel, selectors.EVENT_READ, self._serving(channel))

    def run(self) -> int:
        """Serves until the node ends; returns its exit status."""
        wakeup, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: _drain(wakeup))
        if self._lifeline is not None:
            self._selector.register(self._lifeline, selectors.EVENT_READ, self._on_lifeline)
        if self._launcher is not None:
            self._selector.register(self._launcher, selectors.EVENT_READ, self._on_launcher)
        while True:
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._expire()
            status = self._reap()
            if status is not None:
                self._tell({"event": "exit", "status": status})
                return status

    def stop(self) -> None:
        """Asks the node's program to end; kills the node when that takes too long."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._stop_seconds
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init_pid, signal.SIGTERM)

    def _timeout(self) -> float | None:
        deadlines = [pending.deadline for pending in self._pending.values()]
        if self._kill_at is not None:
            deadlines.append(self._kill_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _expire(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + self._stop_seconds
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init_pid, signal.SIGKILL)
        for pending in [item for item in self._pending.values() if item.deadline <= now]:
            self._finish(pending, OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def _reap(self) -> int | None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            if pid == self._init_pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code

    def _on_lifeline(self) -> None:
        # Nothing is ever written to it: readable means that the launching process has ended.
        if self._lifeline is not None:
            self._selector.unregister(self._lifeline)
            self._lifeline = None
            self.stop()

    def _on_launcher(self) -> None:
        if self._launcher is not None:
            with contextlib.suppress(wire.ChannelClosed):
                message, _ = wire.receive(self._launcher)
                if message.get("op") == "stop":
                    self.stop()
                return
            self._selector.unregister(self._launcher)
            self._launcher = None

    def _tell(self, message: wire.Message) -> None:
        if self._launcher is not None:
            with contextlib.suppress(wire.ChannelClosed, OSError):
                wire.send(self._launcher, message)

    def _serving(self, channel: socket.socket) -> Callable[[], None]:
        def serve() -> None:
            try:
                message, fds = wire.receive(channel)
            except wire.ChannelClosed:
                self._selector.unregister(channel)
                return
            for fd in fds:
                os.close(fd)
            self._handle(channel, message)

        return serve

    def _handle(self, channel: socket.socket, message: wire.Message) -> None:
        number = wire.number(message, "id")
        try:
            operation = wire.text(message, "op")
            if operation == "connect":
                self._connect(channel, message)
                return
            if operation == "failed":
                self._tell({**message, "event": "error"})
                return
            if operation == "ready":
                self._tell({"event": "ready", "info": wire.mapping(message, "info")})
                _reply(channel, {"id": number})
                return
            with {"listen": _listen, "udp": _udp}[operation](message) as opened:
                _reply(channel, {"id": number}, (opened.fileno(),))
        except (OSError, ValueError, KeyError) as error:
            _reply(channel, {"id": number, **wire.error_reply(error)})

    def _connect(self, channel: socket.socket, message: wire.Message) -> None:
        address, port = wire.text(message, "address"), wire.number(message, "port")
        parsed = ipaddress.ip_address(address)
        if channel is not self._own and not reachable_from_pods(parsed):
            raise OSError(errno.EHOSTUNREACH, f"{address} is not reachable from a pod")
        if len(self._pending) >= MAX_PENDING:
            raise OSError(errno.EAGAIN, "too many connections are being opened")
        family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        pending = _Pending(
            channel, wire.number(message, "id"), sock, time.monotonic() + _CONNECT_SECONDS
        )
        try:
            sock.connect((address, port))
        except BlockingIOError:
            self._pending[sock] = pending
            self._selector.register(
                sock, selectors.EVENT_WRITE, lambda: self._finish(pending, None)
            )
            return
        except OSError:
            sock.close()
            raise
        with sock:
            _reply(channel, {"id": pending.request}, (sock.fileno(),))

    def _finish(self, pending: _Pending, error: OSError | None) -> None:
        self._selector.unregister(pending.sock)
        del self._pending[pending.sock]
        with pending.sock as sock:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error is None and number:
                error = OSError(number, os.strerror(number))
            if error is None:
                _reply(pending.channel, {"id": pending.request}, (sock.fileno(),))
            else:
                _reply(pending.channel, {"id": pending.request, **wire.error_reply(error)})


def reachable_from_pods(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a pod may be connected to an address outside the mesh.

    Not to the machine's loopback, whose services trust everybody who reaches them, and not to the
    metadata services of clouds, which give the machine's credentials to whoever asks.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return reachable_from_pods(address.ipv4_mapped)
    local = address.is_loopback or address.is_unspecified or address.is_link_local
    return not (local or address.is_multicast or str(address) in _METADATA_ADDRESSES)


_METADATA_ADDRESSES = frozenset(
    {
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # Amazon EC2
        "fd20:ce::254",  # Google Cloud
    }
)
"""Metadata services outside the link-local range."""


def _reply(channel: socket.socket, message: wire.Message, fds: tuple[int, ...] = ()) -> None:
    with contextlib.suppress(wire.ChannelClosed):
        wire.send(channel, message, fds)


def _listen(message: wire.Message) -> socket.socket:
    address, port = wire.text(message, "address"), wire.number(message, "port")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(512)
    except OSError as error:
        sock.close()
        where = f"port {port} of {address}"
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, f"{where} is taken{owner_of_port(port)}") from error
        if error.errno == errno.EACCES:
            raise OSError(error.errno, f"{where} needs root (it is below 1024)") from error
        raise OSError(error.errno, f"{where}: {error.strerror}") from error
    return sock


def _udp(message: wire.Message) -> socket.socket:
    address, port = wire.text(message, "address"), wire.number(message, "port")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if address:
            sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def owner_of_port(port: int) -> str:
    """`` by NAME (pid N)`` for the process that listens on a TCP port, as far as /proc tells."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for entry in os.listdir("/proc") if inodes else ():
        if entry.isdigit():
            with contextlib.suppress(OSError):
                for fd in os.listdir(f"/proc/{entry}/fd"):
                    with contextlib.suppress(OSError):
                        if os.readlink(f"/proc/{entry}/fd/{fd}") in inodes:
                            name = Path(f"/proc/{entry}/comm").read_text().strip()
                            return f" by {name} (pid {entry})"
    return ""


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 512)
