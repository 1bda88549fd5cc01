"""Sockets, handshakes and ends of connections, with clients that behave and some that do not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from h2.settings import SettingCodes

from lateen.model.service import WorkloadIdentity
from lateen.pki.authority import Authority, load_or_create
from lateen.pki.keys import new_key_and_request
from lateen.serve.http2_frames import Part, Payload
from lateen.serve.http2_limits import Limits
from lateen.serve.http2_transport import DEFAULT_LIMITS, SERVICE, Http2Transport
from lateen.serve.protocol import Dialect
from lateen.serve.tls import ServerTls, chain_with_root
from lateen.serve.transport import Refusal, Stream

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(30)]
DELTA = f"/{SERVICE}/DeltaAggregatedResources"
QUICK = Limits(handshake_time=0.4, first_stream=0.6, keepalive_time=0.4, keepalive_timeout=0.4)
Handler = Callable[[Stream], Awaitable[None]]


@dataclass
class Running:
    """A transport, and what a client needs."""

    transport: Http2Transport
    authority: Authority
    port: int
    folder: Path
    tls: list[ServerTls]
    streams: list[Stream] = field(default_factory=list)

    def client_context(
        self, *, authority: Authority | None = None, certificate: bool = True, alpn: bool = True
    ) -> ssl.SSLContext:
        """TLS of a client with a workload's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.trust_bundle.decode())
        if alpn:
            context.set_alpn_protocols(["h2"])
        if certificate:
            made = new_key_and_request()
            identity = WorkloadIdentity("default", "w", "default")
            issued = (authority or self.authority).sign(made.request, identity)
            file = self.folder / "client.pem"
            file.write_bytes(made.key + b"\n" + issued.chain)
            context.load_cert_chain(file)
        return context

    async def connect(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection with TLS."""
        return await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=context or self.client_context(),
            server_hostname="localhost",
        )


@asynccontextmanager
async def running(
    tmp_path: Path,
    handler: Handler,
    limits: Limits = DEFAULT_LIMITS,
    crowded: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Running]:
    authority = load_or_create(tmp_path / "ca")
    own = authority.server_certificate(["localhost"], ["127.0.0.1"])
    tls = [ServerTls(own.key, own.issued.chain, authority.trust_bundle)]
    streams: list[Stream] = []

    async def remembered(stream: Stream) -> None:
        streams.append(stream)
        await handler(stream)

    transport = Http2Transport("127.0.0.1:0", lambda: tls[-1], remembered, limits, crowded=crowded)
    port = await transport.start()
    try:
        yield Running(transport, authority, port, tmp_path, tls, streams)
    finally:
        await transport.stop(0.2)
        assert not transport.connections
        assert not transport.streams


async def echo(stream: Stream) -> None:
    """Answer each request with itself."""
    while (message := await stream.receive()) is not None:
        await stream.send(message)


class Client:
    """A gRPC client on h2, to the end of what it is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.reader, self.writer = reader, writer
        self.data = bytearray()
        self.trailers: dict[str, str] = {}
        self.gone_away = False
        self.h2.initiate_connection()

    def has_data(self) -> bool:
        return bool(self.data)

    def has_status(self) -> bool:
        return bool(self.trailers)

    def open(self, path: str = DELTA, number: int = 1) -> None:
        self.h2.send_headers(
            number,
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":path", path),
                (":authority", "localhost"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
            ],
        )

    def send(self, message: bytes) -> None:
        self.h2.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message)

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def read_until(self, done: Callable[[], object], timeout: float = 10.0) -> None:
        """Take in what comes until ``done`` or the server closes."""
        async with asyncio.timeout(timeout):
            while not done():
                with contextlib.suppress(OSError):
                    await self.flush()
                piece = await self.reader.read(65_536)
                if not piece:
                    return
                for event in self.h2.receive_data(piece):
                    if isinstance(event, h2.events.DataReceived):
                        self.data += event.data
                        self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
                    elif isinstance(event, h2.events.TrailersReceived):
                        self.trailers = dict(event.headers or ())  # type: ignore[arg-type]
                    elif isinstance(event, h2.events.ConnectionTerminated):
                        self.gone_away = True


