"""Waiting until proxies have acknowledged a version of the mesh."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from lateen.serve.connection import Connection
from lateen.serve.push_values import Acknowledgement, laggard

UNRESPONSIVE_AFTER = 15.0
"""Seconds without an acknowledgement after which a proxy is not waited for any longer. Envoy takes
that long for clusters whose names the DNS does not answer."""
_LOOK_EVERY = 0.5


@dataclass(slots=True, eq=False)
class _Waiter:
    version: int
    outstanding: set[Connection]
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def drop(self, connection: Connection) -> None:
        self.outstanding.discard(connection)
        if not self.outstanding:
            self.done.set()


class Waiters:
    """Those who wait for versions, told when versions are pushed and proxies are in sync."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        """``connections`` are looked at whenever somebody begins or ends to wait."""
        self.pushed_version = 0
        """Version of the newest snapshot that was handed to all proxies."""
        self._connections = connections
        self._pushed = asyncio.Condition()
        self._waiters: set[_Waiter] = set()

    async def pushed(self, version: int) -> None:
        """All proxies were handed ``version``."""
        self.pushed_version = max(self.pushed_version, version)
        async with self._pushed:
            self._pushed.notify_all()

    def settle(self, connection: Connection) -> None:
        """A proxy has acknowledged more than before."""
        version = connection.acknowledged_version
        for waiter in self._waiters:
            if version >= waiter.version:
                waiter.drop(connection)

    def gone(self, connection: Connection) -> None:
        """Nobody waits for a proxy that has disconnected."""
        for waiter in self._waiters:
            waiter.drop(connection)

    async def wait_for(self, version: int, timeout: float) -> Acknowledgement:
        """Wait until every connected proxy runs snapshot ``version`` or a newer one.

        Proxies that the changes do not touch count as soon as the version has been pushed.
        After ``timeout`` seconds the proxies that are behind are named, and before if all of them
        have acknowledged nothing for `UNRESPONSIVE_AFTER`: one that never answers
        delays no other. Proxies that connect meanwhile do not count: they start with this version
        or a newer one.
        """
        watched: set[Connection] | None = None
        try:
            async with asyncio.timeout(timeout):
                async with self._pushed:
                    await self._pushed.wait_for(lambda: self.pushed_version >= version)
                watched = set(self._behind(version))
                waiter = _Waiter(version, set(watched))
                if waiter.outstanding:
                    self._waiters.add(waiter)
                    try:
                        await _settled(waiter)
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            pass
        behind = [i for i in self._behind(version) if watched is None or i in watched]
        acknowledged = self.pushed_version >= version and not behind
        count = sum(1 for _ in self._connections)
        return Acknowledgement(acknowledged, count, tuple(laggard(item) for item in behind))

    def _behind(self, version: int) -> list[Connection]:
        return [item for item in self._connections if item.acknowledged_version < version]


async def _settled(waiter: _Waiter) -> None:
    """Until only proxies that do not answer are outstanding."""
    while not all(_unresponsive(connection) for connection in waiter.outstanding):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiter.done.wait(), _LOOK_EVERY)


def _unresponsive(connection: Connection) -> bool:
    since = connection.session.unsettled_since()
    return since is not None and time.monotonic() - since >= UNRESPONSIVE_AFTER
