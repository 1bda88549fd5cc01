"""Whether pushes keep up with the changes that come.

The control plane is *overloaded* when a change has waited too long for the push that was being
made when it came. Slow proxies have no part in that: a push ends when proxies have been handed
what they shall have, not when they have read or acknowledged it.
"""

from __future__ import annotations

CALM = 10.0
"""Seconds for which changes must not have waited long, until an overload counts as over."""
REST = 2.0
"""Seconds after a push with deferred changes that belong to urgent changes alone, at least."""


class Load:
    """Pure: times are monotonic seconds that the caller gives."""

    def __init__(self, after: float, longest: float) -> None:
        """Overload begins when a change has waited ``after`` seconds; it ends when for `CALM`
        seconds none has waited half as long. Deferred changes may wait ``longest`` seconds."""
        self._after = after
        self._longest = longest
        self._begun: float | None = None
        self._whole = False
        self._waiting: float | None = None
        """When the first change came since the push under way began."""
        self._late = 0.0
        self._whole_ended: float | None = None
        self._whole_took = 0.0
        self.since: float | None = None
        """When the overload began; None when there is none."""
        self.waited = 0.0
        """For how long a change has waited during the overload, at most."""

    @property
    def overloaded(self) -> bool:
        """Whether pushes do not keep up."""
        return self.since is not None

    @property
    def pushing(self) -> bool:
        """Whether a push is being made."""
        return self._begun is not None

    def received(self, now: float) -> None:
        """A change has come."""
        if self.pushing and self._waiting is None:
            self._waiting = now

    def begins(self, now: float, *, whole: bool) -> None:
        """A push begins. ``whole``: it has changes of all kinds, not urgent ones alone."""
        self._begun, self._whole, self._waiting = now, whole, None

    def ends(self, now: float) -> None:
        """The push has ended."""
        if self._begun is None:
            return
        self.look(now)
        if self._whole:
            self._whole_ended, self._whole_took = now, now - self._begun
        self._begun = self._waiting = None

    def look(self, now: float) -> None:
        """See whether an overload has begun or is over."""
        waited = now - self._waiting if self._waiting is not None else 0.0
        if waited >= self._after and self.since is None:
            self.since = now
            # Whatever was in the push that brought the overload about, urgent changes come next.
            self._whole = True
        if waited >= self._after / 2:
            self._late = now
        self.waited = max(self.waited, waited) if self.overloaded else 0.0
        if self.overloaded and not self.pushing and now >= self._late + CALM:
            self.since = None

    def next_look(self) -> float | None:
        """When `look` may find something else, if nothing happens until then."""
        if self.pushing:
            may_begin = self._waiting is not None and not self.overloaded
            return self._waiting + self._after if may_begin and self._waiting is not None else None
        return self._late + CALM if self.overloaded else None

    def release(self, oldest: float) -> float:
        """When deferred changes, the oldest received at ``oldest``, go in during an overload.

        After a push with such changes, urgent ones have the control plane for themselves for as
        long as it took, so that they find it free at least half of the time. No change is deferred
        for longer than ``longest``, or `REST` after such a push, whatever is later.
        """
        if self._whole_ended is None:
            return oldest
        fair = self._whole_ended + max(REST, self._whole_took)
        return max(self._whole_ended + REST, min(fair, oldest + self._longest))
