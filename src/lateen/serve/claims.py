"""What a reconnecting proxy says it holds (``initial_resource_versions`` of a delta request).

A proxy of a mesh with a thousand services claims some four thousand versions, and nearly always
exactly those that it shall have. So the entries of the map stay as they came, serialised, and a sum
of their hashes is compared; names and versions are read only when something differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache


class MalformedClaim(ValueError):
    """An entry that is no pair of a name and a version."""


class Claims(Mapping[str, str]):
    """Versions by name, as serialised map entries (Protocol Buffers encoding, "Maps").

    As a mapping it raises `MalformedClaim` when an entry cannot be read.
    """

    __slots__ = ("_entries", "_versions")

    def __init__(self, entries: Collection[bytes] = ()) -> None:
        """``entries`` are not changed by anybody any more."""
        self._entries = entries
        self._versions: dict[str, str] | None = None

    @property
    def entries(self) -> frozenset[bytes]:
        """The entries as they came. Equal maps may be written differently; different maps never
        alike."""
        return frozenset(self._entries)

    @property
    def count(self) -> int:
        """How many entries there are, of one name several perhaps."""
        return len(self._entries)

    @property
    def fingerprint(self) -> int:
        """See `fingerprint`."""
        return fingerprint(self._entries)

    @property
    def _decoded(self) -> dict[str, str]:
        if self._versions is None:
            self._versions = dict(map(_decode, self._entries))
        return self._versions

    def __getitem__(self, name: str) -> str:
        return self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded)

    def __len__(self) -> int:
        return len(self._decoded)

    def __bool__(self) -> bool:
        return len(self._entries) > 0


def fingerprint(entries: Iterable[bytes]) -> int:
    """A number for serialised entries, whatever their order: equal for equal ones, in this process.

    Other ones have the same once in 2**60. The hashes are keyed (PEP 456); a proxy that forges one
    says that it holds what it does not, as it could without.
    """
    return sum(map(hash, entries))


def encode_claim(name: str, version: str) -> bytes:
    """The entry with which a proxy claims a version, as Envoy writes it: both fields, in order."""
    return b"".join((_field(b"\x0a", name), _field(b"\x12", version)))


def _field(tag: bytes, text: str) -> bytes:
    data = text.encode()
    size = len(data)
    if size < 0x80:  # nearly always
        return b"%b%c%b" % (tag, size, data)
    out = bytearray(tag)
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out) + data


LONGEST = 400
"""Bytes of an entry that is remembered: those of our own resources are shorter, and a client could
fill the memory with long ones."""


def _decode(entry: bytes) -> tuple[str, str]:
    """Name and version. Raises `MalformedClaim`."""
    return _remembered(entry) if len(entry) <= LONGEST else _read(entry)


def remembered() -> int:
    """How many entries are remembered, as the next proxies probably claim the same."""
    return _remembered.cache_info().currsize


def forget() -> None:
    """Give back the memory of entries that were read."""
    _remembered.cache_clear()


def _read(entry: bytes) -> tuple[str, str]:
    """Name and version; of a field that comes twice the last counts, one that is left out is
    empty."""
    found = {0x0A: b"", 0x12: b""}
    position = 0
    try:
        while position < len(entry):
            tag, position = entry[position], position + 1
            size = shift = 0
            while True:
                byte, position = entry[position], position + 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            if tag not in found or position + size > len(entry):
                raise MalformedClaim("not a name and a version")
            found[tag] = entry[position : position + size]
            position += size
        return found[0x0A].decode(), found[0x12].decode()
    except (IndexError, UnicodeDecodeError) as error:
        raise MalformedClaim("not a name and a version") from error


_remembered = lru_cache(maxsize=65_536)(_read)
