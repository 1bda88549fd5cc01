"""Discovery documents of the API: which groups, versions and kinds there are."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from lateen import __version__
from lateen.api.kinds import KindInfo, all_kinds
from lateen.source.api_common import ApiFailure, answer

Raw = dict[str, Any]
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def add_routes(add: Any) -> None:  # noqa: ANN401 - aiohttp's add_route has no name of its own
    """Register the handlers."""
    add("GET", "/version", _version)
    add("GET", "/healthz", _healthy)
    add("GET", "/livez", _healthy)
    add("GET", "/readyz", _healthy)
    add("GET", "/api", _core_versions)
    add("GET", "/apis", _groups)
    add("GET", "/apis/{group}", _group)
    add("GET", "/api/{version}", _resources)
    add("GET", "/apis/{group}/{version}", _resources)


async def _version(_request: web.Request) -> web.Response:
    return answer({"major": "1", "minor": "34", "gitVersion": f"v1.34.0+lateen-{__version__}"})


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _core_versions(_request: web.Request) -> web.Response:
    return answer({"kind": "APIVersions", "versions": ["v1"]})


async def _groups(_request: web.Request) -> web.Response:
    groups = [
        _group_data(group) for group in sorted({i.group for i in all_kinds().values()} - {""})
    ]
    return answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})


async def _group(request: web.Request) -> web.Response:
    data = _group_data(request.match_info["group"])
    if not data["versions"]:
        raise ApiFailure(404, "NotFound", f"no API group {data['name']}")
    return answer({"kind": "APIGroup", "apiVersion": "v1", **data})


def _group_data(group: str) -> Raw:
    served = dict.fromkeys(
        version for info in all_kinds().values() if info.group == group for version in info.versions
    )
    entries = [{"groupVersion": f"{group}/{v}", "version": v} for v in served]
    return {"name": group, "versions": entries, "preferredVersion": entries[0] if entries else {}}


async def _resources(request: web.Request) -> web.Response:
    group, version = request.match_info.get("group", ""), request.match_info["version"]
    name = f"{group}/{version}" if group else version
    resources = [
        entry
        for info in all_kinds().values()
        if info.group == group and version in info.versions
        for entry in _entries(info)
    ]
    if not resources:
        raise ApiFailure(404, "NotFound", f"no API {name}")
    return answer(
        {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": name,
            "resources": resources,
        }
    )


def _entries(info: KindInfo) -> list[Raw]:
    entry = {
        "name": info.plural,
        "singularName": info.singular,
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": _VERBS,
        "shortNames": list(info.short_names),
    }
    if not info.status_subresource:
        return [entry]
    status = {**entry, "name": f"{info.plural}/status", "verbs": ["get", "patch", "update"]}
    return [entry, {**status, "shortNames": []}]
