"""Asking the machine's own resolvers (RFC 5452): UDP first, TCP for what does not fit."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from lateen.agent import dns_message as wire

OpenUdp = Callable[[str, int], Awaitable[socket.socket]]
"""Opens a connected, non-blocking datagram socket in the machine's network."""
OpenTcp = Callable[[str, int], Awaitable[socket.socket]]
"""Opens a connected, non-blocking stream socket there."""

ATTEMPT_SECONDS = 1.5
"""Wait for one resolver before the next one is asked."""
ROUNDS = 2
RESOLV_CONF = Path("/etc/resolv.conf")
_PORT = 53
_MAXIMUM_RESOLVERS = 3  # as glibc


class NoResolverError(OSError):
    """The machine has no resolver, or none answered."""


class Forwarder:
    """Sends queries to a machine's resolvers; its instances are `lateen.agent.dns.Forward`.

    Each query has a socket and an identity of its own, so that an answer cannot be forged by one
    who does not see the query.
    """

    def __init__(
        self,
        resolvers: Sequence[str],
        open_udp: OpenUdp,
        open_tcp: OpenTcp,
        *,
        port: int = _PORT,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self.resolvers = tuple(resolvers)
        self._open_udp = open_udp
        self._open_tcp = open_tcp
        self._port = port
        self._attempt_seconds = attempt_seconds

    async def __call__(self, query: bytes) -> bytes:
        """The complete answer to ``query``. Raises `NoResolverError`."""
        if not self.resolvers:
            raise NoResolverError("the machine's /etc/resolv.conf names no resolver")
        refused: bytes | None = None
        problem = "no answer"
        for _ in range(ROUNDS):
            for resolver in self.resolvers:
                try:
                    async with asyncio.timeout(self._attempt_seconds):
                        answer = await self._ask(resolver, query)
                except (OSError, EOFError, TimeoutError) as error:
                    problem = f"{resolver}: {str(error) or type(error).__name__}"
                    continue
                if answer[3] & 0xF not in (wire.SERVER_FAILURE, wire.REFUSED):
                    return answer
                refused = answer
            if refused is not None:
                return refused
        raise NoResolverError(problem)

    async def _ask(self, resolver: str, query: bytes) -> bytes:
        sent = wire.with_id(query, random.SystemRandom().getrandbits(16))
        answer = await self._datagram(resolver, sent)
        if wire.is_truncated(answer):
            with contextlib.suppress(OSError, EOFError):
                return await self._stream(resolver, sent)
        return answer

    async def _datagram(self, resolver: str, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with await self._open_udp(resolver, self._port) as connection:
            await loop.sock_sendall(connection, query)
            while True:
                answer = await loop.sock_recv(connection, wire.TCP_LIMIT)
                if wire.answers_query(answer, query):
                    return answer

    async def _stream(self, resolver: str, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with await self._open_tcp(resolver, self._port) as connection:
            await loop.sock_sendall(connection, struct.pack("!H", len(query)) + query)
            (size,) = struct.unpack("!H", await _exactly(loop, connection, 2))
            answer = await _exactly(loop, connection, size)
        if not wire.answers_query(answer, query):
            raise NoResolverError("the answer belongs to another question")
        return answer


def resolvers_of(text: str) -> tuple[str, ...]:
    """The ``nameserver`` addresses of a resolv.conf (resolv.conf(5)), at most three."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            ipaddress.ip_address(words[1].partition("%")[0])
        except ValueError:
            continue
        found.append(words[1])
    return tuple(dict.fromkeys(found))[:_MAXIMUM_RESOLVERS]


def machine_resolvers(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """The machine's resolvers; the local host when the file names none, as glibc has it."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        text = ""
    return resolvers_of(text) or ("127.0.0.1",)


async def _exactly(loop: asyncio.AbstractEventLoop, connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await loop.sock_recv(connection, size - len(data))
        if not part:
            raise EOFError("the resolver closed the connection")
        data += part
    return data
