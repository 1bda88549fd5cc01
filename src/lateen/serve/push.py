"""Pushes: scopes, their current resources, who is connected, who has acknowledged what.

Changes are merged while they come in quick succession (`lateen.serve.pending`) and while a push is
being made. One translation per scope that a change touches (`lateen.serve.targets`), then one
write per proxy: each proxy has at most one response of a type under way and goes from there
straight to the newest state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from lateen.model.change import ChangeSet
from lateen.model.discovery import SECRET, DiscoveryResource
from lateen.model.proxy import Proxy, Scope
from lateen.model.snapshot import EMPTY, Snapshot
from lateen.serve import wire
from lateen.serve.access import admit, parse_node_id, proxy_at
from lateen.serve.admission import Admission, Turn, admitted, first_request, node_of
from lateen.serve.asked_names import AskedNames
from lateen.serve.connection import Callbacks, Connection, ScopeState
from lateen.serve.generator import ConfigGenerator
from lateen.serve.metrics import Metrics, short_name
from lateen.serve.pending import PendingChanges
from lateen.serve.protocol import Encoder
from lateen.serve.push_values import Acknowledgement, Laggard, PushOptions, Rejected
from lateen.serve.rescoping import movable
from lateen.serve.session import Session
from lateen.serve.share_report import ShareCollector
from lateen.serve.shares import Shares
from lateen.serve.targets import ScopeTargets, assign
from lateen.serve.transport import Refusal, Stream
from lateen.serve.views import forget_claims
from lateen.serve.waiting import Waiters
from lateen.serve.wire import Node, asks_to_debug

__all__ = ["Acknowledgement", "DiscoveryServer", "Laggard", "PushOptions", "Rejected"]

DEFAULT_OPTIONS = PushOptions()
_POLL = 0.05
"""Seconds after which a wait for quiet is looked at again, as further changes prolong it."""
_TURN = 0.002
"""Seconds of a push after which what proxies say gets its turn."""
_log = logging.getLogger(__name__)


class DiscoveryServer:
    """Serves streams from snapshots. Everything runs on one event loop."""

    def __init__(
        self,
        generator: ConfigGenerator,
        metrics: Metrics | None = None,
        options: PushOptions = DEFAULT_OPTIONS,
        on_rejection: Callable[[Rejected], None] | None = None,
        on_push: Callable[[], None] | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.options = options
        self.on_rejection = on_rejection
        self.on_push = on_push
        self.on_debug: Callable[[Stream, bytes], Awaitable[bool]] | None = None
        """Serves a stream that asks for ``istio.io/debug`` types; false when it does not."""
        self.on_begin: Callable[[], None] | None = None
        """Called when a push of all that has been published begins."""
        self.on_end: Callable[[], None] | None = None
        """Called when it has ended, whether or not it came off."""
        self.on_arrival: Callable[[Connection], None] | None = None
        """Called when a proxy is connected."""
        self.on_departure: Callable[[Connection], None] | None = None
        """Called when it no longer is, before anybody ceases to wait for it."""
        self.snapshot: Snapshot = EMPTY
        self.connections: set[Connection] = set()
        self._targets = ScopeTargets(generator, self.metrics)
        self._waiters = Waiters(self.connections)
        self._admission = Admission(options, self.metrics)
        self.asked = AskedNames()
        """Names that proxies have asked for and that do not exist."""
        self.shares: list[Shares] = [self.asked.shares]
        """What clients have of bounded quantities; the transport adds its own."""
        self.metrics.registry.register(ShareCollector(self.shares))
        self._encoder = Encoder(self._encode_delta, self._encode_state, wire.encode_named_empty)
        self._rescoped: Snapshot = EMPTY
        """The snapshot for which proxies were last put into scopes."""
        self._pending = PendingChanges(
            options.debounce, options.debounce_max, options.debounce_urgent
        )
        self._changed = asyncio.Event()
        self._ready = asyncio.Event()

    # Configuration in

    def publish(
        self,
        snapshot: Snapshot,
        changes: ChangeSet,
        *,
        immediate: bool = False,
        age: float = 0.0,
    ) -> None:
        """Take over a newer snapshot and have its changes pushed (after the debounce).

        ``age`` says how many seconds ago the first of them was received.
        """
        self.snapshot = snapshot
        self._pending.add(changes, time.monotonic() - age, immediate=immediate)
        self._changed.set()

    @property
    def waiting(self) -> int:
        """Objects whose changes were not pushed yet."""
        return self._pending.count

    @property
    def pushed_version(self) -> int:
        """Version of the newest snapshot that was handed to all proxies."""
        return self._waiters.pushed_version

    @property
    def scopes(self) -> Mapping[Scope, ScopeState]:
        """The distinct configurations of connected proxies."""
        return self._targets.states

    @property
    def crowded(self) -> bool:
        """Whether so many proxies wait for their turn that more can wait to say who they are."""
        return self._admission.crowded

    def translate_ahead(self, proxies: Iterable[str], seconds: float) -> int:
        """Make the configuration of ``proxies`` (node ids) before they connect, for ``seconds`` at
        most. Returns for how many it is there. `forget_unused` drops that of those who do not come.
        """
        until, count = time.monotonic() + seconds, 0
        for text in proxies:
            if time.monotonic() >= until:
                break
            try:
                proxy = proxy_at(self.snapshot, parse_node_id(text), Node(text))
                if proxy is not None:
                    self._targets.expect(proxy, self.snapshot)
                    count += 1
            except Refusal:
                continue  # no node id
            except Exception:
                # A defect that this workload's objects meet: its proxy is told when it connects.
                self.metrics.internal_errors.inc()
                _log.exception("the configuration of %s could not be made ahead", text)
        return count

    def forget_unused(self) -> None:
        """Forget what was made ahead for proxies that have not connected."""
        self._targets.forget_unused()

    def set_ready(self) -> None:
        """The first complete snapshot is published: begin to answer proxies."""
        self._ready.set()

    @property
    def ready(self) -> bool:
        """Whether proxies are answered."""
        return self._ready.is_set()

    async def run(self) -> None:
        """Push whatever is published, until cancelled."""
        while True:
            await self._changed.wait()
            await self._debounce()
            self._changed.clear()
            pending = self._pending.take()
            if pending is None:
                continue
            waited = time.monotonic() - pending.since
            self.metrics.debounce_time.observe(waited)
            self.metrics.phase["debounce"].observe(waited)
            if self.on_begin is not None:
                self.on_begin()
            try:
                await self._push(self.snapshot, pending.changes, pending.since)
            except Exception:
                # A defect of ours for one state of the mesh must not end all pushes.
                self.metrics.internal_errors.inc()
                _log.exception("push of snapshot %d failed", self.snapshot.version)
            if self.on_end is not None:
                self.on_end()

    async def _debounce(self) -> None:
        while (due := self._pending.due()) is not None:
            now = time.monotonic()
            if now >= due:
                return
            await asyncio.sleep(min(due - now, _POLL))

    async def _push(self, snapshot: Snapshot, changes: ChangeSet, started: float) -> None:
        begun = time.monotonic()
        kind = "endpoint" if changes.only_endpoints else "full"
        self.metrics.push_triggers.labels(kind).inc()
        self._rescope(snapshot, changes)
        turn = time.monotonic()
        self.metrics.phase["scope"].observe(turn - begun)
        for state in list(self.scopes.values()):
            if state.snapshot.version >= snapshot.version:
                continue
            try:
                self._update_scope(state, snapshot, changes, started)
            except Exception:
                state.stale = True
                self.metrics.internal_errors.inc()
                _log.exception(
                    "scope %s/%s keeps its configuration: translation of snapshot %d failed",
                    state.scope.type,
                    state.scope.namespace,
                    snapshot.version,
                )
            if time.monotonic() - turn > _TURN:
                await asyncio.sleep(0)
                turn = time.monotonic()
        self.metrics.whole_push.labels(kind).observe(time.monotonic() - begun)
        self.metrics.scopes.set(len(self.scopes))
        await self._waiters.pushed(snapshot.version)
        if self.on_push is not None:
            self.on_push()

    def _rescope(self, snapshot: Snapshot, changes: ChangeSet) -> None:
        """Move proxies whose own facts changed to the scope they belong to now."""
        may_move = movable(self._rescoped, snapshot, changes)
        self._rescoped = snapshot
        for connection in list(self.connections):
            if not may_move(connection):
                continue
            proxy = proxy_at(snapshot, connection.node_id, connection.node)
            if proxy is None:
                continue  # its pod is being deleted: it drains with what it has
            connection.proxy = proxy
            self._targets.enter(connection, snapshot)

    def _update_scope(
        self, state: ScopeState, snapshot: Snapshot, changes: ChangeSet, started: float
    ) -> None:
        begun = time.monotonic()
        settled = state.good is not None and state.good[0] is state.snapshot
        touched = self._targets.translate(state, snapshot, changes)
        translated = time.monotonic()
        self.metrics.phase["translate"].observe(translated - begun)
        changed = touched and self._targets.retarget(state)
        self.metrics.phase["difference"].observe(time.monotonic() - translated)
        if changed:
            for connection in state.connections:
                connection.changed_at = connection.changed_at or started
                assign(connection, state)
            return
        state.target.version = snapshot.version
        if settled:
            state.good = (snapshot, state.resources)
        for connection in state.connections:
            if connection.session.in_sync:
                self._waiters.settle(connection)

    # What is kept from proxies

    def offers(self, resource: DiscoveryResource) -> bool:
        """Whether exactly this version is in the target of any scope."""
        return self._targets.offers(resource)

    @property
    def withheld(self) -> frozenset[tuple[str, str, str]]:
        """Type URL, name and version of what is kept from all proxies."""
        return self._targets.withheld

    def withhold(self, resources: Iterable[DiscoveryResource]) -> None:
        """Keep exactly these versions from all proxies, as no object could be blamed for them."""
        self._targets.withhold(resources)

    # Proxies in

    async def serve(self, stream: Stream) -> None:
        """Serve a stream to its end (a `lateen.serve.transport.StreamHandler`)."""
        try:
            await self._serve(stream)
        except Refusal as refusal:
            self.metrics.refused.labels(refusal.code).inc()
            _log.warning("refused %s (%s): %s", stream.identity, stream.peer, refusal)
            raise

    async def _serve(self, stream: Stream) -> None:
        if not self.ready:
            raise Refusal("UNAVAILABLE", "the control plane is still reading its configuration")
        first = await first_request(stream, self.options.first_request)
        answer = self.on_debug if asks_to_debug(stream.dialect, first) else None
        if answer is not None and await answer(stream, first):
            return
        node = node_of(stream, first)
        # Who claims to be a workload that does not exist must take nobody's turn meanwhile.
        proxy = await admitted(lambda: self.snapshot, stream, node, self.options.workload_wait)
        snapshot = self.snapshot
        with self._admission.stream_of(stream, node):
            turn = await self._admission.turn()
            try:
                if self.snapshot is not snapshot:
                    proxy = admit(self.snapshot, node, stream.identity)
                connection = self._connection(stream, node, proxy, turn)
                try:
                    self._connect(connection, turn)
                    connection.take(first)
                    await connection.run()
                finally:
                    self._disconnect(connection)
            finally:
                turn.give_back()

    def _connection(self, stream: Stream, node: Node, proxy: Proxy, turn: Turn) -> Connection:
        def synced(connection: Connection) -> None:
            if connection.session.complete:
                turn.give_back()
            self._synced(connection)

        callbacks = Callbacks(synced, self._rejected, self._requested)
        return Connection(
            stream=stream,
            node=node,
            node_id=parse_node_id(node.id),
            proxy=proxy,
            session=Session(stream.dialect, self._encoder),
            callbacks=callbacks,
            metrics=self.metrics,
            asked=self.asked,
            write_timeout=self.options.write_timeout,
        )

    def _connect(self, connection: Connection, turn: Turn) -> None:
        """Count a proxy among those that are served, and give it its target. `_disconnect` takes
        all of it back, also what a defect has left half done."""
        self.connections.add(connection)
        self.metrics.connected_of(connection.node.version).inc()
        if self.on_arrival is not None:
            self.on_arrival(connection)
        self._targets.enter(connection, self.snapshot)
        loop = asyncio.get_running_loop()
        loop.call_later(self.options.connecting_limit, turn.give_back)

    def _disconnect(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.asked.forget(connection)
        self.metrics.connected_of(connection.node.version).dec()
        self._targets.leave(connection)
        if self.on_departure is not None:
            self.on_departure(connection)
        self._waiters.gone(connection)

    # What proxies say

    def _synced(self, connection: Connection) -> None:
        if connection.changed_at:
            self.metrics.convergence_time.observe(time.monotonic() - connection.changed_at)
            connection.changed_at = 0.0
        state = connection.state
        if (
            state is not None
            and not connection.session.rejected
            and state.target is connection.session.target
        ):
            state.good = (state.snapshot, state.resources)
        self._waiters.settle(connection)

    def _requested(self, connection: Connection, type_url: str) -> None:
        if type_url == SECRET:
            self._targets.secrets_asked(connection)

    def _rejected(
        self,
        connection: Connection,
        type_url: str,
        words: str,
        resources: tuple[DiscoveryResource, ...],
    ) -> None:
        _log.warning(
            "%s.%s rejected %s: %s",
            connection.proxy.name,
            connection.proxy.namespace,
            short_name(type_url),
            words,
        )
        state = connection.state
        if self.on_rejection is None or state is None:
            return
        good = state.good[0] if state.good else None
        self.on_rejection(
            Rejected(connection.proxy, type_url, words, resources, good, state.snapshot)
        )

    # Acknowledgement out

    async def wait_for(self, version: int, timeout: float) -> Acknowledgement:
        """See `lateen.serve.waiting.Waiters.wait_for`."""
        return await self._waiters.wait_for(version, timeout)

    async def housekeeping(self, interval: float = 10.0) -> None:
        """Give back memory of messages for connecting proxies, and of what these claimed."""
        claims = 0
        while True:
            await asyncio.sleep(interval)
            for state in self.scopes.values():
                for view in state.target.views.values():
                    view.drop_full_messages()
            claims = forget_claims(claims)

    def _encode_delta(
        self,
        type_url: str,
        changed: tuple[DiscoveryResource, ...],
        removed: tuple[str, ...],
        nonce: str,
    ) -> bytes:
        self.metrics.messages_encoded.labels(short_name(type_url)).inc()
        return wire.encode_delta(type_url, changed, removed, nonce)

    def _encode_state(
        self, type_url: str, changed: tuple[DiscoveryResource, ...], nonce: str, version: str
    ) -> bytes:
        self.metrics.messages_encoded.labels(short_name(type_url)).inc()
        return wire.encode_state(type_url, changed, nonce, version)
