"""The mesh's API over HTTP, in the Kubernetes API's conventions, on a private Unix socket."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from lateen import __version__
from lateen.api.findings import Finding
from lateen.api.kinds import KindInfo, all_kinds, kind_by_plural
from lateen.api.resource import ObjectKey, Provenance
from lateen.source.addresses import AddressInUse
from lateen.source.admission import Refused
from lateen.source.merge import merge_patch, server_side_apply
from lateen.source.selectors import selector
from lateen.source.store import Conflict, HistoryGone, Store, StoredObject, StoreError, Subscription
from lateen.source.writing import Document, Outcome, Writer

Raw = dict[str, Any]
MAXIMUM_BODY = 64 * 1024 * 1024
"""Bytes of one request: thousands of objects may come in one apply."""
BOOKMARK_INTERVAL = 30.0
"""Seconds of silence after which a watch is told the current revision."""

WRITER = web.AppKey("writer", Writer)
Waiter = Callable[[int, float], Awaitable[Raw]]
"""``(revision, timeout seconds)`` → ``{"acknowledged": bool, "proxies": n, "laggards": [...]}``."""
WAITER: web.AppKey[dict[str, Waiter]] = web.AppKey("waiter", dict)
_WATCHES = web.AppKey("watches", set[Subscription])
_OWNERS: web.AppKey[frozenset[int]] = web.AppKey("owners", frozenset)

_PREFIXES = (
    "/api/{version}",
    "/apis/{group}/{version}",
)


def make_app(
    store: Store, owners: frozenset[int] | None = None, **settings: bool
) -> web.Application:
    """The API as an aiohttp application; `lateen.serve` adds its own handlers to it.

    ``owners`` are the user ids that may connect (default: this process' own). ``settings`` are
    those of `Writer`.
    """
    app = web.Application(client_max_size=MAXIMUM_BODY, middlewares=[_errors, _only_owners])
    app[WRITER] = Writer(store, **settings)
    app[WAITER] = {}
    watches: set[Subscription] = set()
    app[_WATCHES] = watches
    app.on_shutdown.append(_end_watches)
    app[_OWNERS] = owners if owners is not None else frozenset({os.getuid()})
    add = app.router.add_route
    add("GET", "/version", _version)
    add("GET", "/healthz", _healthy)
    add("GET", "/readyz", _healthy)
    add("GET", "/api", _core_versions)
    add("GET", "/apis", _groups)
    add("POST", "/lateen/v1/apply", _apply_many)
    add("GET", "/lateen/v1/history", _history)
    for prefix in _PREFIXES:
        add("GET", prefix, _resources)
        for place in ("/{plural}", "/namespaces/{namespace}/{plural}"):
            add("GET", prefix + place, _list)
            add("POST", prefix + place, _create)
            add("GET", prefix + place + "/{name}", _get)
            add("PUT", prefix + place + "/{name}", _replace)
            add("PATCH", prefix + place + "/{name}", _patch)
            add("DELETE", prefix + place + "/{name}", _delete)
            add("GET", prefix + place + "/{name}/status", _get)
            add("PUT", prefix + place + "/{name}/status", _status)
            add("PATCH", prefix + place + "/{name}/status", _status)
    return app


async def _end_watches(app: web.Application) -> None:
    """Open watches would hold a shutdown up until its time is over."""
    watches = app[_WATCHES]
    for subscription in tuple(watches):
        subscription.close()


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


def peer_of(request: web.Request) -> tuple[int, int]:
    """Process id and user id of the caller, as the kernel states them (``SO_PEERCRED``)."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport else None
    if connection is None or connection.family != socket.AF_UNIX:
        return 0, -1
    pid, uid, _gid = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    return pid, uid


def answer(data: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=msgspec.json.encode(data), status=status, content_type="application/json"
    )


def finding_data(finding: Finding) -> Raw:
    """A finding as the JSON that `validate -o json` documents."""
    key = finding.key
    return {
        "rule": finding.rule,
        "severity": str(finding.severity),
        "file": finding.provenance.path,
        "document": finding.provenance.document,
        "path": list(finding.path),
        "line": finding.line or finding.provenance.line,
        "column": finding.column,
        "object": {"kind": key.kind, "namespace": key.namespace, "name": key.name} if key else None,
        "message": finding.message,
        "hint": finding.hint,
    }


@web.middleware
async def _only_owners(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    _pid, uid = peer_of(request)
    if uid not in request.app[_OWNERS]:
        return _failure(403, "Forbidden", "this mesh belongs to another user")
    return await handler(request)


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        details = {"causes": [finding_data(finding) for finding in refused.findings]}
        return _failure(422, "Invalid", str(refused), details)
    except AddressInUse as error:
        return _failure(422, "Invalid", str(error))
    except Conflict as error:
        return _failure(409, "Conflict", str(error))
    except HistoryGone as error:
        return _failure(410, "Expired", str(error))
    except StoreError as error:
        return _failure(507, "InternalError", str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _failure(400, "BadRequest", f"the request's body is not JSON: {error}")


def _failure(code: int, reason: str, message: str, details: Raw | None = None) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
        "details": details or {},
    }
    return answer(status, code)


async def _version(_request: web.Request) -> web.Response:
    return answer({"major": "1", "minor": "34", "gitVersion": f"v1.34.0+lateen-{__version__}"})


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _core_versions(_request: web.Request) -> web.Response:
    return answer({"kind": "APIVersions", "versions": ["v1"]})


async def _groups(_request: web.Request) -> web.Response:
    versions: dict[str, list[str]] = {}
    for info in all_kinds().values():
        if info.group:
            known = versions.setdefault(info.group, [])
            known += [version for version in info.versions if version not in known]
    groups = []
    for group, served in sorted(versions.items()):
        entries = [{"groupVersion": f"{group}/{v}", "version": v} for v in served]
        groups.append({"name": group, "versions": entries, "preferredVersion": entries[0]})
    return answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})


