"""What names that clients made up cost: they are kept while their streams are.

Names of resources that exist are kept anyway, once for all. Names that do not exist, in requests or
among the versions that a proxy claims to hold, live only because a client sent them; they are
counted for its share (`lateen.serve.shares`). Equal sets of names are one object for all proxies
(`lateen.serve.views.intern_names`), so a set counts once, for one of the clients that have it:

    a thousand proxies come back and ask for the same 500 clusters, which are gone by now:
    500 names are counted, not 500,000
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lateen.serve.shares import Bounds, Client, Shares

BOUNDS = Bounds(8 * 1024 * 1024, 64 * 1024 * 1024, 256 * 1024 * 1024)
"""Bytes of names that do not exist: what their text takes and `OVERHEAD` for each."""
OVERHEAD = 512
"""Bytes that a name costs beside its text: the object, its places in sets, and for route
configurations the empty one that a proxy is sent."""

End = Callable[[str], None]
"""Ends a stream, with a text that says why."""


def cost(names: Collection[str], existing: Collection[str]) -> int:
    """Bytes that those of ``names`` take that are not ``existing``."""
    unknown = set(names).difference(existing)
    return sum(map(len, unknown)) + OVERHEAD * len(unknown)


@dataclass(slots=True, eq=False)
class _Set:
    """One set of names, for as long as a stream has it."""

    names: Collection[str]
    """Kept, so that its id stays its own."""
    size: int
    """What it costs in bytes."""
    payer: Client
    """Whose share it counts for: that of the first stream that has it."""
    streams: dict[tuple[object, str], tuple[Client, End]] = field(default_factory=dict)
    """By stream and part."""

    def evict(self, text: str) -> None:
        """See `lateen.serve.shares.Holder`."""
        for _, end in list(self.streams.values()):
            end(text)


class AskedNames:
    """The sets of names that streams have."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.shares = Shares("bytes of names that do not exist", bounds)
        self._sets: dict[int, _Set] = {}
        """By the id of their names."""
        self._of_streams: dict[object, dict[str, int]] = {}

    def keep(
        self,
        stream: object,
        client: Client,
        end: End,
        part: str,
        names: Collection[str],
        existing: Collection[str],
    ) -> bool:
        """``stream`` has ``names`` as its ``part`` from now on; ``existing`` are those that there
        are. False when its client may not have so many others; the stream must end then.

        ``end`` ends the stream when others need the room.
        """
        mine = self._of_streams.get(stream, {})
        if not names and part not in mine:
            return True
        if mine.get(part) == id(names):
            return True
        if part in mine:
            self._drop(stream, part, mine.pop(part))
        found = self._sets.get(id(names))
        if found is None:
            size = cost(names, existing)
            if not size:
                return True
            found = _Set(names, size, client)
            if not self.shares.hold(found, client, size):
                return False
            self._sets[id(names)] = found
        found.streams[stream, part] = client, end
        self._of_streams.setdefault(stream, mine)[part] = id(names)
        return True

    def forget(self, stream: object) -> None:
        """The stream is over."""
        for part, key in self._of_streams.pop(stream, {}).items():
            self._drop(stream, part, key)

    def _drop(self, stream: object, part: str, key: int) -> None:
        found = self._sets[key]
        client, _ = found.streams.pop((stream, part))
        if client != found.payer:
            return
        self.shares.release(found, client)
        if not found.streams:
            del self._sets[key]
            return
        found.payer, end = next(iter(found.streams.values()))
        if not self.shares.hold(found, found.payer, found.size):
            end(f"this client has too many {self.shares.unit}")
