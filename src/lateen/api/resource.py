"""The shapes every object shares: its key, its metadata and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec


class ObjectKey(NamedTuple):
    """Identifies an object in a mesh. ``namespace`` is empty for cluster-scoped kinds.

    ``group`` is the API group without version (``""`` for the Kubernetes core group), so that the
    same object read as ``v1`` and as ``v1beta1`` is one object.
    """

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an object was written.

    ``path`` is the file as the user named it (``-`` for standard input, empty when unknown),
    ``document`` the 0-based index of the YAML document in it, ``line`` the 1-based line on which
    that document starts (0 when unknown). ``origin`` says which source yielded it. ``item`` is the
    index in the document's ``items`` when that is a ``List``, otherwise -1.
    """

    path: str = ""
    document: int = 0
    line: int = 0
    origin: str = ""
    item: int = -1

    def __str__(self) -> str:
        if not self.path:
            return self.origin or "unknown"
        return f"{self.path}:{self.line}" if self.line else self.path


class OwnerReference(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Kubernetes ``metav1.OwnerReference``."""

    api_version: str
    kind: str
    name: str
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
    kw_only=True,
):
    """Kubernetes ``metav1.ObjectMeta``; timestamps are RFC 3339 text as the API server writes."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []
    managed_fields: list[dict[str, object]] = []
    self_link: str = ""


class ApiObject(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Base of every typed kind; a kind adds ``spec`` or its own top-level fields.

    Subclasses set ``forbid_unknown_fields=True`` so that a misspelt field is never dropped.
    """

    api_version: str
    kind: str
    metadata: ObjectMeta = ObjectMeta()


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A parsed, typed object with its key and provenance: what sources yield and snapshots hold.

    Compared by identity: a snapshot shares the very same ``Resource`` until the object changes,
    and memoised functions downstream rely on that.
    """

    key: ObjectKey
    object: ApiObject
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def metadata(self) -> ObjectMeta:
        """The object's metadata."""
        return self.object.metadata

    @property
    def labels(self) -> Mapping[str, str]:
        """The object's labels."""
        return self.object.metadata.labels
