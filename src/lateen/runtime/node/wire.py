"""Messages between the node's processes: JSON over SOCK_SEQPACKET, with file descriptors.

One message is one packet: a JSON object, and up to `MAX_FDS` descriptors (SCM_RIGHTS, unix(7)).
Objects too large for a packet travel in a sealed-off memory file whose descriptor comes last.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence

Message = dict[str, object]

MAX_FDS = 32
_MAX_PACKET = 64 * 1024
_MAX_MESSAGE = 64 * 1024 * 1024
_LARGE = b'{"large":true}'


class ChannelClosed(ConnectionError):
    """The process at the other end has gone."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends. Descriptors are close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
    """Sends one message. Raises `ChannelClosed` when the other end has gone.

    On a non-blocking socket with a full buffer this raises `BlockingIOError`, nothing is sent.
    """
    if len(fds) >= MAX_FDS:
        raise ValueError(f"{len(fds)} file descriptors in one message; at most {MAX_FDS - 1}")
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) <= _MAX_PACKET:
        _send(channel, data, fds)
        return
    memory = os.memfd_create("lateen-message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        _send(channel, _LARGE, [*fds, memory])
    finally:
        os.close(memory)


def _send(channel: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    rights = (
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
    )
    try:
        channel.sendmsg([data], rights, socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ChannelClosed(str(error)) from error


def receive(channel: socket.socket) -> tuple[Message, list[int]]:
    """Receives one message and its descriptors, which the caller must close.

    Raises `ChannelClosed` at the end, `ValueError` for what is not a message.
    """
    try:
        data, ancillary, flags, _ = channel.recvmsg(
            _MAX_PACKET, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError as error:
        raise ChannelClosed(str(error)) from error
    fds: list[int] = []
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
            fds.extend(numbers)
    try:
        if not data:
            raise ChannelClosed("end of file")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a message was cut off")
        if data == _LARGE and fds:
            data = _read_all(fds.pop())
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("a message must be a JSON object")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        data = file.read(_MAX_MESSAGE + 1)
    if len(data) > _MAX_MESSAGE:
        raise ValueError(f"a message of more than {_MAX_MESSAGE} bytes")
    return data


def error_reply(error: BaseException) -> Message:
    """The reply that reports ``error``: its text, and its errno when the kernel gave one."""
    if not isinstance(error, OSError) or error.errno is None:
        return {"error": str(error) or type(error).__name__}
    text = error.strerror or str(error)
    named = f"{error.filename}: {text}" if error.filename else text
    return {"error": named, "errno": error.errno}


def text(message: Mapping[str, object], key: str, default: str = "") -> str:
    """The string at ``key``; raises `ValueError` when it is something else."""
    value = message.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a string, not {value!r}")
    return value


def number(message: Mapping[str, object], key: str, default: int = 0) -> int:
    """The integer at ``key``; raises `ValueError` when it is something else."""
    value = message.get(key, default)
    if not isinstance(value, int):
        raise ValueError(f"{key} must be an integer, not {value!r}")
    return value


def strings(message: Mapping[str, object], key: str) -> list[str]:
    """The list of strings at ``key`` (empty when absent)."""
    value = message.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} must be a list of strings")
    return value


def mapping(message: Mapping[str, object], key: str) -> Message:
    """The JSON object at ``key`` (empty when absent)."""
    value = message.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object")
    return value
