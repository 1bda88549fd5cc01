"""From a proxy's rejection to the object that caused it, and back to its last good form."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change
from lateen.model.discovery import DiscoveryResource
from lateen.serve.push_values import Rejected

# Objects that shape resources as a matter of course; configuration is suspected before them.
_BACKGROUND_KINDS = frozenset(
    {"Service", "Pod", "EndpointSlice", "Endpoints", "Namespace", "Node", "ServiceAccount"}
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An object held back: proxies refused what it asked for, or would have."""

    refused: Resource
    good: Resource | None
    """What is in force instead; None when there was no good form, so the object is left out."""
    words: str
    """What the proxy said, or why none was asked."""
    proxy: str
    """``NAME.NAMESPACE`` of the proxy that refused it; empty when none was asked."""
    resource_names: tuple[str, ...]
    since: float = field(default_factory=time.time)

    @property
    def revision(self) -> str:
        """The refused ``resourceVersion``."""
        return self.refused.metadata.resource_version


def blamed(rejected: Rejected, cleared: Collection[ObjectKey] = ()) -> Resource | None:
    """The object whose last change introduced what was refused; None when there is none.

    Of the objects that shaped the refused resources, those are suspected that differ from the
    newest state which a proxy of the same scope had accepted. Of several, configuration comes
    before services and workloads, and the object written last before older ones. ``cleared`` are
    objects that have been put back already without effect.
    """
    suspects = [
        resource
        for key in sorted({key for item in refused_resources(rejected) for key in item.origins})
        if key not in cleared
        and (resource := rejected.snapshot.get(key)) is not None
        and _changed(resource, rejected)
    ]
    return max(suspects, key=_suspicion, default=None)


def refused_resources(rejected: Rejected) -> tuple[DiscoveryResource, ...]:
    """The resources that the proxy means: those it names, or all when it names none."""
    named = tuple(item for item in rejected.resources if item.name in rejected.words)
    if len(named) > 1:
        # "inbound|8080||" is part of no other name by itself, but "a" is part of "ab".
        named = tuple(
            item
            for item in named
            if not any(item.name != other.name and item.name in other.name for other in named)
        )
    return named or rejected.resources


class Quarantine:
    """The objects held back now."""

    def __init__(self) -> None:
        self._held: dict[ObjectKey, Quarantined] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def entries(self) -> tuple[Quarantined, ...]:
        """What is held back, by key."""
        return tuple(self._held[key] for key in sorted(self._held))

    def get(self, key: ObjectKey) -> Quarantined | None:
        """The entry of an object, if it is held back."""
        return self._held.get(key)

    def hold(self, rejected: Rejected, resource: Resource) -> Change | None:
        """Put ``resource`` back to its last good form; None when it is held back already."""
        present = self._held.get(resource.key)
        if present is not None and (
            present.refused is resource or present.good is resource or present.good is None
        ):
            if present.good is not resource:
                return None
            # Even the form that was good is refused now: leave the object out.
            good: Resource | None = None
            refused = present.refused
        else:
            good = rejected.good.get(resource.key) if rejected.good is not None else None
            refused = resource
        self._held[resource.key] = Quarantined(
            refused,
            good,
            rejected.words,
            f"{rejected.proxy.name}.{rejected.proxy.namespace}",
            tuple(item.name for item in refused_resources(rejected))[:20],
        )
        return Change(resource.key, good)

    def refuse(self, resource: Resource, good: Resource, words: str) -> Change:
        """Keep ``good`` in force instead of ``resource``, which no proxy could use."""
        self._held[resource.key] = Quarantined(resource, good, words, "", ())
        return Change(resource.key, good)

    def restore(self, entry: Quarantined) -> None:
        """Hold an object back from the start, as it was before a restart."""
        self._held[entry.refused.key] = entry

    def admit(self, changes: Iterable[Change]) -> list[Change]:
        """Changes as they may be applied: a new form of an object is tried again, the refused
        one that is merely listed once more stays out."""
        admitted = []
        for change in changes:
            held = self._held.get(change.key)
            if held is None:
                admitted.append(change)
            elif change.resource is not None and _same_content(change.resource, held.refused):
                admitted.append(Change(change.key, held.good))
            else:
                del self._held[change.key]
                admitted.append(change)
        return admitted


def describe(entry: Quarantined) -> Mapping[str, object]:
    """An entry as JSON data for status."""
    key = entry.refused.key
    return {
        "object": {
            "group": key.group,
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
        },
        "file": entry.refused.provenance.path,
        "line": entry.refused.provenance.line,
        "source": str(entry.refused.provenance),
        "resourceVersion": entry.revision,
        "inForce": entry.good.metadata.resource_version if entry.good is not None else None,
        "message": entry.words,
        "proxy": entry.proxy,
        "resources": list(entry.resource_names),
        "since": entry.since,
    }


def _changed(resource: Resource, rejected: Rejected) -> bool:
    return rejected.good is None or rejected.good.get(resource.key) is not resource


def _suspicion(resource: Resource) -> tuple[bool, int]:
    version = resource.metadata.resource_version
    return resource.key.kind not in _BACKGROUND_KINDS, int(version) if version.isdigit() else 0


def _same_content(left: Resource, right: Resource) -> bool:
    """Whether the two ask for the same, whatever status or revision they carry."""
    return left is right or _content(left) == _content(right)


def _content(resource: Resource) -> tuple[object, ...]:
    item = resource.object
    fields = tuple(
        getattr(item, name) for name in item.__struct_fields__ if name not in ("metadata", "status")
    )
    return (*fields, resource.metadata.labels, resource.metadata.annotations)