async def closed(reader: asyncio.StreamReader, timeout: float = 5.0) -> bool:
    """Whether the server ends the connection in time, saying nothing or little."""
    try:
        async with asyncio.timeout(timeout):
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


async def test_requests_and_answers_of_a_proved_peer(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        client = Client(*await server.connect())
        client.open()
        client.send(b"hello")
        await client.read_until(lambda: client.data)
        assert client.data == b"\0\0\0\0\5hello"
        (stream,) = server.streams
        assert stream.dialect is Dialect.DELTA
        assert str(stream.identity) == "spiffe://cluster.local/ns/default/sa/default"
        assert stream.peer.startswith("127.0.0.1:")
        client.h2.end_stream(1)
        await client.read_until(lambda: client.trailers)
        assert client.trailers == {"grpc-status": "0"}
        client.writer.close()


@pytest.mark.parametrize("case", ["none", "other"])
async def test_without_a_certificate_of_the_mesh_nobody_is_served(
    tmp_path: Path, case: str
) -> None:
    async with running(tmp_path, echo) as server:
        if case == "none":
            context = server.client_context(certificate=False)
        else:
            context = server.client_context(authority=load_or_create(tmp_path / "other-ca"))
        with contextlib.suppress(OSError):  # TLS 1.3 tells the client after its own handshake
            client = Client(*await server.connect(context))
            client.open()
            client.send(b"hello")
            await client.flush()
            assert await closed(client.reader)
        assert server.streams == []


async def test_who_does_not_speak_http2_is_not_served(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        with contextlib.suppress(OSError):
            reader, _ = await server.connect(server.client_context(alpn=False))
            assert await closed(reader)
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await closed(reader)
        assert server.streams == []


async def test_a_handshake_must_end_in_time(tmp_path: Path) -> None:
    async with running(tmp_path, echo, QUICK) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await closed(reader)
        writer.close()


async def test_unfinished_handshakes_make_place_for_others(tmp_path: Path) -> None:
    async with running(tmp_path, echo, Limits(handshakes=3)) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(6)]
        client = Client(*await server.connect())
        client.open()
        client.send(b"hello")
        await client.read_until(lambda: client.data)
        assert client.data.endswith(b"hello")
        assert await closed(idle[0][0])
        for _, writer in idle:
            writer.close()
        client.writer.close()


async def test_while_it_is_crowded_handshakes_wait_longer_than_one_may_take(
    tmp_path: Path,
) -> None:
    crowded = True
    async with running(tmp_path, echo, QUICK, lambda: crowded) as server:
        connecting = asyncio.ensure_future(server.connect())
        await asyncio.sleep(2 * QUICK.handshake_time)
        assert not connecting.done()
        assert len(server.transport.handshakes) == server.transport.turns.waiting == 1

        crowded = False
        client = Client(*await connecting)
        client.open()
        client.send(b"hello")
        await client.read_until(lambda: client.data)
        assert client.data.endswith(b"hello")
        client.writer.close()


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, echo, Limits(connections=1)) as server:
        client = Client(*await server.connect())
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await server.connect()
        client.writer.close()


async def test_a_connection_without_a_stream_ends(tmp_path: Path) -> None:
    async with running(tmp_path, echo, QUICK) as server:
        client = Client(*await server.connect())
        await client.read_until(lambda: False)
        assert client.gone_away


async def test_a_peer_that_answers_pings_stays_and_a_dead_one_goes(tmp_path: Path) -> None:
    async with running(tmp_path, echo, QUICK) as server:
        living, dead = Client(*await server.connect()), Client(*await server.connect())
        for client in (living, dead):
            client.open()
            client.send(b"x")
            await client.read_until(client.has_data)
        with pytest.raises(TimeoutError):  # it answers while it reads
            await living.read_until(lambda: False, timeout=2.5)
        assert len(server.transport.connections) == 1
        living.send(b"y")
        await living.read_until(lambda: len(living.data) == 12)
        for client in (living, dead):
            client.writer.close()


