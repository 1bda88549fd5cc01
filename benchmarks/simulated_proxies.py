"""Simulated proxies: real delta ADS over mutual TLS with identities of their own, in a process
of their own. They subscribe as Envoy does (clusters, endpoints of all clusters, listeners,
routes), acknowledge everything, decode no more than names, and note when what arrived."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from lateen.model.discovery import CLUSTER, ENDPOINT, LISTENER, ROUTE
from lateen.serve.grpc_transport import SERVICE

_CHANNEL = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),  # one connection per proxy, as with real ones
)


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """One proxy to play."""

    number: int
    node_id: str
    key: bytes
    chain: bytes


@dataclass(slots=True)
class Tally:
    """What arrived since the last question. Times are of the machine's monotonic clock."""

    first: float = 0.0
    last: float = 0.0
    messages: int = 0
    resources: int = 0
    bytes: int = 0
    proxies: set[int] = field(default_factory=set)
    arrivals: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class _Proxy:
    def __init__(self, spec: ProxySpec, target: str, trust: bytes, tally: Tally) -> None:
        self._number = spec.number
        self._spec = spec
        self._tally = tally
        self._held: dict[str, dict[str, str]] = {}
        self._asked: set[str] = set()
        self.complete = asyncio.Event()
        credentials = grpc.ssl_channel_credentials(trust, spec.key, spec.chain)
        self._channel = grpc.aio.secure_channel(target, credentials, options=_CHANNEL)

    async def run(self, routes: tuple[str, ...]) -> None:
        while True:
            try:
                await self._stream(routes)
            except grpc.aio.AioRpcError as error:
                self._tally.errors.append(f"{error.code().name}: {error.details()}"[:200])
                await asyncio.sleep(0.2)

    async def _stream(self, routes: tuple[str, ...]) -> None:
        call = self._channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")()
        self._asked = set(self._held)
        for type_url in (CLUSTER, *sorted(self._asked - {CLUSTER})):
            await self._ask(call, type_url, self._held.get(type_url, {}))
        while (data := await call.read()) is not grpc.aio.EOF:
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
            kind = response.type_url
            held = self._held.setdefault(kind, {})
            held.update((item.name, item.version) for item in response.resources)
            for name in response.removed_resources:
                held.pop(name, None)
            if kind == CLUSTER:
                wanted = [item.name for item in response.resources if item.name[:9] == "outbound|"]
                fresh = [name for name in wanted if name not in self._held.get(ENDPOINT, {})]
                if fresh or ENDPOINT not in self._asked:
                    await self._ask(call, ENDPOINT, {}, fresh)
            elif kind == ENDPOINT and LISTENER not in self._asked:
                await self._ask(call, LISTENER, {})
            elif kind == LISTENER and ROUTE not in self._asked:
                await self._ask(call, ROUTE, {}, list(routes))
            ack = discovery_pb2.DeltaDiscoveryRequest(type_url=kind, response_nonce=response.nonce)
            await call.write(ack.SerializeToString())
            self._count(len(data), len(response.resources))
            if kind == ROUTE:
                self.complete.set()

    async def _ask(
        self,
        call: grpc.aio.StreamStreamCall[bytes, bytes],
        type_url: str,
        have: dict[str, str],
        names: list[str] | None = None,
    ) -> None:
        self._asked.add(type_url)
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
        request.node.id = self._spec.node_id
        request.initial_resource_versions.update(have)
        request.resource_names_subscribe.extend(names or ())
        await call.write(request.SerializeToString())

    def _count(self, size: int, resources: int) -> None:
        tally, now = self._tally, time.monotonic()
        tally.first = tally.first or now
        tally.last = now
        tally.messages += 1
        tally.resources += resources
        tally.bytes += size
        if self._number not in tally.proxies:
            tally.proxies.add(self._number)
            tally.arrivals.append(now)


def play(
    pipe: Connection, specs: list[ProxySpec], target: str, trust: bytes, routes: tuple[str, ...]
) -> None:
    """Entry of a worker process; commands come through ``pipe``: ``connect``, ``take``, ``end``."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_play(pipe, specs, target, trust, routes))


async def _play(
    pipe: Connection, specs: list[ProxySpec], target: str, trust: bytes, routes: tuple[str, ...]
) -> None:
    tally = Tally()
    proxies = [_Proxy(spec, target, trust, tally) for spec in specs]
    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    while True:
        command = await loop.run_in_executor(None, pipe.recv)
        if command == "connect":
            tasks += [asyncio.create_task(proxy.run(routes)) for proxy in proxies]
            await asyncio.gather(*(proxy.complete.wait() for proxy in proxies))
            pipe.send(time.monotonic())
        elif command == "take":
            pipe.send(tally)
            tally = Tally()
            for proxy in proxies:
                proxy._tally = tally
        else:
            for task in tasks:
                task.cancel()
            return
