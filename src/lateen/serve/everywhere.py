"""Waiting for the proxies of all processes, also while processes come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from lateen.serve.access import parse_node_id, workload_at
from lateen.serve.channel import ChannelClosed
from lateen.serve.moves import Moves
from lateen.serve.push_values import Acknowledgement, Laggard
from lateen.serve.serving import Serving
from lateen.serve.worker import Worker

_ANSWER_LIMIT = 5.0
"""Seconds that a replica may take beyond what it was given for waiting."""
_POLL = 0.1


class Everywhere:
    """Asks the first process and its replicas."""

    def __init__(
        self, plane: Serving, serving: Callable[[], Sequence[Worker]], moves: Moves
    ) -> None:
        """``plane`` is the first process, ``serving`` gives the replicas that may have proxies."""
        self.waits = 0
        """How many wait."""
        self._plane = plane
        self._serving = serving
        self._moves = moves

    def proxies(self) -> set[str]:
        """Node ids of all that are connected to any process or on their way."""
        connected = {item.proxy.id for item in self._plane.server.connections}
        return connected.union(self._away(), *(worker.proxies for worker in self._serving()))

    async def wait_for(self, version: int, timeout: float) -> Acknowledgement:
        """Wait until every proxy runs snapshot ``version`` or a newer one.

        Proxies whose process has ended, or has sent them away, are waited for until some process
        has them; a replica that does not answer has acknowledged nothing.
        """
        deadline = time.monotonic() + timeout
        self.waits += 1
        try:
            while True:
                away = self._away()
                departures = self._moves.departures
                result = await self._asked(version, max(0.0, deadline - time.monotonic()))
                # Who came back meanwhile may be behind, and was not asked.
                if not away and self._moves.departures == departures:
                    return result
                away = await self._until_back(deadline)
                if away:
                    return joined((result, behind(away, "not connected: it has to connect again")))
        finally:
            self.waits -= 1

    async def _asked(self, version: int, timeout: float) -> Acknowledgement:
        return joined(
            await asyncio.gather(
                self._plane.server.wait_for(version, timeout),
                *(_wait_at(worker, version, timeout) for worker in self._serving()),
            )
        )

    async def _until_back(self, deadline: float) -> list[str]:
        """Wait for proxies on their way; returns who has not come back in time."""
        while (away := self._away()) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
        return away

    def _away(self) -> list[str]:
        self._moves.forget(item.proxy.id for item in self._plane.server.connections)
        for worker in self._serving():
            self._moves.forget(worker.proxies)
        self._moves.forget(item for item in self._moves.away() if not self._exists(item))
        return self._moves.away()

    def _exists(self, proxy: str) -> bool:
        return workload_at(self._plane.snapshot, parse_node_id(proxy)) is not None


async def _wait_at(worker: Worker, version: int, timeout: float) -> Acknowledgement:
    limit = timeout + _ANSWER_LIMIT
    try:
        asked = {"version": version, "timeout": timeout}
        answer = await worker.channel.call("wait", asked, limit)
    except ChannelClosed:
        # Its proxies count as away since the same moment, and are waited for as such.
        return Acknowledgement(True, 0)
    except TimeoutError:
        return behind(worker.proxies, f"process {worker.process.pid} does not answer")
    return msgspec.convert(answer, type=Acknowledgement)


def joined(found: Iterable[Acknowledgement]) -> Acknowledgement:
    """Several processes' answers as one."""
    each = tuple(found)
    return Acknowledgement(
        all(item.acknowledged for item in each),
        sum(item.proxies for item in each),
        tuple(laggard for item in each for laggard in item.laggards),
    )


def behind(proxies: Iterable[str], words: str) -> Acknowledgement:
    """The answer for proxies (node ids) that nobody speaks for."""
    places = map(parse_node_id, proxies)
    laggards = (Laggard(f"{place.name}.{place.namespace}", (), words) for place in places)
    return Acknowledgement(False, 0, tuple(laggards))
