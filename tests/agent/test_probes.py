"""Probes against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lateen.agent.probes import Probe, ProbeRunner, probe_of
from tests.ports import free_port

pytestmark = pytest.mark.timeout(30)


class Application:
    """An HTTP server whose answer can be changed; keeps the requests it saw."""

    def __init__(self) -> None:
        self.status = 200
        self.headers = ""
        self.silent = False
        self.requests: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            if self.silent:
                await asyncio.sleep(20)
            status = 200 if request.startswith("GET /fine") else self.status
            head = f"HTTP/1.1 {status} X\r\n{self.headers}content-length: 0\r\n\r\n"
            writer.write(head.encode())
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Application]:
    application = Application()
    server = await asyncio.start_server(application.serve, "127.0.0.1", 0, ssl=tls)
    application.port = server.sockets[0].getsockname()[1]
    try:
        yield application
    finally:
        server.close()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


class Watched:
    """A runner with a record of what it reported."""

    def __init__(self, statuses: dict[tuple[str, ...], int] | None = None, **probes: Any) -> None:
        self.changes: list[tuple[bool, bool]] = []
        self.failed: list[str] = []
        self.statuses = statuses or {}
        container = {"name": "web", "ports": [{"name": "http", "containerPort": 8080}], **probes}
        self.runner = ProbeRunner(
            container,
            connect=connect,
            execute=self.execute,
            on_change=lambda: self.changes.append((self.runner.started, self.runner.ready)),
            on_failed=self.failed.append,
        )

    async def execute(self, command: tuple[str, ...]) -> int:
        return self.statuses[command]

    async def check(self, **probe: Any) -> str:
        found = probe_of(probe)
        assert found is not None
        return await self.runner.check(found)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


def test_defaults_are_those_of_kubernetes() -> None:
    raw = {"tcpSocket": {"port": 80}}
    assert probe_of(raw) == Probe(raw, 0.0, 1.0, 10.0, 1, 3)
    assert probe_of(None) is None


async def test_http_get() -> None:
    watched = Watched()
    async with serving() as application:
        port = application.port
        headers = [{"name": "X-Check", "value": "1"}, {"name": "Host", "value": "web.example"}]
        get = {"port": port, "path": "health?deep=1", "httpHeaders": headers}
        assert await watched.check(httpGet=get) == ""
        request = application.requests[0]
        assert request.startswith("GET /health?deep=1 HTTP/1.1\r\nHost: web.example\r\nX-Check: 1")
        assert "kube-probe/" in request
        assert "localhost" not in request
        application.status = 503
        assert "statuscode: 503" in await watched.check(httpGet={"port": str(port)})
        application.silent = True
        answer = await watched.check(httpGet={"port": port}, timeoutSeconds=1)
        assert answer == "no answer within 1 s"
    unused = free_port()
    assert f"port {unused}: " in await watched.check(httpGet={"port": unused})


async def test_redirects() -> None:
    watched = Watched()
    async with serving() as application:
        application.status = 302
        application.headers = "location: /fine?a=b\r\n"
        assert await watched.check(httpGet={"port": application.port}) == ""
        assert application.requests[-1].startswith("GET /fine?a=b ")
        application.headers = "location: https://login.example.com/\r\n"
        assert await watched.check(httpGet={"port": application.port}) == ""
        application.headers = "location: /again\r\n"
        assert "10 redirects" in await watched.check(httpGet={"port": application.port})


def server_context(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = directory / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_https_without_verification(tmp_path: Path) -> None:
    watched = Watched()
    async with serving(server_context(tmp_path)) as application:
        get = {"port": application.port, "scheme": "HTTPS", "path": "/x"}
        assert await watched.check(httpGet=get) == ""
        application.status = 500
        assert "statuscode: 500" in await watched.check(httpGet=get)
    async with serving() as plain:
        answer = await watched.check(httpGet={"port": plain.port, "scheme": "HTTPS"})
        assert answer


async def test_tcp_exec_and_unknown_ports() -> None:
    watched = Watched({("true",): 0, ("false",): 7})
    async with serving() as application:
        assert await watched.check(tcpSocket={"port": application.port}) == ""
    assert await watched.check(tcpSocket={"port": free_port()})
    assert await watched.check(exec={"command": ["true"]}) == ""
    assert await watched.check(exec={"command": ["false"]}) == "false: exit status 7"
    assert "declares no port of this name" in await watched.check(httpGet={"port": "admin"})


async def test_grpc() -> None:
    answers = {b"": b"\x08\x01", b"\x0a\x03old": b"\x08\x02"}

    async def check(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        if request not in answers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return answers[request]

    server = grpc.aio.server()
    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    watched = Watched()
    assert await watched.check(grpc={"port": port}) == ""
    assert "NOT_SERVING" in await watched.check(grpc={"port": port, "service": "old"})
    assert "knows no service" in await watched.check(grpc={"port": port, "service": "no"})
    await server.stop(None)
    async with serving() as application:
        assert "does not speak gRPC" in await watched.check(grpc={"port": application.port})


async def test_readiness_comes_early_and_goes_after_the_threshold() -> None:
    async with serving() as application:
        application.status = 503
        watched = Watched(
            readinessProbe={
                "httpGet": {"port": application.port},
                "periodSeconds": 1,
                "failureThreshold": 2,
            }
        )
        async with watched.running():
            await until(lambda: len(application.requests) >= 3)
            assert not watched.runner.ready
            application.status = 200
            await until(lambda: watched.runner.ready)
            application.status = 500
            await until(lambda: not watched.runner.ready)
            assert "500" in watched.runner.message
    assert watched.changes == [(True, True), (True, False)]
    assert watched.failed == []


async def test_startup_gates_the_others() -> None:
    async with serving() as application:
        application.status = 503
        get = {"httpGet": {"port": application.port}}
        watched = Watched(
            startupProbe={**get, "periodSeconds": 1, "failureThreshold": 20},
            livenessProbe={"tcpSocket": {"port": free_port()}, "periodSeconds": 1},
            readinessProbe=get,
        )
        assert (watched.runner.started, watched.runner.ready) == (False, False)
        async with watched.running():
            await until(lambda: application.requests)
            application.status = 200
            await until(lambda: watched.runner.ready)
            assert watched.failed == []
    assert watched.changes == [(True, False), (True, True)]


async def test_liveness_and_startup_give_up() -> None:
    dead = {"tcpSocket": {"port": free_port()}, "periodSeconds": 1, "failureThreshold": 1}
    alive, starting = Watched(livenessProbe=dead), Watched(startupProbe=dead)
    assert alive.runner.ready
    async with alive.running(), starting.running():
        await until(lambda: alive.failed and starting.failed)
    assert alive.failed[0].startswith("Liveness probe failed: port ")
    assert starting.failed[0].startswith("Startup probe failed: port ")
    assert not starting.runner.started
