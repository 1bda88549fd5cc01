"""Netlink by hand where it pays: pyroute2 writes the messages, one plain socket carries them.

Several messages go in one packet, and the kernel's answers to them are there when `sendmsg`
returns, so a whole pod or a whole table costs one system call.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import Protocol

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

_NLMSG_ERROR = 2
_BUFFER = 1 << 20


class Encodable(Protocol):
    """A pyroute2 message."""

    data: bytearray

    def encode(self) -> None:
        """Writes the message to ``data``."""

    def __getitem__(self, key: str) -> dict[str, int]: ...


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket of the current network namespace, which it keeps for life."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    with contextlib.suppress(OSError):  # capped by net.core.wmem_max without root; enough
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    sock.bind((0, 0))
    return sock


def exchange(sock: socket.socket, packet: bytes, labels: Sequence[str]) -> None:
    """Sends a packet of messages whose sequence numbers are 0, 1, 2 ... and reads the answers.

    Raises `OSError` for the first message that the kernel refused, with its label.
    """
    sock.send(packet)
    failure: OSError | None = None
    while True:
        try:
            answer = sock.recv(_BUFFER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        offset = 0
        while offset + 16 <= len(answer):
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", answer, offset)
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", answer, offset + 16)[0]
                if number and failure is None:
                    label = labels[sequence] if sequence < len(labels) else "netlink request"
                    failure = OSError(number, f"{label}: {os.strerror(number)}")
            offset += max(16, (length + 3) & ~3)
    if failure is not None:
        raise failure


def encode(message: Encodable, sequence: int, kind: int, flags: int) -> bytes:
    """The bytes of a pyroute2 message with this header."""
    header = message["header"]
    header["type"] = kind
    header["flags"] = flags | NLM_F_REQUEST
    header["sequence_number"] = sequence
    header["pid"] = 0
    message.encode()
    return bytes(message.data)
