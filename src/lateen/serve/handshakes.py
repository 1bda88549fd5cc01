"""Whose TLS handshake begins now, and who waits with it.

A thousand proxies that come at once would keep all cores busy with handshakes for seconds, and
nobody would be given configuration meanwhile. So while proxies that have made theirs wait for their
turn, others wait before theirs: the first are complete early, and handshakes are made beside the
work on configuration instead of before it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

AT_ONCE = 32
"""Handshakes that begin before others have ended."""
PATIENCE = 0.1
"""Seconds after which one that has begun keeps no other from beginning: its client is far away, or
means ill."""
LONGEST_WAIT = 5.0
"""Seconds after which a handshake begins whoever else waits. Proxies give up after ten
(`lateen.envoy.bootstrap`)."""

Connection = TypeVar("Connection", bound=Hashable)


class Handshakes(Generic[Connection]):
    """Connections before their handshakes and in them. ``now`` is monotonic time in seconds."""

    def __init__(self, crowded: Callable[[], bool], most: int) -> None:
        """``crowded`` says whether proxies wait for their turn. When more than ``most`` connections
        wait nobody is made to: who comes in such numbers may mean to be in others' way."""
        self._crowded = crowded
        self._most = most
        self._waiting: dict[Connection, float] = {}
        """Since when, oldest first."""
        self._begun: dict[Connection, float] = {}
        """When, oldest first."""

    @property
    def waiting(self) -> int:
        """How many have something to say and were not let."""
        return len(self._waiting)

    def ask(self, connection: Connection, now: float) -> bool:
        """Whether a connection may begin at once; otherwise `due` gives it later."""
        if not self._waiting and self._has_room(now):
            self._begun[connection] = now
            return True
        self._waiting[connection] = now
        return False

    def is_waiting(self, connection: Connection) -> bool:
        """Whether it was told to wait and has not begun."""
        return connection in self._waiting

    def ended(self, connection: Connection) -> None:
        """Its handshake is made, or never will be."""
        self._waiting.pop(connection, None)
        self._begun.pop(connection, None)

    def due(self, now: float) -> list[Connection]:
        """Those that shall begin now, oldest first."""
        found: list[Connection] = []
        for connection, since in list(self._waiting.items()):
            impatient = now - since >= LONGEST_WAIT or len(self._waiting) > self._most
            if not impatient and not self._has_room(now):
                break
            del self._waiting[connection]
            self._begun[connection] = now
            found.append(connection)
        return found

    def _has_room(self, now: float) -> bool:
        if self._crowded():
            return False
        lately = 0
        for begun in reversed(self._begun.values()):
            if now - begun >= PATIENCE:
                break
            lately += 1
        return lately < AT_ONCE
