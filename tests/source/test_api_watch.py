"""List and watch lose nothing, also while others write."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from lateen.source.client import AsyncClient
from lateen.source.store import Write
from tests.source.conftest import Api
from tests.source.objects import config_map, key

Raw = dict[str, Any]
PATH = "/api/v1/configmaps"


async def first_lines(api: Api, path: str, count: int) -> list[tuple[str, str]]:
    """The first lines of a watch: verb and name."""
    lines = api.client.lines("GET", path)
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(10), contextlib.aclosing(lines):
        async for line in lines:
            found.append((line["type"], line["object"]["metadata"].get("name", "")))
            if len(found) == count:
                break
    return found


def write(api: Api, name: str, labels: Raw | None = None, **data: str) -> None:
    """Store a ConfigMap."""
    raw = config_map(name, **data)
    raw["metadata"]["labels"] = labels or {}
    api.store.commit([Write(key(name), raw)], "test")


async def test_a_watch_without_a_revision_starts_with_what_is_there(api: Api) -> None:
    write(api, "a")
    watching = asyncio.create_task(first_lines(api, f"{PATH}?watch=1", 2))
    while len(api.store._subscriptions) == 0:
        await asyncio.sleep(0.01)
    write(api, "b")
    assert await watching == [("ADDED", "a"), ("ADDED", "b")]


async def test_initial_events_end_with_a_bookmark(api: Api) -> None:
    write(api, "a")
    path = f"{PATH}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true"
    assert await first_lines(api, path, 2) == [("ADDED", "a"), ("BOOKMARK", "")]


async def test_a_watch_with_a_selector_tells_what_leaves_and_enters(api: Api) -> None:
    write(api, "a", {"app": "web"})
    since = api.store.revision
    write(api, "a", {"app": "api"})
    write(api, "a", {"app": "web"})
    write(api, "b", {"app": "api"})
    api.store.commit([Write(key("a"), None)], "test")
    path = f"{PATH}?watch=1&resourceVersion={since}&labelSelector=app%3Dweb"
    expected = [("DELETED", "a"), ("ADDED", "a"), ("DELETED", "a")]
    assert await first_lines(api, path, 3) == expected


async def test_a_watch_ends_when_asked_to(api: Api) -> None:
    assert await first_lines(api, f"{PATH}?watch=1&timeoutSeconds=1", 99) == []


async def test_list_and_watch_lose_nothing_under_concurrent_writes(api: Api) -> None:
    """Readers that come and go at random end with the same picture as the store."""
    chance = random.Random(11)
    done = asyncio.Event()

    async def write_much() -> None:
        for number in range(400):
            name = f"m{chance.randrange(20)}"
            if chance.random() < 0.3:
                api.store.commit([Write(key(name), None)], "test")
            else:
                write(api, name, n=str(number))
            if chance.random() < 0.3:
                await asyncio.sleep(0.001)
        write(api, "last")
        done.set()

    async def read() -> dict[str, str]:
        await asyncio.sleep(chance.random() * 0.2)
        picture: dict[str, str] = {}
        revisions: list[int] = []
        async for verb, item in AsyncClient(api.path).watch(PATH):
            if verb == "SYNCED":
                continue
            metadata = item["metadata"]
            if verb == "DELETED":
                picture.pop(metadata["name"])
            else:
                assert (metadata["name"] in picture) is (verb == "MODIFIED")
                picture[metadata["name"]] = metadata["resourceVersion"]
            revisions.append(int(metadata["resourceVersion"]))
            if metadata["name"] == "last":
                break
        return picture

    readers = [asyncio.create_task(read()) for _ in range(12)]
    await write_much()
    truth = {o.key.name: str(o.revision) for o in api.store.select("", "ConfigMap")}
    for reader in readers:
        assert await asyncio.wait_for(reader, 20) == truth


async def test_a_client_catches_up_after_a_gap(api: Api) -> None:
    write(api, "stays")
    write(api, "goes")
    events = AsyncClient(api.path).watch(PATH)
    seen = [await anext(events) for _ in range(3)]
    assert [verb for verb, _ in seen] == ["ADDED", "ADDED", "SYNCED"]
    pending = asyncio.ensure_future(anext(events))
    while not api.store._subscriptions:
        await asyncio.sleep(0.01)
    # The server ends the watch; what happens before the client is back must not be missed.
    api.store._subscriptions[0].close()
    api.store.commit([Write(key("goes"), None)], "test")
    write(api, "new")
    later = [await asyncio.wait_for(pending, 5)]
    later += [await asyncio.wait_for(anext(events), 5) for _ in range(2)]
    told = [(verb, item["metadata"].get("name", "")) for verb, item in later]
    assert told == [("DELETED", "goes"), ("ADDED", "new"), ("SYNCED", "")]
