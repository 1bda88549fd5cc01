"""Ports of services on ports of the machine, kept as the services are."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lateen.runtime.host_ports import Key, Request, rank, requests, without_service
from lateen.runtime.node.errors import NodeError
from lateen.runtime.node.node import Node, Published
from lateen.runtime.raw import Raw, full_name

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""How often a port that could not be had is tried again: whatever has it may end."""
_TRY_NEXT = frozenset({errno.EADDRINUSE, errno.EACCES})


@dataclass(frozen=True, slots=True)
class Problem:
    """A port that is not published."""

    text: str
    asked: bool
    """Whether the user asked for this port of the machine."""


@dataclass(slots=True)
class Publisher:
    """What is published now, and what is not and why."""

    node: Node
    wanted: Mapping[str, Sequence[int]]
    """As `lateen.runtime.host_ports.parse_publish` makes it from ``--publish``."""
    address: str = "127.0.0.1"
    published: dict[Key, tuple[Request, int, Published]] = field(default_factory=dict)
    problems: dict[Key, Problem] = field(default_factory=dict)
    notes: dict[Key, str] = field(default_factory=dict)
    """Ports that are published at another port of the machine than usual, and why."""
    unused: list[tuple[int, str]] = field(default_factory=list)
    """Service ports that the user chose and no service has, with what to say of them."""
    _order: list[str] = field(default_factory=list)
    """Services in the order in which ports are given away."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def table(self) -> list[Raw]:
        """What is published: service, port, host port; the ingress gateway first."""
        return [
            {"service": service, "port": port, "host": self.address, "hostPort": host_port}
            for (service, port), (_, host_port, _) in sorted(
                self.published.items(), key=lambda entry: (self._place(entry[0][0]), entry[0])
            )
        ]

    def _place(self, service: str) -> int:
        return self._order.index(service) if service in self._order else len(self._order)

    def describe(self) -> Raw:
        """Answer for commands: what is published, what is not, what is elsewhere."""
        return {
            "published": self.table(),
            "problems": [
                {"text": problem.text, "asked": problem.asked} for problem in self.problems.values()
            ],
            "notes": [
                {"port": port, "text": text}
                for port, text in (
                    *((key[1], text) for key, text in self.notes.items()),
                    *self.unused,
                )
            ],
        }

    async def update(self, services: Iterable[Raw], fronts: Collection[str] = ()) -> None:
        """Publish what is not yet, stop what is gone, and move what another service shall have.
        ``fronts`` are the services in front of gateways."""
        async with self._lock:
            ranked = sorted(services, key=rank)
            self._order = [full_name(service) for service in ranked]
            wanted = requests(ranked, self.wanted, fronts)
            self.unused = list(without_service(self.wanted, wanted))
            present = {request.key: request for request in wanted}
            # A service that was deleted and made again may have another address.
            for key in [k for k, v in self.published.items() if present.get(k) != v[0]]:
                await self._withdraw(key)
            for key in [key for key in self.problems if key not in present]:
                self.problems.pop(key)
            # Two services that begin with one port: it is the first one's, also when the other was
            # there before.
            first: dict[int, Key] = {}
            for request in wanted:
                first.setdefault(request.port, request.key)
            for key, (_, port, _) in list(self.published.items()):
                if first.get(port, key) != key and first[port] not in self.published:
                    await self._withdraw(key)
            for request in wanted:
                if request.key not in self.published:
                    await self._publish(request, first)

    async def _withdraw(self, key: Key) -> None:
        self.notes.pop(key, None)
        await self.published.pop(key)[2].close()

    async def _publish(self, request: Request, first: Mapping[int, Key]) -> None:
        key, (service, port) = request.key, request.key
        mine = {host: k for k, (_, host, _) in self.published.items()}
        reserved = {p for p, other in first.items() if other != key}
        why = (
            f"that is published for {first[request.port][0]}" if first[request.port] != key else ""
        )
        if request.asked and request.port in mine:
            why = f"host port {request.port} is published for {mine[request.port][0]} already"
            self._problem(request, why)
            return
        for candidate in request.candidates([*mine, *reserved]):
            try:
                published = await self.node.publish(
                    candidate, request.cluster_ip, port, self.address
                )
            except (NodeError, OSError) as error:
                why = why or str(error)
                cause = error.__cause__ if isinstance(error, NodeError) else error
                if isinstance(cause, OSError) and cause.errno in _TRY_NEXT:
                    continue
                break
            self.problems.pop(key, None)
            self.published[key] = (request, candidate, published)
            where = f"{self.address}:{candidate}"
            logger.info("%s port %d is published on %s", service, port, where)
            if candidate != request.port:
                self.notes[key] = (
                    f"port {port} of service {service} is published on {where} instead of "
                    f"{request.port}: {why}"
                )
                logger.info("%s", self.notes[key])
            return
        self._problem(request, why or "no port of the machine is free")

    def _problem(self, request: Request, why: str) -> None:
        service, port = request.key
        problem = Problem(
            f"port {port} of service {service} is not published: {why}; end what has it, or choose "
            f"another with --publish {service}:{port}:HOSTPORT",
            request.asked,
        )
        if self.problems.get(request.key) != problem:
            logger.error("%s", problem.text)
        self.problems[request.key] = problem
