"""Lists that go on: ``?watch=1``, one JSON object per line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from lateen.api.kinds import KindInfo
from lateen.source.api_common import WRITER, ApiFailure, failure_status, number
from lateen.source.store import Event, StoredObject

Raw = dict[str, Any]
BOOKMARK_INTERVAL = 30.0
"""Seconds of silence after which a watch is told the current revision."""
Selects = Callable[[Raw], bool]
Shows = Callable[[StoredObject], Raw]


async def watch(
    request: web.Request, info: KindInfo, namespace: str, selects: Selects, shows: Shows
) -> web.StreamResponse:
    """Answer with changes after ``resourceVersion``.

    Without one (or with ``0``) the objects that exist come first, as ``ADDED``. Raises
    `lateen.source.store.HistoryGone` when the revision is too old to resume from.
    """
    store = request.app[WRITER].store
    query = request.query
    text = query.get("resourceVersion", "")
    since = number(text or "0")
    if since is None:
        raise ApiFailure(400, "BadRequest", f"resourceVersion {text!r} is not a revision")
    fresh = since == 0 or query.get("sendInitialEvents") == "true"
    bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
    seconds = number(query.get("timeoutSeconds", ""))
    end = asyncio.get_running_loop().time() + seconds if seconds else None
    subscription = store.subscribe(None if fresh else since)
    existing = store.select(info.group, info.kind, namespace) if fresh else []
    revision = store.revision
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    try:
        await response.prepare(request)
        lines = [_line("ADDED", shows(o)) for o in existing if selects(o.raw)]
        if fresh and bookmarks and query.get("sendInitialEvents") == "true":
            lines.append(_bookmark(info, revision, initial=True))
        await _write(response, lines)
        while True:
            now = asyncio.get_running_loop().time()
            patience = BOOKMARK_INTERVAL if end is None else min(BOOKMARK_INTERVAL, end - now)
            if patience <= 0:
                break
            try:
                async with asyncio.timeout(patience):
                    batch = await subscription.next_batch()
            except TimeoutError:
                if request.transport is None or request.transport.is_closing():
                    break
                if bookmarks and not subscription.waiting:
                    await _write(response, [_bookmark(info, store.revision)])
                continue
            if not batch:
                break
            await _write(response, _lines(batch, info, namespace, selects, shows))
        if subscription.overflowed:
            gone = failure_status(410, "Expired", "too far behind; list again")
            await _write(response, [_line("ERROR", gone)])
    finally:
        subscription.close()
    return response


def _lines(
    batch: Iterable[Event], info: KindInfo, namespace: str, selects: Selects, shows: Shows
) -> list[bytes]:
    lines = []
    for event in batch:
        key = event.object.key
        if (key.group, key.kind) != (info.group, info.kind):
            continue
        if namespace and key.namespace != namespace:
            continue
        now = event.verb != "DELETED" and selects(event.object.raw)
        before = event.previous is not None and selects(event.previous.raw)
        if now or before:
            verb = event.verb if now == before else ("ADDED" if now else "DELETED")
            lines.append(_line(verb, shows(event.object)))
    return lines


def _line(verb: str, shown: Raw) -> bytes:
    return msgspec.json.encode({"type": verb, "object": shown}) + b"\n"


def _bookmark(info: KindInfo, revision: int, *, initial: bool = False) -> bytes:
    metadata: Raw = {"resourceVersion": str(revision)}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    mark = {"kind": info.kind, "apiVersion": info.api_version, "metadata": metadata}
    return _line("BOOKMARK", mark)


async def _write(response: web.StreamResponse, lines: Iterable[bytes]) -> None:
    data = b"".join(lines)
    if data:
        await response.write(data)
