"""Bytes of requests that one connection keeps: incomplete ones, and those no handler has taken."""

from __future__ import annotations

import time

from lateen.serve.shares import Client, Holder, Shares


class Unfinished:
    """What ``connection`` holds of its client's share, and since when."""

    __slots__ = ("_connection", "_held", "_shares", "_since", "client")

    def __init__(self, shares: Shares, connection: Holder, client: Client) -> None:
        self.client = client
        """Whose share it is; set again when the peer is known, before anything is counted."""
        self._shares = shares
        self._connection = connection
        self._held = 0
        self._since: float | None = None
        """When the last request was complete, or the first byte of one came; None while there is
        nothing incomplete."""

    def count(self, incomplete: int, waiting: int) -> bool:
        """Count ``incomplete`` bytes of requests that are still coming and ``waiting`` bytes of
        whole ones. False when that is more than the client may have."""
        if not incomplete:
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()
        held = incomplete + waiting
        if held == self._held:
            return True
        if not self._shares.hold(self._connection, self.client, held):
            return False
        self._held = held
        return True

    def completed(self) -> None:
        """A request is complete."""
        self._since = None

    def is_late(self, now: float, limit: float) -> bool:
        """Whether a request has been coming for more than ``limit`` seconds."""
        return self._since is not None and now - self._since > limit

    def release(self) -> None:
        """The connection is gone."""
        self._held = 0
        self._shares.release(self._connection, self.client)
