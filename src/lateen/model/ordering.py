"""Age of objects: where only one of several can win, the oldest does."""

from __future__ import annotations

from lateen.api.resource import ObjectKey, Resource

AgeKey = tuple[str, str, str, str]


def age_key(resource: Resource) -> AgeKey:
    """Sorts by creation time, then name, then namespace; objects without a time come first.

    Creation times are RFC 3339 in UTC with whole seconds, so their text sorts as time does.
    """
    meta = resource.metadata
    return (
        meta.creation_timestamp or "",
        resource.key.name,
        resource.key.namespace,
        resource.key.kind,
    )


def workload_order(key: ObjectKey) -> tuple[str, str]:
    """A stable order of the workloads behind a service: by kind, then name."""
    return (key.kind, key.name)
