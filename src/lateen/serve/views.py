"""Sets of resources as values that proxies share, and the steps from one set to the next.

A proxy's state for a type is a reference to a `View`. Proxies of a scope in the same state hold
the very same object, so the message that takes them to the next state is made once and cached
on the pair of views; nothing is kept per proxy and resource.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from weakref import ReferenceType, WeakKeyDictionary, WeakValueDictionary, ref

import xxhash

from lateen.model.discovery import TYPES_IN_PUSH_ORDER, DiscoveryResource
from lateen.serve import claims as claims_module
from lateen.serve.claims import LONGEST, Claims, encode_claim, fingerprint
from lateen.serve.http2_frames import Payload
from lateen.serve.sharing import Layered, Shared

_PREFIX = os.urandom(4).hex()
_counter = itertools.count(1)


def new_nonce() -> str:
    """A nonce that no other message of this process has, nor of another process."""
    return f"{_PREFIX}-{next(_counter):x}"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What takes a proxy from one view to another.

    ``changed`` are resources that are new or differ, ``removed`` names that go. With removals
    ``left`` for later, ``merged`` is the view in between: all of the goal and what is to go.
    """

    changed: tuple[DiscoveryResource, ...]
    removed: tuple[str, ...]
    left: bool = False
    merged: View | None = None

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A serialised response. ``resources`` counts what it adds or changes."""

    type_url: str
    nonce: str
    payload: Payload
    resources: int
    removed: int

    @property
    def data(self) -> bytes:
        """The whole response."""
        return self.payload.data

    @property
    def size(self) -> int:
        """Bytes of it."""
        return self.payload.size


class _Derived:
    """What was derived of a view, for those who derive the same.

    Values must not refer to their key strongly, or a stuck proxy on an old view would keep every
    later view alive.
    """

    __slots__ = ("common", "covering", "full", "messages", "minus", "restricted", "steps")

    def __init__(self) -> None:
        self.steps: WeakKeyDictionary[View, dict[bool, Step]] = WeakKeyDictionary()
        self.messages: WeakKeyDictionary[View, dict[object, Message]] = WeakKeyDictionary()
        self.restricted: WeakValueDictionary[object, View] = WeakValueDictionary()
        self.common: WeakKeyDictionary[View, frozenset[str]] = WeakKeyDictionary()
        self.minus: WeakValueDictionary[frozenset[str], View] = WeakValueDictionary()
        self.full: dict[object, Message] = {}
        # By identity, as names are interned and equality of big sets is no cheap question.
        self.covering: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()


class View:
    """An immutable set of resources of one type, by name. Compared by identity.

    ``base`` is the view of what it shares with other scopes, when it is layered over such.
    """

    __slots__ = (
        "__weakref__",
        "_claims",
        "_kept",
        "_version",
        "base",
        "eager",
        "resources",
        "type_url",
    )

    def __init__(self, type_url: str, resources: Mapping[str, DiscoveryResource]) -> None:
        self.type_url = type_url
        self.resources = resources
        self.base = (
            shared_view(type_url, resources.base) if isinstance(resources, Layered) else None
        )
        self.eager: frozenset[str] | None = None
        """Names that everybody gets; others only who asks for them. None: everybody gets all."""
        self._version: str | None = None
        self._claims: int | None = None
        self._kept: _Derived | None = None

    @property
    def _derived(self) -> _Derived:
        """Made when first used: a thousand scopes have views of which nothing is ever derived."""
        if self._kept is None:
            self._kept = _Derived()
        return self._kept

    def __len__(self) -> int:
        return len(self.resources)

    def __contains__(self, name: object) -> bool:
        return name in self.resources

    @property
    def version(self) -> str:
        """Hash of all names and versions in it."""
        if self._version is None:
            digest = xxhash.xxh3_128()
            for name in sorted(self.resources):
                digest.update(name.encode())
                digest.update(self.resources[name].version.encode())
            self._version = digest.hexdigest()
        return self._version

    def names_in(self, other: View) -> frozenset[str]:
        """The names that ``other`` has too. Shared by all that are layered over the same."""
        if self.base is not None and isinstance(self.resources, Layered):
            own = self.resources.own.keys() & other.resources.keys()
            common = self.base.names_in(other)
            return common | own if own else common
        found = self._derived.common.get(other)
        if found is None:
            found = intern_names(self.resources.keys() & other.resources.keys())
            self._derived.common[other] = found
        return found

    def is_exactly(self, claims: Claims) -> bool:
        """Whether it has these names in these versions and no others."""
        resources = self.resources
        if claims.count != len(resources):
            return False
        if self.base is not None and isinstance(resources, Layered):
            return claims.fingerprint == self.base._claimed + _claimed(resources.own)
        return claims.fingerprint == self._claimed

    def expect_claims(self) -> None:
        """Have ready what `is_exactly` compares with."""
        _ = self._claimed if self.base is None else self.base._claimed

    @property
    def _claimed(self) -> int:
        """The fingerprint of what a proxy that holds it claims; kept, as many scopes share the view
        and all their proxies ask."""
        if self._claims is None:
            self._claims = _claimed(self.resources)
        return self._claims

    def restricted(self, names: frozenset[str], extra: tuple[DiscoveryResource, ...] = ()) -> View:
        """The resources of ``names`` that exist, and ``extra`` ones."""
        if not extra and self.within(names):
            return self
        key = (names, frozenset((item.name, item.version) for item in extra)) if extra else names
        view = self._derived.restricted.get(key)
        if view is None:
            found = {name: self.resources[name] for name in names if name in self.resources}
            found.update((item.name, item) for item in extra)
            view = self._derived.restricted[key] = View(self.type_url, found)
        return view

    def within(self, names: frozenset[str]) -> bool:
        """Whether all that is in it is among ``names``."""
        if not self.resources:
            return True
        covering = self._derived.covering
        if covering.get(id(names)) is names:
            return True
        if len(names) < len(self.resources) or not self.resources.keys() <= names:
            return False
        covering[id(names)] = names
        return True

    def minus(self, names: frozenset[str]) -> View:
        """This view without ``names``."""
        if names.isdisjoint(self.resources):
            return self
        view = self._derived.minus.get(names)
        if view is None:
            kept = {name: item for name, item in self.resources.items() if name not in names}
            view = self._derived.minus[names] = View(self.type_url, kept)
        return view

    def covers(self, names: frozenset[str]) -> bool:
        """Whether all of ``names`` are in it."""
        if len(names) == len(self.resources) and self._derived.covering.get(id(names)) is names:
            return True
        return names <= self.resources.keys()

    def unsure(self, names: frozenset[str]) -> View:
        """This view with ``names`` in an unknown state: each later goal sends or removes them."""
        key = ("unsure", names)
        view = self._derived.restricted.get(key)
        if view is None:
            unknown = {name: DiscoveryResource(self.type_url, name, "", b"") for name in names}
            view = View(self.type_url, {**self.resources, **unknown})
            self._derived.restricted[key] = view
        return view

    def step(self, goal: View, *, removals: bool) -> Step:
        """The difference from this view to ``goal``; removals are left out unless asked for."""
        if goal is self:
            return _NOTHING
        if not self.resources and isinstance(goal.resources, Layered) and goal.base is not None:
            # What proxies without anything lack is not kept per scope.
            common = self.step(goal.base, removals=removals)
            return Step((*common.changed, *goal.resources.own.values()), ())
        steps = self._derived.steps.setdefault(goal, {})
        if removals not in steps:
            steps[removals] = _difference(self, goal, removals)
        return steps[removals]

    def message(self, goal: View, key: object) -> Message | None:
        """The message already made from this view to ``goal`` under ``key``."""
        kept = self._kept
        return kept.messages.get(goal, {}).get(key) if kept is not None else None

    def keep_message(self, goal: View, key: object, message: Message) -> None:
        """Remember a message for other proxies in the same state."""
        self._derived.messages.setdefault(goal, {})[key] = message

    def full_message(self, key: object) -> Message | None:
        """The message with everything, for proxies that have nothing yet."""
        return self._kept.full.get(key) if self._kept is not None else None

    def keep_full_message(self, key: object, message: Message) -> None:
        """Remember the message with everything until `drop_full_messages`."""
        self._derived.full[key] = message

    def drop_full_messages(self) -> None:
        """Give back the memory of full messages once no proxies are connecting."""
        if self._kept is not None:
            self._kept.full.clear()


def empty(type_url: str) -> View:
    """A view with nothing in it, one for each of the types that we serve."""
    if type_url not in TYPES_IN_PUSH_ORDER:
        return View(type_url, MappingProxyType({}))
    known = _empties.get(type_url)
    if known is None:
        known = _empties[type_url] = View(type_url, MappingProxyType({}))
    return known


_empties: dict[str, View] = {}


def from_claims(type_url: str, claims: Claims, target: View | None = None) -> View:
    """The view a reconnecting proxy says it holds: ``target`` when that is what it has to have,
    otherwise names and versions without bodies.

    Proxies that hold the same get the same view, so that what they lack is found once. Raises
    `lateen.serve.claims.MalformedClaim`.
    """
    if target is not None and target.is_exactly(claims):
        return target
    key = (type_url, claims.entries)
    view = _claims.get(key)
    if view is None:
        items = {name: _unread(type_url, name, version) for name, version in claims.items()}
        view = _claims[key] = View(type_url, items)
    return view


def _claimed(resources: Mapping[str, DiscoveryResource]) -> int:
    return fingerprint(encode_claim(name, item.version) for name, item in resources.items())


def _unread(type_url: str, name: str, version: str) -> DiscoveryResource:
    if len(name) + len(version) <= LONGEST:
        return _remembered(type_url, name, version)
    return DiscoveryResource(type_url, name, version, b"")


@lru_cache(maxsize=65_536)
def _remembered(type_url: str, name: str, version: str) -> DiscoveryResource:
    return DiscoveryResource(type_url, name, version, b"")


def forget_claims(before: int) -> int:
    """Give back the memory of what proxies claimed, unless it is more than ``before``: then
    proxies are connecting, and the next ones claim the same. Returns how many entries remain."""
    count = claims_module.remembered()
    if count > before:
        return count
    _remembered.cache_clear()
    claims_module.forget()
    return 0


_claims: WeakValueDictionary[tuple[str, frozenset[bytes]], View] = WeakValueDictionary()


def updated(previous: View | None, type_url: str, items: Mapping[str, DiscoveryResource]) -> View:
    """The view for ``items``: ``previous`` itself when nothing differs in name or version.

    Scopes with the same `Shared` resources get the very same view.
    """
    if isinstance(items, Shared):
        return shared_view(type_url, items)
    if previous is None:
        return View(type_url, items)
    held = previous.resources
    if isinstance(items, Layered) and isinstance(held, Layered):
        same = items.base is held.base and _same(held.own, items.own)
    else:
        same = _same(held, items)
    return previous if same else View(type_url, items)


def shared_view(type_url: str, items: Shared) -> View:
    """The view of shared resources, one for all scopes."""
    known = items.view
    view = known() if isinstance(known, ReferenceType) else None
    if not isinstance(view, View):
        view = View(type_url, items)
        items.view = ref(view)
    return view


def common_pair(before: View, after: View) -> tuple[View, View]:
    """The views whose difference is that from ``before`` to ``after``: those of what scopes share
    when what each has of its own stays the same. Messages kept on them serve all the scopes."""
    left, right = before.resources, after.resources
    if before.base is None or after.base is None or before.base is after.base:
        return before, after
    if isinstance(left, Layered) and isinstance(right, Layered) and _same(left.own, right.own):
        return before.base, after.base
    return before, after


def intern_names(names: Iterable[str]) -> frozenset[str]:
    """One shared object for equal sets of names, as a thousand proxies have the same ones."""
    fresh = frozenset(names)
    # By hash: a set that is its own key would keep itself for ever.
    known = _names.get(hash(fresh))
    if known == fresh:
        return known
    _names[hash(fresh)] = fresh
    return fresh


_names: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()
_NOTHING = Step((), ())


def _same(left: Mapping[str, DiscoveryResource], right: Mapping[str, DiscoveryResource]) -> bool:
    if len(left) != len(right):
        return False
    for name, item in right.items():
        other = left.get(name)
        if other is None or (other is not item and other.version != item.version):
            return False
    return True


def _difference(before: View, goal: View, removals: bool) -> Step:
    left, right = before.resources, goal.resources
    if (
        before.base is not None
        and goal.base is not None
        and isinstance(left, Layered)
        and isinstance(right, Layered)
    ):
        common = before.base.step(goal.base, removals=True)
        changed, gone = _compare(left.own, right.own)
        changed = [*common.changed, *changed]
        # What one side shares the other may have of its own.
        gone = [name for name in (*common.removed, *gone) if name not in right]
    else:
        changed, gone = _compare(left, right)
    if removals or not gone:
        return Step(tuple(changed), tuple(gone))
    if not changed:
        return Step((), (), left=True)
    merged = View(goal.type_url, {**left, **right})
    return Step(tuple(changed), (), left=True, merged=merged)


def _compare(
    held: Mapping[str, DiscoveryResource], wanted: Mapping[str, DiscoveryResource]
) -> tuple[list[DiscoveryResource], list[str]]:
    """What of ``wanted`` is not held as it is, and the names that are held and not wanted."""
    changed = []
    for name, item in wanted.items():
        other = held.get(name)
        if other is None or (other is not item and other.version != item.version):
            changed.append(item)
    return changed, [name for name in held if name not in wanted]
