"""Responses that many proxies are sent alike, wholly or from the beginning on, are scanned once.

They are not even put together: what arrives is compared with what others were sent, and kept only
from where it differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import xxhash

from benchmarks.scale.responses import Response, in_common, read_delta, read_state
from benchmarks.scale.wire import Entry

_BIG = 65_536
"""Bytes of a message from which on comparing is worth it."""
_MOST = 4096
_PREFIX = 5
"""Bytes before a gRPC message: a flag, and its length."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A message that somebody was sent, or what several begin with."""

    data: bytes
    type_url: str
    entries: tuple[Entry, ...]
    references: dict[str, None]
    response: Response | None = None
    """None for a beginning."""

    def continued(self, rest: Response) -> Response:
        """The whole message, of which ``rest`` has what comes after this."""
        fresh = [name for name in rest.references if name not in self.references]
        return replace(
            rest,
            type_url=rest.type_url or self.type_url,
            entries=(*self.entries, *rest.entries),
            references=(*self.references, *fresh),
            size=len(self.data) + rest.size,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A message as it came: all of ``known``, then ``rest``."""

    known: Known | None
    rest: bytes | bytearray

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return len(self.rest) + (len(self.known.data) if self.known is not None else 0)


@dataclass(slots=True, eq=False)
class _Seen:
    known: Known | None
    """What the message began with."""
    response: Response
    whole: Known | None = None


class Scanner:
    """Scans responses for proxies, of which those of a ``group`` are often sent the same."""

    def __init__(self, *, delta: bool) -> None:
        self._delta = delta
        self._seen: dict[tuple[int, bytes], _Seen] = {}
        self._whole: dict[tuple[str, int], Known] = {}
        """By group and size."""
        self._beginnings: list[Known] = []
        self._latest: list[tuple[str, bytes]] = []
        """Types of big messages, and the messages."""

    def begins(self, group: str, size: int, start: memoryview) -> Known | None:
        """What a message of ``size`` bytes that begins with ``start`` is probably, or begins
        with."""
        if size < _BIG:
            return None
        whole = self._whole.get((group, size))
        if whole is not None and whole.data.startswith(start):
            return whole
        return next((known for known in self._beginnings if known.data.startswith(start)), None)

    def scan(self, message: Message, group: str = "") -> Response:
        """The response in ``message``."""
        known, rest = message.known, message.rest
        if known is not None and known.response is not None and not rest:
            return known.response
        key = (id(known), xxhash.xxh3_128_digest(rest))
        seen = self._seen.get(key)
        if seen is None or seen.known is not known:
            if len(self._seen) > _MOST:
                self._seen.clear()
            response = self._scan(known, bytes(rest))
            self._seen[key] = _Seen(known, response)
            return response
        if message.size >= _BIG:
            self._expect(seen, message, group)
        return seen.response

    def _expect(self, seen: _Seen, message: Message, group: str) -> None:
        """What came a second time will come again."""
        if seen.whole is None:
            response, known = seen.response, message.known
            data = bytes(message.rest) if known is None else b"".join((known.data, message.rest))
            references = dict.fromkeys(response.references)
            seen.whole = Known(data, response.type_url, response.entries, references, response)
        if len(self._whole) > _MOST:
            self._whole.clear()
        self._whole[group, message.size] = seen.whole

    def _scan(self, known: Known | None, rest: bytes) -> Response:
        if not self._delta:
            return read_state(rest if known is None else known.data + rest)
        response = read_delta(rest)
        if known is not None:
            return known.continued(response)
        if len(rest) >= _BIG:
            self._remember(response.type_url, rest)
        return response

    def _remember(self, type_url: str, message: bytes) -> None:
        """Have what it begins with in common with a message before it looked up from now on."""
        for other_type, other in self._latest:
            if other_type == type_url and (end := in_common(message, other)) >= _BIG:
                found = read_delta(message[:end])
                references = dict.fromkeys(found.references)
                begin = Known(message[:end], type_url, found.entries, references)
                self._beginnings = [begin, *self._beginnings[:31]]
                break
        self._latest = [(type_url, message), *self._latest[:7]]


@dataclass(slots=True, eq=False)
class Incoming:
    """gRPC messages of one stream, from the pieces in which they come."""

    scanner: Scanner
    group: str
    _prefix: bytearray = field(default_factory=bytearray)
    _size: int = -1
    """Bytes of the message under way; -1 before its prefix is there."""
    _known: Known | None = None
    _data: bytes = b""
    """That of ``_known``."""
    _matched: int = 0
    """Bytes that came as they are known."""
    _sure: int = 0
    """Up to where the message may go on as it is known without being complete."""
    _rest: bytearray = field(default_factory=bytearray)

    def goes_on(self, piece: memoryview) -> bool:
        """Take a piece in if it is known and ends no message; `add` takes any."""
        at = self._matched
        end = at + len(piece)
        if end < self._sure and self._data.startswith(piece, at):
            self._matched = end
            return True
        return False

    def add(self, piece: memoryview) -> Iterator[Message]:
        """Take a piece in; the messages that it ends."""
        while piece:
            if self._size < 0:
                missing = _PREFIX - len(self._prefix)
                self._prefix += piece[:missing]
                piece = piece[missing:]
                if len(self._prefix) < _PREFIX:
                    return
                self._size = int.from_bytes(self._prefix[1:], "big")
                self._prefix.clear()
            else:
                missing = self._size - self._matched - len(self._rest)
                self._put(piece[:missing])
                piece = piece[missing:]
            if self._matched + len(self._rest) == self._size:
                message = Message(self._known, self._rest)
                self._size, self._rest = -1, bytearray()
                self._forget()
                yield message

    def _put(self, piece: memoryview) -> None:
        if not self._rest:
            if not self._matched:
                self._known = self.scanner.begins(self.group, self._size, piece)
                self._data = self._known.data if self._known is not None else b""
                self._sure = min(len(self._data), self._size)
            if self._known is not None:
                room = len(self._data) - self._matched
                if self._data.startswith(piece[:room], self._matched):
                    self._matched += min(room, len(piece))
                    piece = piece[room:]
                else:
                    self._rest += self._data[: self._matched]
                    self._forget()
        self._rest += piece

    def _forget(self) -> None:
        self._known, self._data = None, b""
        self._matched = self._sure = 0
