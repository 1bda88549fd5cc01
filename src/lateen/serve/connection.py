"""One proxy's stream at run time: requests in, the session's messages out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lateen.api.resource import ObjectKey
from lateen.model.discovery import DiscoveryResource, ResourceSet
from lateen.model.proxy import Proxy, Scope
from lateen.model.snapshot import Snapshot
from lateen.serve.access import NodeId
from lateen.serve.asked_names import AskedNames
from lateen.serve.claims import MalformedClaim
from lateen.serve.metrics import Metrics, short_name
from lateen.serve.protocol import Answer, Outcome, ProtocolError
from lateen.serve.session import Session, Target
from lateen.serve.shares import Client
from lateen.serve.transport import Refusal, Stream
from lateen.serve.views import Message, View, empty
from lateen.serve.wire import MalformedRequest, Node, parse_request

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class ScopeState:
    """What proxies of one scope shall have now."""

    scope: Scope
    snapshot: Snapshot
    resources: ResourceSet
    target: Target
    secret_names: frozenset[str] = frozenset()
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
    """A connected proxy. `run` serves it until the stream ends; nothing of it waits in a task
    of its own meanwhile: requests, acknowledgements and news of targets call it."""

    stream: Stream
    node: Node
    node_id: NodeId
    proxy: Proxy
    session: Session
    callbacks: Callbacks
    metrics: Metrics
    asked: AskedNames
    """Counts the names that it asks for."""
    connected_at: float = field(default_factory=time.time)
    records: dict[str, TypeRecord] = field(default_factory=dict)
    last_request_at: float = 0.0
    changed_at: float = 0.0
    """When the change that the target carries was received (monotonic); 0 when settled."""
    convergence: float = 0.0
    """Seconds from the last change that concerned it to its acknowledgement."""
    write_timeout: float = 30.0
    """Seconds without progress of a write after which the proxy counts as slow."""
    slow: bool = False
    state: ScopeState | None = None
    """The scope it is in."""
    _counted: dict[str, frozenset[str]] = field(default_factory=dict)
    """The names by type that ``asked`` has counted."""
    _ended: asyncio.Future[None] | None = None
    _scheduled: bool = False
    _unwritten: bool = False
    """What was sent last is not with the kernel yet: the proxy does not read."""
    _sending: list[Message] = field(default_factory=list)
    _send_begun: float = 0.0
    _alarm: asyncio.TimerHandle | None = None
    _timer: asyncio.TimerHandle | None = None
    _deadline: float = 0.0

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
        found = self.records.get(type_url)
        if found is None:
            found = self.records[type_url] = TypeRecord()
        return found

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it is served on. Asking for the running one is a system call each time
        (Python 3.11 looks for forks)."""
        assert self._ended is not None
        return self._ended.get_loop()

    async def run(self) -> None:
        """Serve until the proxy closes the stream or it breaks. Raises `Refusal`."""
        ended = self._ended = asyncio.get_running_loop().create_future()
        self.stream.attach(self)
        self.wake()
        try:
            await ended
        finally:
            self._ended = None
            for timer in (self._timer, self._alarm):
                if timer is not None:
                    timer.cancel()

    def received(self, message: bytes) -> None:
        """See `lateen.serve.transport.Receiver`."""
        try:
            self.take(message)
        except Refusal as refusal:
            self._end(refusal)
            return
        self.wake()  # when all requests that have come are taken: what they ask for goes together

    def writable(self) -> None:
        """See `lateen.serve.transport.Receiver`."""
        self._unwritten = False
        self.slow = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._written()
        self._pump()

    def closed(self) -> None:
        """See `lateen.serve.transport.Receiver`."""
        self._end(None)

    def wake(self) -> None:
        """Send what is to be sent now, soon: after a new target or other news."""
        if not self._scheduled and self._ended is not None:
            self._scheduled = True
            self._loop.call_soon(self._woken)

    def take(self, data: bytes) -> None:
        """Take in one request. Raises `Refusal` when it is malformed or exceeds a limit."""
        try:
            request = parse_request(self.stream.dialect, data)
            answer = self.session.receive(request)
        except (MalformedRequest, MalformedClaim) as error:
            raise Refusal("INVALID_ARGUMENT", str(error)) from error
        except ProtocolError as error:
            raise Refusal("RESOURCE_EXHAUSTED", str(error)) from error
        self._count_names(request.type_url, answer)
        self.last_request_at = time.time()
        self._note(request.type_url, answer)

    def _count_names(self, type_url: str, answer: Answer) -> None:
        """Count names that do not exist for the client's share. Raises `Refusal`."""
        subscription, target = self.session.subscriptions[type_url], self.session.target
        names, held = subscription.names, subscription.held
        known = target.view(type_url) if target is not None else empty(type_url)
        allowed = True
        if self._counted.get(type_url) is not names:
            self._counted[type_url] = names
            allowed = self._keep(type_url, () if known.covers(names) else names, known)
        if answer.outcome is Outcome.INIT:
            claimed = held.resources if held is not known and len(held) else ()
            allowed &= self._keep(f"{type_url} claimed", claimed, known)
        elif answer.outcome is Outcome.ACK:
            self._keep(f"{type_url} claimed", (), known)
        if not allowed:
            unit = self.asked.shares.unit
            raise Refusal("RESOURCE_EXHAUSTED", f"this client has too many {unit}")

    def _keep(self, part: str, names: Collection[str], known: View) -> bool:
        return self.asked.keep(self, self._client, self.refuse, part, names, known.resources)

    @property
    def _client(self) -> Client:
        return Client(str(self.stream.identity), self.stream.peer.rpartition(":")[0])

    def refuse(self, text: str) -> None:
        """End the stream: it, or its client, uses more than it may."""
        self._end(Refusal("RESOURCE_EXHAUSTED", text))

    def _woken(self) -> None:
        self._scheduled = False
        self._pump()

    def _pump(self) -> None:
        """Send what the session says now, unless the proxy does not read."""
        if self._ended is None or self._ended.done() or self._unwritten:
            return
        try:
            self._send()
        except Exception as error:  # a defect of ours ends this stream, not the event loop's turn
            self._end(error)

    def _send(self) -> None:
        session = self.session
        now = time.monotonic()
        was_in_sync = session.in_sync
        messages = session.advance(now)
        if session.in_sync and not was_in_sync:
            if self.changed_at:
                self.convergence = now - self.changed_at
            self.callbacks.synced(self)
        self._sleep(session.wait_until(now), now)
        if not messages:
            return
        version = session.target.version if session.target else 0
        self._send_begun, self._sending = now, messages
        for message in messages:
            record = self.record(message.type_url)
            record.sent_version = version
            record.sent_at = time.time()
            record.responses += 1
            record.bytes += message.size
        if self.stream.write(*[message.payload for message in messages]):
            self._written()
            return
        self._unwritten = True
        self._alarm = self._loop.call_later(self.write_timeout, self._mark_slow)

    def _written(self) -> None:
        """What was sent last is with the kernel."""
        messages, self._sending = self._sending, []
        taken = time.monotonic() - self._send_begun
        metrics = self.metrics
        for message in messages:
            of_type = metrics.of_type(message.type_url)
            of_type.pushes.add(1)
            of_type.bytes.add(message.size)
            of_type.resources.add(message.resources)
            of_type.config_size.observe(message.size)
            of_type.push_time.observe(taken)
        metrics.send_time.observe(taken)
        metrics.phase["send"].observe(taken)

    def _sleep(self, deadline: float | None, now: float) -> None:
        """Have it looked at again at ``deadline`` although nothing may come till then."""
        if self._timer is not None:
            if deadline == self._deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._deadline = deadline
            delay = deadline - now
            self._timer = self._loop.call_later(delay, self._rested)

    def _rested(self) -> None:
        self._timer = None
        self._pump()

    def _end(self, error: Exception | None) -> None:
        ended = self._ended
        if ended is None or ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

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
