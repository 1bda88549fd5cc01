"""Bounds of the xDS server, each with what it is when nobody sets it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients may ask of the server. Times in seconds."""

    streams: int = 20_000
    streams_per_connection: int = 16
    connections: int = 20_000
    handshakes: int = 2_000
    """Connections whose peer is not known yet."""
    handshake_time: float = 10.0
    """From the connection to the end of the handshake."""
    first_stream: float = 30.0
    """A connection without a stream ends after this long."""
    keepalive_time: float = 30.0
    keepalive_timeout: float = 10.0
    connection_age: float = 1800.0
    """Connections end after about this long (a tenth more or less, so that not all do at once);
    proxies connect anew, perhaps to another process, with their newest certificate. 0: never."""
