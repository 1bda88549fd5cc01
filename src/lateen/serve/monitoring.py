"""Metrics, readiness and debug endpoints over HTTP on the metrics port (15014).

``/metrics``, ``/ready`` and ``/version`` answer everyone. ``/debug/*`` shows configuration, so it
answers callers on the loopback interface only; the mesh's owner has the same under
``/lateen/v1/debug/`` on the API socket, and workloads of the root namespace over xDS (see
`lateen.serve.debug_stream`).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from lateen import __version__
from lateen.serve import debug
from lateen.serve.control_plane import ControlPlane
from lateen.serve.merged import exported, merged
from lateen.serve.mesh_metrics import proxy_metrics
from lateen.serve.metrics import CONTENT_TYPE, render

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_monitoring(plane: ControlPlane) -> web.Application:
    """The HTTP application of the metrics port."""
    app = web.Application(client_max_size=64 * 1024)

    async def metrics(request: web.Request) -> web.Response:
        if plane.workers is None or request.query.get("process") == "first":
            body = plane.metrics.render()
        else:
            others = await plane.workers.metrics()
            body = render(merged([exported(plane.metrics.registry), *others]))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def proxies(_request: web.Request) -> web.Response:
        others = await plane.workers.metrics("proxies") if plane.workers is not None else []
        body = render(merged([exported(proxy_metrics(plane)), *others]))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def ready(_request: web.Request) -> web.Response:
        if plane.server.ready:
            return web.Response(text="ok\n")
        return web.Response(text="reading configuration\n", status=503)

    async def version(_request: web.Request) -> web.Response:
        text = json.dumps({"version": __version__}) + "\n"
        return web.Response(text=text, content_type=debug.JSON)

    async def debugging(request: web.Request) -> web.Response:
        if not is_local(request.remote or "", request.headers.get("Host", "")):
            text = "debug endpoints answer only on this machine (loopback)\n"
            return web.Response(status=403, text=text)
        return await debug_response(plane, request)

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/metrics/proxies", proxies)
    app.router.add_get("/ready", ready)
    app.router.add_get("/version", version)
    app.router.add_get("/debug", debugging)
    app.router.add_get("/debug/{name:.*}", debugging)
    return app


async def debug_response(plane: ControlPlane, request: web.Request) -> web.Response:
    """The answer to a request for ``.../debug/{name}`` by somebody who may ask."""
    try:
        found = await debug.answer(plane, request.match_info.get("name", ""), request.query)
    except LookupError as error:
        return web.Response(status=404, text=f"{error.args[0]}\n")
    except ValueError as error:
        return web.Response(status=400, text=f"{error.args[0]}\n")
    return web.Response(body=found.body, content_type=found.content_type)


def is_local(remote: str, host: str) -> bool:
    """Whether a request came over the loopback interface and was meant to.

    The ``Host`` header must name an address or ``localhost``: a page in a browser on this machine
    that has its own name resolve to loopback (DNS rebinding) sends that name.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    try:
        local = ipaddress.ip_address(remote).is_loopback
        return local and (name == "localhost" or bool(ipaddress.ip_address(name.strip("[]"))))
    except ValueError:
        return False
