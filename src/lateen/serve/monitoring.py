"""Metrics, readiness and debug endpoints over HTTP on the metrics port (15014).

``/metrics``, ``/ready`` and ``/version`` answer everyone. ``/debug/*`` shows configuration, so
it answers callers of the machine itself only; others use the API socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable

from aiohttp import web

from lateen import __version__
from lateen.serve.api import find_proxy, status_data
from lateen.serve.control_plane import ControlPlane
from lateen.serve.metrics import CONTENT_TYPE, short_name
from lateen.serve.status import config_dump, proxy_status, type_state

_Debug = Callable[[ControlPlane, web.Request], object]


def make_monitoring(plane: ControlPlane) -> web.Application:
    """The HTTP application of the metrics port."""
    app = web.Application(client_max_size=64 * 1024)

    async def metrics(_request: web.Request) -> web.Response:
        body = plane.metrics.render()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def ready(_request: web.Request) -> web.Response:
        if plane.server.ready:
            return web.Response(text="ok\n")
        return web.Response(text="reading configuration\n", status=503)

    async def version(_request: web.Request) -> web.Response:
        return _json({"version": __version__})

    async def debug(request: web.Request) -> web.Response:
        if not _is_local(request):
            return web.Response(
                status=403, text="debug endpoints answer only on this machine (loopback)\n"
            )
        name = request.match_info["name"]
        if name in ("", "list"):
            return _json(sorted(f"/debug/{item}" for item in DEBUG))
        handler = DEBUG.get(name)
        if handler is None:
            return web.Response(status=404, text=f"no /debug/{name}; see /debug/list\n")
        try:
            return _json(handler(plane, request))
        except LookupError as error:
            return web.Response(status=404, text=f"{error.args[0]}\n")

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/ready", ready)
    app.router.add_get("/version", version)
    app.router.add_get("/debug/{name:.*}", debug)
    return app


def syncz(plane: ControlPlane, _request: web.Request) -> object:
    """Per proxy and type, the last nonce sent and acknowledged (Istio's shape)."""
    rows = []
    for connection in plane.server.connections:
        row: dict[str, object] = {
            "cluster_id": connection.proxy.identity.cluster,
            "proxy": f"{connection.proxy.name}.{connection.proxy.namespace}",
            "proxy_type": str(connection.proxy.type),
            "istio_version": __version__,
        }
        for type_url, name in (
            (url, name)
            for url in connection.session.subscriptions
            for name in [_LONG.get(short_name(url), "")]
            if name
        ):
            subscription = connection.session.subscriptions[type_url]
            row[f"{name}_sent"] = subscription.last_sent_nonce
            row[f"{name}_acked"] = subscription.last_acked_nonce
            row[f"{name}_state"] = type_state(subscription)
        rows.append(row)
    return sorted(rows, key=lambda row: str(row["proxy"]))


def registryz(plane: ControlPlane, _request: web.Request) -> object:
    """All services."""
    return [
        {
            "hostname": service.hostname,
            "namespace": service.namespace,
            "registry": str(service.registry),
            "resolution": str(service.resolution),
            "addresses": list(service.addresses),
            "ports": [
                {"name": port.name, "port": port.number, "protocol": str(port.protocol)}
                for port in service.ports
            ],
            "exportTo": sorted(service.export_to),
            "source": str(service.provenance),
        }
        for service in plane.snapshot.services.all()
    ]


def endpointz(plane: ControlPlane, _request: web.Request) -> object:
    """All endpoints by service."""
    return [
        {
            "hostname": service.hostname,
            "namespace": service.namespace,
            "endpoints": [
                {
                    "address": endpoint.address,
                    "port": endpoint.port,
                    "servicePort": endpoint.service_port,
                    "health": str(endpoint.health),
                    "mtls": endpoint.mtls,
                    "identity": endpoint.identity.spiffe_id if endpoint.identity else "",
                    "locality": "/".join(
                        (
                            endpoint.locality.region,
                            endpoint.locality.zone,
                            endpoint.locality.sub_zone,
                        )
                    ).rstrip("/"),
                }
                for endpoint in plane.snapshot.services.endpoints(service)
            ],
        }
        for service in plane.snapshot.services.all()
    ]


def configz(plane: ControlPlane, _request: web.Request) -> object:
    """Keys and versions of all objects; contents are read through the API."""
    return [
        {
            "group": resource.key.group,
            "kind": resource.key.kind,
            "namespace": resource.key.namespace,
            "name": resource.key.name,
            "resourceVersion": resource.metadata.resource_version,
            "source": str(resource.provenance),
        }
        for resource in plane.snapshot.resources()
    ]


def connections(plane: ControlPlane, _request: web.Request) -> object:
    """Connected proxies."""
    return {
        "totalClients": len(plane.server.connections),
        "clients": [
            {
                "connectionId": item.proxy.id,
                "connectedAt": item.connected_at,
                "address": item.stream.peer,
                "identity": str(item.stream.identity),
            }
            for item in plane.server.connections
        ],
    }


def adsz(plane: ControlPlane, _request: web.Request) -> object:
    """Connected proxies with all they hold by type."""
    return {
        "totalClients": len(plane.server.connections),
        "clients": [proxy_status(item) for item in plane.server.connections],
    }


def dump(plane: ControlPlane, request: web.Request) -> object:
    """Configuration as sent to ``?proxyID=POD.NAMESPACE``."""
    name = request.query.get("proxyID", "")
    connection = find_proxy(plane, name)
    if connection is None:
        raise LookupError(f'no proxy "{name}" is connected; give ?proxyID=POD.NAMESPACE')
    return config_dump(connection)


def push_status(plane: ControlPlane, _request: web.Request) -> object:
    """What pushes there were and what is wrong."""
    status = status_data(plane)
    return {key: status[key] for key in ("snapshotVersion", "pushedVersion", "quarantined")} | {
        "findings": status["findings"],
        "broken": status["broken"],
    }


def scopes(plane: ControlPlane, _request: web.Request) -> object:
    """Scopes, how many proxies share each, and what they are sent."""
    return [
        {
            "type": str(state.scope.type),
            "namespace": state.scope.namespace,
            "labels": dict(state.scope.labels),
            "proxies": len(state.connections),
            "version": state.target.version,
            "resources": {
                short_name(type_url): len(view) for type_url, view in state.target.views.items()
            },
        }
        for state in plane.server.scopes.values()
    ]


def tasks(_plane: ControlPlane, _request: web.Request) -> object:
    """Running tasks of the event loop, for hangs."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return {name: names.count(name) for name in sorted(set(names))}


DEBUG: dict[str, _Debug] = {
    "syncz": syncz,
    "registryz": registryz,
    "endpointz": endpointz,
    "endpointShardz": endpointz,
    "configz": configz,
    "connections": connections,
    "adsz": adsz,
    "config_dump": dump,
    "push_status": push_status,
    "scopez": scopes,
    "tasks": tasks,
}
_LONG = {
    "cds": "cluster",
    "eds": "endpoint",
    "lds": "listener",
    "rds": "route",
    "ecds": "extension",
}


def _is_local(request: web.Request) -> bool:
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def _json(data: object) -> web.Response:
    return web.Response(
        text=json.dumps(data, indent=2, default=str) + "\n", content_type="application/json"
    )
