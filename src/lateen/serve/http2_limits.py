"""Bounds of the xDS server, each with its default."""

from __future__ import annotations

from dataclasses import dataclass

from lateen.serve.shares import Bounds


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients may ask of the server. Times in seconds.

    A *client* is an identity at one source address, so several pods of one service account are
    several clients.
    """

    streams: int = 20_000
    streams_per_client: int = 256
    streams_per_connection: int = 16
    connections: int = 20_000
    connections_per_client: int = 256
    handshakes: int = 2_000
    """Connections whose peer is not known yet; half of them may come from one address."""
    handshake_time: float = 10.0
    """From the connection to the end of the handshake."""
    first_stream: float = 30.0
    """A connection without a stream ends after this long."""
    unfinished: int = 256 * 1024 * 1024
    """Bytes of requests that are not complete yet, or that no handler has taken."""
    unfinished_per_client: int = 32 * 1024 * 1024
    message_time: float = 30.0
    """A request whose first byte has come must be complete after this long."""
    keepalive_time: float = 30.0
    keepalive_timeout: float = 10.0
    connection_age: float = 1800.0
    """Connections end after about this long (a tenth more or less, so that not all do at once);
    proxies connect again, perhaps to another process, with their newest certificate. 0: never."""

    @property
    def stream_bounds(self) -> Bounds:
        """Streams: an identity may have half of all."""
        return _bounds(self.streams_per_client, self.streams)

    @property
    def connection_bounds(self) -> Bounds:
        """Connections whose peer is known."""
        return _bounds(self.connections_per_client, self.connections)

    @property
    def unfinished_bounds(self) -> Bounds:
        """Bytes of unfinished requests."""
        return _bounds(self.unfinished_per_client, self.unfinished)

    @property
    def handshakes_per_address(self) -> int:
        """Connections from one address whose peer is not known yet."""
        return max(1, self.handshakes // 2)


def _bounds(client: int, total: int) -> Bounds:
    return Bounds(min(client, total), max(min(client, total), total // 2), total)
