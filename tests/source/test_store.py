"""The store: revisions, history, conflicts, watches."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from lateen.api.resource import Provenance
from lateen.source import database
from lateen.source import store as store_module
from lateen.source import subscription as subscription_module
from lateen.source.store import AlreadyExists, Conflict, HistoryGone, Store, StoreError, Write
from tests.source.objects import config_map, key


def put(store: Store, name: str, *, durable: bool = True, **data: str) -> int:
    """Write a ConfigMap; returns its revision."""
    write = Write(key(name), config_map(name, **data), durable=durable)
    return store.commit([write], "test")[0].revision


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    where = Provenance("a.yaml", 2, 17, "file", 3)
    store.commit([Write(key("a"), config_map("a", k="1"), where)], "me")
    put(store, "b")
    store.commit([Write(key("b"), None)], "me")
    store.close()
    again = Store(tmp_path / "store.db")
    found = again.get(key("a"))
    assert found is not None
    assert found.raw["data"] == {"k": "1"}
    assert (found.provenance.path, found.provenance.line, found.provenance.item) == (
        "a.yaml",
        17,
        3,
    )
    assert again.get(key("b")) is None
    assert again.revision == 3
    assert [event.verb for event in again.history(key("b"))] == ["DELETED", "ADDED"]
    assert again.history(key("a"))[0].who == "me"


def test_the_file_is_private(tmp_path: Path) -> None:
    Store(tmp_path / "inner" / "store.db")
    for path in [tmp_path / "inner", *(tmp_path / "inner").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_second_process_cannot_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store.db")
    monkeypatch.setattr(database, "LOCK_TIMEOUT", 0.1)
    pid = os.fork()
    if pid == 0:
        try:
            Store(tmp_path / "store.db")
        except StoreError as error:
            os._exit(7 if "in use by another process" in str(error) else 8)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    put(store, "still-works")


def test_a_foreign_file_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"these are my notes, not a database " * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a store of Lateen"):
        Store(path)
    assert path.read_bytes() == before


def test_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE objects (x)")
    database.commit()
    database.close()
    with pytest.raises(StoreError, match="another version"):
        Store(path)


def test_all_writes_of_a_commit_or_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    put(store, "a")
    writes = [
        Write(key("new"), config_map("new")),
        Write(key("a"), config_map("a", k="2"), expected=99),
    ]
    with pytest.raises(Conflict, match="ConfigMap default/a is at resourceVersion 1"):
        store.commit(writes, "test")
    assert store.get(key("new")) is None
    assert store.revision == 1
    assert Store(None).revision == 0


def test_creating_twice_says_so() -> None:
    store = Store()
    put(store, "a")
    with pytest.raises(AlreadyExists, match="already exists"):
        store.commit([Write(key("a"), config_map("a"), expected=0)], "test")


def test_one_commit_may_delete_and_create_the_same_object() -> None:
    store = Store()
    put(store, "a")
    store.commit([Write(key("a"), None), Write(key("a"), config_map("a"), expected=0)], "test")
    assert store.revision == 3
    assert store.get(key("a")) is not None


async def test_a_watch_resumes_without_a_gap_or_a_double() -> None:
    store = Store()
    for number in range(5):
        put(store, f"a{number}")
    subscription = store.subscribe(since=2)
    put(store, "later")
    batch = await subscription.next_batch()
    assert [event.object.revision for event in batch] == [3, 4, 5, 6]


async def test_a_watch_resumes_from_disk_and_knows_what_was_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    put(store, "a", k="1")
    put(store, "b")
    put(store, "a", k="2")
    store.commit([Write(key("b"), None)], "test")
    store.close()
    again = Store(tmp_path / "store.db")
    changed, deleted = await again.subscribe(since=2).next_batch()
    assert changed.verb == "MODIFIED"
    assert changed.previous is not None
    assert changed.previous.raw["data"] == {"k": "1"}
    assert deleted.verb == "DELETED"
    assert deleted.previous is not None


def test_a_watch_from_the_future_or_a_forgotten_past_must_list_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    for number in range(10):
        put(store, "a", k=str(number))
    assert store.forget_history(keep=3) == 7
    store.close()
    again = Store(tmp_path / "store.db")
    with pytest.raises(HistoryGone, match="future"):
        again.subscribe(since=11)
    with pytest.raises(HistoryGone, match="no longer kept"):
        again.subscribe(since=3)
    assert len(again.subscribe(since=8).drain()) == 2


def test_the_revision_never_goes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    put(store, "a")
    put(store, "b")
    store.commit([Write(key("b"), None)], "test")
    store.forget_history(keep=0)
    store.close()
    assert Store(tmp_path / "store.db").revision == 3


async def test_a_reader_too_far_behind_is_cut_off_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscription_module, "SUBSCRIBER_BACKLOG", 3)
    store = Store()
    subscription = store.subscribe()
    for number in range(5):
        put(store, f"a{number}")
    assert subscription.overflowed
    assert len(await subscription.next_batch()) == 3
    put(store, "after-the-gap")
    assert await subscription.next_batch() == []


async def test_every_reader_sees_every_change_in_order() -> None:
    store = Store()
    readers = [store.subscribe() for _ in range(200)]
    seen: list[list[int]] = [[] for _ in readers]

    async def read(index: int) -> None:
        while len(seen[index]) < 100:
            batch = await readers[index].next_batch()
            seen[index] += [event.object.revision for event in batch]

    async def write() -> None:
        for number in range(100):
            put(store, f"a{number}")
            if number % 7 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(write(), *(read(index) for index in range(len(readers))))
    assert all(revisions == list(range(1, 101)) for revisions in seen)


async def test_a_commit_from_another_thread_wakes_readers() -> None:
    store = Store()
    subscription = store.subscribe()
    waiting = asyncio.create_task(subscription.next_batch())
    await asyncio.to_thread(put, store, "a")
    assert len(await asyncio.wait_for(waiting, 5)) == 1


def test_status_does_not_crowd_out_what_users_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "OBSERVED_KEPT", 10)
    monkeypatch.setattr(store_module, "PRUNE_EVERY", 5)
    store = Store(tmp_path / "store.db")
    put(store, "a", by="user")
    for number in range(100):
        put(store, "a", durable=False, by=f"agent {number}")
    events = store.history(key("a"), limit=1000)
    assert 10 <= len(events) <= 20
    assert events[-1].object.raw["data"] == {"by": "user"}
    store.close()
    with pytest.raises(HistoryGone):
        Store(tmp_path / "store.db").subscribe(since=2)


def test_a_closed_subscription_is_forgotten() -> None:
    store = Store()
    subscription = store.subscribe()
    subscription.close()
    put(store, "a")
    assert subscription.drain() == []
