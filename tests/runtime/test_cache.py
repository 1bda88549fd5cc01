"""The node's cache: late answers bring nothing back, gaps leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from lateen.runtime.cache import ObjectCache
from lateen.source.client import AsyncClient

Raw = dict[str, Any]


def at(revision: int, name: str = "a") -> Raw:
    """A Pod at a revision."""
    metadata = {"name": name, "namespace": "n", "resourceVersion": str(revision)}
    return {"kind": "Pod", "metadata": metadata}


def listing(revision: int, *items: Raw) -> tuple[str, Raw]:
    """What a watch says when it has listed."""
    return "SYNCED", {"metadata": {"resourceVersion": str(revision)}, "items": list(items)}


class Script(AsyncClient):
    """A watch of Pods that tells what the test feeds it."""

    def __init__(self) -> None:
        super().__init__("unused")
        self.lines: asyncio.Queue[tuple[str, Raw]] = asyncio.Queue()  # type: ignore[assignment]

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Raw]]:
        """Pods come from the queue, there is nothing else."""
        if not path.endswith("/pods"):
            yield listing(1)
            await asyncio.Event().wait()
        while True:
            yield await self.lines.get()
            self.lines.task_done()


async def told(*events: tuple[str, Raw] | Raw) -> tuple[list[str], list[str]]:
    """Names in the cache and verbs told after watch events and (plain objects) API answers."""
    client = Script()
    cache = ObjectCache(client)
    verbs: list[str] = []
    cache.listen(lambda verb, _kind, _raw: verbs.append(verb))
    running = asyncio.create_task(cache.run())
    for event in events:
        if isinstance(event, tuple):
            client.lines.put_nowait(event)
            await client.lines.join()
            await asyncio.sleep(0)
        else:
            cache.put(event)
    running.cancel()
    return [raw["metadata"]["name"] for raw in cache.all("Pod")], verbs


async def test_an_answer_is_known_before_the_watch_tells_it() -> None:
    assert await told(listing(1), at(2), ("ADDED", at(2))) == (["a"], ["ADDED"])


async def test_an_answer_that_comes_after_the_deletion_brings_nothing_back() -> None:
    events = (listing(1), ("ADDED", at(2)), ("DELETED", at(4)), at(3))
    assert await told(*events) == ([], ["ADDED", "DELETED"])


async def test_an_object_that_went_during_a_gap_goes() -> None:
    # The watch told revision 2, an answer brought 3; the object went while nobody watched.
    events = (listing(1), ("ADDED", at(2)), at(3), ("DELETED", at(2)), listing(9))
    assert await told(*events) == ([], ["ADDED", "MODIFIED", "DELETED"])


async def test_an_object_the_watch_never_told_of_goes_too() -> None:
    assert await told(listing(1), at(3), listing(9)) == ([], ["ADDED", "DELETED"])


async def test_what_is_newer_than_a_list_stays() -> None:
    assert (await told(listing(1), at(12), listing(9)))[0] == ["a"]
