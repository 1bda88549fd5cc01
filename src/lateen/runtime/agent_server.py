"""The node agent's own socket: exec in pods, what is published, an orderly end.

One request per connection (`lateen.runtime.node.wire` messages). Only the mesh's owner can open
the socket, and the kernel says who is calling (``SO_PEERCRED``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from lateen.runtime.injection import application_containers
from lateen.runtime.kubelet import Kubelet
from lateen.runtime.node import wire
from lateen.runtime.node.errors import NodeError
from lateen.runtime.node.process import set_window_size
from lateen.runtime.node.spec import ExecSpec
from lateen.runtime.publisher import Publisher
from lateen.runtime.raw import annotations_of
from lateen.workloads.images import program_command

logger = logging.getLogger(__name__)
MAXIMUM_CONNECTIONS = 256
NOT_FOUND = 127


class AgentServer:
    """Serves `lateen exec` and friends."""

    def __init__(
        self,
        kubelet: Kubelet,
        publisher: Publisher,
        end: Callable[[], None],
        parts: Callable[[], list[wire.Message]],
    ) -> None:
        """``parts`` are the node's long-running processes (`Node.parts`)."""
        self._kubelet = kubelet
        self._publisher = publisher
        self._end = end
        self._parts = parts
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, path: Path) -> None:
        """Accept connections on a private Unix socket for ever."""
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        previous = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
        listener.listen(16)
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            while True:
                connection, _ = await loop.sock_accept(listener)
                if len(self._connections) >= MAXIMUM_CONNECTIONS or not _may_call(connection):
                    connection.close()
                    continue
                task = asyncio.create_task(self._handle(connection))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            listener.close()

    async def _handle(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        descriptors: list[int] = []
        try:
            message, descriptors = await _receive(connection)
            operation = message.get("op")
            if operation == "exec":
                await self._exec(connection, message, descriptors)
            elif operation == "connect":
                await self._connect(connection, message)
            elif operation == "published":
                reply = {
                    **self._publisher.describe(),
                    "parts": self._parts(),
                }
                wire.send(connection, reply)
            elif operation == "stop":
                wire.send(connection, {"stopping": True})
                self._end()
            else:
                wire.send(connection, {"error": f"unknown operation {operation!r}"})
        except (wire.ChannelClosed, ValueError, OSError) as error:
            logger.debug("agent socket: %s", error)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            connection.close()

    async def _exec(
        self, connection: socket.socket, message: wire.Message, descriptors: list[int]
    ) -> None:
        """Run a command with the caller's own standard descriptors until it ends."""
        namespace, pod = wire.text(message, "namespace"), wire.text(message, "pod")
        worker = self._kubelet.find(namespace, pod)
        if worker is None or len(descriptors) != 3:
            wire.send(connection, {"error": f"pod {namespace}/{pod} does not run here"})
            return
        container = wire.text(message, "container") or _default_container(worker.pod)
        argv = wire.strings(message, "argv")
        if not worker.has_own_files(container):
            argv = program_command(argv)
        spec = ExecSpec(tuple(argv), tty=bool(message.get("tty")))
        stdin, stdout, stderr = descriptors
        try:
            process = await worker.exec_in(container, spec, (stdin, stdout, stderr))
        except (NodeError, OSError) as error:
            hint = error.hint if isinstance(error, NodeError) else ""
            wire.send(connection, {"error": str(error), "hint": hint, "exit": NOT_FOUND})
            return
        wire.send(connection, {"started": True})
        control = asyncio.create_task(self._control(connection, process.signal, stdin))
        try:
            status = await process.wait()
        finally:
            control.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await control
        wire.send(connection, {"exit": status})

    async def _connect(self, connection: socket.socket, message: wire.Message) -> None:
        """Hand over a connection to a port on a pod's loopback (Envoy's admin and metrics)."""
        namespace, pod = wire.text(message, "namespace"), wire.text(message, "pod")
        worker = self._kubelet.find(namespace, pod)
        if worker is None or worker.sandbox is None:
            wire.send(connection, {"error": f"pod {namespace}/{pod} does not run here"})
            return
        opened = await worker.sandbox.open_socket("", 0)
        try:
            port = wire.number(message, "port")
            async with asyncio.timeout(5.0):
                await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", port))
            wire.send(connection, {"connected": True}, (opened.fileno(),))
        except (OSError, TimeoutError) as error:
            text = (
                f"port {message.get('port')} of pod {namespace}/{pod}: {str(error) or 'no answer'}"
            )
            wire.send(connection, {"error": text})
        finally:
            opened.close()

    async def _control(
        self, connection: socket.socket, send_signal: Callable[..., object], terminal: int
    ) -> None:
        """Signals and window sizes from the caller; its end is the command's end."""
        try:
            while True:
                message, extra = await _receive(connection)
                for descriptor in extra:
                    os.close(descriptor)
                if "signal" in message:
                    await _call(send_signal, wire.number(message, "signal"))
                if "rows" in message:
                    rows, columns = wire.number(message, "rows"), wire.number(message, "columns")
                    with contextlib.suppress(OSError):
                        set_window_size(terminal, rows, columns)
        except (wire.ChannelClosed, ValueError, OSError):
            await _call(send_signal, signal.SIGHUP)


async def _call(function: Callable[..., object], number: int) -> None:
    with contextlib.suppress(OSError, NodeError):
        result = function(number, group=True)
        if asyncio.iscoroutine(result):
            await result


async def _receive(connection: socket.socket) -> tuple[wire.Message, list[int]]:
    while True:
        try:
            return wire.receive(connection)
        except BlockingIOError:
            await _readable(connection)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(connection, wake)
    try:
        await future
    finally:
        loop.remove_reader(connection)


def _may_call(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return uid in (0, os.getuid())


def _default_container(pod: dict[str, object]) -> str:
    containers = application_containers(pod)
    named = annotations_of(pod).get("kubectl.kubernetes.io/default-container", "")
    names = [str(container["name"]) for container in containers]
    if named in names:
        return named
    return names[0] if names else "istio-proxy"
