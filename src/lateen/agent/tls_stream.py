"""TLS without verification over a stream, for HTTPS probes.

Through memory buffers, so that it needs nothing of asyncio's own TLS, which an agent may have left
out to save memory.
"""

from __future__ import annotations

import ssl

from lateen.agent.http import Stream

_CHUNK = 65_536


class TlsStream:
    """The encrypted side of a `Stream`."""

    def __init__(self, stream: Stream) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)

    @classmethod
    async def open(cls, stream: Stream) -> TlsStream:
        """Shake hands. Raises ``OSError`` (``ssl.SSLError`` is one)."""
        made = cls(stream)
        while True:
            try:
                made._tls.do_handshake()
                await made._flush()
                return made
            except ssl.SSLWantReadError:
                await made._flush()
                await made._fill()

    async def read(self, size: int) -> bytes:
        """See `Stream.read`."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def write(self, data: bytes) -> None:
        """See `Stream.write`."""
        self._tls.write(data)
        await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._stream.write(self._outgoing.read())

    async def _fill(self) -> None:
        data = await self._stream.read(_CHUNK)
        if data:
            self._incoming.write(data)
        elif self._incoming.eof:
            raise ConnectionResetError("the connection was closed")
        else:
            self._incoming.write_eof()
