"""What the store holds and says: objects at a revision, changes, intended changes, errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lateen.api.resource import ObjectKey, Provenance

Raw = dict[str, Any]
"""An object as JSON data: the wire format of the Kubernetes API."""


class StoreError(Exception):
    """The store's file cannot be used; the message says why and what to do."""


class Conflict(Exception):
    """A write named a revision that is not the object's current one (HTTP 409)."""


class AlreadyExists(Conflict):
    """A write was to create an object that exists (HTTP 409)."""


class HistoryGone(Exception):
    """A watch asked for a revision that is no longer kept (HTTP 410)."""


Verb = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object at one revision."""

    key: ObjectKey
    revision: int
    raw: Raw
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Event:
    """One change: the object after it (before it, when deleted), and what it was before."""

    verb: Verb
    object: StoredObject
    previous: StoredObject | None = None
    who: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Write:
    """One intended change. ``raw`` None deletes.

    ``expected`` is the revision the object must have (0: must not exist, None: any).
    ``durable`` False is for facts that are observed again after a restart (status): they survive
    a killed process but not a power cut.
    """

    key: ObjectKey
    raw: Raw | None
    provenance: Provenance | None = None
    expected: int | None = None
    durable: bool = True
