"""A proxy that speaks real delta xDS over mutual TLS, driven step by step from a test."""

from __future__ import annotations

import asyncio
from types import TracebackType

import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from lateen.model.discovery import CLUSTER
from lateen.serve.http2_transport import SERVICE
from tests.serve.mesh import Mesh


class SimulatedProxy:
    """One delta stream. Use as an async context manager."""

    def __init__(
        self,
        mesh: Mesh,
        name: str = "one",
        namespace: str = "default",
        *,
        identity: tuple[str, str] | None = None,
        kind: str = "sidecar",
        options: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.node_id = f"{kind}~127.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local"
        who = identity or (namespace, "default")
        key, chain = mesh.certificate(*who)
        self._channel = grpc.aio.secure_channel(
            f"127.0.0.1:{mesh.port}",
            grpc.ssl_channel_credentials(mesh.authority.trust_bundle, key, chain),
            options=[("grpc.max_receive_message_length", -1), *options],
        )
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self.versions: dict[str, str] = {}
        """What it holds, by name."""

    async def __aenter__(self) -> SimulatedProxy:
        self._call = self._channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._call is not None:
            self._call.cancel()
        await self._channel.close()

    async def ask(
        self,
        type_url: str = CLUSTER,
        *,
        names: tuple[str, ...] = (),
        have: dict[str, str] | None = None,
        nonce: str = "",
        error: str = "",
    ) -> None:
        """Send a request."""
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
        request.node.id = self.node_id
        request.resource_names_subscribe.extend(names)
        request.initial_resource_versions.update(have or {})
        if error:
            request.error_detail.message = error
        assert self._call is not None
        await self._call.write(request.SerializeToString())

    async def read(self, timeout: float = 5.0) -> discovery_pb2.DeltaDiscoveryResponse:
        """The next response. Raises ``TimeoutError`` or ``grpc.aio.AioRpcError``."""
        assert self._call is not None
        async with asyncio.timeout(timeout):
            data = await self._call.read()
        if data is grpc.aio.EOF:
            await self._call.code()
            raise EOFError(await self._call.details())
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        self.versions.update((item.name, item.version) for item in response.resources)
        for name in response.removed_resources:
            self.versions.pop(name, None)
        return response

    async def ack(self, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        """Acknowledge."""
        await self.ask(response.type_url, nonce=response.nonce)

    async def nack(self, response: discovery_pb2.DeltaDiscoveryResponse, words: str) -> None:
        """Refuse."""
        await self.ask(response.type_url, nonce=response.nonce, error=words)

    async def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for some time."""
        try:
            await self.read(seconds)
        except TimeoutError:
            return True
        return False
