"""Container logs: from a pipe to a file of bounded size, never at the application's expense."""

from __future__ import annotations

import asyncio
import contextlib
import os

_CHUNK = 64 * 1024
_LEAST_ROOM = 256
"""A file with less room than this for the next line is full."""


class LogPump:
    """Copies a pipe to ``path``; at ``limit`` bytes the file becomes ``path + ".1"``.

    The application never waits for the disk and never sees its errors: what cannot be written is
    dropped and counted, and a line in the log says so once writing works again.
    """

    def __init__(self, reader: int, path: str, limit: int) -> None:
        self._reader = reader
        self._path = path
        self._limit = limit
        self._file: int | None = None
        self._size = 0
        self._lost = 0
        self.problem = ""
        """Why the last write failed, empty when it worked."""
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(reader, False)
        with contextlib.suppress(OSError):  # told when there is something to write
            self._open()
        self._loop.add_reader(reader, self._readable)

    @property
    def lost_bytes(self) -> int:
        """Bytes dropped since the last successful write."""
        return self._lost

    async def finished(self, timeout: float = 1.0) -> None:
        """Waits until the last writer has closed the pipe (or an orphan keeps it for too long)."""
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._closed), timeout)
        self.close()

    def close(self) -> None:
        """Reads what is there, and stops."""
        if self._reader < 0:
            return
        while self._read_once() > 0:
            pass
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._reader = -1
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if not self._closed.done():
            self._closed.set_result(None)

    def _readable(self) -> None:
        if self._read_once() == 0:
            self.close()

    def _read_once(self) -> int:
        """Moves one chunk; its length, 0 at the end of the pipe, -1 when nothing is there yet."""
        try:
            data = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return -1
        if data:
            self._write(data)
        return len(data)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                file = self._open()
                if self._lost:
                    note = f"[{self._lost} bytes of log lost: {self.problem}]\n".encode()
                    self._size += os.write(file, note)
                    self._lost = 0
                written = os.write(file, data[: self._piece(data)])
            except OSError as error:
                self.problem = error.strerror or str(error)
                self._lost += len(data)
                return
            self.problem = ""
            self._size += written
            data = data[written:]

    def _piece(self, data: bytes) -> int:
        """How much goes into the present file: whole lines if there are any within its limit."""
        room = max(1, self._limit - self._size)
        if len(data) <= room:
            return len(data)
        return data.rfind(b"\n", 0, room) + 1 or room

    def _open(self) -> int:
        full = self._limit - self._size < _LEAST_ROOM
        if self._file is not None and self._size and full:
            os.close(self._file)
            self._file = None
            os.replace(self._path, self._path + ".1")
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
            self._size = os.fstat(self._file).st_size
        return self._file


def open_log(path: str, limit: int) -> tuple[int, LogPump]:
    """A pipe's write end for the process (the caller closes it), and the pump on the other end."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return writer, LogPump(reader, path, limit)
