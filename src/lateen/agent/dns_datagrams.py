"""The UDP side of cluster DNS: sockets that share a port, each for some of the pods.

The kernel picks the socket by the source address (SO_ATTACH_REUSEPORT_CBPF, socket(7)), so a pod
that sends more than is read fills the queue of its own socket and of none that another pod uses,
as long as the pods' addresses leave different remainders. What exceeds a client's rate is dropped
unread, a few datagrams a turn, so that a flood costs the event loop next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import socket
import time
from collections.abc import Callable, Sequence

from lateen.agent.dns_shares import Rates, Seldom

SOCKETS = 62
"""Sockets of one address; a message between processes carries 31 descriptors."""
_TURN = 16
"""Datagrams read of one socket before others get their turn."""
_REST = 0.005
"""Seconds that a socket is not read after a turn that brought only what is dropped."""
_LONGEST = 4_096
"""Bytes of a question; all that are asked are far shorter."""
_SO_ATTACH_REUSEPORT_CBPF = 51
_logger = logging.getLogger(__name__)

Answer = Callable[[socket.socket, bytes, tuple[str, int]], None]


class Datagrams:
    """Reads questions and gives them to ``answer`` with socket and sender."""

    def __init__(self, sockets: Sequence[socket.socket], rates: Rates, answer: Answer) -> None:
        self._sockets = sockets
        self._rates = rates
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._said = Seldom()
        self._closed = False
        if len(sockets) > 1:
            spread_by_source(sockets)
        for item in sockets:
            item.setblocking(False)
            self._loop.add_reader(item.fileno(), self._read, item)

    def close(self) -> None:
        """Stop and close the sockets."""
        self._closed = True
        for item in self._sockets:
            self._loop.remove_reader(item.fileno())
            item.close()

    def _read(self, source: socket.socket) -> None:
        dropped = 0
        for _ in range(_TURN):
            try:
                message, sender = source.recvfrom(_LONGEST)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an earlier answer
            if self._rates.take(sender[0], time.monotonic()):
                self._answer(source, message, sender)
                continue
            dropped += 1
            if self._said.may(sender[0]):
                _logger.warning("dns: %s asks too often; some questions are dropped", sender[0])
        if dropped == _TURN:
            self._loop.remove_reader(source.fileno())
            self._loop.call_later(_REST, self._resume, source)

    def _resume(self, source: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(source.fileno(), self._read, source)


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def spread_by_source(sockets: Sequence[socket.socket]) -> None:
    """Have the kernel give each datagram for the sockets' common port to the one whose number is
    the remainder of the sender's IPv4 address."""
    # BPF (linux/filter.h): load the word at the network header's source address; A %= n; return A.
    network_header = 0x100000000 - 0x100000
    source_address = 12
    code = (_Instruction * 3)(
        _Instruction(0x20, 0, 0, network_header + source_address),
        _Instruction(0x94, 0, 0, len(sockets)),
        _Instruction(0x16, 0, 0, 0),
    )
    program = bytes(_Program(len(code), code))
    with contextlib.suppress(OSError):  # then the kernel picks by address and port
        sockets[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
