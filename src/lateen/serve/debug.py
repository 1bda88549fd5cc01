"""The debug endpoints as one table, for HTTP (`monitoring`), the API socket and xDS.

A handler gets the control plane and the query and gives JSON data. It raises ``LookupError`` for
what does not exist and ``ValueError`` for what was asked wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lateen.serve import debug_mesh, debug_proxies, profiles
from lateen.serve.control_plane import ControlPlane
from lateen.serve.serving import Serving

Query = Mapping[str, str]
Handler = Callable[[Serving, Query], object]
JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint gives."""

    body: bytes
    content_type: str = JSON


HANDLERS: Mapping[str, Handler] = {
    "adsz": debug_proxies.adsz,
    "authorizationz": debug_mesh.authorizationz,
    "cachez": debug_proxies.cachez,
    "clusterz": debug_mesh.clusterz,
    "config_dump": debug_proxies.dump,
    "configz": debug_mesh.configz,
    "connections": debug_proxies.connections,
    "ecdsz": debug_proxies.ecdsz,
    "edsz": debug_proxies.edsz,
    "endpointShardz": debug_mesh.endpoint_shards,
    "endpointz": debug_mesh.endpoint_shards,
    "inject": debug_mesh.inject,
    "instancesz": debug_proxies.instancesz,
    "mcsz": debug_mesh.mcsz,
    "mesh": debug_mesh.mesh,
    "ndsz": debug_proxies.ndsz,
    "networkz": debug_mesh.networkz,
    "push_status": debug_proxies.push_status,
    "pushcontext": debug_mesh.pushcontext,
    "registryz": debug_mesh.registryz,
    "resourcesz": debug_mesh.resourcesz,
    "scopez": debug_proxies.scopez,
    "sidecarz": debug_proxies.sidecarz,
    "syncz": debug_proxies.syncz,
    "tasks": debug_proxies.tasks,
    "telemetryz": debug_mesh.telemetryz,
}
_PER_PROCESS = frozenset({"adsz", "connections", "instancesz", "scopez", "syncz", "tasks"})
"""What each process says of its own proxies."""
OWN_NAMESPACE = frozenset({"config_dump", "ndsz", "edsz"})
"""What workloads outside the root namespace may ask about proxies of their own namespace."""


async def answer(plane: Serving, name: str, query: Query) -> Answer:
    """The answer of ``/debug/NAME``. Raises ``LookupError`` and ``ValueError``."""
    if name in ("", "list"):
        return _json(endpoints())
    profile = _PROFILES.get(name)
    if profile is not None:
        return await profile(query)
    handler = HANDLERS.get(name)
    if handler is None:
        raise LookupError(f"there is no /debug/{name}; /debug/list names all")
    workers = plane.workers if isinstance(plane, ControlPlane) else None
    if workers is None or query.get("push") == "true":
        return _json(handler(plane, query))
    if query.get("proxyID"):
        try:
            return _json(handler(plane, query))
        except LookupError:
            for body, kind in await workers.debug(name, query):
                return Answer(body, kind)  # a proxy is connected to one process
            raise
    own = handler(plane, query)
    if name in _PER_PROCESS:
        for body, _ in await workers.debug(name, query):
            own = _joined(own, json.loads(body))
    return _json(own)


def _joined(left: Any, right: Any) -> Any:  # noqa: ANN401 - JSON
    """What two processes say of their proxies as one."""
    if isinstance(left, list):
        return left + right
    if isinstance(left, dict):
        return {
            **left,
            **right,
            **{key: _joined(left[key], right[key]) for key in left if key in right},
        }
    return left + right if isinstance(left, int) else left


def endpoints() -> dict[str, str]:
    """Path to summary of every endpoint."""
    found = {f"/debug/{name}": _summary(handler) for name, handler in HANDLERS.items()}
    found |= {f"/debug/{name}": _summary(profile) for name, profile in _PROFILES.items()}
    return dict(sorted({**found, "/debug/list": "These endpoints."}.items()))


async def _cpu(query: Query) -> Answer:
    """Where time goes: ``?seconds=30``, ``?format=pprof|collapsed``."""
    kind = query.get("format", "pprof")
    if kind not in ("pprof", "collapsed"):
        raise ValueError("format must be pprof or collapsed")
    profile = await profiles.cpu_profile(_seconds(query, 30.0))
    if kind == "collapsed":
        return Answer(profiles.collapsed(profile).encode(), TEXT)
    return Answer(profiles.pprof(profile), BINARY)


async def _heap(query: Query) -> Answer:
    """Objects held by type; with ``?seconds=N`` what N seconds allocate and keep, by line."""
    seconds = _seconds(query, 0.0)
    return _json(await profiles.allocations(seconds) if seconds else profiles.heap())


async def _stacks(_query: Query) -> Answer:
    """Stacks of all threads and tasks."""
    return Answer(profiles.stacks().encode(), TEXT)


_PROFILES: Mapping[str, Callable[[Query], Awaitable[Answer]]] = {
    "pprof/profile": _cpu,
    "pprof/heap": _heap,
    "pprof/goroutine": _stacks,
    "pprof/stacks": _stacks,
}


def _seconds(query: Query, default: float) -> float:
    try:
        seconds = float(query.get("seconds", default))
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= profiles.MAX_SECONDS:
        raise ValueError(f"seconds must be a number from 0 to {profiles.MAX_SECONDS:g}")
    return seconds


def _json(data: object) -> Answer:
    return Answer(json.dumps(data, indent=2, default=str).encode() + b"\n")


def _summary(function: Callable[..., object]) -> str:
    return " ".join((function.__doc__ or "").split()).partition(". ")[0].rstrip(".") + "."
