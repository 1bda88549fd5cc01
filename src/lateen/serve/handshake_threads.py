"""Threads in which TLS handshakes are made: their signatures cost a millisecond each.

An executor would do, but its futures, with a lock and callbacks on both sides, take 33 to 46 us
a step, and a handshake has two. Here a step goes through one queue and its outcome through another,
and the loop is woken once for all that have ended: 2 us.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

Outcome = int | OSError
"""What a handshake waits for, an ``ssl.SSLErrorNumber``; 0 when it is made; why it failed."""
Told = Callable[[Outcome], None]


class HandshakeThreads:
    """Goes on with handshakes on sockets that nobody else touches meanwhile."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: SimpleQueue[tuple[ssl.SSLSocket, Told] | None] = SimpleQueue()
        self._done: deque[tuple[Told, Outcome]] = deque()
        self._woken = False
        """The loop will look at what is done."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads. Outcomes are told on ``loop``."""
        self._loop = loop
        for number in range(self._count):
            threading.Thread(target=self._work, name=f"handshake_{number}", daemon=True).start()

    def go_on(self, secured: ssl.SSLSocket, told: Told) -> None:
        """Go on with a handshake as far as it goes, then call ``told``."""
        self._asked.put((secured, told))

    def stop(self) -> None:
        """End the threads when what was asked for is done."""
        for _ in range(self._count):
            self._asked.put(None)

    def _work(self) -> None:
        assert self._loop is not None
        while (asked := self._asked.get()) is not None:
            secured, told = asked
            self._done.append((told, _step(secured)))
            # The loop clears this before it takes what is done: nothing is left behind.
            if not self._woken:
                self._woken = True
                try:
                    self._loop.call_soon_threadsafe(self._tell)
                except RuntimeError:
                    return  # the loop is closed

    def _tell(self) -> None:
        self._woken = False
        done = self._done
        try:
            for _ in range(len(done)):
                told, outcome = done.popleft()
                told(outcome)
        finally:
            # One that raises keeps nobody else waiting.
            if done and self._loop is not None:
                self._loop.call_soon(self._tell)


def _step(secured: ssl.SSLSocket) -> Outcome:
    try:
        secured.do_handshake()
    except ssl.SSLWantReadError:
        return ssl.SSL_ERROR_WANT_READ
    except ssl.SSLWantWriteError:
        return ssl.SSL_ERROR_WANT_WRITE
    except OSError as error:  # also TLS errors
        return error
    except ValueError as error:
        return OSError(str(error))  # the socket has no connection any more
    return 0


def has_spoken(secured: ssl.SSLSocket) -> bool:
    """Whether there is something to read, or never will be."""
    try:
        socket.socket.recv(secured, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass  # whoever reads finds out
    return True