@pytest.mark.parametrize(
    ("path", "status"), [("/other.Service/Method", "12"), (f"/{SERVICE}/Fetch", "12")]
)
async def test_other_methods_are_not_there(tmp_path: Path, path: str, status: str) -> None:
    async with running(tmp_path, echo) as server:
        client = Client(*await server.connect())
        client.open(path)
        await client.read_until(lambda: client.trailers)
        assert client.trailers["grpc-status"] == status
        client.writer.close()


async def test_a_refusal_has_a_status_and_words(tmp_path: Path) -> None:
    async def refuse(stream: Stream) -> None:
        await stream.receive()
        raise Refusal("PERMISSION_DENIED", "not you")

    async with running(tmp_path, refuse) as server:
        client = Client(*await server.connect())
        client.open()
        client.send(b"x")
        await client.read_until(lambda: client.trailers)
        assert client.trailers == {"grpc-status": "7", "grpc-message": "not you"}
        client.writer.close()


async def test_a_defect_ends_one_stream_with_an_error(tmp_path: Path) -> None:
    async def fail(stream: Stream) -> None:
        raise ZeroDivisionError

    async with running(tmp_path, fail) as server:
        client = Client(*await server.connect())
        client.open()
        await client.read_until(lambda: client.trailers)
        assert client.trailers["grpc-status"] == "13"
        client.writer.close()


