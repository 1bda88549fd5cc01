"""From a new stream to a proxy that may have configuration: who it is, and whose turn it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lateen.model.proxy import Proxy
from lateen.model.snapshot import Snapshot
from lateen.serve.access import WorkloadUnknown, admit, parse_node_id
from lateen.serve.metrics import Metrics
from lateen.serve.push_values import PushOptions
from lateen.serve.transport import Refusal, Stream, StreamClosed
from lateen.serve.wire import MalformedRequest, Node, parse_node

_POLL = 0.05
"""Seconds between two looks whether a workload is known by now."""


class Turn:
    """A place among the proxies that are connecting; given back once."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns: asyncio.Semaphore | None = turns

    def give_back(self) -> None:
        """Let the next proxy connect."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.release()


class Admission:
    """Lets proxies in, some at a time, so that early ones are complete early."""

    def __init__(self, options: PushOptions, metrics: Metrics) -> None:
        self._metrics = metrics
        self._limit = options.streams_per_proxy
        self._streams: Counter[tuple[str, str]] = Counter()
        self._turns = asyncio.Semaphore(options.connecting)
        self._most = options.connecting
        self._waiting = 0

    @property
    def crowded(self) -> bool:
        """Whether more proxies wait for their turn than are let in at once."""
        return self._waiting > self._most

    @contextmanager
    def stream_of(self, stream: Stream, node: Node) -> Iterator[None]:
        """Count a stream of an admitted proxy while it is served. Raises `Refusal` when the proxy
        has too many, so that one pod cannot take the places of others."""
        place = parse_node_id(node.id)
        key = str(stream.identity), f"{place.name}.{place.namespace}"
        if self._streams[key] >= self._limit:
            self._metrics.too_many_streams.inc()
            raise Refusal(
                "RESOURCE_EXHAUSTED",
                f"{key[1]} has {self._limit} streams already (limit: --streams-per-proxy)",
            )
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    async def turn(self) -> Turn:
        """Wait for a turn."""
        queued = time.monotonic()
        self._waiting += 1
        self._metrics.waiting.inc()
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
            self._metrics.waiting.dec()
        self._metrics.queue_time.observe(time.monotonic() - queued)
        return Turn(self._turns)


async def first_request(stream: Stream, timeout: float) -> bytes:
    """What a stream says first. Raises `Refusal` when it says nothing for too long."""
    try:
        async with asyncio.timeout(timeout):
            first = await stream.receive()
    except TimeoutError as error:
        raise Refusal("DEADLINE_EXCEEDED", "the stream never said who it is") from error
    if first is None:
        raise StreamClosed("closed before its first request")
    return first


async def admitted(
    current: Callable[[], Snapshot], stream: Stream, node: Node, wait: float
) -> Proxy:
    """The proxy, waiting up to ``wait`` seconds for its workload to be in the ``current``
    snapshot. Raises `Refusal`."""
    deadline = time.monotonic() + wait
    while True:
        try:
            return admit(current(), node, stream.identity)
        except WorkloadUnknown:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_POLL)


def node_of(stream: Stream, first: bytes) -> Node:
    """Who a stream claims to be. Raises `Refusal`."""
    try:
        node = parse_node(stream.dialect, first)
    except MalformedRequest as error:
        raise Refusal("INVALID_ARGUMENT", str(error)) from error
    if node is None or not node.id:
        raise Refusal("INVALID_ARGUMENT", "the first request must carry the node id")
    return node
