"""The store's SQLite file: its layout, how it is opened, and its rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lateen.api.resource import ObjectKey, Provenance
from lateen.source.stored import Event, StoredObject, StoreError

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


def open_database(path: Path | None) -> sqlite3.Connection:
    """The store's database, made when it does not exist; None keeps it in memory.

    Raises `StoreError` when the file is not a store, is in use, or cannot be written.
    """
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


def write_event(database: sqlite3.Connection, event: Event, observed: bool) -> None:
    """Write a change into history and objects, inside the caller's transaction."""
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


def event_of(row: Sequence[Any]) -> Event:
    """The change in a row of the history."""
    provenance = Provenance(row[9], row[11], row[10], "store", row[12])
    stored = StoredObject(ObjectKey(*row[2:6]), row[0], msgspec.json.decode(row[6]), provenance)
    return Event(row[1], stored, None, row[7], row[8])