async def test_stopping_tells_clients_to_come_back(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        client = Client(*await server.connect())
        client.open()
        client.send(b"x")
        await client.read_until(lambda: client.data)
        stopping = asyncio.ensure_future(server.transport.stop(5.0))
        await client.read_until(lambda: False)
        assert client.gone_away
        assert client.trailers["grpc-status"] == "14"
        assert "stopping" in client.trailers["grpc-message"]
        client.writer.close()
        await stopping


async def test_shedding_ends_as_many_connections_as_asked(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        clients = [Client(*await server.connect()) for _ in range(3)]
        for client in clients:
            client.open()
            client.send(b"x")
            await client.read_until(client.has_data)
        assert await server.transport.shed(2) == 2
        for client in clients:
            with contextlib.suppress(TimeoutError):
                await client.read_until(client.has_status, timeout=2.0)
        assert [bool(client.trailers) for client in clients].count(True) == 2
        for client in clients:
            client.writer.close()


class Deaf:
    """A receiver that takes no notice."""

    def received(self, message: bytes) -> None:
        pass

    def writable(self) -> None:
        pass

    def closed(self) -> None:
        pass


async def test_who_does_not_read_gets_everything_later_and_in_order(tmp_path: Path) -> None:
    size = 20_000_000
    body = bytes(range(250)) * (size // 250)
    waited = []

    class Receiver(Deaf):
        def writable(self) -> None:
            waited.append(True)

    async def send(stream: Stream) -> None:
        stream.attach(Receiver())
        assert not stream.write(Payload(Part(body), Part(b"own")))
        await asyncio.sleep(60)

    async with running(tmp_path, send) as server:
        client = Client(*await server.connect())
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2_000_000})
        client.h2.increment_flow_control_window(20_000_000)
        client.open()
        await client.flush()
        await asyncio.sleep(0.2)
        assert not waited
        await client.read_until(lambda: len(client.data) >= size + 8, timeout=25)
        assert client.data == b"\0" + (size + 3).to_bytes(4, "big") + body + b"own"
        await asyncio.sleep(0.05)
        assert waited == [True]
        client.writer.close()


@pytest.mark.parametrize("window", [70_000, 5_000_000])
async def test_messages_of_all_sizes_written_at_once_come_in_order(
    tmp_path: Path, window: int
) -> None:
    """Small ones share a TLS record, large ones are cut where one is full."""
    common = Part(bytes(range(256)) * 800)
    sizes = [0, 1, 3, 16_375, 16_379, 16_384, 20_000, 7, 7, 300_000, 5, 100_000, 0, 2]
    payloads = [Payload(Part(bytes((number,)) * size)) for number, size in enumerate(sizes)]
    payloads[3:3] = [Payload(common, Part(b"one")), Payload(common, Part(b"other"))]

    async def send(stream: Stream) -> None:
        stream.attach(Deaf())
        for start in range(0, len(payloads), 4):
            stream.write(*payloads[start : start + 4])
        await asyncio.sleep(60)

    wanted = b"".join(payload.prefix + payload.data for payload in payloads)
    async with running(tmp_path, send) as server:
        client = Client(*await server.connect())
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        client.h2.increment_flow_control_window(window)
        client.open()
        await client.flush()
        await asyncio.sleep(0.1)
        await client.read_until(lambda: len(client.data) >= len(wanted))
        assert client.data == wanted
        client.writer.close()


async def test_requests_of_who_waits_for_its_turn_stay_with_the_client(tmp_path: Path) -> None:
    requests = [bytes((number,)) * 300_000 for number in range(12)]
    turn = asyncio.Event()
    got: list[bytes] = []

    class Receiver(Deaf):
        def received(self, message: bytes) -> None:
            got.append(message)

    async def wait_for_a_turn(stream: Stream) -> None:
        first = await stream.receive()
        assert first is not None
        got.append(first)
        await turn.wait()
        stream.attach(Receiver())
        await asyncio.sleep(60)

    async with running(tmp_path, wait_for_a_turn) as server:
        client = Client(*await server.connect())
        client.open()
        reading = asyncio.create_task(client.read_until(lambda: len(got) == len(requests), 25))
        await asyncio.sleep(0.1)  # for the server's settings
        for request in requests:
            body = b"\0" + len(request).to_bytes(4, "big") + request
            for start in range(0, len(body), 16_000):
                client.h2.send_data(1, body[start : start + 16_000])
        client.writer.write(client.h2.data_to_send())
        await asyncio.sleep(0.3)
        assert got == requests[:1]
        assert not client.writer.transport.is_closing()
        (connection,) = server.transport.connections
        assert sum(len(stream.buffer) for stream in connection._http2.streams) < 300_000
        turn.set()
        async with asyncio.timeout(20):
            while len(got) < len(requests):
                await asyncio.sleep(0.01)
        assert got == requests
        reading.cancel()
        client.writer.close()


async def test_a_renewed_certificate_is_used_from_the_next_handshake_on(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        _, first = await server.connect()
        own = server.authority.server_certificate(["localhost"], ["127.0.0.1"])
        server.tls.append(ServerTls(own.key, own.issued.chain, server.authority.trust_bundle))
        _, second = await server.connect()
        before, after = (
            writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            for writer in (first, second)
        )
        assert before != after
        for writer in (first, second):
            writer.close()


async def test_a_certificate_alone_is_followed_by_the_root_that_signed_it(tmp_path: Path) -> None:
    authority, other = load_or_create(tmp_path / "ca"), load_or_create(tmp_path / "other")
    own = authority.server_certificate(["localhost"], ["127.0.0.1"])
    leaf, root = own.issued.chain, authority.trust_bundle
    bundle = other.trust_bundle + root
    assert chain_with_root(ServerTls(own.key, leaf, bundle)).split() == (leaf + root).split()
    # One with intermediates goes as it is, and so does one whose root is not there.
    whole = leaf + root
    assert chain_with_root(ServerTls(own.key, whole, bundle)) == whole
    assert chain_with_root(ServerTls(own.key, leaf, other.trust_bundle)) == leaf


async def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        other = Http2Transport(f"127.0.0.1:{server.port}", lambda: server.tls[-1], echo)
        with pytest.raises(OSError, match="is another control plane running"):
            await other.start()
