"""Memory of part functions, keyed by the identity of their immutable inputs.

A part function such as `clusters_of` is pure and its inputs are shared between snapshots until
they change. Remembering results by input identity makes an unchanged part come back as the *same*
object, which is what lets the stages after translation skip it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Generic, TypeVar

T = TypeVar("T")

DEFAULT_CAPACITY = 65_536


def Identity(value: object) -> Hashable:
    """``value`` as a part of a key: compared by identity, and kept alive while it is one.

    The strong reference matters: without it an identity could be reused by a new object. A bound
    method is just that (Python reference, "Instance methods": equal when the functions are and the
    objects are the same), and hashed and compared without running Python, which keys with ten such
    parts are all the time.
    """
    return None if value is None else MethodType(_is, value)


def _is(value: object) -> object:
    """What `Identity` binds; nobody calls it."""
    return value


def identities(values: tuple[object, ...] | list[object]) -> tuple[Hashable, ...]:
    """Each of ``values`` by identity."""
    return tuple(map(Identity, values))


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
    """A bounded map from inputs to a result; the least recently used entry leaves first.

    Entries may belong to a family, of which the newest alone is kept: inputs that change all the
    time (endpoints, routes) would otherwise fill the memory with what nobody asks for again, and
    each entry keeps its inputs alive.
    """

    __slots__ = ("_capacity", "_entries", "_families")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Hashable, T] = OrderedDict()
        self._families: OrderedDict[Hashable, tuple[Hashable, T]] = OrderedDict()
        """The newest key of each, and its result."""

    def get(self, key: Hashable, make: Callable[[], T], *, family: Hashable = None) -> T:
        """The result for ``key``, made by ``make`` when it is not known.

        ``family`` is what stays the same when an input takes the place of another: the scope that
        asks, as others may need another result at the same time, and the name of the part.
        """
        if not _remembering:
            return make()
        entries = self._entries
        try:
            result = entries[key]
        except KeyError:
            result = entries[key] = make()
            if family is not None:
                self._replace(family, key, result)
            if len(entries) > self._capacity:
                entries.popitem(last=False)
            return result
        entries.move_to_end(key)
        if family is not None:
            # What another family made may take the place of what this one made before.
            held = self._families.get(family)
            if held is not None and held[1] is not result:
                self._replace(family, key, result)
        return result

    def _replace(self, family: Hashable, key: Hashable, result: T) -> None:
        families = self._families
        replaced = families.pop(family, None)
        families[family] = (key, result)
        # Of several families with one entry, the first that goes on takes it from the others.
        if replaced is not None and replaced[0] != key:
            self._entries.pop(replaced[0], None)
        if len(families) > self._capacity:
            self._entries.pop(families.popitem(last=False)[1][0], None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._families.clear()

    def __len__(self) -> int:
        return len(self._entries)
