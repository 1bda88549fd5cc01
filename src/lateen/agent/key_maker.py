"""Makes private keys in a helper process that lives for seconds.

The cryptography library costs ten megabytes and 50 ms to load. The agent needs it for a fraction
of a millisecond per pod, many times at start-up and then for hours not at all, so a child process
carries it: started when a key is wanted, asked for further keys while it is there, gone when idle.
Keys travel through a socket pair and exist nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import weakref

from lateen.pki.errors import PkiError
from lateen.pki.keys import KeyAndRequest

IDLE_SECONDS = 10.0
ANSWER_SECONDS = 30.0
_LINE_LIMIT = 65_536
_REAP_SECONDS = 0.02


class KeyMaker:
    """Keys and signing requests from a helper process, for one event loop."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = asyncio.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._retirement: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def make(self) -> KeyAndRequest:
        """A new P-256 key and a request for it. Raises `PkiError`."""
        async with self._lock:
            if self._retirement is not None:
                self._retirement.cancel()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    line = await self._ask()
            except (OSError, TimeoutError) as error:
                await self.close()
                raise PkiError(f"no key could be made: {str(error) or 'no answer'}") from error
            loop = asyncio.get_running_loop()
            self._retirement = loop.call_later(self._idle_seconds, self._retire)
        made = json.loads(line)
        return KeyAndRequest(made["key"].encode(), made["request"].encode())

    async def close(self) -> None:
        """End the helper."""
        child, writer = self._child, self._writer
        self._child = self._reader = self._writer = None
        if self._retirement is not None:
            self._retirement.cancel()
        if writer is not None:
            writer.close()  # the end of its input ends the helper
        if child is None:
            return
        deadline = asyncio.get_running_loop().time() + 1.0
        while child.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                child.kill()
            await asyncio.sleep(_REAP_SECONDS)

    async def _ask(self) -> bytes:
        for attempt in (1, 2):
            if self._writer is None:
                await self._start()
            assert self._reader is not None
            assert self._writer is not None
            try:
                self._writer.write(b"\n")
                await self._writer.drain()
                line = await self._reader.readline()
            except ConnectionError:
                line = b""
            if line.endswith(b"\n"):
                return line
            await self.close()
            if attempt == 2:
                break
        raise OSError("the helper process ended; its words are in the agent's log")

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # asyncio's own subprocesses take a thread per child on Python 3.11.
            self._child = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-P", "-m", "lateen.agent.key_maker"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)

    def _retire(self) -> None:
        self._closing = asyncio.ensure_future(self._close_idle())

    async def _close_idle(self) -> None:
        async with self._lock:
            await self.close()


_makers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, KeyMaker] = (
    weakref.WeakKeyDictionary()
)


def shared_maker() -> KeyMaker:
    """The running event loop's `KeyMaker`."""
    loop = asyncio.get_running_loop()
    if loop not in _makers:
        _makers[loop] = KeyMaker()
    return _makers[loop]


def serve() -> None:
    """The helper: one key for each line of standard input, until its end."""
    from lateen.pki.keys import new_key_and_request

    for _ in sys.stdin.buffer:
        made = new_key_and_request()
        sys.stdout.write(
            json.dumps({"key": made.key.decode(), "request": made.request.decode()}) + "\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
