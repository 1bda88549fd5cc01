"""What the first process of a control plane tells the others: objects in, rejections back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lateen.api.parse import parse_object, to_raw
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.model.change import Change
from lateen.model.discovery import DiscoveryResource
from lateen.model.proxy import Proxy, ProxyType
from lateen.model.service import WorkloadIdentity
from lateen.model.snapshot import Snapshot
from lateen.serve.push_values import Rejected

Raw = dict[str, Any]


def encode_changes(changes: Iterable[Change]) -> list[list[Any]]:
    """Changes as plain values: key, object or None, where it was written."""
    return [[list(change.key), *_encode(change.resource)] for change in changes]


def row(key: ObjectKey, raw: Mapping[str, Any], place: Provenance) -> list[Any]:
    """One of what `encode_changes` gives, of an object in plain values."""
    return [list(key), raw, _place(place)]


def decode_changes(rows: Iterable[list[Any]]) -> list[Change]:
    """The changes again. What cannot be read is left out: the first process has read it."""
    changes = []
    for key, raw, place in rows:
        resource = _decode(raw, place)
        if raw is None or resource is not None:
            changes.append(Change(ObjectKey(*key), resource))
    return changes


def encode_rejection(rejected: Rejected) -> Raw:
    """A rejection with what the first process needs to find the cause.

    ``suspects`` are the objects behind the refused resources: which version was refused, and the
    form that was in force when a proxy of the scope last had accepted everything.
    """
    keys = sorted({key for item in rejected.resources for key in item.origins})
    suspects = []
    for key in keys:
        now = rejected.snapshot.get(key)
        before = rejected.good.get(key) if rejected.good is not None else None
        suspects.append([list(key), _version(now), before is now, *_encode(before)])
    proxy = rejected.proxy
    return {
        "proxy": [proxy.id, str(proxy.type), proxy.name, proxy.namespace],
        "type": rejected.type_url,
        "words": rejected.words,
        "accepted": rejected.good is not None,
        "resources": [
            [item.name, item.version, [list(key) for key in item.origins]]
            for item in rejected.resources
        ],
        "suspects": suspects,
    }


def decode_rejection(raw: Raw, snapshot: Snapshot) -> Rejected | None:
    """The rejection as one against ``snapshot``; None when an object has changed since, so that
    it says nothing about what is in force now."""
    good: dict[ObjectKey, Resource | None] = {}
    for key_parts, version, same, body, place in raw["suspects"]:
        key = ObjectKey(*key_parts)
        now = snapshot.get(key)
        if _version(now) != version:
            return None
        good[key] = now if same else _decode(body, place)
    kind, url = ProxyType(raw["proxy"][1]), raw["type"]
    ident, _, name, namespace = raw["proxy"]
    resources = tuple(
        DiscoveryResource(url, item, version, b"", tuple(ObjectKey(*key) for key in origins))
        for item, version, origins in raw["resources"]
    )
    proxy = Proxy(ident, kind, name, namespace, WorkloadIdentity(namespace, name))
    accepted = _Objects(good) if raw["accepted"] else None
    return Rejected(proxy, url, raw["words"], resources, accepted, snapshot)


class _Objects:
    """Some objects by key (see `lateen.serve.push_values.Objects`)."""

    def __init__(self, objects: Mapping[ObjectKey, Resource | None]) -> None:
        self._objects = objects

    def get(self, key: ObjectKey) -> Resource | None:
        return self._objects.get(key)


def _encode(resource: Resource | None) -> tuple[Raw | None, list[Any]]:
    if resource is None:
        return None, []
    return to_raw(resource), _place(resource.provenance)


def _place(place: Provenance) -> list[Any]:
    return [place.path, place.document, place.line, place.origin, place.item]


def _decode(raw: Raw | None, place: list[Any]) -> Resource | None:
    if raw is None:
        return None
    parsed = parse_object(raw, Provenance(*place))
    return parsed if isinstance(parsed, Resource) else None


def _version(resource: Resource | None) -> str:
    return resource.metadata.resource_version if resource is not None else ""
