"""What the log says of overload."""

from __future__ import annotations

import logging

from lateen.serve.intake import Intake

INTERVAL = 60.0
"""Seconds between two lines that say that an overload has begun."""
_log = logging.getLogger(__name__)


class OverloadNotes:
    """One line when an overload begins and one when it is over, at most two per `INTERVAL`."""

    def __init__(self, longest: float) -> None:
        """``longest`` is for how long a change may be deferred, in seconds."""
        self._longest = longest
        self._overloaded = False
        self._since = 0.0
        self._said: float | None = None
        self._told = False
        """Whether the log has a line about the begin of the present overload."""
        self._untold = 0
        """Overloads since the last line of which the log has none."""

    def note(self, intake: Intake, now: float) -> None:
        """Say what has changed since the last call."""
        overloaded = intake.load.overloaded
        if overloaded == self._overloaded:
            return
        self._overloaded = overloaded
        if overloaded:
            self._begins(intake, now)
        elif self._told:
            _log.warning(
                "no longer overloaded, after %.0f s: %d changes were deferred, for %.1f s at most",
                now - self._since,
                intake.deferrals,
                intake.longest,
            )

    def _begins(self, intake: Intake, now: float) -> None:
        self._since = now
        self._told = self._said is None or now - self._said >= INTERVAL
        if not self._told:
            self._untold += 1
            return
        again = f" (and {self._untold} times since this was last said)" if self._untold else ""
        self._said, self._untold = now, 0
        standing = intake.standing(now)
        _log.warning(
            "overloaded%s: a change waited %.1f s for the push before it. Endpoints, secrets and "
            "security policies go first; %d other changes are deferred, the oldest for %.1f s so "
            "far, none for longer than %.0f s. Write fewer objects at a time, narrow what proxies "
            "see (Sidecar, exportTo), or serve from more processes (--workers)",
            again,
            intake.load.waited,
            standing.deferred,
            standing.oldest,
            self._longest,
        )
