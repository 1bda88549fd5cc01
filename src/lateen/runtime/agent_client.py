"""Calling the node's agent from the command line."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

from lateen.runtime.node import wire


class AgentUnavailable(Exception):
    """The node's agent does not answer: the mesh is not running."""


class AgentRefused(Exception):
    """The agent could not do it; ``exit_status`` is what a shell would return."""

    def __init__(self, message: str, hint: str = "", exit_status: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_status = exit_status


def connect(path: Path) -> socket.socket:
    """A connection to the agent. Raises `AgentUnavailable`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise AgentUnavailable(f"nobody answers on {path}: {error.strerror}") from error
    return connection


def ask(path: Path, message: wire.Message, timeout: float = 10.0) -> wire.Message:
    """One request, one reply. Raises `AgentUnavailable` and `AgentRefused`."""
    with connect(path) as connection:
        connection.settimeout(timeout)
        try:
            wire.send(connection, message)
            reply, _ = wire.receive(connection)
        except (wire.ChannelClosed, OSError) as error:
            raise AgentUnavailable(f"the agent does not answer: {error}") from error
    return _checked(reply)


def http_get(
    path: Path, namespace: str, pod: str, port: int, target: str, timeout: float = 10.0
) -> bytes:
    """GET ``target`` from a port on a pod's loopback; the answer's body.

    Raises `AgentUnavailable` and `AgentRefused` (also for an answer other than 200).
    """
    with connect(path) as connection:
        connection.settimeout(timeout)
        request = {"op": "connect", "namespace": namespace, "pod": pod, "port": port}
        try:
            wire.send(connection, request)
            reply, descriptors = wire.receive(connection)
        except (wire.ChannelClosed, OSError) as error:
            raise AgentUnavailable(f"the agent does not answer: {error}") from error
    _checked(reply)
    with socket.socket(fileno=descriptors[0]) as opened:
        opened.settimeout(timeout)
        http = HTTPConnection("localhost", port, timeout=timeout)
        http.sock = opened
        http.request("GET", target, headers={"Connection": "close"})
        answer = http.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise AgentRefused(f"pod {namespace}/{pod} port {port}: HTTP {answer.status}")
    return body


class RunningCommand:
    """A command that runs in a pod with this process's standard descriptors."""

    def __init__(
        self, path: Path, message: wire.Message, descriptors: Sequence[int], timeout: float = 10.0
    ) -> None:
        self.connection = connect(path)
        self.connection.settimeout(timeout)
        try:
            wire.send(self.connection, {"op": "exec", **message}, descriptors)
            reply, _ = wire.receive(self.connection)
            _checked(reply)
        except (wire.ChannelClosed, OSError) as error:
            self.connection.close()
            raise AgentUnavailable(f"the agent does not answer: {error}") from error
        self.connection.settimeout(None)

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        wire.send(self.connection, {"signal": number})

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command's terminal its size."""
        wire.send(self.connection, {"rows": rows, "columns": columns})

    def wait(self) -> int:
        """The command's exit status."""
        try:
            reply, _ = wire.receive(self.connection)
        except wire.ChannelClosed as error:
            raise AgentUnavailable("the mesh ended while the command ran") from error
        return wire.number(_checked(reply), "exit")


def _checked(reply: wire.Message) -> wire.Message:
    if "error" in reply:
        raise AgentRefused(
            wire.text(reply, "error"), wire.text(reply, "hint"), wire.number(reply, "exit", 1)
        )
    return reply