async def _resources(request: web.Request) -> web.Response:
    group, version = request.match_info.get("group", ""), request.match_info["version"]
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = []
    for info in all_kinds().values():
        if info.group == group and version in info.versions:
            entry = {
                "name": info.plural,
                "singularName": info.singular,
                "namespaced": info.namespaced,
                "kind": info.kind,
                "verbs": verbs,
                "shortNames": list(info.short_names),
            }
            resources.append(entry)
            if info.status_subresource:
                status = {**entry, "name": f"{info.plural}/status", "verbs": ["get", "patch"]}
                resources.append({**status, "shortNames": []})
    if not resources:
        return _failure(404, "NotFound", f"no API {group}/{version}".replace(" /", " "))
    name = f"{group}/{version}" if group else version
    return answer(
        {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": name,
            "resources": resources,
        }
    )


def _kind(request: web.Request) -> KindInfo:
    found = request.match_info
    info = kind_by_plural(found.get("group", ""), found["plural"])
    if info is None or found["version"] not in info.versions:
        what = f"{found.get('group', '') or 'core'}/{found['version']} {found['plural']}"
        raise web.HTTPNotFound(
            body=msgspec.json.encode({"kind": "Status", "code": 404, "message": f"no kind {what}"}),
            content_type="application/json",
        )
    return info


def _current(request: web.Request, info: KindInfo) -> StoredObject:
    found = request.match_info
    namespace = found.get("namespace", "") if info.namespaced else ""
    key = ObjectKey(info.group, info.kind, namespace, found["name"])
    stored = request.app[WRITER].store.get(key)
    if stored is None:
        message = f'{info.plural} "{found["name"]}" not found'
        raise web.HTTPNotFound(
            body=msgspec.json.encode(
                {"kind": "Status", "code": 404, "reason": "NotFound", "message": message}
            ),
            content_type="application/json",
        )
    return stored


async def _get(request: web.Request) -> web.Response:
    return answer(_shown(request, _current(request, _kind(request))))


async def _list(request: web.Request) -> web.StreamResponse:
    info = _kind(request)
    store = request.app[WRITER].store
    namespace = request.match_info.get("namespace", "")
    selects = _selector(request)
    if request.query.get("watch") in ("1", "true"):
        return await _watch(request, info, namespace, selects)
    items = [
        _shown(request, stored)
        for stored in store.select(info.group, info.kind, namespace)
        if selects(stored.raw)
    ]
    return answer(
        {
            "kind": f"{info.kind}List",
            "apiVersion": info.api_version,
            "metadata": {"resourceVersion": str(store.revision)},
            "items": items,
        }
    )


async def _watch(
    request: web.Request, info: KindInfo, namespace: str, selects: Callable[[Raw], bool]
) -> web.StreamResponse:
    store = request.app[WRITER].store
    since = request.query.get("resourceVersion", "")
    subscription = store.subscribe(int(since) if since.isdigit() else None)
    request.app[_WATCHES].add(subscription)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    try:
        while True:
            try:
                async with asyncio.timeout(BOOKMARK_INTERVAL):
                    batch = await subscription.next_batch()
            except TimeoutError:
                await response.write(_bookmark(info, store.revision))
                continue
            lines = bytearray()
            for event in batch:
                key = event.object.key
                if (key.group, key.kind) != (info.group, info.kind):
                    continue
                if namespace and key.namespace != namespace:
                    continue
                now = event.verb != "DELETED" and selects(event.object.raw)
                before = event.previous is not None and selects(event.previous.raw)
                if not now and not before:
                    continue
                verb = event.verb if now == before else ("ADDED" if now else "DELETED")
                line = {"type": verb, "object": _shown(request, event.object)}
                lines += msgspec.json.encode(line) + b"\n"
            if lines:
                await response.write(bytes(lines))
            if not batch:
                break
        if subscription.overflowed:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too far behind"}
            await response.write(msgspec.json.encode({"type": "ERROR", "object": gone}) + b"\n")
    finally:
        subscription.close()
        request.app[_WATCHES].discard(subscription)
    return response


def _bookmark(info: KindInfo, revision: int) -> bytes:
    mark = {
        "kind": info.kind,
        "apiVersion": info.api_version,
        "metadata": {"resourceVersion": str(revision)},
    }
    return msgspec.json.encode({"type": "BOOKMARK", "object": mark}) + b"\n"


