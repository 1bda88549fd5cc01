"""The embedded store as a source of typed resources."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from lateen.api.findings import Finding
from lateen.api.parse import parse_object
from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change
from lateen.source.store import Event, Store, StoredObject, Subscription


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes up to and including store revision ``revision``, and objects that are not usable."""

    revision: int
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...] = ()


class EmbeddedSource:
    """Yields what the store holds and then every change, as typed resources.

    An object that this version cannot read (written by another version) becomes a finding; what
    was known of it before stays.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._subscription: Subscription | None = None
        self._known: set[ObjectKey] = set()
        self._closed = False

    def start(self) -> Batch:
        """Everything there is now; changes after it come from `batches`."""
        self._subscription = self._store.subscribe()
        return self._batch(self._store.revision, ((o, False) for o in self._store.all()))

    async def batches(self) -> AsyncIterator[Batch]:
        """Changes as they come, those that wait together in one batch.

        A reader that fell too far behind gets everything there is now in one batch instead.
        """
        while not self._closed:
            subscription = self._subscription
            if subscription is None:
                raise RuntimeError("start() comes first")
            events = await subscription.next_batch()
            if subscription.overflowed:
                yield self._afresh()
            elif events:
                yield self.batch(events)
            else:
                return

    def _afresh(self) -> Batch:
        gone = self._known - {stored.key for stored in self._store.all()}
        batch = self.start()
        deletions = tuple(Change(key, None) for key in sorted(gone))
        self._known -= gone
        return dataclasses.replace(batch, changes=(*deletions, *batch.changes))

    def batch(self, events: list[Event]) -> Batch:
        """Events as changes."""
        return self._batch(
            events[-1].object.revision, ((e.object, e.verb == "DELETED") for e in events)
        )

    def close(self) -> None:
        """End `batches`."""
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()

    def _batch(self, revision: int, objects: Iterable[tuple[StoredObject, bool]]) -> Batch:
        changes: list[Change] = []
        findings: list[Finding] = []
        for stored, deleted in objects:
            if deleted:
                self._known.discard(stored.key)
                changes.append(Change(stored.key, None))
                continue
            self._known.add(stored.key)
            parsed = parse_object(
                stored.raw, dataclasses.replace(stored.provenance, origin="store")
            )
            if isinstance(parsed, Resource):
                changes.append(Change(stored.key, parsed))
            else:
                findings += parsed
        return Batch(revision, tuple(changes), tuple(findings))
