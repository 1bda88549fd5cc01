"""All subscriptions of one stream, and the order in which they are taken to a new target.

Make before break: clusters and their endpoints are warm in the proxy before listeners and routes
that use them are sent; what is gone is removed when nothing refers to it any more. Pure like
`lateen.serve.protocol`: time is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from weakref import ReferenceType, ref

from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    TYPES_IN_PUSH_ORDER,
    VIRTUAL_HOST,
    DiscoveryResource,
)
from lateen.serve.protocol import (
    MAKE_BEFORE_BREAK,
    Answer,
    DeltaRequest,
    Dialect,
    Encoder,
    Outcome,
    ProtocolError,
    StateRequest,
    Subscription,
)
from lateen.serve.views import Message, View, empty, intern_names
from lateen.serve.virtual_hosts import names_within, of_routes, whole_routes

WARMING_LIMIT = 5.0
"""Seconds that listeners and routes wait for new clusters to be warm before they go anyway."""
OVERTAKE_AFTER = 1.0
"""Seconds after which a newer response follows one that is not acknowledged. Envoy holds back the
acknowledgement of clusters while one of them warms, perhaps without end; the newer response is what
changes that."""
_MAX_TYPES = 32
_LONGEST_TYPE = 256


@dataclass(slots=True, eq=False, weakref_slot=True)
class Target:
    """All resources of a scope. ``version`` is the newest snapshot version they are right for."""

    version: int
    views: Mapping[str, View]
    eager: frozenset[str] | None = None
    """Clusters that are sent to who has not asked for them; None: all."""
    _compared: tuple[ReferenceType[Target], frozenset[str] | None] | None = None
    """The last answer of `differing`: all proxies of a scope ask the same."""

    def view(self, type_url: str) -> View:
        """The resources of a type; an empty view for types the scope does not have."""
        found = self.views.get(type_url)
        return found if found is not None else empty(type_url)

    def offers(self, resource: DiscoveryResource) -> bool:
        """Whether exactly this version is in it, in either form of route configurations."""
        views = [self.view(resource.type_url)]
        if resource.type_url == ROUTE:
            views.append(whole_routes(views[0], self.view(VIRTUAL_HOST)))
        found = [view.resources.get(resource.name) for view in views]
        return any(item is not None and item.version == resource.version for item in found)

    def differing(self, other: Target) -> frozenset[str] | None:
        """The types in which a proxy that has all of ``other`` may lack something; None when
        that cannot be told by types. Routes and their virtual hosts go together."""
        if self._compared is None or self._compared[0]() is not other:
            self._compared = ref(other), self._differing(other)
        return self._compared[1]

    def _differing(self, other: Target) -> frozenset[str] | None:
        if self.eager != other.eager or self.view(CLUSTER) is not other.view(CLUSTER):
            return None  # endpoints follow clusters, and listeners wait for both
        mine, theirs = self.views, other.views
        if mine.keys() == theirs.keys():
            found = [type_url for type_url, view in mine.items() if theirs[type_url] is not view]
        else:
            types = mine.keys() | theirs.keys()
            found = [
                type_url for type_url in types if self.view(type_url) is not other.view(type_url)
            ]
        return _with_both_routes(tuple(found))


class Session:
    """One proxy's stream: feed it requests and targets, and send what `advance` returns."""

    __slots__ = (
        "_awaited",
        "_encoder",
        "_moving",
        "_sent_at",
        "_unsettled",
        "_warm_until",
        "dialect",
        "in_sync",
        "subscriptions",
        "synced_version",
        "target",
    )

    def __init__(self, dialect: Dialect, encoder: Encoder) -> None:
        self.dialect = dialect
        self.subscriptions: dict[str, Subscription] = {}
        self.target: Target | None = None
        self.in_sync = False
        """Whether all of the target is acknowledged (removals may still be under way)."""
        self.synced_version = 0
        """Newest target version that was acknowledged in full."""
        self._encoder = encoder
        self._awaited: frozenset[str] = frozenset()
        self._moving: frozenset[str] | None = None
        """Types in which the proxy may not have the target yet; None: any."""
        self._warm_until = 0.0
        self._sent_at: dict[str, float] = {}
        """When the last response of each type was sent."""
        self._unsettled: dict[str, float] = {}
        """Since when nothing is acknowledged of a type with a response in flight or refused."""

    @property
    def complete(self) -> bool:
        """Whether the proxy has come as far as listeners, the last thing it asks for itself."""
        return self.in_sync and LISTENER in self.subscriptions

    @property
    def rejected(self) -> bool:
        """Whether a response stands refused."""
        for subscription in self.subscriptions.values():
            if subscription.rejection is not None:
                return True
        return False

    def receive(self, request: DeltaRequest | StateRequest) -> Answer:
        """Take in one request. Raises `ProtocolError` when it exceeds a limit."""
        subscription = self.subscriptions.get(request.type_url)
        if subscription is None:
            if not request.type_url or len(request.type_url) > _LONGEST_TYPE:
                raise ProtocolError("a request names no resource type, or a very long one")
            if len(self.subscriptions) >= _MAX_TYPES:
                raise ProtocolError(f"more than {_MAX_TYPES} resource types on one stream")
            subscription = Subscription(request.type_url, self.dialect, self._encoder)
            self.subscriptions[request.type_url] = subscription
        target = self.target.view(request.type_url) if self.target is not None else None
        answer = subscription.receive(request, target)
        if answer.outcome is Outcome.ACK:
            self._unsettled.pop(request.type_url, None)
        if answer.outcome in (Outcome.INIT, Outcome.RESPOND):
            self.in_sync = False
        if answer.outcome not in (Outcome.ACK, Outcome.STALE):
            self._moving = None
        if request.type_url == ENDPOINT and answer.outcome is Outcome.INIT:
            # On a new stream clusters may have been sent, and warm, before this first request.
            subscription.force(self._awaited)
        elif request.type_url == ROUTE and answer.outcome is not Outcome.INIT:
            self._forget_hosts(request, answer)
        return answer

    def _forget_hosts(self, request: DeltaRequest | StateRequest, answer: Answer) -> None:
        """Virtual hosts live in the proxy as long as their route configuration does."""
        hosts = self.subscriptions.get(VIRTUAL_HOST)
        if hosts is None or not isinstance(request, DeltaRequest):
            return
        lost = {*request.subscribe, *request.unsubscribe, *(item.name for item in answer.rejected)}
        if lost:
            hosts.forget(names_within(hosts.held, lost))

    def assign(self, target: Target) -> None:
        """Make ``target`` what the proxy shall have from now on."""
        before = self.target
        differing = target.differing(before) if before is not None else None
        if differing is None or (self._moving is None and not self.in_sync):
            self._moving = None
        elif self.in_sync or self._moving is None:
            self._moving = differing
        else:
            self._moving |= differing
        self.target = target
        self.in_sync = False

    def advance(self, now: float) -> list[Message]:
        """The messages to send now, in order; call again after each request and new target.

        ``now`` is monotonic time in seconds.
        """
        target = self.target
        if target is None:
            return []
        messages = []
        for subscription in self._in_order():
            view = self._view(target, subscription)
            if (
                subscription.type_url in _LAST
                and not subscription.must_respond
                and self._warming(now)
            ):
                continue
            removals = subscription.type_url not in MAKE_BEFORE_BREAK
            before = subscription.held
            message = subscription.next_message(
                view,
                removals=removals,
                version=self._version(target, view),
                overtake=self._is_overdue(subscription, now),
            )
            if message is None:
                continue
            messages.append(message)
            self._sent_at[subscription.type_url] = now
            if subscription.type_url == CLUSTER:
                self._clusters_sent(before, subscription.held, target, now)
        if messages or self.rejected or not self._reached(target, now):
            self.in_sync = False
            messages = messages or self._removal_of_what_never_warms(target, now)
            self._note_unsettled(now)
            return messages
        self.in_sync = True
        self._unsettled.clear()
        self.synced_version = max(self.synced_version, target.version)
        return self._removals(target)

    def wait_until(self, now: float) -> float | None:
        """When `advance` must be called again although nothing arrived; None for never."""
        times = [self._warm_until] if self._warming(now) else []
        if self.target is not None and not self.in_sync:
            times += [
                self._sent_at[type_url] + OVERTAKE_AFTER
                for type_url, subscription in self.subscriptions.items()
                if subscription.in_flight
                and type_url in self._sent_at
                and subscription.outdated(self._view(self.target, subscription))
            ]
        due = min(times, default=None)
        # What could not be sent although it was due is looked at again after the same time.
        return due if due is None or due > now else now + OVERTAKE_AFTER

    def unsettled_since(self) -> float | None:
        """Since when (monotonic) the proxy has acknowledged nothing of a type of which it was sent
        something; the longest time of all types, None when it owes no acknowledgement."""
        return min(self._unsettled.values(), default=None)

    def _note_unsettled(self, now: float) -> None:
        for type_url, subscription in self.subscriptions.items():
            if subscription.in_flight or subscription.rejection is not None:
                self._unsettled.setdefault(type_url, now)

    def _view(self, target: Target, subscription: Subscription) -> View:
        """What the proxy may have of ``target`` in the form that suits it."""
        type_url = subscription.type_url
        view = target.view(type_url)
        if type_url == ROUTE and self.dialect is Dialect.STATE:
            return whole_routes(view, target.view(VIRTUAL_HOST))
        if type_url == VIRTUAL_HOST:
            routes = self.subscriptions.get(ROUTE)
            return of_routes(view, routes.held if routes else empty(ROUTE), subscription.held)
        return view

    def _removals(self, target: Target) -> list[Message]:
        """Clusters that nothing uses any more, then what is left of their endpoints."""
        for type_url in MAKE_BEFORE_BREAK:
            subscription = self.subscriptions.get(type_url)
            if subscription is None:
                continue
            if subscription.in_flight:
                return []
            view = target.view(type_url)
            message = subscription.next_message(
                view, removals=True, version=self._version(target, view)
            )
            if message is not None:
                return [message]
        return []

    def _removal_of_what_never_warms(self, target: Target, now: float) -> list[Message]:
        """Clusters that are gone although the last response of clusters is not acknowledged: one of
        them may be why. Nothing may refer to them any more."""
        clusters = self.subscriptions.get(CLUSTER)
        if clusters is None or not self._is_overdue(clusters, now) or self._warming(now):
            return []
        for subscription in self.subscriptions.values():
            view = self._view(target, subscription)
            if subscription.type_url in _LAST and not subscription.reached(view, removals=True):
                return []
        view = target.view(CLUSTER)
        message = clusters.next_message(
            view, removals=True, version=self._version(target, view), overtake=True
        )
        if message is None:
            return []
        self._sent_at[CLUSTER] = now
        return [message]

    def _is_overdue(self, subscription: Subscription, now: float) -> bool:
        """Whether what is in flight has not been acknowledged for so long that more is sent."""
        since = self._sent_at.get(subscription.type_url)
        return subscription.in_flight and since is not None and now >= since + OVERTAKE_AFTER

    def _version(self, target: Target, view: View) -> str:
        """``version_info`` of state-of-the-world responses; delta versions are per resource."""
        if self.dialect is Dialect.DELTA:
            return ""
        return f"{target.version}/{view.version[:16]}"

    def _in_order(self) -> list[Subscription]:
        """Those in which something may be to be sent."""
        subscriptions, moving = self.subscriptions, self._moving
        order = TYPES_IN_PUSH_ORDER if moving is None else _ordered(moving)
        found = [subscriptions[type_url] for type_url in order if type_url in subscriptions]
        if moving is None:
            found += [sub for type_url, sub in subscriptions.items() if type_url not in _KNOWN]
        return found

    def _reached(self, target: Target, now: float) -> bool:
        if not self.subscriptions or self._warming(now):
            return False
        return all(
            subscription.reached(
                self._view(target, subscription),
                removals=subscription.type_url not in MAKE_BEFORE_BREAK,
            )
            for subscription in self._in_order()
        )

    def _clusters_sent(self, before: View, after: View, target: Target, now: float) -> None:
        """Remember which endpoints the clusters just sent will wait for."""
        known = target.view(ENDPOINT)
        if before.resources:
            changed = {item.name for item in before.step(after, removals=False).changed}
            with_endpoints = intern_names(changed & known.resources.keys())
        else:
            with_endpoints = after.names_in(known)
        if not with_endpoints:
            if not self._awaited <= known.resources.keys():
                # A cluster without endpoints waits for none: it refuses, for instance.
                self._awaited = intern_names(self._awaited & known.resources.keys())
            return
        self._awaited = with_endpoints
        endpoints = self.subscriptions.get(ENDPOINT)
        if endpoints is None:
            return
        # A changed cluster warms anew. The proxy asks only for names it did not have, so the
        # others have to be sent without being asked for.
        endpoints.force(self._awaited)
        self._warm_until = now + WARMING_LIMIT

    def _warming(self, now: float) -> bool:
        """Whether new clusters are not known to be warm yet."""
        if now >= self._warm_until:
            return False
        clusters, endpoints = self.subscriptions.get(CLUSTER), self.subscriptions.get(ENDPOINT)
        if clusters is None or endpoints is None or clusters.rejection is not None:
            return False
        return (
            clusters.in_flight
            or endpoints.in_flight
            or endpoints.has_forced
            or not (endpoints.wildcard or self._awaited <= endpoints.names)
        )


@lru_cache(maxsize=256)
def _with_both_routes(types: tuple[str, ...]) -> frozenset[str]:
    found = frozenset(types)
    return found | _HTTP_ROUTES if found & _HTTP_ROUTES else found


@lru_cache(maxsize=256)
def _ordered(types: frozenset[str]) -> tuple[str, ...]:
    """Types as they are pushed, those that are not known to us last."""
    known = [type_url for type_url in TYPES_IN_PUSH_ORDER if type_url in types]
    return (*known, *sorted(types - _KNOWN))


_HTTP_ROUTES = frozenset({ROUTE, VIRTUAL_HOST})
_LAST = frozenset({LISTENER, ROUTE, VIRTUAL_HOST})
"""Types that refer to clusters."""
_KNOWN = frozenset(TYPES_IN_PUSH_ORDER)
