"""What the agent asks Envoy's admin interface (Envoy ``/help``)."""

from __future__ import annotations

import re
from typing import NamedTuple

from lateen.agent.http import Connect, HttpError, fetch

ADMIN_PORT = 15000
READY_PORT = 15021
INBOUND_PORT = 15006
_TIMEOUT = 2.0
_STAT = re.compile(
    r"^(?P<kind>listener|http|tcp)\.(?P<name>.+)"
    r"\.downstream_(?P<what>cx|rq)_active: (?P<value>\d+)$"
)
_OWN_PAGES = ("admin", "agent", "prometheus_stats")
_OWN_LISTENER = re.compile(r"admin$|_(15020|15021|15090)$|\.worker_\d+$|\.admin\.")


class Load(NamedTuple):
    """What a proxy has open for its clients: inbound only, if it has an inbound side at all."""

    connections: int
    requests: int
    """HTTP requests in progress."""
    streams: int
    """Connections proxied as TCP; whether they are in use cannot be known."""


async def is_ready(connect: Connect, ready_port: int, admin_port: int) -> bool:
    """Whether Envoy has its first configuration and serves.

    Asks the readiness page on ``ready_port``; a bootstrap without it is asked at ``/ready``.
    """
    for port, path in ((ready_port, "/healthz/ready"), (admin_port, "/ready")):
        try:
            reply = await fetch(connect, port, "GET", path, timeout=_TIMEOUT, limit=256)
        except HttpError:
            continue
        return reply.status == 200
    return False


async def begin_drain(connect: Connect, admin_port: int) -> None:
    """Fail the proxy's health check and drain inbound listeners gracefully.

    From here on every response tells its client to close the connection; new connections are still
    accepted until Envoy's drain time is over, because clients learn late. Raises `HttpError`.
    """
    for path in ("/healthcheck/fail", "/drain_listeners?inboundonly&graceful"):
        reply = await fetch(connect, admin_port, "POST", path, timeout=_TIMEOUT, limit=256)
        if reply.status != 200:
            raise HttpError(f"POST {path}: HTTP {reply.status}")


async def load(connect: Connect, admin_port: int) -> Load | None:
    """What is open now; None when the bootstrap keeps no such statistics. Raises `HttpError`."""
    path = "/stats?filter=" + r"%5E(listener|http|tcp)%5C..*downstream_(cx|rq)_active%24"
    reply = await fetch(connect, admin_port, "GET", path, timeout=_TIMEOUT)
    if reply.status != 200:
        raise HttpError(f"GET /stats: HTTP {reply.status}")
    return load_of(reply.body.decode(errors="replace"))


def load_of(stats: str) -> Load | None:
    """`Load` from Envoy's statistics in text form."""
    listeners: dict[str, int] = {}
    values: dict[str, dict[str, int]] = {"http": {}, "tcp": {}}
    for line in stats.splitlines():
        found = _STAT.match(line)
        if not found:
            continue
        kind, value = found["kind"], int(found["value"])
        name = found["name"].rstrip(";")  # Istio's mark at the end of a name with dots
        if kind == "listener":
            if not _OWN_LISTENER.search(name):
                listeners[name] = value
        elif (kind == "http") == (found["what"] == "rq") and name not in _OWN_PAGES:
            values[kind][name] = value
    if not listeners:
        return None
    inbound = {n: v for n, v in listeners.items() if n.endswith(f"_{INBOUND_PORT}")}

    def total(kind: str) -> int:
        return sum(
            v for n, v in values[kind].items() if not inbound or not n.startswith("outbound")
        )

    return Load(sum((inbound or listeners).values()), total("http"), total("tcp"))
