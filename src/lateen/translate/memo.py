"""Memory of part functions, keyed by the identity of their immutable inputs.

A part function such as `clusters_of` is pure and its inputs are shared between snapshots until
they change. Remembering results by input identity makes an unchanged part come back as the *same*
object, which is what lets the stages after translation skip it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

DEFAULT_CAPACITY = 65_536


class Identity:
    """Wraps an object so that it is compared by identity and kept alive while it is a key.

    The strong reference matters: without it an identity could be reused by a new object.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value


def identities(values: tuple[object, ...] | list[object]) -> tuple[Identity, ...]:
    """Each of ``values`` by identity."""
    return tuple(Identity(value) for value in values)


_remembering = True


@contextmanager
def forgetting() -> Iterator[None]:
    """Within it every part is made anew, so that what is remembered can be compared with it.

    Parts made within do not share identity and are not remembered. Not for several threads.
    """
    global _remembering
    before, _remembering = _remembering, False
    try:
        yield
    finally:
        _remembering = before


class Memo(Generic[T]):
    """A bounded map from inputs to a result; the least recently used entry leaves first."""

    __slots__ = ("_capacity", "_entries")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result for ``key``, made by ``make`` when it is not known."""
        if not _remembering:
            return make()
        entries = self._entries
        try:
            result = entries[key]
        except KeyError:
            result = entries[key] = make()
            if len(entries) > self._capacity:
                entries.popitem(last=False)
            return result
        entries.move_to_end(key)
        return result

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
