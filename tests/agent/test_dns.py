"""Cluster DNS as a pod sees it: real sockets, a real upstream server beside it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lateen.agent import dns_message as wire
from lateen.agent.dns import ClusterDns
from lateen.agent.dns_datagrams import spread_by_source
from lateen.agent.dns_shares import Connections, Forwards, Rates
from lateen.agent.forward import Forwarder, NoResolverError, machine_resolvers, resolvers_of
from tests.agent.objects import pod, service, service_entry

pytestmark = pytest.mark.timeout(30)
Ask = Callable[..., Awaitable[tuple[int, list[wire.Record], bytes]]]


def bound(kind: socket.SocketKind, port: int = 0) -> socket.socket:
    opened = socket.socket(socket.AF_INET, kind)
    opened.bind(("127.0.0.1", port))
    opened.setblocking(False)
    return opened


def pair() -> tuple[socket.socket, socket.socket, int]:
    """UDP and TCP socket on the same free port."""
    while True:
        tcp = bound(socket.SOCK_STREAM)
        try:
            datagrams = bound(socket.SOCK_DGRAM, tcp.getsockname()[1])
            tcp.listen()
            return datagrams, tcp, tcp.getsockname()[1]
        except OSError:
            tcp.close()


async def udp(port: int, message: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with bound(socket.SOCK_DGRAM) as client:
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, message)
        async with asyncio.timeout(10):
            return await loop.sock_recv(client, 65535)


async def tcp(port: int, *messages: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for message in messages:
        writer.write(struct.pack("!H", len(message)) + message)
    replies = []
    for _ in messages:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        replies.append(await reader.readexactly(size))
    writer.close()
    return replies


@contextlib.asynccontextmanager
async def serving(dns: ClusterDns, **options: Any) -> AsyncIterator[int]:
    datagrams, streams, port = pair()
    task = asyncio.create_task(dns.serve([datagrams], streams, **options))
    await asyncio.sleep(0)
    try:
        yield port
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def nobody(query: bytes) -> bytes:
    raise NoResolverError("no resolver here")


def cluster(*objects: dict[str, Any], forward: Any = nobody) -> ClusterDns:
    dns = ClusterDns(forward)
    for raw in objects:
        dns.apply("ADDED", raw)
    return dns


async def ask(
    dns: ClusterDns, name: str, record_type: int = wire.TYPE_A, **options: Any
) -> tuple[int, list[wire.Record]]:
    reply = await dns.answer(wire.query_message(name, record_type, 99), **options)
    assert reply is not None
    assert reply[:2] == struct.pack("!H", 99)
    return wire.read_answers(reply)


REVIEWS = service("reviews", clusterIP="10.96.1.5", ports=[{"name": "http", "port": 9080}])


async def test_over_udp_and_tcp() -> None:
    query = wire.query_message("reviews.default.svc.cluster.local", wire.TYPE_A, 4711)
    async with serving(cluster(REVIEWS)) as port:
        replies = [await udp(port, query), *await tcp(port, query, query)]
    for reply in replies:
        assert wire.answers_query(reply, query)
        assert wire.read_answers(reply)[1] == [
            wire.address_record("reviews.default.svc.cluster.local", "10.96.1.5", 5)
        ]


async def test_the_other_family_is_empty_and_unknown_names_do_not_exist() -> None:
    dns = cluster(REVIEWS)
    assert await ask(dns, "reviews.default.svc.cluster.local", wire.TYPE_AAAA) == (0, [])
    assert await ask(dns, "reviews.default.svc.cluster.local", 15) == (0, [])
    code, records = await ask(dns, "www.google.com.default.svc.cluster.local")
    assert (code, records) == (wire.NAME_ERROR, [])
    assert (await ask(dns, "9.9.96.10.in-addr.arpa", wire.TYPE_PTR))[0] == wire.NAME_ERROR


async def test_case_of_the_question_is_kept() -> None:
    query = wire.query_message("ReViews.default.SVC.cluster.local", wire.TYPE_A)
    reply = await cluster(REVIEWS).answer(query)
    assert reply is not None
    assert b"ReViews" in reply
    assert len(wire.read_answers(reply)[1]) == 1


async def test_many_pods_fit_over_tcp_and_are_shuffled() -> None:
    pods = [pod(f"db-{n}", f"10.244.1.{n}", labels={"app": "db"}) for n in range(1, 200)]
    dns = cluster(service("db", clusterIP="None", selector={"app": "db"}), *pods)
    query = wire.query_message("db.default.svc.cluster.local", wire.TYPE_A)
    async with serving(dns) as port:
        small = await udp(port, query)
        first, second = await tcp(port, query, query)
    assert len(small) <= wire.UDP_LIMIT
    assert wire.is_truncated(small)
    records, again = wire.read_answers(first)[1], wire.read_answers(second)[1]
    assert len(records) == 199
    assert {r.data for r in records} == {r.data for r in again}
    assert records != again


async def test_clients_without_edns_get_512_bytes() -> None:
    pods = [pod(f"db-{n}", f"10.244.1.{n}", labels={"app": "db"}) for n in range(1, 60)]
    dns = cluster(service("db", clusterIP="None", selector={"app": "db"}), *pods)
    query = wire.query_message("db.default.svc.cluster.local", wire.TYPE_A)
    plain = query[:10] + b"\0\0" + query[12:-11]
    reply = await dns.answer(plain, udp=True)
    assert reply is not None
    assert len(reply) <= 512
    assert wire.is_truncated(reply)
    assert reply[10:12] == b"\0\0"


async def test_alias_to_a_service_and_in_a_circle() -> None:
    dns = cluster(
        REVIEWS,
        service("alias", type="ExternalName", externalName="reviews.default.svc.cluster.local"),
        service("a", type="ExternalName", externalName="b.default.svc.cluster.local"),
        service("b", type="ExternalName", externalName="a.default.svc.cluster.local"),
        service("bad", type="ExternalName", externalName="not..a.name"),
    )
    code, records = await ask(dns, "alias.default.svc.cluster.local")
    assert code == 0
    assert [record.type for record in records] == [wire.TYPE_CNAME, wire.TYPE_A]
    assert (await ask(dns, "a.default.svc.cluster.local"))[0] == wire.SERVER_FAILURE
    assert (await ask(dns, "bad.default.svc.cluster.local"))[0] == wire.SERVER_FAILURE


async def test_service_records_bring_the_address_along() -> None:
    name = "_http._tcp.reviews.default.svc.cluster.local"
    reply = await cluster(REVIEWS).answer(wire.query_message(name, wire.TYPE_SRV))
    assert reply is not None
    assert struct.unpack("!H", reply[6:8]) == (1,)
    assert socket.inet_aton("10.96.1.5") in reply
    assert struct.pack("!HHH", 0, 100, 9080) in reply


async def test_what_is_refused() -> None:
    dns = cluster(REVIEWS)
    query = bytearray(wire.query_message("reviews.default.svc.cluster.local", wire.TYPE_A))
    status = bytearray(query)
    status[2] |= 0x10  # opcode 2
    reply = await dns.answer(bytes(status))
    assert reply is not None
    assert reply[3] & 15 == wire.NOT_IMPLEMENTED
    reply = await dns.answer(bytes(query[:20]))
    assert reply is not None
    assert reply[3] & 15 == wire.FORMAT_ERROR
    answer = bytearray(query)
    answer[2] |= 0x80
    assert await dns.answer(bytes(answer)) is None
    version = query[:-5] + bytes([1]) + query[-4:]  # EDNS version 1
    reply = await dns.answer(bytes(version))
    assert reply is not None
    assert reply[-6] == 1  # the high bits of BADVERS


async def test_other_names_go_to_the_machines_resolver() -> None:
    async def upstream(message: bytes) -> bytes:
        query = wire.parse_query(message)
        if query.name != "example.com":
            return wire.response(query, wire.NAME_ERROR)
        records = [wire.address_record(query.name, f"192.0.2.{n}", 60) for n in range(1, 120)]
        return wire.response(query, wire.NO_ERROR, records)

    other = ClusterDns(upstream, domain="unused.test")
    loop = asyncio.get_running_loop()

    async def open_udp(address: str, port: int) -> socket.socket:
        client = bound(socket.SOCK_DGRAM)
        await loop.sock_connect(client, (address, port))
        return client

    async def open_tcp(address: str, port: int) -> socket.socket:
        client = bound(socket.SOCK_STREAM)
        await loop.sock_connect(client, (address, port))
        return client

    async with serving(other) as port:
        # The first resolver is dead; the answer of the second does not fit in a datagram.
        forward = Forwarder(
            ["127.0.0.9", "127.0.0.1"], open_udp, open_tcp, port=port, attempt_seconds=0.5
        )
        dns = cluster(
            service("out", type="ExternalName", externalName="example.com"), forward=forward
        )
        code, records = await ask(dns, "example.com")
        assert (code, len(records)) == (0, 119)
        code, records = await ask(dns, "out.default.svc.cluster.local")
        assert (code, len(records)) == (0, 120)
        assert records[0].type == wire.TYPE_CNAME
        assert (await ask(dns, "missing.example.org"))[0] == wire.NAME_ERROR
        async with serving(dns) as pods:
            query = wire.query_message("example.com", wire.TYPE_A, 5)
            reply = await udp(pods, query)
        assert wire.answers_query(reply, query)
        assert wire.is_truncated(reply)
        assert len(reply) <= wire.UDP_LIMIT


async def test_without_an_upstream_the_answer_is_servfail() -> None:
    dns = cluster()
    query = wire.query_message("example.com", wire.TYPE_A, 6)
    async with serving(dns) as port:
        assert (await udp(port, query))[3] & 15 == wire.SERVER_FAILURE
    assert (await ask(dns, "example.com"))[0] == wire.SERVER_FAILURE


async def test_mesh_hosts_only_for_those_with_a_proxy() -> None:
    entry = service_entry("api", ["api.example.com"], allocated={"api.example.com": "240.240.0.2"})
    dns = cluster(entry)
    code, records = await ask(dns, "api.example.com")
    assert records == [wire.address_record("api.example.com", "240.240.0.2", 30)]
    assert await ask(dns, "api.example.com", wire.TYPE_AAAA) == (0, [])
    assert (await ask(dns, "api.example.com", 16))[0] == wire.SERVER_FAILURE  # asked upstream
    code, _ = await ask(dns, "api.example.com", mesh_hosts=False)
    assert code == wire.SERVER_FAILURE


async def test_a_broken_object_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    dns = cluster(REVIEWS, service("broken", clusterIP="10.96.1.6", ports=[{"name": "x"}]))
    assert "default/broken" in caplog.text
    assert len((await ask(dns, "reviews.default.svc.cluster.local"))[1]) == 1


def test_resolv_conf(tmp_path: Path) -> None:
    text = "# x\nnameserver 192.0.2.1\nsearch a b\nnameserver fe80::1%eth0\nnameserver bad\n"
    assert resolvers_of(text) == ("192.0.2.1", "fe80::1%eth0")
    assert machine_resolvers(tmp_path / "missing") == ("127.0.0.1",)


def test_a_client_may_ask_so_often_and_others_as_well() -> None:
    rates = Rates(rate=10.0, burst=5.0)
    assert [rates.take("a", 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert rates.take("b", 0.0)
    assert rates.wait("a") == pytest.approx(0.1)
    assert rates.take("a", 0.11)
    assert not rates.take("a", 0.11)


def test_one_client_cannot_take_all_places_with_the_machines_resolvers() -> None:
    forwards = Forwards(each=2, total=3)
    assert [forwards.begin("a") for _ in range(3)] == [True, True, False]
    assert forwards.begin("b")
    assert not forwards.begin("c")
    forwards.end("a")
    assert forwards.begin("c")


def test_idle_connections_make_room() -> None:
    closed: list[str] = []
    connections = Connections(each=2, total=3)
    for client, name in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        connections.add(client, name, partial(closed.append, name))
    connections.used("a", "a1")
    connections.add("a", "a3", partial(closed.append, "a3"))
    assert closed == ["a2"]
    connections.add("c", "c1", partial(closed.append, "c1"))
    assert closed == ["a2", "a1"]
    connections.remove("c", "c1")
    assert len(connections) == 2


async def test_silent_connections_keep_no_others_out() -> None:
    query = wire.query_message("reviews.default.svc.cluster.local", wire.TYPE_A, 4711)
    async with serving(cluster(REVIEWS)) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        assert wire.answers_query((await tcp(port, query))[0], query)
        for _, writer in silent:
            writer.close()


async def test_each_source_address_has_a_socket_of_its_own() -> None:
    sockets, port = [], 0
    for _ in range(7):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", port))
        port = one.getsockname()[1]
        sockets.append(one)
    try:
        spread_by_source(sockets)
        for last in range(1, 10):
            address = f"127.0.0.{last}"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind((address, 0))
                for _ in range(3):
                    client.sendto(b"x", ("127.0.0.1", port))
            wanted = int(ipaddress.ip_address(address)) % len(sockets)
            for _ in range(3):
                assert sockets[wanted].recvfrom(10, socket.MSG_DONTWAIT)[1][0] == address
    finally:
        for one in sockets:
            one.close()


@pytest.mark.timeout(30)
async def test_a_flood_from_one_address_loses_no_question_of_another() -> None:
    """The flood of a whole second fills its own socket; the other address is answered at once."""
    query = wire.query_message("reviews.default.svc.cluster.local", wire.TYPE_A, 4711)
    sockets, port = [], 0
    for _ in range(8):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", port))
        port = one.getsockname()[1]
        sockets.append(one)
    stream = bound(socket.SOCK_STREAM)
    stream.listen()
    task = asyncio.create_task(cluster(REVIEWS).serve(sockets, stream))
    await asyncio.sleep(0)
    flood = await asyncio.create_subprocess_exec(sys.executable, "-c", FLOOD, str(port))
    try:
        await asyncio.sleep(0.3)
        waits = []
        started, used = time.monotonic(), time.process_time()
        for _ in range(100):
            began = time.monotonic()
            assert wire.answers_query(await udp(port, query), query)
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.005)
        assert sorted(waits)[-2] < 0.1
        # What is dropped costs little: the event loop has other duties.
        assert time.process_time() - used < 0.6 * (time.monotonic() - started)
    finally:
        flood.kill()
        await flood.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


FLOOD = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.2", 0))
while True:
    try:
        s.sendto(b"x" * 40, ("127.0.0.1", int(sys.argv[1])))
    except OSError:
        pass
"""
