"""Threads that make handshakes tell the loop what came of each, whatever happens to others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial

from lateen.serve.handshake_threads import HandshakeThreads, Outcome


@contextlib.asynccontextmanager
async def threads(count: int = 2) -> AsyncIterator[HandshakeThreads]:
    before = set(threading.enumerate())
    made = HandshakeThreads(count)
    made.start(asyncio.get_running_loop())
    try:
        yield made
    finally:
        made.stop()
    async with asyncio.timeout(5):
        while not before.issuperset(threading.enumerate()):
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def secured() -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """The server's end of a connection before its handshake, and the client's end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with (
        theirs,
        context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False) as wrapped,
    ):
        yield wrapped, theirs


async def outcome(made: HandshakeThreads, of: ssl.SSLSocket) -> Outcome:
    found: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    made.go_on(of, found.set_result)
    async with asyncio.timeout(5):
        return await found


async def test_a_client_that_has_said_nothing_is_waited_for_and_nonsense_is_an_error() -> None:
    async with threads() as made:
        with secured() as (ours, theirs):
            assert await outcome(made, ours) == ssl.SSL_ERROR_WANT_READ
            theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert isinstance(await outcome(made, ours), ssl.SSLError)
        with secured() as (ours, theirs):
            theirs.close()
            assert isinstance(await outcome(made, ours), OSError)


async def test_who_raises_when_told_keeps_nobody_else_waiting() -> None:
    loop = asyncio.get_running_loop()
    raised: list[str] = []
    loop.set_exception_handler(lambda _, context: raised.append(str(context.get("exception"))))

    def careless(_: Outcome) -> None:
        raise RuntimeError("a defect")

    async with threads(1) as made:
        with secured() as (first, _), secured() as (second, _):
            made.go_on(first, careless)
            made.go_on(first, careless)
            assert await outcome(made, second) == ssl.SSL_ERROR_WANT_READ
    assert raised == ["a defect", "a defect"]


async def test_steps_that_end_together_are_told_in_their_order() -> None:
    told: list[int] = []
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def note(number: int, _: Outcome) -> None:
        told.append(number)

    async with threads(1) as made:
        with secured() as (ours, _):
            for number in range(50):
                made.go_on(ours, partial(note, number))
            made.go_on(ours, ended.set_result)
            async with asyncio.timeout(5):
                await ended
    assert told == list(range(50))
