"""What the proxies of each scope shall have: one target per scope, shared by its connections.

One translation per scope that a change touches, one difference per scope and type (see
`lateen.serve.views`); resources that are withheld are left out here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lateen.model.change import ChangeSet
from lateen.model.discovery import CLUSTER, SECRET, DiscoveryResource
from lateen.model.proxy import Proxy, Scope
from lateen.model.snapshot import Snapshot
from lateen.serve.connection import Connection, ScopeState
from lateen.serve.generator import ConfigGenerator
from lateen.serve.metrics import Metrics
from lateen.serve.observed import eager_clusters
from lateen.serve.secrets import referenced_secret
from lateen.serve.session import Target
from lateen.serve.views import View, updated

_MAX_WITHHELD = 256
"""Versions kept from all proxies; whoever can refuse can make them more."""


class ScopeTargets:
    """The scopes of connected proxies, by scope, and what each of them shall have."""

    def __init__(self, generator: ConfigGenerator, metrics: Metrics) -> None:
        self.states: dict[Scope, ScopeState] = {}
        self._generator = generator
        self._metrics = metrics
        self._withheld: dict[tuple[str, str, str], None] = {}
        """Oldest first."""

    # Proxies

    def enter(self, connection: Connection, snapshot: Snapshot) -> None:
        """Put a proxy into the scope that it belongs to in ``snapshot``."""
        scope = self._generator.scope_of(snapshot, connection.proxy)
        state = self.states.get(scope)
        if state is not None and connection.state is state:
            return
        self.leave(connection)
        if state is None:
            state = self._new_state(scope, snapshot)
        state.connections.add(connection)
        connection.state = state
        if SECRET in connection.session.subscriptions:
            self._want_secrets(state)
        assign(connection, state)

    def _new_state(self, scope: Scope, snapshot: Snapshot) -> ScopeState:
        made = self._generator.translations
        resources = self._generator.generate(snapshot, scope)
        self._metrics.translations.labels("full").inc(self._generator.translations - made)
        state = ScopeState(scope, snapshot, resources, Target(snapshot.version, {}))
        self.retarget(state)
        self.states[scope] = state  # only now: one without its target would be served as empty
        self._metrics.scopes.set(len(self.states))
        return state

    def expect(self, proxy: Proxy, snapshot: Snapshot) -> None:
        """Have everything ready for a proxy that will connect; see `forget_unused`."""
        scope = self._generator.scope_of(snapshot, proxy)
        if scope not in self.states:
            state = self._new_state(scope, snapshot)
            for view in state.target.views.values():
                view.expect_claims()

    def forget_unused(self) -> None:
        """Forget the scopes of proxies that were expected and have not come."""
        for state in list(self.states.values()):
            if not state.connections:
                del self.states[state.scope]
        self._metrics.scopes.set(len(self.states))

    def leave(self, connection: Connection) -> None:
        """Take a proxy out of its scope; a scope without proxies is forgotten."""
        state, connection.state = connection.state, None
        if state is None:
            return
        state.connections.discard(connection)
        if state.secret_names:
            state.secret_names = _asked_secrets(state)
        if not state.connections and self.states.get(state.scope) is state:
            del self.states[state.scope]
        self._metrics.scopes.set(len(self.states))

    def secrets_asked(self, connection: Connection) -> None:
        """Give a proxy, and others of its scope, the credentials that it has asked for."""
        state = connection.state
        if state is not None and self._want_secrets(state):
            for other in state.connections:
                assign(other, state)

    def _want_secrets(self, state: ScopeState) -> bool:
        """Find again which credentials are asked for; whether the target changed by that."""
        wanted = _asked_secrets(state)
        if wanted == state.secret_names:
            return False
        state.secret_names = wanted
        return self.retarget(state)

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        """See `ConfigGenerator`."""
        return self._generator.scope_of(snapshot, proxy)

    # Changes

    def translate(self, state: ScopeState, snapshot: Snapshot, changes: ChangeSet) -> bool:
        """Bring a scope's resources to ``snapshot``; whether they may differ from before."""
        made = self._generator.translations
        if state.stale:
            resources = self._generator.generate(snapshot, state.scope)
        else:
            resources = self._generator.update(snapshot, state.scope, state.resources, changes)
        state.stale = False
        more = self._generator.translations - made
        if more:
            kind = "endpoint" if changes.only_endpoints else "full"
            self._metrics.translations.labels(kind).inc(more)
        untouched = resources is state.resources and not state.secret_names
        state.snapshot, state.resources = snapshot, resources
        return not untouched

    def retarget(self, state: ScopeState) -> bool:
        """Make the target of a scope's resources; False when it is equal to the one before."""
        views: dict[str, View] = {}
        before: Mapping[str, View] = state.target.views
        for type_url, items in state.resources.items():
            held = before.get(type_url)
            if held is not None and held.resources is items and not self._withheld:
                views[type_url] = held
            else:
                views[type_url] = updated(held, type_url, self._allowed(state, items))
        clusters = views.get(CLUSTER)
        if clusters is not None:
            clusters.eager = eager_clusters(state.snapshot, state.scope, clusters.resources)
        if state.secret_names:
            views[SECRET] = updated(before.get(SECRET), SECRET, self._secrets(state))
        if len(views) == len(before) and all(before.get(key) is views[key] for key in views):
            return False
        eager = clusters.eager if clusters is not None else None
        state.target = Target(state.snapshot.version, views, eager)
        return True

    def _secrets(self, state: ScopeState) -> Mapping[str, DiscoveryResource]:
        found = {
            name: referenced_secret(state.snapshot, state.scope.namespace, name, state.resources)
            for name in sorted(state.secret_names)
        }
        self._metrics.secret_errors.inc(sum(secret is None for secret in found.values()))
        return {name: secret for name, secret in found.items() if secret is not None}

    # What is kept from proxies

    def _allowed(
        self, state: ScopeState, items: Mapping[str, DiscoveryResource]
    ) -> Mapping[str, DiscoveryResource]:
        """``items`` with the last good form of those that are withheld."""
        if not self._withheld:
            return items
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

    def offers(self, resource: DiscoveryResource) -> bool:
        """Whether exactly this version is in the target of any scope."""
        return any(state.target.offers(resource) for state in self.states.values())

    @property
    def withheld(self) -> frozenset[tuple[str, str, str]]:
        """Type URL, name and version of what is kept from all proxies."""
        return frozenset(self._withheld)

    def withhold(self, resources: Iterable[DiscoveryResource]) -> None:
        """Keep exactly these versions from all proxies, as no object could be blamed for them."""
        for item in resources:
            self._withheld[item.type_url, item.name, item.version] = None
        # Each scope looks at all of them. Most are of forms that nothing makes any more; one that
        # is forgotten too early is refused and withheld again.
        for oldest in list(self._withheld)[:-_MAX_WITHHELD]:
            del self._withheld[oldest]
        for state in self.states.values():
            if self.retarget(state):
                for connection in state.connections:
                    assign(connection, state)


def assign(connection: Connection, state: ScopeState) -> None:
    """Have a proxy taken to what its scope shall have."""
    connection.session.assign(state.target)
    connection.wake()


def _asked_secrets(state: ScopeState) -> frozenset[str]:
    """Names of the secrets that proxies of the scope ask for."""
    subscriptions = [item.session.subscriptions.get(SECRET) for item in state.connections]
    names = [found.names for found in subscriptions if found is not None]
    return frozenset().union(*names)
