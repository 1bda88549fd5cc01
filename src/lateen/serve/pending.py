"""Changes that wait for their push, merged while they come in quick succession (debounce)."""

from __future__ import annotations

from dataclasses import dataclass

from lateen.model.change import ChangeSet
from lateen.serve.priority import URGENT_KINDS


@dataclass(frozen=True, slots=True)
class Pending:
    """Changes of one push."""

    changes: ChangeSet
    since: float
    """When the first of them was received."""


class PendingChanges:
    """Pure: times are monotonic seconds that the caller gives."""

    def __init__(self, debounce: float, debounce_max: float, debounce_urgent: float) -> None:
        """A push is due after ``debounce`` seconds without a further change, and at the latest
        ``debounce_max`` seconds after the first one, ``debounce_urgent`` seconds after the first
        of an urgent kind."""
        self._debounce = debounce
        self._debounce_max = debounce_max
        self._debounce_urgent = debounce_urgent
        self._changes: ChangeSet | None = None
        self._first = 0.0
        self._last = 0.0
        self._urgent: float | None = None
        self._immediate = False

    @property
    def count(self) -> int:
        """Objects whose changes wait."""
        return len(self._changes.keys) if self._changes is not None else 0

    def add(self, changes: ChangeSet, received: float, *, immediate: bool = False) -> None:
        """Add changes; with ``immediate`` they wait for no others.

        ``received`` may lie before that of changes added earlier: those waited elsewhere.
        """
        if self._changes is None:
            self._changes, self._first, self._last = changes, received, received
        else:
            self._changes = self._changes.merged(changes)
        self._first, self._last = min(self._first, received), max(self._last, received)
        if any(key.kind in URGENT_KINDS for key in changes.keys):
            self._urgent = received if self._urgent is None else min(self._urgent, received)
        self._immediate |= immediate

    def due(self) -> float | None:
        """When the push shall start; None when nothing waits."""
        if self._changes is None:
            return None
        if self._immediate:
            return self._first
        due = min(self._last + self._debounce, self._first + self._debounce_max)
        return due if self._urgent is None else min(due, self._urgent + self._debounce_urgent)

    def take(self) -> Pending | None:
        """All changes that wait; they wait no longer."""
        changes, self._changes = self._changes, None
        self._immediate, self._urgent = False, None
        return Pending(changes, self._first) if changes is not None else None
