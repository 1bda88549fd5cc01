"""Names outside the mesh: asked of the machine's own resolvers, through the machine's network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path

from lateen.runtime.node.node import Node

TIMEOUT = 2.0
"""Seconds one resolver has to answer."""
MAXIMUM_IN_FLIGHT = 256
RESOLV_CONF = Path("/etc/resolv.conf")


class UpstreamResolvers:
    """Asks the resolvers of /etc/resolv.conf in turn; raises `OSError` when none answers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._slots = asyncio.Semaphore(MAXIMUM_IN_FLIGHT)

    async def ask(self, query: bytes) -> bytes:
        """The answer of the first resolver that gives one."""
        async with self._slots:
            for address in resolvers():
                try:
                    async with asyncio.timeout(TIMEOUT):
                        return await self._ask_one(address, query)
                except (OSError, TimeoutError):
                    continue
        raise OSError("no resolver of this machine answers")

    async def _ask_one(self, address: str, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        # A socket of its own per query: a random source port, which forgers must guess.
        channel: socket.socket = await self._node.open_host_udp(address, 53)
        try:
            await loop.sock_sendall(channel, query)
            while True:
                answer = await loop.sock_recv(channel, 65_535)
                if answer[:2] == query[:2]:
                    return answer
        finally:
            channel.close()


def resolvers() -> list[str]:
    """``nameserver`` lines of the machine's resolv.conf, at most three (resolv.conf(5))."""
    try:
        text = RESOLV_CONF.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
            except ValueError:
                continue
    return found[:3]
