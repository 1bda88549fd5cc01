"""The xDS protocol as a pure state machine: one `Subscription` per stream and resource type.

Two dialects (xDS REST and gRPC protocol, "Four variants"): *delta*, where client and server
name only what changes, and *state of the world*, where a request lists all names and a response
to a wildcard type holds everything. No I/O and no clock here: requests go in, and `next_message`
says what has to be sent now to take the proxy to a goal.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    SECRET,
    VIRTUAL_HOST,
    DiscoveryResource,
    version_of,
)
from lateen.serve.claims import Claims
from lateen.serve.http2_frames import Part, Payload
from lateen.serve.sharing import Layered
from lateen.serve.views import (
    Message,
    Step,
    View,
    common_pair,
    empty,
    from_claims,
    intern_names,
    new_nonce,
)

WILDCARD = "*"
WILDCARD_TYPES = frozenset({CLUSTER, LISTENER, VIRTUAL_HOST})
"""Types for which asking for nothing means asking for all (legacy wildcard). Of virtual hosts that
is how Envoy asks for those of all its route configurations."""
SINGLE_TYPES = frozenset({SECRET})
"""Types of which a response has one resource: Envoy refuses a response as a whole, and what it says
of a secret names none, so neighbours would be suspected too."""
MAX_FLIGHTS = 8
"""Responses of a type that are remembered until they are acknowledged; later ones settle them."""
MAX_NAMES = 100_000
"""Names one subscription may hold; more is an error of the client."""


class Dialect(enum.StrEnum):
    """Which of the two protocols a stream speaks."""

    DELTA = "delta"
    STATE = "state-of-the-world"


class Outcome(enum.StrEnum):
    """What a request meant."""

    INIT = "init"
    """First request for the type on this stream: must be answered, even with nothing."""
    RESPOND = "respond"
    """Names were added: these must be sent."""
    ACK = "ack"
    NACK = "nack"
    STALE = "stale"
    """Answers a response that is no longer the last one."""
    NOTHING = "nothing"
    """Needs no answer, for instance names were only removed."""


class ProtocolError(Exception):
    """The client asks for more than it may."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a proxy refused a response (``google.rpc.Status``), in its own words."""

    message: str
    code: int = 13


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """Envoy ``DeltaDiscoveryRequest``."""

    type_url: str
    subscribe: Collection[str] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Claims = field(default_factory=Claims)
    nonce: str = ""
    error: Rejection | None = None


