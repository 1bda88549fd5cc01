"""gRPC transport: the aggregated discovery service over mutual TLS (grpc.aio).

Messages pass through as bytes. Envoy API: ``envoy.service.discovery.v3
.AggregatedDiscoveryService``, methods ``DeltaAggregatedResources`` and
``StreamAggregatedResources``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from lateen.pki.errors import PkiError
from lateen.pki.identity import SpiffeId, parse_spiffe_id
from lateen.serve.protocol import Dialect
from lateen.serve.transport import Refusal, StreamClosed, StreamHandler

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_RESPONSE_BYTES = 256 * 1024 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The server's key and chain, and the roots that client certificates must lead to (PEM)."""

    key: bytes
    chain: bytes
    trust_bundle: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients may ask of the server. Times in seconds."""

    streams: int = 20_000
    streams_per_connection: int = 16
    keepalive_time: float = 30.0
    keepalive_timeout: float = 10.0


class GrpcTransport:
    """See `lateen.serve.transport.Transport`."""

    def __init__(
        self,
        address: str,
        tls: Callable[[], ServerTls],
        handler: StreamHandler,
        limits: Limits = Limits(),
        *,
        share_port: bool = False,
    ) -> None:
        """``address`` is ``IP:PORT`` (port 0 picks one); ``tls`` is asked at each handshake.

        With ``share_port`` several processes may listen on one address; the kernel spreads
        connections over them.
        """
        self._share_port = share_port
        self._address = address
        self._tls = tls
        self._handler = handler
        self._limits = limits
        self._server: grpc.aio.Server | None = None
        self._streams: dict[asyncio.Task[Any], _GrpcStream] = {}
        self._draining = asyncio.Event()

    async def start(self) -> int:
        """Begin to accept. Raises ``OSError`` when the address cannot be used."""
        limits = self._limits
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
                ("grpc.max_concurrent_streams", limits.streams_per_connection),
                # The defaults reset streams when some thousand proxies connect at once.
                ("grpc.server.max_pending_requests", 100_000),
                ("grpc.server.max_pending_requests_hard_limit", 200_000),
                ("grpc.keepalive_time_ms", int(limits.keepalive_time * 1000)),
                ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout * 1000)),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.so_reuseport", int(self._share_port)),
                ("grpc.default_compression_algorithm", 0),
            ]
        )
        handlers = {
            "DeltaAggregatedResources": self._method(Dialect.DELTA),
            "StreamAggregatedResources": self._method(Dialect.STATE),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            port = server.add_secure_port(self._address, _credentials(self._tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: {error}") from error
        if not port:
            raise OSError(f"cannot listen on {self._address}; is another control plane running?")
        await server.start()
        self._server = server
        return int(port)

    async def stop(self, grace: float) -> None:
        """Refuse new streams, close the open ones so that proxies reconnect, then stop."""
        self._draining.set()
        if self._streams:
            await asyncio.wait(list(self._streams), timeout=grace)
        if self._server is not None:
            await self._server.stop(grace)

    async def shed(self, count: int) -> int:
        """Have ``count`` proxies connect anew, so that they may come to another process.

        Their streams and then their connections end, at random and spread over a second, so that
        they do not come back at once. Returns how many it were.
        """
        chosen = random.sample(list(self._streams), min(count, len(self._streams)))
        for work in chosen:
            stream = self._streams.get(work)
            if stream is None:
                continue
            stream.moved.set()
            await asyncio.wait((work,), timeout=1.0)
            # gRPC can end all connections or none, and a new stream would come on the old one.
            close_connection(stream.peer)
            await asyncio.sleep(min(0.02, 1.0 / len(chosen)))
        return len(chosen)

    def _method(self, dialect: Dialect) -> grpc.RpcMethodHandler:
        async def serve(_requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await self._serve(dialect, context)

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _serve(self, dialect: Dialect, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self._draining.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
        if len(self._streams) >= self._limits.streams:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
        try:
            identity = _identity(context.auth_context())
        except PkiError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            return
        stream = _GrpcStream(dialect, identity, context)
        work = asyncio.ensure_future(self._handler(stream))
        self._streams[work] = stream
        drain = asyncio.ensure_future(self._draining.wait())
        moved = asyncio.ensure_future(stream.moved.wait())
        try:
            await asyncio.wait((work, drain, moved), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
                if moved.done():
                    raise Refusal("UNAVAILABLE", "connect again: another process has more room")
                raise Refusal("UNAVAILABLE", "the control plane is stopping")
            work.result()
        except Refusal as refusal:
            if stream.writing:
                # gRPC takes no status while a write waits for the reader; the end of the
                # connection ends the call.
                raise asyncio.CancelledError from refusal
            await context.abort(grpc.StatusCode[refusal.code], str(refusal))
        except StreamClosed:
            return
        finally:
            drain.cancel()
            moved.cancel()
            work.cancel()
            self._streams.pop(work, None)


class _GrpcStream:
    """A `lateen.serve.transport.Stream` on a gRPC call."""

    def __init__(
        self,
        dialect: Dialect,
        identity: SpiffeId,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        self.dialect = dialect
        self.identity = identity
        self.peer = context.peer()
        self.writing = False
        """A message is on its way; it stays true when that was cut off."""
        self.moved = asyncio.Event()
        """Set to have the proxy connect anew."""
        self._context = context

    async def receive(self) -> bytes | None:
        try:
            message = await self._context.read()
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            return None
        return message if isinstance(message, bytes) else None

    async def send(self, message: bytes) -> None:
        self.writing = True
        try:
            await self._context.write(message)
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise StreamClosed("the stream broke") from error
        self.writing = False


def close_connection(peer: str) -> bool:
    """Shut down this process' TCP connection whose other end is ``peer`` (``ipv4:IP:PORT`` or
    ``ipv6:%5BIP%5D:PORT``, as gRPC writes it); false when there is none."""
    wanted = unquote(peer).partition(":")[2]
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            # A copy of the descriptor: gRPC goes on owning its own.
            with socket.socket(fileno=os.dup(int(name))) as found:
                if _address(found) == wanted:
                    found.shutdown(socket.SHUT_RDWR)
                    return True
        except OSError:
            continue  # closed meanwhile, or not connected
    return False


def _address(connection: socket.socket) -> str:
    """``IP:PORT`` of the other end; empty for sockets of other kinds."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    host, port = connection.getpeername()[:2]
    # gRPC listens on IPv4 addresses with IPv6 sockets.
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _credentials(tls: Callable[[], ServerTls]) -> grpc.ServerCredentials:
    def configuration() -> grpc.ServerCertificateConfiguration:
        current = tls()
        return grpc.ssl_server_certificate_configuration(
            [(current.key, current.chain)], root_certificates=current.trust_bundle
        )

    last = tls()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        current = tls()
        if current is last:
            return None
        last = current
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(), changed, require_client_authentication=True
    )


def _identity(auth: dict[str, list[bytes]]) -> SpiffeId:
    """The one SPIFFE ID among the names of the peer's certificate. Raises `PkiError`."""
    names = [
        name.decode(errors="replace") for name in auth.get("x509_subject_alternative_name", [])
    ]
    ids = [name for name in names if name.startswith("spiffe://")]
    if len(ids) != 1:  # X.509-SVID, section 2: exactly one URI
        raise PkiError("the client certificate must carry exactly one SPIFFE ID")
    return parse_spiffe_id(ids[0])
