"""The embedded store: every object of a mesh and the history of every change, in one SQLite file.

Reads are served from memory; a write is on disk before it is acknowledged. Revisions follow the
Kubernetes convention: one counter for the whole store, an object's ``resourceVersion`` is the
revision of its last change.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from lateen.api.resource import ObjectKey, Provenance
from lateen.source.database import event_of, open_database, write_event
from lateen.source.stored import (
    AlreadyExists,
    Conflict,
    Event,
    HistoryGone,
    Raw,
    StoredObject,
    StoreError,
    Verb,
    Write,
)
from lateen.source.subscription import SUBSCRIBER_BACKLOG, Subscription

__all__ = [
    "AlreadyExists",
    "Conflict",
    "Event",
    "HistoryGone",
    "Raw",
    "Store",
    "StoreError",
    "StoredObject",
    "Subscription",
    "Verb",
    "Write",
]

HISTORY_IN_MEMORY = 256
"""Events kept for watches that resume; older ones are read from disk."""
HISTORY_KEPT = 100_000
"""Revisions for which what users changed is kept on disk."""
OBSERVED_KEPT = 10_000
"""Revisions for which observed facts (status) are kept: they would crowd out what users did."""
PRUNE_EVERY = 1_000
"""Revisions between two looks for history that may go."""


class Store:
    """All objects of a mesh. Not for concurrent use by several processes.

    ``path`` None keeps everything in memory (tests, offline translation). Raises `StoreError`
    when the file is not a store or cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._objects: dict[ObjectKey, StoredObject] = {}
        self._by_kind: dict[tuple[str, str], dict[ObjectKey, StoredObject]] = {}
        self._recent: deque[Event] = deque(maxlen=HISTORY_IN_MEMORY)
        self._subscriptions: list[Subscription] = []
        self._lock = threading.Lock()
        self.revision = 0
        self._complete_after = 0
        self._prune_at = 0
        self._database = open_database(path)
        try:
            self._load()
        except (sqlite3.Error, msgspec.DecodeError) as error:
            self._database.close()
            raise StoreError(
                f"{path} is damaged: {error}. Move it away to start with an empty mesh."
            ) from error

    def close(self) -> None:
        """Close the file; subscriptions end."""
        for subscription in list(self._subscriptions):
            subscription.close()
        self._database.close()

    def get(self, key: ObjectKey) -> StoredObject | None:
        """The object now, if it exists."""
        return self._objects.get(key)

    def select(self, group: str, kind: str, namespace: str = "") -> list[StoredObject]:
        """Objects of a kind (in a namespace, when given), sorted by namespace and name."""
        objects = self._by_kind.get((group, kind), {}).values()
        chosen = [o for o in objects if not namespace or o.key.namespace == namespace]
        return sorted(chosen, key=lambda o: o.key)

    def all(self) -> list[StoredObject]:
        """Every object, in the order of its last change."""
        return sorted(self._objects.values(), key=lambda o: o.revision)

    def commit(self, writes: Sequence[Write], who: str) -> list[StoredObject]:
        """Make all ``writes`` or none; returns the objects after it (before it for deletions).

        Raises `Conflict` when an expected revision does not match, `StoreError` when the disk
        refuses. A deletion of what does not exist is left out of the result.
        """
        with self._lock:
            events = self._plan(writes, who)
            if events:
                self._persist(events, durable=any(write.durable for write in writes))
                self._publish([event for event, _observed in events])
        return [event.object for event, _observed in events]

    def history(self, key: ObjectKey, limit: int = 100) -> list[Event]:
        """The object's changes, newest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT * FROM history WHERE api_group=? AND kind=? AND namespace=? AND name=?"
                " ORDER BY revision DESC LIMIT ?",
                (*key, limit),
            ).fetchall()
        return [event_of(row) for row in rows]

    def subscribe(self, since: int | None = None) -> Subscription:
        """Every change after revision ``since`` (None: from now on), in order.

        Raises `HistoryGone` when changes since then are no longer all known.
        """
        with self._lock:
            subscription = Subscription(self.unsubscribe)
            if since is not None:
                for event in self._since(since):
                    subscription.put(event)
            self._subscriptions.append(subscription)
            return subscription

    def forget_history(self, keep: int) -> int:
        """Drop history rows beyond the newest ``keep``; returns how many went.

        The newest row always stays: it holds the store's revision, which must never go back.
        """
        with self._lock, self._database:
            return self._forget(self.revision - max(keep, 1), everything=True)

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def _since(self, since: int) -> Iterable[Event]:
        if since > self.revision:
            raise HistoryGone(f"revision {since} is in the future; the store is at {self.revision}")
        if self._recent and self._recent[0].object.revision <= since + 1:
            return [event for event in self._recent if event.object.revision > since]
        if since == self.revision:
            return []
        if since < self._complete_after:
            raise HistoryGone(f"changes since revision {since} are no longer kept")
        rows = self._database.execute(
            "SELECT * FROM history WHERE revision > ? ORDER BY revision LIMIT ?",
            (since, SUBSCRIBER_BACKLOG + 1),
        ).fetchall()
        if len(rows) > SUBSCRIBER_BACKLOG:
            raise HistoryGone(f"changes since revision {since} are too many to be told one by one")
        return self._with_previous([event_of(row) for row in rows], since)

    def _with_previous(self, events: Sequence[Event], since: int) -> list[Event]:
        """Fill in what objects were before: a watch with a selector tells by it what ceased."""
        latest: dict[ObjectKey, StoredObject | None] = {}
        result = []
        for event in events:
            key = event.object.key
            if event.verb == "ADDED":
                previous = None
            elif key in latest:
                previous = latest[key]
            elif event.verb == "DELETED":
                previous = event.object
            else:
                row = self._database.execute(
                    "SELECT * FROM history WHERE api_group=? AND kind=? AND namespace=? AND name=?"
                    " AND revision <= ? ORDER BY revision DESC LIMIT 1",
                    (*key, since),
                ).fetchone()
                if row is None:
                    raise HistoryGone(f"what {key} was at revision {since} is no longer kept")
                previous = event_of(row).object
            latest[key] = event.object
            result.append(replace(event, previous=previous))
        return result

    def _plan(self, writes: Sequence[Write], who: str) -> list[tuple[Event, bool]]:
        now = time.time()
        revision = self.revision
        pending: dict[ObjectKey, StoredObject | None] = {}
        events: list[tuple[Event, bool]] = []
        for write in writes:
            current = pending.get(write.key, self._objects.get(write.key))
            _check_expectation(write, current)
            if write.raw is None and current is None:
                continue
            revision += 1
            if write.raw is None:
                assert current is not None
                after = replace(current, revision=revision, raw=_versioned(current.raw, revision))
                events.append((Event("DELETED", after, current, who, now), False))
                pending[write.key] = None
                continue
            provenance = write.provenance or (current.provenance if current else Provenance())
            after = StoredObject(write.key, revision, _versioned(write.raw, revision), provenance)
            verb: Verb = "MODIFIED" if current else "ADDED"
            events.append((Event(verb, after, current, who, now), not write.durable))
            pending[write.key] = after
        return events

    def _persist(self, events: Sequence[tuple[Event, bool]], *, durable: bool) -> None:
        database = self._database
        try:
            database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with database:
                for event, observed in events:
                    write_event(database, event, observed)
                self._prune(events[-1][0].object.revision)
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot write {self.path}: {error}; nothing was changed. "
                "Check free space and permissions of that folder."
            ) from error

    def _prune(self, revision: int) -> None:
        if revision < self._prune_at:
            return
        self._forget(revision - HISTORY_KEPT, everything=True)
        self._forget(revision - OBSERVED_KEPT, everything=False)
        self._prune_at = revision + PRUNE_EVERY

    def _forget(self, up_to: int, *, everything: bool) -> int:
        """Delete history rows inside the caller's transaction; returns how many went."""
        if up_to <= 0:
            return 0
        which = "" if everything else " AND observed"
        gone = self._database.execute(
            f"DELETE FROM history WHERE revision <= ?{which}", (up_to,)
        ).rowcount
        if gone:
            self._database.execute("UPDATE pruned SET revision = max(revision, ?)", (up_to,))
            self._complete_after = max(self._complete_after, up_to)
        return gone

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._remember(event)
            for subscription in list(self._subscriptions):
                subscription.put(event)

    def _remember(self, event: Event) -> None:
        stored = event.object
        of_kind = self._by_kind.setdefault((stored.key.group, stored.key.kind), {})
        if event.verb == "DELETED":
            self._objects.pop(stored.key, None)
            of_kind.pop(stored.key, None)
        else:
            self._objects[stored.key] = stored
            of_kind[stored.key] = stored
        self.revision = stored.revision
        self._recent.append(event)

    def _load(self) -> None:
        decode = msgspec.json.decode
        for row in self._database.execute("SELECT * FROM objects"):
            key = ObjectKey(*row[:4])
            provenance = Provenance(row[6], row[8], row[7], "store", row[9])
            stored = StoredObject(key, row[4], decode(row[5]), provenance)
            self._objects[key] = stored
            self._by_kind.setdefault((key.group, key.kind), {})[key] = stored
        newest = self._database.execute("SELECT max(revision) FROM history").fetchone()[0]
        largest = max((o.revision for o in self._objects.values()), default=0)
        self.revision = max(newest or 0, largest)
        self._complete_after = self._database.execute("SELECT revision FROM pruned").fetchone()[0]


def _check_expectation(write: Write, current: StoredObject | None) -> None:
    if write.expected is None:
        return
    actual = current.revision if current else 0
    if write.expected == 0 and actual:
        raise AlreadyExists(f"{write.key} already exists")
    if write.expected != actual:
        raise Conflict(
            f"{write.key} is at resourceVersion {actual}, the change was made for {write.expected}:"
            " read it again and repeat the change"
        )


def _versioned(raw: Mapping[str, Any], revision: int) -> Raw:
    metadata = {**raw.get("metadata", {}), "resourceVersion": str(revision)}
    return {**raw, "metadata": metadata}
