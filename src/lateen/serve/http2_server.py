"""What the connections of one HTTP/2 server share (`lateen.serve.http2_transport` is it)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from lateen.serve.grpc_stream import GrpcStream
from lateen.serve.handshake_threads import HandshakeThreads
from lateen.serve.handshakes import Handshakes
from lateen.serve.http2_limits import Limits
from lateen.serve.shares import Shares
from lateen.serve.transport import StreamHandler

if TYPE_CHECKING:
    from lateen.serve.http2_socket import Http2Socket


class Server(Protocol):
    """What connections share."""

    limits: Limits
    handler: StreamHandler
    draining: bool
    connections: set[Http2Socket]
    streams: dict[GrpcStream, None]
    stream_shares: Shares
    connection_shares: Shares
    unfinished_shares: Shares
    handshaking: HandshakeThreads
    """Where handshakes are made."""
    turns: Handshakes[Http2Socket]
    """Whose handshake begins."""

    def handshake_begun(self, connection: Http2Socket, address: str) -> None:
        """A connection from ``address`` whose peer is not known yet."""

    def handshake_over(self, connection: Http2Socket, address: str) -> None:
        """Its peer is known, or it is gone."""

    def look_for_turns(self) -> None:
        """Let handshakes that wait begin when they may."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop everything runs on."""
