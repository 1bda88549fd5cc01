"""Serialised fragments by the identity of the IR object they are made from.

A big message is mostly made of parts that did not change (the virtual hosts of a route
configuration, the filter chains of a listener). Their bytes are kept for as long as the part
lives and put together again (Protocol Buffers encoding: embedded messages are length-delimited).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fragments(Generic[T]):
    """Bytes of parts, made by ``make`` when first asked for."""

    def __init__(self, make: Callable[[T], bytes]) -> None:
        self._make = make
        self._entries: dict[int, tuple[weakref.ref[T], bytes]] = {}

    def get(self, part: T) -> bytes:
        """The bytes of ``part``."""
        key = id(part)
        entry = self._entries.get(key)
        if entry is not None and entry[0]() is part:
            return entry[1]
        body = self._make(part)
        entries = self._entries

        def forget(reference: weakref.ref[T]) -> None:
            held = entries.get(key)
            if held is not None and held[0] is reference:
                del entries[key]

        entries[key] = (weakref.ref(part, forget), body)
        return body
