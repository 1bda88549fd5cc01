"""Runs a built-in workload: listens on its ports, serves until SIGTERM, ends gracefully."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence

from lateen.workloads.connection import HttpConnection, Server
from lateen.workloads.http import Handler


def listen(port: int) -> list[socket.socket]:
    """Listening sockets on 0.0.0.0 and, where there is IPv6, on :: with the same port.

    Port 0 takes any free one. Raises OSError.
    """
    sockets = [_bind(socket.AF_INET, "0.0.0.0", port)]
    # Without IPv6 on this machine or in this network namespace IPv4 is enough.
    with contextlib.suppress(OSError):
        sockets.append(_bind(socket.AF_INET6, "::", sockets[0].getsockname()[1]))
    return sockets


def _bind(family: int, address: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
        bound.listen(1024)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def print_line(line: str) -> None:
    """One line on standard output, at once; a reader that has gone away is no reason to stop."""
    with contextlib.suppress(OSError):
        os.write(1, line.encode("utf-8", "replace") + b"\n")


def run(
    name: str,
    ports: Sequence[int],
    connect: Callable[[int, Server], asyncio.BaseProtocol],
    *,
    handler: Handler,
    log: Callable[[str], None] | None = print_line,
    background: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Serve ``ports`` until SIGTERM or SIGINT; the exit status, 0 after a graceful end.

    ``connect`` makes the protocol of a new connection from the port it came in on. ``background``
    runs beside the server and is cancelled after it. Prints one line per port once all listen.
    """
    bound: list[tuple[int, socket.socket]] = []
    for port in ports:
        try:
            bound += [(port, each) for each in listen(port)]
        except OSError as error:
            hint = " (ports below 1024 may need privileges)" if 0 < port < 1024 else ""
            sys.stderr.write(f"{name}: cannot listen on port {port}: {error.strerror}{hint}\n")
            return 1

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        server = Server(handler, log)
        listeners = [
            await loop.create_server(lambda port=port: connect(port, server), sock=each)  # type: ignore[misc]
            for port, each in bound
        ]
        for _, each in bound:
            if each.family == socket.AF_INET:
                print_line(f"{name} listening on port {each.getsockname()[1]}")
        beside = asyncio.ensure_future(background()) if background is not None else None
        await stopped.wait()
        await server.drain(listeners)
        if beside is not None:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)

    asyncio.run(serve())
    return 0


def run_http(
    name: str,
    port: int,
    handler: Handler,
    *,
    log: Callable[[str], None] | None = print_line,
    background: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """:func:`run` for one HTTP port."""
    return run(
        name,
        [port],
        lambda _port, server: HttpConnection(server),
        handler=handler,
        log=log,
        background=background,
    )
