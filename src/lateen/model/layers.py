"""Two-level maps that are copied only where they are written."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Layers = Mapping[str, Mapping[K, V]]
"""Namespace to key to value; never changed once it is part of a snapshot."""


class Draft(Generic[K, V]):
    """A writable copy of `Layers` that shares every namespace nobody writes to.

    Empty namespaces disappear, so that a map built step by step equals one built at once.
    """

    __slots__ = ("_base", "_inner")

    def __init__(self, base: Layers[K, V]) -> None:
        self._base = base
        self._inner: dict[str, dict[K, V]] = {}

    def get(self, namespace: str, key: K) -> V | None:
        """The value, as written so far."""
        layer = self.layer(namespace)
        return layer.get(key)

    def layer(self, namespace: str) -> Mapping[K, V]:
        """All of a namespace, as written so far."""
        inner = self._inner.get(namespace)
        if inner is not None:
            return inner
        return self._base.get(namespace, {})

    def _writable(self, namespace: str) -> dict[K, V]:
        inner = self._inner.get(namespace)
        if inner is None:
            inner = self._inner[namespace] = dict(self._base.get(namespace, {}))
        return inner

    def set(self, namespace: str, key: K, value: V) -> None:
        """Write one value."""
        self._writable(namespace)[key] = value

    def delete(self, namespace: str, key: K) -> None:
        """Remove one value if it is there."""
        if key in self.layer(namespace):
            del self._writable(namespace)[key]

    def put(self, namespace: str, key: K, value: V | None) -> None:
        """`set`, or `delete` when ``value`` is None or empty."""
        if value:
            self.set(namespace, key, value)
        else:
            self.delete(namespace, key)

    def result(self) -> Layers[K, V]:
        """The finished map: the base itself if nothing was written."""
        if not self._inner:
            return self._base
        outer = dict(self._base)
        for namespace, inner in self._inner.items():
            if inner:
                outer[namespace] = inner
            else:
                outer.pop(namespace, None)
        return outer


class FlatView(Mapping[tuple[str, str], V]):
    """`Layers` keyed by name, read as one map from ``(namespace, name)``."""

    __slots__ = ("_layers",)

    def __init__(self, layers: Layers[str, V]) -> None:
        self._layers = layers

    def __getitem__(self, key: tuple[str, str]) -> V:
        return self._layers[key[0]][key[1]]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for namespace, layer in self._layers.items():
            for name in layer:
                yield namespace, name

    def __len__(self) -> int:
        return sum(map(len, self._layers.values()))
