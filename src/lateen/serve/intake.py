"""Changes on their way into the snapshot: while pushes do not keep up, urgent ones go first.

The queue stands in front of the snapshot, so that snapshots stay what they are: what is deferred
is in none, and whoever waits for it waits on. Of one object the newest form alone is kept, in the
place of the oldest, so no form overtakes a later one and memory is bounded by the objects there
are. Which changes are urgent says `lateen.serve.priority`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lateen.api.resource import ObjectKey
from lateen.model.change import Change
from lateen.serve.overload import Load
from lateen.serve.priority import FIRST, ChangeClass, class_of, takes_all_along


@dataclass(frozen=True, slots=True)
class Admitted:
    """Changes that go into the snapshot now."""

    changes: tuple[Change, ...]
    since: float
    """When the first of them was received."""
    immediate: bool = False
    """They have waited long enough: their push waits for no others."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the queue stands. Times in seconds."""

    overloaded: bool
    lasting: float
    """For how long there has been an overload."""
    deferred: int
    """Objects whose changes wait for urgent ones."""
    oldest: float
    """For how long the first of them has waited."""
    classes: Mapping[ChangeClass, int]
    """How many of them are of which class."""
    waiting: int
    """Objects whose changes are not in the snapshot: the deferred ones, or without an overload
    those that wait for the push under way to end."""

    def data(self) -> dict[str, object]:
        """As JSON data."""
        return {
            "overloaded": self.overloaded,
            "seconds": round(self.lasting, 3),
            "deferredChanges": self.deferred,
            "oldestSeconds": round(self.oldest, 3),
            "deferredByClass": {str(name): self.classes[name] for name in sorted(self.classes)},
        }


@dataclass(slots=True)
class _Waiting:
    change: Change
    since: float
    after: int
    """Store revision up to which everything had been received before."""


class Intake:
    """Pure: times are monotonic seconds that the caller gives."""

    def __init__(
        self, load: Load, deferral: Callable[[ChangeClass, int], None] = lambda found, count: None
    ) -> None:
        """``deferral`` is told how many changes of a class are deferred."""
        self.load = load
        self.deferrals = 0
        """Changes deferred since the last overload began."""
        self.longest = 0.0
        """For how long one of them was deferred, at most."""
        self._deferral = deferral
        self._first: list[_Waiting] = []
        self._later: dict[ObjectKey, _Waiting] = {}
        """In the order in which their objects first changed."""
        self._classes: Counter[ChangeClass] = Counter()
        self._received = 0
        self._all = False
        self._whole = False
        """Whether the next push has other than urgent changes."""

    @property
    def revision(self) -> int:
        """Store revision up to which all changes have been admitted."""
        waiting = [*self._first[:1], *([next(iter(self._later.values()))] if self._later else [])]
        return min((item.after for item in waiting), default=self._received)

    def standing(self, now: float) -> Standing:
        """Where the queue stands; what merely waits for a push to end is not deferred."""
        since = self.load.since
        if since is None:
            return Standing(False, 0.0, 0, 0.0, {}, len(self._later))
        count = len(self._later)
        oldest = next(iter(self._later.values())).since if self._later else now
        return Standing(True, now - since, count, now - oldest, dict(self._classes), count)

    def receive(self, changes: Iterable[Change], revision: int, now: float) -> None:
        """Changes have come, which are all up to store revision ``revision``."""
        for change in changes:
            self.load.received(now)
            found = class_of(change.key)
            if found in FIRST:
                self._first.append(_Waiting(change, now, self._received))
                self._all |= takes_all_along(change)
                continue
            known = self._later.get(change.key)
            if known is not None:
                known.change = change
            else:
                self._later[change.key] = _Waiting(change, now, self._received)
                self._classes[found] += 1
            if self.load.overloaded:
                self._count(found, 1)
        self._received = max(self._received, revision)

    def admit(self, now: float) -> Admitted | None:
        """What goes into the snapshot now; None when there is nothing."""
        self.look(now)
        waiting = self._first
        self._first = []
        everything = self._all or self._released(now)
        immediate = everything and self.load.overloaded and bool(self._later)
        if everything and self._later:
            later = list(self._later.values())
            if self.load.overloaded:
                self.longest = max(self.longest, now - later[0].since)
            waiting = [*later, *waiting]
            self._later.clear()
            self._classes.clear()
            self._whole = True
        self._all = False
        if not waiting:
            return None
        since = min(item.since for item in waiting)
        return Admitted(tuple(item.change for item in waiting), since, immediate)

    def admit_all(self, now: float) -> Admitted | None:
        """Everything that waits, whatever the load."""
        self._all = True
        return self.admit(now)

    def look(self, now: float) -> None:
        """See whether an overload has begun or is over."""
        before = self.load.overloaded
        self.load.look(now)
        if self.load.overloaded and not before:
            self._begin()

    def push_begins(self, now: float) -> None:
        """A push begins of everything that has been admitted."""
        self.load.begins(now, whole=self._whole)
        self._whole = False

    def push_ends(self, now: float) -> None:
        """The push has ended."""
        before = self.load.overloaded
        self.load.ends(now)
        if self.load.overloaded and not before:
            self._begin()

    def due(self) -> float | None:
        """When to `admit` or `look` again, if nothing happens until then."""
        times = [self.load.next_look()]
        if self._later and not self.load.pushing:
            times.append(self._release())
        return min((time for time in times if time is not None), default=None)

    def _released(self, now: float) -> bool:
        if self.load.pushing or not self._later:
            return False
        return not self.load.overloaded or now >= self._release()

    def _release(self) -> float:
        return self.load.release(next(iter(self._later.values())).since)

    def _begin(self) -> None:
        self.deferrals, self.longest = 0, 0.0
        for found, count in self._classes.items():
            self._count(found, count)

    def _count(self, found: ChangeClass, count: int) -> None:
        self.deferrals += count
        self._deferral(found, count)
