"""The embedded store: every object of a mesh and the history of every change, in one SQLite file.

Reads are served from memory; a write is on disk before it is acknowledged. Revisions follow the
Kubernetes convention: one counter for the whole store, an object's ``resourceVersion`` is the
revision of its last change.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from lateen.api.resource import ObjectKey, Provenance

Raw = dict[str, Any]
"""An object as JSON data: the wire format of the Kubernetes API."""

HISTORY_IN_MEMORY = 4096
"""Events kept for watches that resume; older ones are read from disk."""
SUBSCRIBER_BACKLOG = 65_536
"""Events a slow watcher may fall behind before it must list again (HTTP 410)."""
HISTORY_KEPT = 100_000
"""Revisions for which what users changed is kept on disk."""
OBSERVED_KEPT = 10_000
"""Revisions for which observed facts (status) are kept: they would crowd out what users did."""
PRUNE_EVERY = 1_000
"""Revisions between two looks for history that may go."""
LOCK_TIMEOUT = 5.0
"""Seconds to wait for a previous owner of the file to let go."""
LAYOUT = 1
"""``user_version`` of the file."""

_SCHEMA = f"""
BEGIN;
CREATE TABLE objects (
    api_group TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    revision INTEGER NOT NULL, body BLOB NOT NULL,
    path TEXT NOT NULL, line INTEGER NOT NULL, document INTEGER NOT NULL, item INTEGER NOT NULL,
    PRIMARY KEY (api_group, kind, namespace, name)) WITHOUT ROWID;
CREATE TABLE history (
    revision INTEGER PRIMARY KEY, verb TEXT NOT NULL,
    api_group TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    body BLOB NOT NULL, who TEXT NOT NULL, at REAL NOT NULL,
    path TEXT NOT NULL, line INTEGER NOT NULL, document INTEGER NOT NULL, item INTEGER NOT NULL,
    observed INTEGER NOT NULL);
CREATE INDEX history_by_object ON history (api_group, kind, namespace, name);
CREATE TABLE pruned (revision INTEGER NOT NULL);
INSERT INTO pruned VALUES (0);
PRAGMA user_version={LAYOUT};
COMMIT;
"""


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
        self._database = _open(path)
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
        return [_event(row) for row in rows]

    def subscribe(self, since: int | None = None) -> Subscription:
        """Every change after revision ``since`` (None: from now on), in order.

        Raises `HistoryGone` when changes since then are no longer all known.
        """
        with self._lock:
            subscription = Subscription(self)
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
        return self._with_previous([_event(row) for row in rows], since)

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
                previous = _event(row).object
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
                    _write_event(database, event, observed)
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


class Subscription:
    """An ordered stream of `Event`s for one reader; use as an async iterator or with `drain`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self.overflowed = False
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def put(self, event: Event) -> None:
        """Add an event; a reader that is too far behind is cut off instead of growing."""
        if self._closed:
            # Whatever came after the cut would hide that something is missing.
            return
        if len(self._events) >= SUBSCRIBER_BACKLOG:
            self.overflowed = True
            self._closed = True
        else:
            self._events.append(event)
        self._notify()

    @property
    def waiting(self) -> bool:
        """Whether there are events that were not taken yet."""
        return bool(self._events)

    def drain(self) -> list[Event]:
        """All events that are waiting, without waiting for more."""
        events = list(self._events)
        self._events.clear()
        return events

    async def next_batch(self) -> list[Event]:
        """Wait for events and return all that are there; empty when the subscription ended."""
        while not self._events and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        return self.drain()

    def close(self) -> None:
        """End the subscription; the reader gets what is waiting, then the end."""
        self._closed = True
        self._store.unsubscribe(self)
        self._notify()

    def _notify(self) -> None:
        if self._loop is None:
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._wake.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while batch := await self.next_batch():
            for event in batch:
                yield event


def _open(path: Path | None) -> sqlite3.Connection:
    if path is None:
        database = sqlite3.connect(":memory:", check_same_thread=False)
        database.executescript(_SCHEMA)
        return database
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        database = sqlite3.connect(path, timeout=LOCK_TIMEOUT, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open the store {path}: {error}") from error
    try:
        _prepare(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    try:
        # What is in memory is right only while nobody else writes the file.
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("PRAGMA journal_mode=WAL")
        layout = database.execute("PRAGMA user_version").fetchone()[0]
        empty = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if layout == 0 and empty:
            database.executescript(_SCHEMA)
            layout = LAYOUT
        # Takes the lock now rather than at the first write.
        database.execute("BEGIN IMMEDIATE")
        database.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            text = f"the store {path} is in use by another process; end that one first"
            raise StoreError(text) from error
        raise StoreError(f"cannot open the store {path}: {error}") from error
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} is not a store of Lateen or is damaged: {error}. "
            "Move it away to start with an empty mesh."
        ) from error
    if layout != LAYOUT:
        raise StoreError(
            f"{path} was written by another version of Lateen (layout {layout}, this one reads "
            f"{LAYOUT}). Use that version, or move the file away to start with an empty mesh."
        )


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


def _write_event(database: sqlite3.Connection, event: Event, observed: bool) -> None:
    stored, where = event.object, event.object.provenance
    body = msgspec.json.encode(stored.raw)
    place = (where.path, where.line, where.document, where.item)
    database.execute(
        "INSERT INTO history VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (stored.revision, event.verb, *stored.key, body, event.who, event.at, *place, observed),
    )
    if event.verb == "DELETED":
        database.execute(
            "DELETE FROM objects WHERE api_group=? AND kind=? AND namespace=? AND name=?",
            tuple(stored.key),
        )
    else:
        database.execute(
            "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?,?,?,?,?)",
            (*stored.key, stored.revision, body, *place),
        )


def _event(row: Sequence[Any]) -> Event:
    provenance = Provenance(row[9], row[11], row[10], "store", row[12])
    stored = StoredObject(ObjectKey(*row[2:6]), row[0], msgspec.json.decode(row[6]), provenance)
    return Event(row[1], stored, None, row[7], row[8])
