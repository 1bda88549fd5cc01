"""The node's view of the mesh's objects, kept up to date by watching the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from lateen.runtime.raw import Raw, name_of, namespace_of
from lateen.source.client import AsyncClient

CORE = "/api/v1"
WATCHED: dict[str, str] = {
    "Namespace": f"{CORE}/namespaces",
    "Service": f"{CORE}/services",
    "Pod": f"{CORE}/pods",
    "ConfigMap": f"{CORE}/configmaps",
    "Secret": f"{CORE}/secrets",
    "ServiceAccount": f"{CORE}/serviceaccounts",
    "Deployment": "/apis/apps/v1/deployments",
    "ReplicaSet": "/apis/apps/v1/replicasets",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "Job": "/apis/batch/v1/jobs",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
    "ServiceEntry": "/apis/networking.istio.io/v1/serviceentries",
    "Gateway": "/apis/networking.istio.io/v1/gateways",
}
"""Kinds the node acts on, and where they are listed."""

Listener = Callable[[str, str, Raw], None]
"""``(verb, kind, object)`` with verb ADDED, MODIFIED or DELETED."""


class ObjectCache:
    """Objects by kind, namespace and name. `ready` is set when every kind was listed once."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._objects: dict[str, dict[tuple[str, str], Raw]] = {kind: {} for kind in WATCHED}
        self._listeners: list[Listener] = []
        self._missing = set(WATCHED)
        self._told = dict.fromkeys(WATCHED, 0)
        self.ready = asyncio.Event()

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` for every change from now on."""
        self._listeners.append(listener)

    def all(self, kind: str) -> Iterable[Raw]:
        """Objects of a kind."""
        return list(self._objects[kind].values())

    def find(self, kind: str, namespace: str, name: str) -> Raw | None:
        """One object, if it exists."""
        return self._objects[kind].get((namespace, name))

    def put(self, raw: Raw) -> None:
        """Take over an answer of the API before the watch tells of it.

        What the watch has told already is left out: the object may be gone by now.
        """
        kind = str(raw["kind"])
        if _revision(raw) > self._told[kind]:
            self._take("MODIFIED", kind, raw)

    async def run(self) -> None:
        """Watch all kinds for ever."""
        async with asyncio.TaskGroup() as group:
            for kind, path in WATCHED.items():
                group.create_task(self._follow(kind, path), name=f"watch {kind}")

    async def _follow(self, kind: str, path: str) -> None:
        async for verb, raw in self._client.watch(path):
            self._told[kind] = max(self._told[kind], _revision(raw))
            if verb == "SYNCED":
                self._drop_missing(kind, raw)
                self._missing.discard(kind)
                if not self._missing:
                    self.ready.set()
                continue
            self._take(verb, kind, raw)

    def _drop_missing(self, kind: str, listing: Raw) -> None:
        """Forget objects that went while nobody watched, also those the watch never told of."""
        present = {(namespace_of(item), name_of(item)) for item in listing.get("items") or []}
        for place, raw in list(self._objects[kind].items()):
            if place not in present and _revision(raw) <= _revision(listing):
                self._objects[kind].pop(place)
                for listener in self._listeners:
                    listener("DELETED", kind, raw)

    def _take(self, verb: str, kind: str, raw: Raw) -> None:
        place = (namespace_of(raw), name_of(raw))
        objects = self._objects[kind]
        known = objects.get(place)
        if known is not None and verb != "DELETED" and _revision(raw) <= _revision(known):
            return
        if verb == "DELETED":
            if known is None or _revision(raw) < _revision(known):
                return
            objects.pop(place, None)
        else:
            verb = "MODIFIED" if known is not None else "ADDED"
            objects[place] = raw
        for listener in self._listeners:
            listener(verb, kind, raw)


def _revision(raw: Raw) -> int:
    text = str(raw["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0
