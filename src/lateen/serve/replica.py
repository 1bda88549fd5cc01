"""``python -m lateen.serve.replica``: a further process of a control plane, for more cores.

It has no store, no API and no authority: the process that started it tells it every change over a
socket. It serves xDS on the same port (``SO_REUSEPORT``) from a snapshot of its own. Equal objects
give equal bytes under equal versions, so a proxy may move from one process to another and is sent
nothing anew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import logging
import os
import signal
import socket
import sys
import time
from typing import Any

import msgspec
import uvloop

from lateen.api.meshconfig import MeshConfig
from lateen.model.change import ChangeSet
from lateen.model.snapshot import EMPTY, Snapshot, apply, with_mesh
from lateen.observe import log
from lateen.serve import debug, feed
from lateen.serve.channel import Channel, Value
from lateen.serve.connection import Connection
from lateen.serve.debug_stream import DebugStreams
from lateen.serve.evidence import Question, evidence
from lateen.serve.generator import MeshGenerator
from lateen.serve.http2_limits import Limits
from lateen.serve.http2_transport import Http2Transport
from lateen.serve.interpreter import keep_what_is_loaded, read_without_collecting
from lateen.serve.loop_lag import watch_lag
from lateen.serve.merged import exported
from lateen.serve.mesh_metrics import proxy_metrics
from lateen.serve.metrics import Metrics
from lateen.serve.preload import read_preload
from lateen.serve.push import DiscoveryServer, PushOptions, Rejected
from lateen.serve.quarantine import refused_resources
from lateen.serve.share_report import shares_data
from lateen.serve.status import config_dump, find_proxy, proxy_status
from lateen.serve.tls import ServerTls
from lateen.serve.withheld import decode_withheld

_log = logging.getLogger("lateen.serve.replica")
_MAX_OPEN = 1000


class Replica:
    """Follows the first process and serves."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.metrics = Metrics()
        self.snapshot: Snapshot = EMPTY
        self.server = DiscoveryServer(
            MeshGenerator(verify=options.verify_incremental),
            self.metrics,
            PushOptions(
                options.debounce,
                options.debounce_max,
                options.debounce_urgent,
                streams_per_proxy=options.streams_per_proxy,
            ),
            on_rejection=self._rejected,
            on_push=self._after_push,
        )
        self.server.on_arrival = self._arrived
        self.server.on_departure = self._departed
        self.channel = Channel(self._told)
        self.revision = 0
        self.started_at = time.time()
        self.stopping = asyncio.Event()
        self._options = options
        self._tls: ServerTls | None = None
        self._transport: Http2Transport | None = None
        self._open: list[Rejected] = []
        self._listen = asyncio.Event()

    async def run(self) -> None:
        """Serve until the first process says so or is gone."""
        if self._options.preload >= 0:
            self.snapshot = read_preload(self._options.preload)
        await self.channel.open(socket.socket(fileno=self._options.descriptor))
        following = asyncio.ensure_future(self.channel.run())
        told = asyncio.ensure_future(self._listen.wait())
        await asyncio.wait((following, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if following.done():
            return
        self.server.on_debug = DebugStreams(self).serve
        transport = Http2Transport(
            self._options.listen,
            self._current_tls,
            self.server.serve,
            Limits(connection_age=self._options.max_connection_age),
            share_port=True,
            crowded=lambda: self.server.crowded,
        )
        self._transport = transport
        self.server.shares += transport.shares
        await transport.start()
        work = [
            following,
            asyncio.ensure_future(self.stopping.wait()),
            asyncio.ensure_future(self.server.run()),
            asyncio.ensure_future(self.server.housekeeping()),
            asyncio.ensure_future(watch_lag(self.metrics.loop_lag)),
        ]
        self.channel.notify("ready")
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await transport.stop(self._options.grace)
            for task in work:
                task.cancel()

    def _current_tls(self) -> ServerTls:
        assert self._tls is not None
        return self._tls

    def push_everything(self) -> None:
        """The first process does it, for all."""
        self.channel.notify("push")

    # From the first process

    async def _told(self, name: str, value: Value) -> Value:
        handler = getattr(self, f"_on_{name}", None)
        if handler is None:
            raise LookupError(f"a replica knows nothing of {name}")
        result = handler(value)
        return await result if asyncio.iscoroutine(result) else result

    def _on_certificate(self, value: Value) -> None:
        self._tls = ServerTls(*value)

    def _on_load(self, value: Value) -> None:
        if self.snapshot is EMPTY:
            base = msgspec.convert(value["mesh"], type=MeshConfig)
            self.snapshot, _ = with_mesh(EMPTY, base)
        self.server.withhold(decode_withheld(value["withheld"]))
        self._apply(value["changes"], value["version"], immediate=True)
        self.server.set_ready()
        keep_what_is_loaded()
        self.channel.notify("loaded")

    def _on_listen(self, _value: Value) -> None:
        self._listen.set()

    def _on_changes(self, value: Value) -> None:
        self._apply(value["changes"], value["version"], immediate=value["immediate"])

    def _on_everything(self, value: Value) -> None:
        self.snapshot, changed = with_mesh(self.snapshot, self.snapshot.base_mesh)
        self._publish(self.snapshot, changed, value, immediate=True)

    def _on_withhold(self, value: Value) -> None:
        self.server.withhold(decode_withheld(value))

    async def _on_wait(self, value: Value) -> Value:
        found = await self.server.wait_for(value["version"], value["timeout"])
        return msgspec.to_builtins(found)

    def _on_status(self, _value: Value) -> Value:
        return {
            "proxies": [proxy_status(item) for item in self.server.connections],
            "scopes": len(self.server.scopes),
            "limits": shares_data(self.server.shares),
            "pid": os.getpid(),
        }

    def _on_config(self, value: Value) -> Value:
        connection = find_proxy(self, value["name"])
        return config_dump(connection, value["type"]) if connection is not None else None

    async def _on_debug(self, value: Value) -> Value:
        found = await debug.answer(self, value["name"], value["query"])
        return [found.body, found.content_type]

    def _on_metrics(self, value: Value) -> Value:
        return exported(proxy_metrics(self) if value == "proxies" else self.metrics.registry)

    def _on_evidence(self, value: Value) -> Value:
        question = msgspec.convert(value, type=Question)
        return msgspec.to_builtins(evidence(self.server.connections, question))

    def _on_totals(self, _value: Value) -> Value:
        return self.metrics.totals()

    async def _on_shed(self, value: Value) -> Value:
        return await self._transport.shed(value) if self._transport is not None else 0

    def _on_stop(self, _value: Value) -> None:
        self.stopping.set()

    def _apply(self, rows: list[list[Any]], version: int, *, immediate: bool) -> None:
        begun = time.monotonic()
        snapshot, changed = apply(self.snapshot, feed.decode_changes(rows))
        self.metrics.phase["snapshot"].observe(time.monotonic() - begun)
        if snapshot is self.snapshot:
            snapshot = copy.copy(snapshot)
        self._publish(snapshot, changed, version, immediate=immediate)

    def _publish(
        self, snapshot: Snapshot, changed: ChangeSet, version: int, *, immediate: bool
    ) -> None:
        # The first process counts versions, so that waiting for one means the same everywhere.
        snapshot.version = version
        self.snapshot = snapshot
        self.metrics.snapshot_version.set(version)
        self.server.publish(snapshot, changed, immediate=immediate)

    # To the first process

    def _arrived(self, connection: Connection) -> None:
        self.channel.notify("arrived", connection.proxy.id)

    def _departed(self, connection: Connection) -> None:
        # Before the answer to whoever waits for this proxy, so that he is told who is missing.
        gone = [connection.proxy.id, connection.stream.sent_away]
        self.channel.notify("departed", gone)

    def _rejected(self, rejected: Rejected) -> None:
        offered = [item for item in refused_resources(rejected) if self.server.offers(item)]
        versions = {item.version for item in offered}
        if not offered or any(
            versions <= {item.version for item in refused_resources(other)} for other in self._open
        ):
            return
        if len(self._open) < _MAX_OPEN:
            self._open.append(rejected)
        self.channel.notify("rejected", feed.encode_rejection(rejected))

    def _after_push(self) -> None:
        """Say again what is still refused: what was done about it did not help."""
        remaining, self._open = self._open, []
        for rejected in remaining:
            if any(self.server.offers(item) for item in refused_resources(rejected)):
                self._open.append(rejected)
                if self.server.pushed_version >= self.snapshot.version:
                    self.channel.notify("rejected", feed.encode_rejection(rejected))


def main(arguments: list[str] | None = None) -> int:
    """Run the process; started by the first process of a control plane only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptor", type=int, required=True)
    parser.add_argument("--preload", type=int, default=-1)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--debounce", type=float, default=0.1)
    parser.add_argument("--debounce-max", type=float, default=10.0)
    parser.add_argument("--debounce-urgent", type=float, default=1.0)
    parser.add_argument("--grace", type=float, default=2.0)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--max-connection-age", type=float, default=1800.0)
    parser.add_argument("--streams-per-proxy", type=int, default=5)
    parser.add_argument("--verify-incremental", action="store_true")
    options = parser.parse_args(arguments)
    log.configure(options.log_level.upper(), f"replica {os.getpid()}")

    read_without_collecting()

    async def serve() -> None:
        replica = Replica(options)
        loop = asyncio.get_running_loop()
        # The first process ends its replicas itself; a terminal's interrupt reaches all.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, replica.stopping.set)
        await replica.run()

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
