"""TCP echo: ``python -m lateen.workloads.tcp_echo [PORTS] [PREFIX]`` (``9000 hello``).

PORTS are separated by commas. Every line that comes in goes back with PREFIX and a space before it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from lateen.workloads.connection import Server
from lateen.workloads.http import Request, Response, text
from lateen.workloads.server import print_line, run
from lateen.workloads.settings import main, port_number

MAX_LINE: Final = 64 * 1024
"""Most bytes of one line; a longer one ends the connection."""


class EchoConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server, prefix: bytes) -> None:
        self._server = server
        self._prefix = prefix + b" "
        self._line = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lost(self)

    def data_received(self, data: bytes) -> None:
        self._line += data
        *lines, rest = bytes(self._line).split(b"\n")
        self._line = bytearray(rest)
        if lines:
            self._transport.write(b"".join(self._prefix + line + b"\n" for line in lines))
        if len(rest) > MAX_LINE:
            print_line("closing a connection: a line is too long")
            self._transport.close()

    def eof_received(self) -> bool:
        if self._line:  # a last line need not end with a line feed
            self._transport.write(self._prefix + bytes(self._line))
        return False

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def drain(self) -> None:
        # What came in has been answered at once; the transport sends it before it closes.
        self._transport.close()


def _no_http(_: Request) -> Response:
    return text("this is a TCP server\n", 404)


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    listed = arguments[0] if arguments else "9000"
    ports = [port_number(each.strip(), "argument 1") for each in listed.split(",")]
    prefix = (arguments[1] if len(arguments) > 1 else "hello").encode()
    return run(
        "tcp-echo", ports, lambda _port, server: EchoConnection(server, prefix), handler=_no_http
    )


if __name__ == "__main__":
    main("tcp-echo", program)
