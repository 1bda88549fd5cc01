"""What one client may hold of the xDS server's places and memory, with clients that mean harm."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lateen.serve import http2_frames as wire
from lateen.serve.http2_limits import Limits
from lateen.serve.transport import Stream
from tests.serve.test_http2 import GREETING, REQUEST, headers
from tests.serve.test_http2_transport import DELTA, Client, Running, closed, echo, running

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(30)]


def request(number: int = 1) -> bytes:
    """Headers that open a stream."""
    fields = [(name, DELTA if name == ":path" else value) for name, value in REQUEST]
    return headers(number, fields)


async def settled(server: Running, seconds: float = 5.0) -> None:
    """Wait until the server has no streams."""
    async with asyncio.timeout(seconds):
        while server.transport.streams or server.transport.stream_shares.total:
            await asyncio.sleep(0.01)


async def test_streams_that_are_reset_with_their_headers_leave_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        _, writer = await server.connect()
        attack = [GREETING]
        for number in range(1, 400, 2):
            attack += [request(number), wire.reset(number, wire.CANCEL)]
        writer.write(b"".join(attack))
        await writer.drain()
        await asyncio.sleep(0.2)
        await settled(server)

        client = Client(*await server.connect())
        client.open()
        client.send(b"hello")
        await client.read_until(client.has_data)
        assert client.data.endswith(b"hello")
        client.writer.close()
        writer.close()
        await settled(server)


async def test_a_connection_that_ends_with_its_first_bytes_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as server:
        for _ in range(10):
            _, writer = await server.connect()
            writer.write(GREETING + request())
            writer.transport.abort()
        await asyncio.sleep(0.2)
        await settled(server)
        assert server.transport.connection_shares.total == 0


async def test_a_client_has_a_share_of_the_streams(tmp_path: Path) -> None:
    limits = Limits(streams_per_client=2)
    async with running(tmp_path, echo, limits) as server:
        first, second, third = [Client(*await server.connect()) for _ in range(3)]
        for client in (first, second):
            client.open()
            client.send(b"hello")
            await client.read_until(client.has_data)
        third.open()
        await third.read_until(third.has_status)
        assert third.trailers["grpc-status"] == "8"
        assert "too many streams" in third.trailers["grpc-message"]

        first.writer.close()
        async with asyncio.timeout(5.0):
            while server.transport.stream_shares.total > 1:
                await asyncio.sleep(0.01)
        fourth = Client(*await server.connect())
        fourth.open()
        fourth.send(b"hello")
        await fourth.read_until(fourth.has_data)
        for client in (second, third, fourth):
            client.writer.close()


async def test_a_client_has_a_share_of_the_connections(tmp_path: Path) -> None:
    async with running(tmp_path, echo, Limits(connections_per_client=2)) as server:
        kept = [await server.connect() for _ in range(2)]
        async with asyncio.timeout(5.0):
            while server.transport.handshakes:
                await asyncio.sleep(0.01)
        reader, writer = await server.connect()
        assert await closed(reader)
        for _, other in (*kept, (reader, writer)):
            other.close()


async def test_one_address_cannot_use_up_the_places_of_handshakes(tmp_path: Path) -> None:
    async with running(tmp_path, echo, Limits(handshakes=8)) as server:
        waiting = await asyncio.open_connection(
            "127.0.0.1", server.port, local_addr=("127.0.0.2", 0)
        )
        await asyncio.sleep(0.05)
        flood = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert len(server.transport.handshakes) == 5
        assert not waiting[0].at_eof()
        for _, writer in (waiting, *flood):
            writer.close()
        async with asyncio.timeout(5.0):
            while server.transport.handshakes:
                await asyncio.sleep(0.01)
        assert not server.transport._addresses


def begun(size: int) -> bytes:
    """The first frame of a message of ``size`` bytes, without the rest."""
    return wire.frame(wire.DATA, 0, 1, b"\0" + size.to_bytes(4, "big") + b"x" * 16_000)


async def test_unfinished_requests_of_a_client_are_bounded_over_its_connections(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, echo, Limits(unfinished_per_client=40_000)) as server:
        opened = []
        for _ in range(2):
            reader, writer = await server.connect()
            writer.write(GREETING + request() + begun(100_000))
            opened.append((reader, writer))
        async with asyncio.timeout(5.0):
            while server.transport.unfinished_shares.total < 32_000:
                await asyncio.sleep(0.01)
        reader, writer = await server.connect()
        writer.write(GREETING + request() + begun(100_000))
        assert await closed(reader)
        assert server.transport.unfinished_shares.total == 32_010
        for _, other in (*opened, (reader, writer)):
            other.close()
        async with asyncio.timeout(5.0):
            while server.transport.unfinished_shares.total:
                await asyncio.sleep(0.01)


async def test_requests_that_no_handler_takes_count_as_well(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def deaf(stream: Stream) -> None:
        await stream.receive()  # and keep it
        await done.wait()

    async with running(tmp_path, deaf) as server:
        client = Client(*await server.connect())
        client.open()
        client.send(b"x" * 5_000)
        await client.flush()
        client.send(b"x" * 3_000)
        await client.flush()
        async with asyncio.timeout(5.0):
            while server.transport.unfinished_shares.total != 8_000:
                await asyncio.sleep(0.01)
        done.set()
        async with asyncio.timeout(5.0):
            while server.transport.unfinished_shares.total:
                await asyncio.sleep(0.01)
        client.writer.close()


async def test_a_request_must_be_complete_in_time(tmp_path: Path) -> None:
    limits = Limits(message_time=0.4, keepalive_time=0.4)
    async with running(tmp_path, echo, limits) as server:
        reader, writer = await server.connect()
        writer.write(GREETING + request() + begun(100_000))
        assert await closed(reader)
        assert server.transport.unfinished_shares.total == 0
        writer.close()