async def _create(request: web.Request) -> web.Response:
    info = _kind(request)
    raw = await _body(request)
    if info.namespaced:
        namespace = request.match_info.get("namespace", "default")
        raw["metadata"] = {**(raw.get("metadata") or {}), "namespace": namespace}
    stored = request.app[WRITER].create(info, raw, _who(request), _provenance(request))
    return answer(_shown(request, stored), 201)


async def _replace(request: web.Request) -> web.Response:
    info = _kind(request)
    current = _current(request, info)
    raw = await _body(request)
    writer = request.app[WRITER]
    stored = writer.replace(info, current, raw, _who(request), _given_provenance(request))
    return answer(_shown(request, stored))


async def _patch(request: web.Request) -> web.Response:
    info = _kind(request)
    writer = request.app[WRITER]
    raw = await _body(request)
    if request.content_type == "application/apply-patch+yaml":
        manager = request.query.get("fieldManager", "")
        if not manager:
            return _failure(400, "BadRequest", "fieldManager is required for apply patch")
        found = request.match_info
        raw["metadata"] = {**(raw.get("metadata") or {}), "name": found["name"]}
        if info.namespaced:
            raw["metadata"]["namespace"] = found.get("namespace", "default")
        raw = {"apiVersion": info.api_version, "kind": info.kind, **raw}
        key = ObjectKey(info.group, info.kind, raw["metadata"].get("namespace", ""), found["name"])
        existing = writer.store.get(key)
        if existing is None:
            merged = server_side_apply(None, raw, manager)
            stored = writer.create(info, merged, _who(request), _provenance(request))
            return answer(_shown(request, stored), 201)
        current = existing
        raw = server_side_apply(current.raw, raw, manager)
        raw["metadata"] = {**raw["metadata"], "resourceVersion": str(current.revision)}
    elif request.content_type == "application/json-patch+json":
        return _failure(415, "UnsupportedMediaType", "send a merge patch or an apply patch")
    else:
        current = _current(request, info)
        raw = merge_patch(current.raw, raw)
    stored = writer.replace(info, current, raw, _who(request), _given_provenance(request))
    return answer(_shown(request, stored))


async def _status(request: web.Request) -> web.Response:
    current = _current(request, _kind(request))
    raw = await _body(request)
    stored = request.app[WRITER].patch_status(current, raw.get("status"), _who(request))
    return answer(_shown(request, stored))


async def _delete(request: web.Request) -> web.Response:
    info = _kind(request)
    current = _current(request, info)
    text = request.query.get("gracePeriodSeconds", "")
    grace = int(text) if text.isdigit() else None
    stored = request.app[WRITER].delete(current, _who(request), grace)
    return answer(_shown(request, stored))


class _ApplyDocument(msgspec.Struct):
    raw: Raw
    path: str = ""
    line: int = 0
    document: int = 0


class _ApplyRequest(msgspec.Struct):
    documents: list[_ApplyDocument]
    manager: str = "lateen"
    wait: bool = False
    timeout: float = 30.0


async def _apply_many(request: web.Request) -> web.StreamResponse:
    wanted = msgspec.json.decode(await request.read(), type=_ApplyRequest)
    documents = [
        Document(item.raw, Provenance(item.path, item.document, item.line, "file"))
        for item in wanted.documents
    ]
    outcomes = request.app[WRITER].apply(documents, wanted.manager, _who(request))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for outcome in outcomes:
        await response.write(msgspec.json.encode(_outcome_data(outcome)) + b"\n")
    waiter = request.app[WAITER].get("wait")
    newest = max((outcome.revision for outcome in outcomes), default=0)
    if wanted.wait and waiter is not None and newest:
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
    events = request.app[WRITER].store.history(key, min(int(query.get("limit", "100")), 1000))
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
        for event in events
    ]
    return answer({"items": items})


def _shown(request: web.Request, stored: StoredObject) -> Raw:
    if request.query.get("provenance") != "1":
        return stored.raw
    place = stored.provenance
    return {
        **stored.raw,
        "provenance": {"path": place.path, "line": place.line, "document": place.document},
    }


async def _body(request: web.Request) -> Raw:
    return msgspec.json.decode(await request.read() or b"{}", type=Raw)


def _who(request: web.Request) -> str:
    pid, uid = peer_of(request)
    agent = request.headers.get("User-Agent", "")[:60]
    return f"uid {uid} pid {pid}" + (f" {agent}" if agent else "")


def _given_provenance(request: web.Request) -> Provenance | None:
    header = request.headers.get("Lateen-Provenance", "")
    path, _, rest = header.rpartition(":")
    path, _, line = path.rpartition(":")
    if not path:
        return None
    return Provenance(
        path, int(rest) if rest.isdigit() else 0, int(line) if line.isdigit() else 0, "file"
    )


def _provenance(request: web.Request) -> Provenance:
    return _given_provenance(request) or Provenance(origin="api")


def _selector(request: web.Request) -> Callable[[Raw], bool]:
    return selector(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
