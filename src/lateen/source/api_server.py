"""The mesh's API over HTTP, in the Kubernetes API's conventions, on a private Unix socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from lateen.api.resource import ObjectKey, Provenance
from lateen.source import api_discovery, api_objects
from lateen.source.api_common import (
    OWNERS,
    WAITER,
    WRITER,
    answer,
    errors,
    finding_data,
    number,
    only_owners,
    peer_of,
    who,
)
from lateen.source.store import Store
from lateen.source.writing import Document, Outcome, Writer

__all__ = [
    "WAITER",
    "WRITER",
    "answer",
    "bind_private_socket",
    "finding_data",
    "make_app",
    "peer_of",
]

Raw = dict[str, Any]
MAXIMUM_BODY = 64 * 1024 * 1024
"""Bytes of one request: thousands of objects may come in one apply."""


def make_app(
    store: Store, owners: frozenset[int] | None = None, **settings: bool
) -> web.Application:
    """The API as an aiohttp application; `lateen.serve` adds its own handlers to it.

    ``owners`` are the user ids that may connect (default: this process' own). ``settings`` are
    those of `Writer`.
    """
    app = web.Application(client_max_size=MAXIMUM_BODY, middlewares=[errors, only_owners])
    app[WRITER] = Writer(store, **settings)
    app[WAITER] = {}
    app[OWNERS] = owners if owners is not None else frozenset({os.getuid()})
    add = app.router.add_route
    add("POST", "/lateen/v1/apply", _apply_many)
    add("GET", "/lateen/v1/history", _history)
    api_discovery.add_routes(add)
    api_objects.add_routes(add)
    return app


def bind_private_socket(path: Path) -> socket.socket:
    """A listening Unix socket at ``path`` that only its owner can open (mode 0600)."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    listener.listen(128)
    return listener


class _ApplyDocument(msgspec.Struct):
    raw: Raw
    path: str = ""
    line: int = 0
    document: int = 0
    item: int = -1


class _ApplyRequest(msgspec.Struct):
    documents: list[_ApplyDocument]
    manager: str = "lateen"
    wait: bool = False
    timeout: float = 30.0
    dry_run: bool = False


async def _apply_many(request: web.Request) -> web.StreamResponse:
    wanted = msgspec.json.decode(await request.read(), type=_ApplyRequest)
    documents = [
        Document(d.raw, Provenance(d.path, d.document, d.line, "file", d.item))
        for d in wanted.documents
    ]
    outcomes = request.app[WRITER].apply(
        documents, wanted.manager, who(request), dry_run=wanted.dry_run
    )
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(
        b"".join(msgspec.json.encode(_outcome_data(outcome)) + b"\n" for outcome in outcomes)
    )
    waiter = request.app[WAITER].get("wait")
    newest = max((outcome.revision for outcome in outcomes), default=0)
    if wanted.wait and waiter is not None and newest and not wanted.dry_run:
        result = await waiter(newest, wanted.timeout)
        await response.write(msgspec.json.encode({"wait": result}) + b"\n")
    return response


def _outcome_data(outcome: Outcome) -> Raw:
    key = outcome.key
    return {
        "object": {
            "group": key.group,
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
        },
        "result": outcome.result,
        "revision": outcome.revision,
        "file": outcome.provenance.path,
        "line": outcome.provenance.line,
        "findings": [finding_data(finding) for finding in outcome.findings],
    }


async def _history(request: web.Request) -> web.Response:
    query = request.query
    key = ObjectKey(
        query.get("group", ""),
        query.get("kind", ""),
        query.get("namespace", ""),
        query.get("name", ""),
    )
    limit = number(query.get("limit", "")) or 100
    items = [
        {
            "revision": event.object.revision,
            "verb": event.verb,
            "who": event.who,
            "at": event.at,
            "file": event.object.provenance.path,
            "line": event.object.provenance.line,
            "object": event.object.raw,
        }
        for event in request.app[WRITER].store.history(key, min(limit, 1000))
    ]
    return answer({"items": items})
