"""A real Envoy for the tests: a static bootstrap, ports of our own, a process of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.ports import free_port

MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network"
    ".http_connection_manager.v3.HttpConnectionManager"
)
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


class LocalProcess:
    """A process of this machine with the interface of a container."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> int:
        return await self._process.wait()

    async def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


class Pod:
    """Ports standing for a pod's, and processes started in it."""

    def __init__(self, directory: Path) -> None:
        self.ports = {15000: free_port(), 15021: free_port(), 15006: free_port(), 8080: free_port()}
        self.bootstrap = directory / "bootstrap.json"
        self.started: list[LocalProcess] = []
        self.commands: list[tuple[str, ...]] = []
        self.fail_starts = 0

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.ports.get(port, port))

    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> LocalProcess:
        if self.fail_starts:
            self.fail_starts -= 1
            raise OSError("no memory left")
        self.commands.append(argv)
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append(LocalProcess(process))
        return self.started[-1]

    async def clean_up(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await process.wait()

    def write_bootstrap(self) -> None:
        """Admin and readiness like a sidecar's; an inbound listener that leads to port 8080."""
        clusters = [
            static_cluster("agent", self.ports[15000]),
            static_cluster("app", self.ports[8080]),
        ]
        listeners = [
            http_listener("0.0.0.0_15021", self.ports[15021], "agent", "/ready"),
            http_listener("0.0.0.0_15006", self.ports[15006], "app", ""),
        ]
        listeners[1]["stat_prefix"] = "0.0.0.0_15006"
        listeners[0]["stat_prefix"] = "0.0.0.0_15021"
        content = {
            "node": {"id": "sidecar~10.0.0.1~web.default~default.svc.cluster.local"},
            "admin": {"address": address(self.ports[15000])},
            "static_resources": {"clusters": clusters, "listeners": listeners},
        }
        self.bootstrap.write_text(json.dumps(content))


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def static_cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address(port)}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "type": "STATIC", "load_assignment": assignment}


def http_listener(name: str, port: int, cluster: str, rewrite: str) -> dict[str, Any]:
    action: dict[str, Any] = {"cluster": cluster, "timeout": "0s"}
    if rewrite:
        action["regex_rewrite"] = {"pattern": {"regex": "^.*$"}, "substitution": rewrite}
    hosts = [
        {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": action}]}
    ]
    manager = {
        "@type": MANAGER,
        "stat_prefix": "agent" if rewrite else "inbound_0.0.0.0_8080",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    return {
        "name": name,
        "address": address(port),
        "traffic_direction": "INBOUND",
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
