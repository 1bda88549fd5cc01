"""Objects over HTTP: get, list, create, replace, patch, status, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from lateen.api.kinds import KindInfo, kind_by_plural
from lateen.api.resource import ObjectKey, Provenance
from lateen.api.yamltext import YamlError, load, split_documents
from lateen.source.api_common import (
    WRITER,
    ApiFailure,
    answer,
    given_provenance,
    number,
    who,
)
from lateen.source.api_watch import watch
from lateen.source.field_owners import server_side_apply
from lateen.source.merge import json_patch, merge_patch, strategic_merge
from lateen.source.selectors import selector
from lateen.source.store import Conflict, StoredObject

Raw = dict[str, Any]
_APPLY = ("application/apply-patch+yaml", "application/apply-patch+json")
_PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge,
    "application/json-patch+json": json_patch,
    # What clients send that name no kind of patch.
    "application/json": merge_patch,
}


def add_routes(add: Any) -> None:  # noqa: ANN401 - aiohttp's add_route has no name of its own
    """Register the handlers."""
    for prefix in ("/api/{version}", "/apis/{group}/{version}"):
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


def _kind(request: web.Request) -> KindInfo:
    found = request.match_info
    info = kind_by_plural(found.get("group", ""), found["plural"])
    where = f"{found.get('group', '') or 'core'}/{found['version']}"
    if info is None or found["version"] not in info.versions:
        raise ApiFailure(404, "NotFound", f"no kind {found['plural']} in {where}")
    if found.get("namespace") and not info.namespaced:
        raise ApiFailure(404, "NotFound", f"{info.plural} in {where} are not in namespaces")
    return info


def _key(request: web.Request, info: KindInfo) -> ObjectKey:
    found = request.match_info
    namespace = found.get("namespace", "") if info.namespaced else ""
    return ObjectKey(info.group, info.kind, namespace, found["name"])


def _current(request: web.Request, info: KindInfo) -> StoredObject:
    key = _key(request, info)
    stored = request.app[WRITER].store.get(key)
    if stored is None:
        place = f" in namespace {key.namespace}" if key.namespace else ""
        raise ApiFailure(404, "NotFound", f'{info.plural} "{key.name}" not found{place}')
    return stored


async def _get(request: web.Request) -> web.Response:
    return answer(_shown(request, _current(request, _kind(request))))


async def _list(request: web.Request) -> web.StreamResponse:
    info = _kind(request)
    store = request.app[WRITER].store
    namespace = request.match_info.get("namespace", "")
    selects = selector(
        request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
    )
    if request.query.get("watch") in ("1", "true"):
        return await watch(request, info, namespace, selects, lambda o: _shown(request, o))
    items = [
        _shown(request, stored)
        for stored in store.select(info.group, info.kind, namespace)
        if selects(stored.raw)
    ]
    return answer(
        {
            "kind": f"{info.kind}List",
            "apiVersion": info.api_version,
            # `limit` may be exceeded (Kubernetes API concepts): everything comes in one piece.
            "metadata": {"resourceVersion": str(store.revision)},
            "items": items,
        }
    )


async def _create(request: web.Request) -> web.Response:
    info = _kind(request)
    raw = await _body(request)
    metadata = dict(raw.get("metadata") or {})
    metadata.pop("managedFields", None)
    if info.namespaced:
        namespace = request.match_info.get("namespace") or metadata.get("namespace") or "default"
        if metadata.get("namespace") not in (None, "", namespace):
            raise ApiFailure(
                400,
                "BadRequest",
                f"metadata.namespace {metadata['namespace']!r} is not that of the request, "
                f"{namespace!r}",
            )
        metadata["namespace"] = namespace
    if raw.get("kind") not in (None, "", info.kind):
        message = f"kind {raw['kind']!r} is not that of the request, {info.kind}"
        raise ApiFailure(400, "BadRequest", message)
    stored = request.app[WRITER].create(
        info,
        {**raw, "metadata": metadata},
        who(request),
        _provenance(request),
        dry_run=_dry_run(request),
    )
    return answer(_shown(request, stored), 201)


async def _replace(request: web.Request) -> web.Response:
    info = _kind(request)
    raw = await _body(request)
    current = _current(request, info)
    metadata = raw.get("metadata")
    if isinstance(metadata, dict):
        owners = current.raw["metadata"].get("managedFields")
        raw["metadata"] = {k: v for k, v in metadata.items() if k != "managedFields"}
        if owners:
            raw["metadata"]["managedFields"] = owners
    return _replaced(request, info, current, raw)


async def _patch(request: web.Request) -> web.Response:
    info = _kind(request)
    patch = await _json(request)
    if request.content_type in _APPLY:
        return _applied(request, info, _mapping(patch))
    function = _PATCHES.get(request.content_type)
    if function is None:
        known = ", ".join([*_APPLY, *_PATCHES])
        message = f"patches of type {request.content_type} are not known; send {known}"
        raise ApiFailure(415, "UnsupportedMediaType", message)
    current = _current(request, info)
    return _replaced(request, info, current, _mapping(function(current.raw, patch)))


def _applied(request: web.Request, info: KindInfo, raw: Raw) -> web.Response:
    manager = request.query.get("fieldManager", "")
    if not manager:
        raise ApiFailure(400, "BadRequest", "fieldManager is required for apply patch")
    key = _key(request, info)
    metadata = dict(raw.get("metadata") or {})
    metadata.setdefault("name", key.name)
    if key.namespace:
        metadata.setdefault("namespace", key.namespace)
    raw = {"apiVersion": info.api_version, "kind": info.kind, **raw, "metadata": metadata}
    if (metadata["name"], metadata.get("namespace", "")) != (key.name, key.namespace):
        raise ApiFailure(400, "BadRequest", "metadata names another object than the request")
    writer = request.app[WRITER]
    current = writer.store.get(key)
    force = request.query.get("force") == "true"
    merged = server_side_apply(current.raw if current else None, raw, manager, force=force)
    if current is not None:
        return _replaced(request, info, current, merged)
    if metadata.get("resourceVersion"):
        raise Conflict(f"{key} does not exist, and the change was made for an existing one")
    stored = writer.create(
        info, merged, who(request), _provenance(request), dry_run=_dry_run(request)
    )
    return answer(_shown(request, stored), 201)


def _replaced(
    request: web.Request, info: KindInfo, current: StoredObject, raw: Raw
) -> web.Response:
    stored = request.app[WRITER].replace(
        info,
        current,
        raw,
        who(request),
        given_provenance(request),
        dry_run=_dry_run(request),
    )
    return answer(_shown(request, stored))


async def _status(request: web.Request) -> web.Response:
    info = _kind(request)
    if not info.status_subresource:
        raise ApiFailure(404, "NotFound", f"{info.plural} have no status subresource")
    raw = await _body(request)
    current = _current(request, info)
    metadata = raw.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if version and str(version) != str(current.revision):
        raise Conflict(f"{current.key} is at resourceVersion {current.revision}, not {version}")
    status = raw.get("status")
    if status is not None and not isinstance(status, dict):
        raise ApiFailure(422, "Invalid", "status must be an object")
    stored = request.app[WRITER].patch_status(
        current,
        status,
        who(request),
        whole=request.method == "PUT",
        dry_run=_dry_run(request),
    )
    return answer(_shown(request, stored))


async def _delete(request: web.Request) -> web.Response:
    info = _kind(request)
    # `DeleteOptions` may come as a body; the query is what older clients send.
    options = await _body(request)
    current = _current(request, info)
    wanted = options.get("preconditions") or {}
    actual = {"uid": current.raw["metadata"].get("uid"), "resourceVersion": str(current.revision)}
    for name, value in wanted.items() if isinstance(wanted, dict) else ():
        if value and name in actual and actual[name] != value:
            raise Conflict(f"{current.key} has {name} {actual[name]}, not {value}")
    grace = options.get("gracePeriodSeconds")
    if not isinstance(grace, int) or grace < 0:
        grace = number(request.query.get("gracePeriodSeconds", ""))
    dry_run = _dry_run(request) or options.get("dryRun") == ["All"]
    stored = request.app[WRITER].delete(current, who(request), grace, dry_run=dry_run)
    return answer(_shown(request, stored))


def _shown(request: web.Request, stored: StoredObject) -> Raw:
    if request.query.get("provenance") != "1":
        return stored.raw
    place = stored.provenance
    return {
        **stored.raw,
        "provenance": {"path": place.path, "line": place.line, "document": place.document},
    }


def _dry_run(request: web.Request) -> bool:
    text = request.query.get("dryRun", "")
    if text not in ("", "All"):
        raise ApiFailure(400, "BadRequest", f"dryRun {text!r} is not All")
    return text == "All"


async def _json(request: web.Request) -> Any:  # noqa: ANN401 - whatever the caller sent
    body = await request.read() or b"{}"
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        if "yaml" not in request.content_type:
            raise
    try:
        documents = split_documents(body.decode())
        return load(documents[0]) if documents else {}
    except YamlError as error:
        raise ApiFailure(400, "BadRequest", f"the body is not YAML: {error}") from error


async def _body(request: web.Request) -> Raw:
    return _mapping(await _json(request))


def _mapping(value: Any) -> Raw:  # noqa: ANN401 - whatever the caller sent
    if not isinstance(value, dict):
        raise ApiFailure(400, "BadRequest", "the body is not a JSON object")
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ApiFailure(400, "BadRequest", "metadata is not a JSON object")
    return value


def _provenance(request: web.Request) -> Provenance:
    return given_provenance(request) or Provenance(origin="api")
