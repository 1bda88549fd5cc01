"""Resources that several scopes have in common, and scopes that add some of their own.

A thousand proxies of as many workloads see the same services: clusters, endpoints, listeners and
routes towards them are one `Shared` object for all, and each scope adds the few resources of its
own workload with a `Layered` one.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from itertools import chain
from weakref import WeakValueDictionary

from lateen.model.discovery import DiscoveryResource


class Shared(dict[str, DiscoveryResource]):
    """Resources of one type by name. Never changed once made; made by `shared` only."""

    __slots__ = ("__weakref__", "view")

    view: object
    """Weak reference to the view of it (kept by `lateen.serve.views`)."""


class Layered(Mapping[str, DiscoveryResource]):
    """All of ``base`` and, beside it, ``own`` (whose names are not in ``base``)."""

    __slots__ = ("base", "own")

    def __init__(self, base: Shared, own: Mapping[str, DiscoveryResource]) -> None:
        self.base = base
        self.own = own

    def __getitem__(self, name: str) -> DiscoveryResource:
        found = self.own.get(name)
        return self.base[name] if found is None else found

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.base

    def __iter__(self) -> Iterator[str]:
        return chain(self.base, self.own)

    def __len__(self) -> int:
        return len(self.base) + len(self.own)

    def items(self) -> ItemsView[str, DiscoveryResource]:
        """See ``Mapping.items``."""
        return _Items(self)


class _Items(ItemsView[str, DiscoveryResource]):
    def __init__(self, layered: Layered) -> None:
        super().__init__(layered)
        self._layered = layered

    def __iter__(self) -> Iterator[tuple[str, DiscoveryResource]]:
        return chain(self._layered.base.items(), self._layered.own.items())


def shared(type_url: str, resources: Iterable[DiscoveryResource]) -> Shared:
    """The one `Shared` object with exactly these resources; the first of those with one name."""
    found: dict[str, DiscoveryResource] = {}
    for resource in resources:
        found.setdefault(resource.name, resource)
    return _interned(type_url, found)


def with_others(base: Shared, type_url: str, others: Mapping[str, DiscoveryResource]) -> Shared:
    """The one `Shared` object with ``others`` in the places of those in ``base``."""
    return _interned(type_url, {**base, **others})


def _interned(type_url: str, found: dict[str, DiscoveryResource]) -> Shared:
    # While the entry lives its resources do, so their identities mean nothing else.
    key = (type_url, frozenset(map(id, found.values())))
    known = _known.get(key)
    if known is None:
        known = _known[key] = Shared(found)
        known.view = None
    return known


def layered(base: Shared, own: Iterable[DiscoveryResource]) -> Mapping[str, DiscoveryResource]:
    """``base`` with ``own`` resources; what ``base`` has by name already is left out."""
    added = {item.name: item for item in own if item.name not in base}
    return Layered(base, added) if added else base


_known: WeakValueDictionary[tuple[str, frozenset[int]], Shared] = WeakValueDictionary()
