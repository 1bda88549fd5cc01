"""How proxies reach the control plane: streams of messages with a proved identity.

The rest of ``serve`` knows only this interface; `lateen.serve.http2_transport` implements it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from lateen.pki.identity import SpiffeId
from lateen.serve.http2_frames import Payload
from lateen.serve.protocol import Dialect


class StreamClosed(Exception):
    """The proxy is gone."""


class Refusal(Exception):
    """The stream is ended with a status that tells the proxy why.

    ``code`` is the name of a gRPC status code, for instance ``PERMISSION_DENIED``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Receiver(Protocol):
    """Takes over a stream after its first request. Called from the event loop; must not block."""

    def received(self, message: bytes) -> None:
        """A request came."""

    def writable(self) -> None:
        """Everything given to `Stream.write` has been written."""

    def closed(self) -> None:
        """The proxy has closed the stream, or it broke."""


class Stream(Protocol):
    """One stream of a proxy."""

    @property
    def dialect(self) -> Dialect:
        """Which protocol it speaks."""

    @property
    def identity(self) -> SpiffeId:
        """Who the peer is, by its verified certificate."""

    @property
    def peer(self) -> str:
        """The peer's network address, for people."""

    @property
    def sent_away(self) -> bool:
        """Whether this side has ended it, so that the proxy connects anew."""

    async def receive(self) -> bytes | None:
        """The next request; None when the proxy has closed the stream."""

    async def send(self, message: bytes) -> None:
        """Send a response. Waits while the proxy does not read. Raises `StreamClosed`."""

    def attach(self, receiver: Receiver) -> None:
        """Tell ``receiver`` of everything from now on; `receive` and `send` end with it."""

    def write(self, *messages: Payload) -> bool:
        """Send responses without waiting; true when all is written already. Otherwise they stay
        queued, whole and in order, until `Receiver.writable`."""


StreamHandler = Callable[[Stream], Awaitable[None]]
"""Serves a stream until it ends. May raise `Refusal`."""


class Transport(Protocol):
    """A listening server."""

    async def start(self) -> int:
        """Begin to accept; returns the port."""

    async def stop(self, grace: float) -> None:
        """Stop accepting, tell proxies to go elsewhere, end streams after ``grace`` seconds."""

    async def shed(self, count: int) -> int:
        """Have ``count`` proxies connect anew, so that they may come to another process."""
