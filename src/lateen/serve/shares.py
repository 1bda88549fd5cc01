"""Fair shares of what the xDS server keeps for its clients: streams, connections, bytes, names.

Each quantity has a bound for one client (an identity at one source address), one for an identity
at all addresses, and one for the whole server. A client that would exceed its own bounds is
refused. When the whole is full, the client that holds most loses what it holds if that is more than
the other would have, so a client can only take room from clients that use more than itself.

Example, with bounds 4 (client), 6 (identity), 8 (all):

    ``hold(x, a, 4)``  True
    ``hold(y, a, 1)``  False: ``a`` would hold 5
    ``hold(z, b, 3)``  True, 7 in all
    ``hold(w, c, 2)``  True: ``a`` holds most, so ``x`` is evicted; 5 in all
    ``hold(v, d, 4)``  False: 9 in all, and no client holds more than 4
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar


class Client(NamedTuple):
    """Whose share it is."""

    identity: str
    """SPIFFE ID of the certificate; empty when it has none."""
    address: str
    """IP address that the connection comes from."""


class Holder(Protocol):
    """A stream, connection or set that holds a part of a share. Hashable by identity."""

    def evict(self, text: str) -> None:
        """End at once, saying ``text``: others need the room. It counts as holding nothing."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a client, an identity and all clients together may hold."""

    client: int
    identity: int
    total: int


class Shares:
    """Who holds how much of one quantity. ``unit`` names it in messages, in the plural."""

    def __init__(self, unit: str, bounds: Bounds) -> None:
        self.unit = unit
        self.bounds = bounds
        self.total = 0
        """What all hold."""
        self.refused = 0
        """How often a client was refused more."""
        self.evicted = 0
        """How many holders were evicted."""
        self.exceeded_at: float | None = None
        """When the last of either happened (monotonic seconds)."""
        self.exceeded_by: Client | None = None
        """Whom it concerned."""
        self._holders: dict[Client, dict[Holder, int]] = {}
        self._clients: dict[Client, int] = {}
        self._identities: dict[str, int] = {}

    def hold(self, holder: Holder, client: Client, amount: int) -> bool:
        """Have ``holder`` hold ``amount`` from now on. False, with nothing changed, when that is
        more than before and not allowed."""
        mine = self._holders.get(client)
        more = amount - (mine.get(holder, 0) if mine is not None else 0)
        if not more:
            return True
        if more > 0 and not self._has_room(client, more):
            self.refused += 1
            self._note(client)
            return False
        mine = self._holders.setdefault(client, {})
        if amount:
            mine[holder] = amount
        else:
            del mine[holder]
            if not mine:
                del self._holders[client]
        self.total += more
        _add(self._clients, client, more)
        _add(self._identities, client.identity, more)
        return True

    def release(self, holder: Holder, client: Client) -> None:
        """``holder`` holds nothing any more."""
        self.hold(holder, client, 0)

    def largest(self) -> tuple[Client, int] | None:
        """The client that holds most, and how much; None when no client holds anything."""
        if not self._clients:
            return None
        client = max(self._clients, key=self._clients.__getitem__)
        return client, self._clients[client]

    def make_room(self, more: int, fair: int) -> bool:
        """Make room for ``more`` by evicting holders of clients that hold more than ``fair``, of
        the largest client first. Returns whether there is room."""
        while self.total + more > self.bounds.total:
            found = self.largest()
            if found is None or found[1] <= fair:
                return False
            client, _ = found
            mine = self._holders[client]
            holder = max(mine, key=mine.__getitem__)
            self.release(holder, client)
            self.evicted += 1
            self._note(client)
            holder.evict(f"others need the room: {client.identity} has the most {self.unit}")
        return True

    def _note(self, client: Client) -> None:
        self.exceeded_at, self.exceeded_by = time.monotonic(), client

    def _has_room(self, client: Client, more: int) -> bool:
        own = self._clients.get(client, 0) + more
        return (
            own <= self.bounds.client
            and self._identities.get(client.identity, 0) + more <= self.bounds.identity
            and self.make_room(more, own)
        )


_Key = TypeVar("_Key")


def _add(sums: dict[_Key, int], key: _Key, more: int) -> None:
    found = sums.get(key, 0) + more
    if found:
        sums[key] = found
    else:
        del sums[key]
