"""Pushes: scopes, their current resources, who is connected, who has acknowledged what.

One translation per scope that a change touches; one difference and one encoding per scope and
type (see `lateen.serve.views`); then one write per proxy. Changes are merged while they come in
quick succession (debounce) and while a push is being made; each proxy has at most one response
of a type under way and goes from there straight to the newest state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lateen.model.change import ChangeSet
from lateen.model.discovery import CLUSTER, SECRET, DiscoveryResource
from lateen.model.proxy import Proxy, ProxyType, Scope
from lateen.model.snapshot import EMPTY, Snapshot
from lateen.serve import wire
from lateen.serve.access import WorkloadUnknown, admit, parse_node_id, proxy_at
from lateen.serve.connection import Callbacks, Connection, ScopeState
from lateen.serve.generator import ConfigGenerator
from lateen.serve.metrics import Metrics, short_name
from lateen.serve.observed import eager_clusters
from lateen.serve.protocol import Dialect, Encoder
from lateen.serve.push_values import Acknowledgement, Laggard, PushOptions, Rejected, laggard
from lateen.serve.rescoping import movable
from lateen.serve.secrets import referenced_secret
from lateen.serve.session import Session, Target
from lateen.serve.transport import Refusal, Stream, StreamClosed
from lateen.serve.views import View, updated
from lateen.serve.wire import MalformedRequest, Node, asks_to_debug, parse_delta, parse_state

__all__ = ["Acknowledgement", "DiscoveryServer", "Laggard", "PushOptions", "Rejected"]

DEFAULT_OPTIONS = PushOptions()
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Waiter:
    version: int
    outstanding: set[Connection]
    done: asyncio.Event = field(default_factory=asyncio.Event)


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
        self.snapshot: Snapshot = EMPTY
        self.pushed_version = 0
        """Version of the newest snapshot that was handed to all proxies."""
        self.connections: set[Connection] = set()
        self.scopes: dict[Scope, ScopeState] = {}
        self._generator = generator
        self._encoder = Encoder(self._encode_delta, self._encode_state, wire.encode_named_empty)
        self._rescoped: Snapshot = EMPTY
        """The snapshot for which proxies were last put into scopes."""
        self._pending: ChangeSet | None = None
        self._first_change = 0.0
        self._last_change = 0.0
        self._immediate = False
        self._changed = asyncio.Event()
        self._pushed = asyncio.Condition()
        self._ready = asyncio.Event()
        self._waiters: set[_Waiter] = set()
        self._turns = asyncio.Semaphore(options.connecting)
        self._withheld: set[tuple[str, str, str]] = set()

    # Configuration in

    def publish(self, snapshot: Snapshot, changes: ChangeSet, *, immediate: bool = False) -> None:
        """Take over a newer snapshot and have its changes pushed (after the debounce)."""
        now = time.monotonic()
        self.snapshot = snapshot
        if self._pending is None:
            self._pending, self._first_change = changes, now
        else:
            self._pending = self._pending.merged(changes)
        self._last_change = now
        self._immediate |= immediate
        self._changed.set()

    @property
    def waiting(self) -> int:
        """Objects whose changes were not pushed yet."""
        return len(self._pending.keys) if self._pending is not None else 0

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
            changes, self._pending = self._pending, None
            self._changed.clear()
            self._immediate = False
            if changes is None:
                continue
            started = self._first_change
            self.metrics.debounce_time.observe(time.monotonic() - started)
            self.metrics.phase["debounce"].observe(time.monotonic() - started)
            try:
                await self._push(self.snapshot, changes, started)
            except Exception:
                # A defect of ours for one state of the mesh must not end all pushes.
                self.metrics.internal_errors.inc()
                _log.exception("push of snapshot %d failed", self.snapshot.version)

    async def _debounce(self) -> None:
        options = self.options
        while not self._immediate:
            now = time.monotonic()
            due = min(
                self._last_change + options.debounce, self._first_change + options.debounce_max
            )
            if now >= due:
                return
            await asyncio.sleep(min(due - now, 0.05))

    async def _push(self, snapshot: Snapshot, changes: ChangeSet, started: float) -> None:
        begun = time.monotonic()
        kind = "endpoint" if changes.only_endpoints else "full"
        self.metrics.push_triggers.labels(kind).inc()
        self._rescope(snapshot, changes)
        self.metrics.phase["scope"].observe(time.monotonic() - begun)
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
            await asyncio.sleep(0)
        self.pushed_version = max(self.pushed_version, snapshot.version)
        self.metrics.whole_push.labels(kind).observe(time.monotonic() - begun)
        self.metrics.scopes.set(len(self.scopes))
        async with self._pushed:
            self._pushed.notify_all()
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
            self._enter_scope(connection, snapshot)

    def _update_scope(
        self, state: ScopeState, snapshot: Snapshot, changes: ChangeSet, started: float
    ) -> None:
        kind = "endpoint" if changes.only_endpoints else "full"
        made = self._generator.translations
        begun = time.monotonic()
        if state.stale:
            resources = self._generator.generate(snapshot, state.scope)
        else:
            resources = self._generator.update(snapshot, state.scope, state.resources, changes)
        state.stale = False
        self.metrics.translations.labels(kind).inc(self._generator.translations - made)
        translated = time.monotonic()
        self.metrics.phase["translate"].observe(translated - begun)
        settled = state.good is not None and state.good[0] is state.snapshot
        untouched = resources is state.resources and not state.secret_names
        state.snapshot, state.resources = snapshot, resources
        unchanged = untouched or not self._retarget(state)
        self.metrics.phase["difference"].observe(time.monotonic() - translated)
        if unchanged:
            state.target.version = snapshot.version
            if settled:
                state.good = (snapshot, resources)
            for connection in state.connections:
                if connection.session.in_sync:
                    self._settle(connection)
            return
        for connection in state.connections:
            connection.changed_at = connection.changed_at or started
            connection.session.assign(state.target)
            connection.wake()

    def _retarget(self, state: ScopeState) -> bool:
        """Make the target of a scope's resources; False when it is equal to the one before."""
        views: dict[str, View] = {}
        before: Mapping[str, View] = state.target.views
        for type_url, items in state.resources.items():
            views[type_url] = updated(before.get(type_url), type_url, self._allowed(state, items))
        clusters = views.get(CLUSTER)
        if clusters is not None:
            clusters.eager = eager_clusters(state.snapshot, state.scope, clusters.resources)
        if state.secret_names:
            views[SECRET] = updated(before.get(SECRET), SECRET, self._secrets(state))
        if len(views) == len(before) and all(before.get(key) is views[key] for key in views):
            return False
        state.target = Target(state.snapshot.version, views)
        return True

    def _allowed(
        self, state: ScopeState, items: Mapping[str, DiscoveryResource]
    ) -> Mapping[str, DiscoveryResource]:
        """``items`` with the last good form of those that are withheld."""
        held_back = [
            item
            for type_url, name, version in self._withheld
            if (item := items.get(name)) and item.type_url == type_url and item.version == version
        ]
        if not held_back:
            return items
        good = state.good[1] if state.good else {}
        kept = dict(items)
        for item in held_back:
            last = good.get(item.type_url, {}).get(item.name)
            if last is None or last.version == item.version:
                del kept[item.name]
            else:
                kept[item.name] = last
        return kept

    def _secrets(self, state: ScopeState) -> Mapping[str, DiscoveryResource]:
        found = {
            name: referenced_secret(state.snapshot, state.scope.namespace, name, state.resources)
            for name in sorted(state.secret_names)
        }
        self.metrics.secret_errors.inc(sum(secret is None for secret in found.values()))
        return {name: secret for name, secret in found.items() if secret is not None}

    def offers(self, resource: DiscoveryResource) -> bool:
        """Whether exactly this version is in the target of any scope."""
        for state in self.scopes.values():
            found = state.target.view(resource.type_url).resources.get(resource.name)
            if found is not None and found.version == resource.version:
                return True
        return False

    @property
    def withheld(self) -> frozenset[tuple[str, str, str]]:
        """Type URL, name and version of what is kept from all proxies."""
        return frozenset(self._withheld)

    def withhold(self, resources: Iterable[DiscoveryResource]) -> None:
        """Keep exactly these versions from all proxies, as no object could be blamed for them."""
        self._withheld.update((item.type_url, item.name, item.version) for item in resources)
        for state in self.scopes.values():
            if self._retarget(state):
                for connection in state.connections:
                    connection.session.assign(state.target)
                    connection.wake()

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
        first = await self._first_request(stream)
        answer = self.on_debug if asks_to_debug(first) else None
        if answer is not None and await answer(stream, first):
            return
        node = _node_of(stream, first)
        queued = time.monotonic()
        self.metrics.waiting.inc()
        try:
            await self._turns.acquire()
        finally:
            self.metrics.waiting.dec()
        self.metrics.queue_time.observe(time.monotonic() - queued)
        turn = _Turn(self._turns)
        try:
            proxy = await self._admitted(stream, node)
            connection = self._connect(stream, node, proxy, turn)
            try:
                connection.take(first)
                await connection.run()
            finally:
                self._disconnect(connection)
        finally:
            turn.give_back()

    async def _first_request(self, stream: Stream) -> bytes:
        try:
            async with asyncio.timeout(self.options.first_request):
                first = await stream.receive()
        except TimeoutError as error:
            raise Refusal("DEADLINE_EXCEEDED", "the stream never said who it is") from error
        if first is None:
            raise StreamClosed("closed before its first request")
        return first

    async def _admitted(self, stream: Stream, node: Node) -> Proxy:
        """The proxy, waiting a moment for its workload to become known. Raises `Refusal`."""
        deadline = time.monotonic() + self.options.workload_wait
        while True:
            try:
                return admit(self.snapshot, node, stream.identity)
            except WorkloadUnknown:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(0.05)

    def _connect(self, stream: Stream, node: Node, proxy: Proxy, turn: _Turn) -> Connection:
        def synced(connection: Connection) -> None:
            if connection.session.complete:
                turn.give_back()
            self._synced(connection)

        callbacks = Callbacks(synced, self._rejected, self._requested)
        connection = Connection(
            stream=stream,
            node=node,
            node_id=parse_node_id(node.id),
            proxy=proxy,
            session=Session(stream.dialect, self._encoder),
            callbacks=callbacks,
            metrics=self.metrics,
            write_timeout=self.options.write_timeout,
        )
        self.connections.add(connection)
        self.metrics.connected.labels(node.version).inc()
        self._enter_scope(connection, self.snapshot)
        loop = asyncio.get_running_loop()
        loop.call_later(self.options.connecting_limit, turn.give_back)
        return connection

    def _disconnect(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.metrics.connected.labels(connection.node.version).dec()
        self._leave_scope(connection)
        for waiter in self._waiters:
            waiter.outstanding.discard(connection)
            if not waiter.outstanding:
                waiter.done.set()

    def _enter_scope(self, connection: Connection, snapshot: Snapshot) -> None:
        scope = self._generator.scope_of(snapshot, connection.proxy)
        state = self.scopes.get(scope)
        if state is not None and connection.state is state:
            return
        self._leave_scope(connection)
        if state is None:
            made = self._generator.translations
            resources = self._generator.generate(snapshot, scope)
            self.metrics.translations.labels("full").inc(self._generator.translations - made)
            state = ScopeState(scope, snapshot, resources, Target(snapshot.version, {}))
            self.scopes[scope] = state
            self._retarget(state)
            self.metrics.scopes.set(len(self.scopes))
        state.connections.add(connection)
        connection.state = state
        self._want_secrets(state, connection)
        connection.session.assign(state.target)
        connection.wake()

    def _leave_scope(self, connection: Connection) -> None:
        state, connection.state = connection.state, None
        if state is None:
            return
        state.connections.discard(connection)
        if not state.connections and self.scopes.get(state.scope) is state:
            del self.scopes[state.scope]
        self.metrics.scopes.set(len(self.scopes))

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
        self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        version = connection.acknowledged_version
        for waiter in self._waiters:
            if version >= waiter.version:
                waiter.outstanding.discard(connection)
                if not waiter.outstanding:
                    waiter.done.set()

    def _requested(self, connection: Connection, type_url: str) -> None:
        if type_url != SECRET:
            return
        state = connection.state
        if state is not None and self._want_secrets(state, connection):
            for other in state.connections:
                other.session.assign(state.target)
                other.wake()

    def _want_secrets(self, state: ScopeState, connection: Connection) -> bool:
        subscription = connection.session.subscriptions.get(SECRET)
        # Credentials are for gateways; a sidecar's own certificate never comes this way.
        if subscription is None or connection.proxy.type is not ProxyType.ROUTER:
            return False
        if subscription.names <= state.secret_names:
            return False
        state.secret_names |= subscription.names
        return self._retarget(state)

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
        """Wait until every connected proxy runs snapshot ``version`` or a newer one.

        Proxies that the changes do not touch count as soon as the version has been pushed.
        After ``timeout`` seconds the proxies that are behind are named. Proxies that connect
        meanwhile do not count: they start with this version or a newer one.
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
                        await waiter.done.wait()
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            pass
        behind = [i for i in self._behind(version) if watched is None or i in watched]
        acknowledged = self.pushed_version >= version and not behind
        return Acknowledgement(
            acknowledged, len(self.connections), tuple(laggard(item) for item in behind)
        )

    def _behind(self, version: int) -> list[Connection]:
        return [item for item in self.connections if item.acknowledged_version < version]

    async def housekeeping(self, interval: float = 10.0) -> None:
        """Give back memory of messages for connecting proxies."""
        while True:
            await asyncio.sleep(interval)
            for state in self.scopes.values():
                for view in state.target.views.values():
                    view.drop_full_messages()

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


class _Turn:
    """A place among the proxies that are connecting; given back once."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns: asyncio.Semaphore | None = turns

    def give_back(self) -> None:
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.release()


def _node_of(stream: Stream, first: bytes) -> Node:
    try:
        parse = parse_delta if stream.dialect is Dialect.DELTA else parse_state
        _, node = parse(first)
    except MalformedRequest as error:
        raise Refusal("INVALID_ARGUMENT", str(error)) from error
    if node is None or not node.id:
        raise Refusal("INVALID_ARGUMENT", "the first request must carry the node id")
    return node