@dataclass(frozen=True, slots=True)
class StateRequest:
    """Envoy ``DiscoveryRequest``."""

    type_url: str
    names: tuple[str, ...] = ()
    version: str = ""
    nonce: str = ""
    error: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What `Subscription.receive` found; ``rejected`` is what the refused response carried."""

    outcome: Outcome
    rejection: Rejection | None = None
    rejected: tuple[DiscoveryResource, ...] = ()


@dataclass(slots=True)
class _Flight:
    before: View
    after: View
    goal: View
    changed: tuple[DiscoveryResource, ...]


class Encoder:
    """Makes messages of steps. The default one uses `lateen.serve.wire`; tests bring their own."""

    def __init__(
        self,
        delta: Callable[[str, tuple[DiscoveryResource, ...], tuple[str, ...], str], bytes],
        state: Callable[[str, tuple[DiscoveryResource, ...], str, str], bytes],
        named_empty: Callable[[str], bytes],
    ) -> None:
        self.delta = delta
        self.state = state
        self.named_empty = named_empty


class Subscription:
    """What one proxy holds, wants and has been sent of one type, on one stream."""

    __slots__ = (
        "_blocked",
        "_encoder",
        "_flights",
        "_forced",
        "_refused",
        "_respond",
        "dialect",
        "held",
        "last_acked_nonce",
        "last_sent_nonce",
        "names",
        "rejection",
        "started",
        "type_url",
        "wildcard",
    )

    def __init__(self, type_url: str, dialect: Dialect, encoder: Encoder) -> None:
        self.type_url = type_url
        self.dialect = dialect
        self.held = empty(type_url)
        """What the proxy will have when it has accepted all that was sent."""
        self.names: frozenset[str] = frozenset()
        self.wildcard = False
        self.started = False
        self.rejection: Rejection | None = None
        """Set while the last response stands refused."""
        self.last_sent_nonce = ""
        self.last_acked_nonce = ""
        self._encoder = encoder
        self._flights: dict[str, _Flight] = {}
        self._respond = False
        self._blocked: View | None = None
        self._forced: frozenset[str] = frozenset()
        self._refused: dict[str, str] = {}
        """Of `SINGLE_TYPES`: version by name of what was refused and is not sent again."""

    @property
    def in_flight(self) -> bool:
        """Whether a response awaits its acknowledgement."""
        return bool(self._flights)

    @property
    def must_respond(self) -> bool:
        """Whether the client asked for something that it has not been answered."""
        return self._respond

    @property
    def has_forced(self) -> bool:
        """Whether names wait to be sent again although the proxy holds them."""
        return bool(self._forced)

    def force(self, names: frozenset[str]) -> None:
        """Send ``names`` again with the next message, as a cluster that warms waits for them."""
        self._forced |= names & self.names if not self.wildcard else names

    def forget(self, names: frozenset[str]) -> None:
        """The proxy has lost ``names``, so that they are sent again when they are wanted."""
        self.held = self.held.minus(names)

    def receive(self, request: DeltaRequest | StateRequest, target: View | None = None) -> Answer:
        """Take in one request. Raises `ProtocolError` when it exceeds a limit.

        ``target`` is what a proxy that comes back probably holds.
        """
        if isinstance(request, DeltaRequest):
            return self._receive_delta(request, target)
        return self._receive_state(request)

    def goal(self, target: View) -> View:
        """What this proxy shall hold of ``target``, all resources of the type in its scope.

        A route configuration that is asked for and does not exist is sent empty, because a
        listener that waits for it would never get ready; one the proxy holds already stays, so
        that connections on a draining listener go on being served.
        """
        if self.wildcard:
            if target.eager is None or self.dialect is not Dialect.DELTA:
                return target
            return target.restricted(target.eager | self.names)
        goal = target.restricted(self.names)
        if self.type_url != ROUTE or len(goal) >= len(self.names):
            return goal
        held = self.held.resources
        extra = tuple(
            held[name] if name in held else self._placeholder(name)
            for name in sorted(self.names - goal.resources.keys())
        )
        return target.restricted(self.names, extra)

    def outdated(self, target: View) -> bool:
        """Whether what is in flight is not all of the goal for ``target``."""
        if not self._flights:
            return False
        goal = self.goal(target)
        return goal is not self.held and goal is not next(reversed(self._flights.values())).goal

    def next_message(
        self, target: View, *, removals: bool, version: str = "", overtake: bool = False
    ) -> Message | None:
        """What to send now to reach the goal for ``target``; None when nothing is to be sent.

        With ``removals`` false, resources that go are kept for the moment. One response is in
        flight at a time, except that newly asked names are answered at once, and with ``overtake``
        whatever the goal is now. ``version`` is the ``version_info`` of state-of-the-world
        responses. The result counts as sent.
        """
        if not self.started or (self._flights and not self._respond and not overtake):
            return None
        goal = self.goal(target)
        if goal is self._blocked and not self._respond:
            return None
        before = self.held.minus(self._forced) if self._forced else self.held
        step = before.step(goal, removals=removals)
        if self.type_url in SINGLE_TYPES:
            goal, step = self._single(before, goal, step, removals=removals)
        if not step and not self._respond:
            self._forced = frozenset()
            self._blocked = None
            if not self._refused:
                self.rejection = None  # what was refused is wanted no longer
            if not step.left:
                self.held = goal
            return None
        after = goal if not step.left else (step.merged or before)
        absent = self._absent(goal) if self._respond else ()
        message = self._message(before, after, step.changed, (*step.removed, *absent), version)
        self._flights[message.nonce] = _Flight(self.held, after, goal, step.changed)
        while len(self._flights) > MAX_FLIGHTS:
            del self._flights[next(iter(self._flights))]
        self.held = after
        self.last_sent_nonce = message.nonce
        self._respond = False
        self._forced = frozenset()
        self._blocked = None
        return message

    def reached(self, target: View, *, removals: bool) -> bool:
        """Whether the proxy has acknowledged all of the goal (or refused exactly that)."""
        if not self.started:
            return True
        if self._flights or self._respond or self._forced:
            return False
        goal = self.goal(target)
        if goal is self.held or goal is self._blocked:
            return True
        step = self.held.step(goal, removals=removals)
        if self._refused:
            _, step = self._single(self.held, goal, step, removals=removals)
        return not step

    def _single(self, before: View, goal: View, step: Step, *, removals: bool) -> tuple[View, Step]:
        """The next of the steps that change one resource each, leaving out what was refused."""
        if self._refused:
            wanted = goal.resources
            self._refused = {
                name: version
                for name, version in self._refused.items()
                if name in wanted and wanted[name].version == version
            }
        fresh = [item for item in step.changed if self._refused.get(item.name) != item.version]
        if len(fresh) == len(step.changed) <= 1:
            return goal, step
        held = frozenset(before.resources)
        if not fresh and not (removals and step.removed):
            return before, before.step(before, removals=removals)
        if not fresh:
            held -= frozenset(step.removed)
        part = before.restricted(held, tuple(fresh[:1]))
        return part, before.step(part, removals=removals)

    def _message(
        self,
        before: View,
        after: View,
        changed: tuple[DiscoveryResource, ...],
        removed: tuple[str, ...],
        version: str,
    ) -> Message:
        full = len(before) == 0
        key = (self.dialect, removed, self.wildcard)
        if full and after.base is not None:
            return self._layered_message(after, removed, version)
        if not full and (self.dialect is Dialect.DELTA or not self.wildcard):
            before, after = common_pair(before, after)
        cached = after.full_message(key) if full else before.message(after, key)
        if cached is not None and cached.nonce not in self._flights:
            return cached
        nonce = new_nonce()
        if self.dialect is Dialect.DELTA:
            data = self._encoder.delta(self.type_url, changed, removed, nonce)
        else:
            if self.wildcard:  # a resource that is left out counts as deleted
                known = after.resources.values()
                # Of one that was refused and is not wanted any more only the name is known.
                changed = tuple(item for item in known if item.content)
            data = self._encoder.state(self.type_url, changed, nonce, version or after.version)
        message = Message(self.type_url, nonce, Payload.of(data), len(changed), len(removed))
        if full and not after.resources and removed:
            pass  # what a client asks for in vain is not remembered
        elif full:
            after.keep_full_message(key, message)
        else:
            before.keep_message(after, key, message)
        return message

    def _layered_message(self, after: View, removed: tuple[str, ...], version: str) -> Message:
        """Everything in ``after``: the serialised common part, then what the scope adds.

        Serialised messages that follow each other are one: repeated fields add up, and of others
        (nonce, version) the last counts (Protocol Buffers encoding, "Last One Wins").
        """
        assert after.base is not None
        base, resources = after.base, after.resources
        common = self._message(empty(self.type_url), base, tuple(base.resources.values()), (), "")
        if isinstance(resources, Layered):
            own = tuple(resources.own.values())
        else:
            own = tuple(item for name, item in resources.items() if name not in base.resources)
        nonce = new_nonce()
        if self.dialect is Dialect.DELTA:
            data = self._encoder.delta(self.type_url, own, removed, nonce)
        else:
            data = self._encoder.state(self.type_url, own, nonce, version or after.version)
        count = common.resources + len(own)
        payload = Payload(*common.payload.parts, Part(data))
        return Message(self.type_url, nonce, payload, count, len(removed))

    def _absent(self, goal: View) -> tuple[str, ...]:
        """Asked names that do not exist, which a delta client is told of (xDS, "Deleting").

        Only for endpoints, where a cluster waits for the answer, and for clusters on demand,
        where a request does; Envoy refuses it for secrets.
        """
        waiting = self.type_url == ENDPOINT or (self.type_url == CLUSTER and self.wildcard)
        if not waiting or self.dialect is not Dialect.DELTA or goal.covers(self.names):
            return ()
        return tuple(sorted(self.names - goal.resources.keys() - self.held.resources.keys()))

    def _placeholder(self, name: str) -> DiscoveryResource:
        body = self._encoder.named_empty(name)
        return DiscoveryResource(self.type_url, name, version_of(body), body)

    def _receive_delta(self, request: DeltaRequest, target: View | None) -> Answer:
        first = not self.started
        answer = self._acknowledge(request.nonce, request.error, first)
        if first:
            self.started = True
            if request.initial_versions:
                self.held = from_claims(self.type_url, request.initial_versions, target)
        added = self._subscribe(request, first)
        if first:
            self._respond = True
            return Answer(Outcome.INIT)
        if added:
            self._respond = True
            if answer.outcome is not Outcome.NACK:
                return Answer(Outcome.RESPOND)
        return answer

    def _subscribe(self, request: DeltaRequest, first: bool) -> bool:
        """Update names from a delta request; true when something must be sent for it."""
        if first and request.subscribe and not request.unsubscribe:
            names = intern_names(request.subscribe)
            if WILDCARD not in names and self.held.within(names):
                self._set_names(names)  # as nearly all say that come back
                return False
        subscribe = set(request.subscribe)
        if first:
            if self.type_url in WILDCARD_TYPES and not request.subscribe:
                self.wildcard = True
            else:
                subscribe.update(self.held.resources)
        added = False
        if WILDCARD in subscribe:
            added = not self.wildcard
            self.wildcard = True
            subscribe.discard(WILDCARD)
        gone = set(request.unsubscribe) - set(request.subscribe)
        if WILDCARD in request.unsubscribe:
            # Also beside a subscription to "*" in one request: names on demand from then on.
            self.wildcard = False
            gone.discard(WILDCARD)
            self.held = self.held.restricted(self.names)
        elif self.wildcard and subscribe and self.type_url == CLUSTER and not first:
            added = True  # a request waits for the answer, also when there is no such cluster
        if subscribe or gone:
            self._set_names((self.names | subscribe) - gone)
        if gone and not self.wildcard:
            self.held = self.held.minus(frozenset(gone))
        if subscribe and not first and not self.wildcard:
            # Asking again for a held name means that the client has lost it.
            self.held = self.held.minus(frozenset(subscribe))
            added = True
        return added

    def _receive_state(self, request: StateRequest) -> Answer:
        first = not self.started
        names = intern_names(request.names)
        wildcard = self.type_url in WILDCARD_TYPES and (not names or WILDCARD in names)
        if request.error is not None and not first:
            return self._acknowledge(request.nonce, request.error, first)
        if not names and not wildcard and self.type_url not in WILDCARD_TYPES:
            self._set_names(frozenset())
            self.held = empty(self.type_url)
            self._flights.pop(request.nonce, None)
            return Answer(Outcome.NOTHING)
        if first or not request.nonce:
            self.started = True
            self.wildcard = wildcard
            self._set_names(names)
            self.held = empty(self.type_url)
            self._flights.clear()
            self._respond = True
            return Answer(Outcome.INIT)
        if request.nonce != self.last_sent_nonce:
            return Answer(Outcome.STALE)
        self._acknowledge(request.nonce, None, first)
        before, self.wildcard = self.names, wildcard
        self._set_names(names)
        if wildcard:
            return Answer(Outcome.ACK)
        added, gone = self.names - before, before - self.names
        if gone:
            self.held = self.held.minus(gone)
        if added:
            self.held = self.held.minus(added)
            self._respond = True
            return Answer(Outcome.RESPOND)
        return Answer(Outcome.NOTHING if gone else Outcome.ACK)

    def _set_names(self, names: frozenset[str] | set[str]) -> None:
        if len(names) > MAX_NAMES:
            raise ProtocolError(f"more than {MAX_NAMES} names of {self.type_url}")
        self.names = intern_names(names)

    def _acknowledge(self, nonce: str, error: Rejection | None, first: bool) -> Answer:
        if first or not nonce:
            return Answer(Outcome.NOTHING)
        flight = self._flights.get(nonce)
        if flight is None:
            return Answer(Outcome.STALE)
        # Responses on a stream are answered in order: earlier ones are settled with this one.
        for earlier in list(self._flights):
            del self._flights[earlier]
            if earlier == nonce:
                break
        if error is None:
            self.last_acked_nonce = nonce
            if not self._flights and not self._refused:
                self.rejection = None
            return Answer(Outcome.ACK)
        # The proxy may have taken some of the resources, so nothing is known of these any more.
        self.held = flight.before.unsure(frozenset(item.name for item in flight.changed))
        self._blocked = flight.goal
        self.rejection = error
        if self.type_url in SINGLE_TYPES:
            self._refused.update((item.name, item.version) for item in flight.changed)
        return Answer(Outcome.NACK, error, flight.changed)


MAKE_BEFORE_BREAK = (CLUSTER, ENDPOINT)
"""Types whose removals wait until listeners and routes no longer refer to them."""
