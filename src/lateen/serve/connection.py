"""One proxy's stream at run time: requests in, the session's messages out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lateen.api.resource import ObjectKey
from lateen.model.discovery import DiscoveryResource, ResourceSet
from lateen.model.proxy import Proxy, Scope
from lateen.model.snapshot import Snapshot
from lateen.serve.access import NodeId
from lateen.serve.metrics import Metrics, short_name
from lateen.serve.protocol import Answer, Dialect, Outcome, ProtocolError
from lateen.serve.session import Session, Target
from lateen.serve.transport import Refusal, Stream
from lateen.serve.wire import MalformedRequest, Node, parse_delta, parse_state

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class ScopeState:
    """What proxies of one scope shall have now."""

    scope: Scope
    snapshot: Snapshot
    resources: ResourceSet
    target: Target
    secret_names: set[str] = field(default_factory=set)
    connections: set[Connection] = field(default_factory=set)
    good: tuple[Snapshot, ResourceSet] | None = None
    """The newest state that a proxy has acknowledged in full."""
    stale: bool = False
    """The last translation failed, so the next one starts from scratch."""


@dataclass(slots=True)
class TypeRecord:
    """What was exchanged of one type, for status."""

    sent_version: int = 0
    acked_version: int = 0
    sent_at: float = 0.0
    acked_at: float = 0.0
    responses: int = 0
    bytes: int = 0
    rejections: int = 0
    last_rejection: str = ""
    """The proxy's words when it last refused something."""


@dataclass(slots=True)
class Callbacks:
    """What a connection tells the server about."""

    synced: Callable[[Connection], None]
    rejected: Callable[[Connection, str, str, tuple[DiscoveryResource, ...]], None]
    requested: Callable[[Connection, str], None]


@dataclass(slots=True, eq=False)
class Connection:
    """A connected proxy. ``send_loop`` and ``receive_loop`` run side by side until either ends."""

    stream: Stream
    node: Node
    node_id: NodeId
    proxy: Proxy
    session: Session
    callbacks: Callbacks
    metrics: Metrics
    connected_at: float = field(default_factory=time.time)
    records: dict[str, TypeRecord] = field(default_factory=dict)
    last_request_at: float = 0.0
    changed_at: float = 0.0
    """When the change that the target carries was received (monotonic); 0 when settled."""
    convergence: float = 0.0
    """Seconds from the last change that concerned it to its acknowledgement."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    write_timeout: float = 30.0
    """Seconds without progress of a write after which the proxy counts as slow."""
    slow: bool = False
    state: ScopeState | None = None
    """The scope it is in."""

    @property
    def workload_keys(self) -> tuple[ObjectKey, ObjectKey]:
        """Keys of the Pod or WorkloadEntry it may stand beside."""
        space, name = self.node_id.namespace, self.node_id.name
        return (
            ObjectKey("", "Pod", space, name),
            ObjectKey("networking.istio.io", "WorkloadEntry", space, name),
        )

    @property
    def acknowledged_version(self) -> int:
        """The newest snapshot version that the proxy runs in full."""
        session = self.session
        if session.in_sync and session.target is not None:
            return session.target.version
        return session.synced_version

    def record(self, type_url: str) -> TypeRecord:
        """The record of a type."""
        return self.records.setdefault(type_url, TypeRecord())

    async def receive_loop(self) -> None:
        """Take in requests until the proxy closes the stream. Raises `Refusal`."""
        while (data := await self.stream.receive()) is not None:
            self.take(data)

    def take(self, data: bytes) -> None:
        """Take in one request. Raises `Refusal` when it is malformed or exceeds a limit."""
        try:
            parse = parse_delta if self.stream.dialect is Dialect.DELTA else parse_state
            request, _ = parse(data)
            answer = self.session.receive(request)
        except MalformedRequest as error:
            raise Refusal("INVALID_ARGUMENT", str(error)) from error
        except ProtocolError as error:
            raise Refusal("RESOURCE_EXHAUSTED", str(error)) from error
        self.last_request_at = time.time()
        self._note(request.type_url, answer)
        self.wake.set()

    async def send_loop(self) -> None:
        """Send what the session says until the stream breaks (raises `StreamClosed`)."""
        loop = asyncio.get_running_loop()
        while True:
            self.wake.clear()
            now = begun = loop.time()
            was_in_sync = self.session.in_sync
            messages = self.session.advance(now)
            if self.session.in_sync and not was_in_sync:
                if self.changed_at:
                    self.convergence = time.monotonic() - self.changed_at
                self.callbacks.synced(self)
            for message in messages:
                record = self.record(message.type_url)
                target = self.session.target
                record.sent_version = target.version if target else 0
                record.sent_at = time.time()
                record.responses += 1
                record.bytes += len(message.data)
                self._count(message.type_url, len(message.data), message.resources)
                alarm = loop.call_later(self.write_timeout, self._mark_slow)
                try:
                    await self.stream.send(message.data)
                finally:
                    alarm.cancel()
                self.slow = False
                done = loop.time()
                self.metrics.push_time.labels(short_name(message.type_url)).observe(done - begun)
                begun = done
            if messages:
                self.metrics.send_time.observe(loop.time() - now)
                self.metrics.phase["send"].observe(loop.time() - now)
                continue
            deadline = self.session.wait_until(now)
            if deadline is None:
                await self.wake.wait()
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    await self.wake.wait()
            except TimeoutError:
                pass

    def _mark_slow(self) -> None:
        """The proxy does not read. It costs one message and delays nobody, so it may stay: the
        next thing it gets is the newest state."""
        self.slow = True
        self.metrics.write_timeout.inc()
        proxy = self.proxy
        _log.warning(
            "%s.%s has not read for %.0f s", proxy.name, proxy.namespace, self.write_timeout
        )

    def _note(self, type_url: str, answer: Answer) -> None:
        record = self.record(type_url)
        if answer.outcome is Outcome.STALE:
            self.metrics.expired_nonce.labels(short_name(type_url)).inc()
        elif answer.outcome is Outcome.NACK and answer.rejection is not None:
            record.rejections += 1
            record.last_rejection = answer.rejection.message
            self.metrics.total_rejects.labels(short_name(type_url)).inc()
            reject = self.metrics.rejects.get(short_name(type_url))
            if reject is not None:
                reject.labels(f"{self.proxy.name}.{self.proxy.namespace}").inc()
            self.callbacks.rejected(self, type_url, answer.rejection.message, answer.rejected)
        elif answer.outcome is Outcome.ACK or (
            answer.outcome is Outcome.RESPOND and record.sent_at
        ):
            record.acked_version = record.sent_version
            record.acked_at = time.time()
            self.metrics.phase["acknowledge"].observe(record.acked_at - record.sent_at)
        if answer.outcome in (Outcome.INIT, Outcome.RESPOND):
            self.callbacks.requested(self, type_url)

    def _count(self, type_url: str, size: int, resources: int) -> None:
        name = short_name(type_url)
        self.metrics.pushes.labels(name).inc()
        self.metrics.bytes_sent.labels(name).inc(size)
        self.metrics.resources_sent.labels(name).inc(resources)
        self.metrics.config_size.labels(name).observe(size)
