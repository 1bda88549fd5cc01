"""Pods' sandboxes and the containers in them, as the node's main process sees them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Protocol

from lateen.capture import CaptureConfig
from lateen.runtime.node import wire
from lateen.runtime.node.channel import Channel
from lateen.runtime.node.errors import CommandNotFoundError, SandboxError
from lateen.runtime.node.logs import LogPump, open_log
from lateen.runtime.node.spec import ContainerSpec, ExecSpec, SandboxSpec, to_json

_POLL_SECONDS = 0.02


class Exits(Protocol):
    """Where exit statuses arrive."""

    def expect_exit(self, pid: int) -> asyncio.Future[int]:
        """The exit status of a child, also when it has arrived already."""


class Process:
    """A process that the launcher started."""

    def __init__(
        self,
        name: str,
        pid: int,
        launcher: Channel,
        exited: asyncio.Future[int],
        log: LogPump | None,
    ) -> None:
        self.name = name
        self.pid = pid
        """In the node's PID namespace."""
        self.log = log
        self._launcher = launcher
        self._exited = exited
        self._ended_by = 0

    @property
    def exit_status(self) -> int | None:
        """Exit code, 128 + n after signal n, None while it runs."""
        if not self._exited.done():
            return None
        return 128 + self._ended_by if self._ended_by else self._exited.result()

    async def wait(self) -> int:
        """Waits for the end; returns `exit_status`. All output is in the log by then."""
        status = await asyncio.shield(self._exited)
        if self.log is not None:
            await self.log.finished()
        return self.exit_status or status

    async def signal(self, number: int, *, group: bool = False) -> None:
        """Sends a signal to the process, or to its whole process group. None if it has ended."""
        if self._exited.done():
            return
        with contextlib.suppress(ProcessLookupError):
            await self._launcher.request(
                {"op": "signal", "pid": self.pid, "signal": number, "group": group}
            )

    async def stop(self, grace: float, number: int = SIGTERM) -> int:
        """Signal to the process group, SIGKILL after ``grace`` seconds; returns the exit status.

        The first process of a PID namespace survives signals that it does not handle, unlike any
        other process. Here it ends as the application's author would expect: at once, or when its
        children have ended.
        """
        # Looked at before sending: a process that handled the signal resets its handlers at exit.
        ignored_by_kernel = not _handles(self.pid, number)
        await self.signal(number, group=True)
        deadline = asyncio.get_running_loop().time() + grace
        while not self._exited.done() and asyncio.get_running_loop().time() < deadline:
            if ignored_by_kernel and _is_alone(self.pid):
                self._ended_by = number
                break
            await asyncio.wait([self._exited], timeout=_POLL_SECONDS)
        if not self._exited.done():
            await self.signal(SIGKILL)
        return await self.wait()


class Container(Process):
    """A container of a sandbox; its process is the first of a PID namespace of its own."""

    async def execute(self, spec: ExecSpec, stdin: int, stdout: int, stderr: int) -> Process:
        """Runs a command in the container (`lateen exec`); the caller keeps the descriptors.

        Raises `CommandNotFoundError` or `SandboxError`.
        """
        return await self._run(spec, (stdin, stdout, stderr))

    def __init__(
        self,
        name: str,
        pid: int,
        launcher: Channel,
        exited: asyncio.Future[int],
        log: LogPump | None,
        exits: Exits,
        log_path: str,
    ) -> None:
        super().__init__(name, pid, launcher, exited, log)
        self.log_path = log_path
        self._exits = exits

    async def _run(self, spec: ExecSpec, fds: tuple[int, int, int]) -> Process:
        request = {"op": "exec", "container": self.pid, **to_json(spec)}
        try:
            reply, _ = await self._launcher.request(request, fds)
        except OSError as error:
            raise _start_error(f"exec in {self.name}", error, "in the container") from error
        pid = wire.number(reply, "pid")
        exited = self._exits.expect_exit(pid)
        return Process(f"exec in {self.name}", pid, self._launcher, exited, None)


class Sandbox:
    """A pod's network, host name and IPC. Make it with `Node.create_sandbox`."""

    def __init__(
        self,
        spec: SandboxSpec,
        net: int,
        launcher: Channel,
        netlink: Callable[[wire.Message, tuple[int, ...]], Awaitable[None]],
        exits: Exits,
        removed: Callable[[str], None],
    ) -> None:
        self.spec = spec
        self._net = net
        self._launcher = launcher
        self._netlink = netlink
        self._exits = exits
        self._removed = removed

    @property
    def name(self) -> str:
        """Its name on the node."""
        return self.spec.name

    async def apply_capture(self, config: CaptureConfig) -> None:
        """Replaces the pod's redirection rules, atomically. Raises `SandboxError`."""
        try:
            message: wire.Message = {"op": "capture", "capture": asdict(config)}
            await self._netlink(message, (self._net,))
        except OSError as error:
            raise SandboxError(f"{self.name}: traffic capture: {error.strerror}") from error

    async def start(self, spec: ContainerSpec) -> Container:
        """Starts a container. Raises `CommandNotFoundError` or `SandboxError`.

        With ``spec.stdin`` use `start_attached`.
        """
        return await self.start_attached(spec, None)

    async def start_attached(self, spec: ContainerSpec, stdin: int | None) -> Container:
        """Like `start`, with a descriptor for standard input (which the caller keeps)."""
        what = f"{self.name}: container {spec.name}"
        if not spec.argv:
            raise SandboxError(f"{what}: no command")
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        writer, log = null, None
        try:
            if spec.log_path:
                writer, log = open_log(spec.log_path, spec.log_bytes)
            request = {
                "op": "start",
                "sandbox": self.name,
                "hostname": self.spec.hostname,
                **to_json(spec),
            }
            fds = (null if stdin is None else stdin, writer, writer)
            reply, _ = await self._launcher.request(request, fds)
        except OSError as error:
            if log is not None:
                log.close()
            raise _start_error(
                what, error, "in the image" if spec.image else "on this machine"
            ) from error
        finally:
            os.close(null)
            if writer != null:
                os.close(writer)
        pid = wire.number(reply, "pid")
        exited = self._exits.expect_exit(pid)
        return Container(spec.name, pid, self._launcher, exited, log, self._exits, spec.log_path)

    async def open_socket(
        self, address: str, port: int, *, udp: bool = False, mark: int = 0
    ) -> socket.socket:
        """A socket bound (TCP: listening) in the pod's network, for the agent's own servers.

        An empty address leaves it unbound, to connect from the pod. ``mark`` sets SO_MARK. The
        socket is non-blocking. Raises `SandboxError`.
        """
        return await open_socket(self._launcher, self.name, address, port, udp=udp, mark=mark)

    async def remove(self) -> None:
        """Kills what still runs in it and lets go of its network."""
        if self._net < 0:
            return
        os.close(self._net)
        self._net = -1
        self._removed(self.name)
        await self._launcher.request({"op": "sandbox.remove", "name": self.name})


async def open_socket(
    launcher: Channel, sandbox: str, address: str, port: int, *, udp: bool, mark: int = 0
) -> socket.socket:
    """See `Sandbox.open_socket`; an empty sandbox name means the node's network."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    request: wire.Message = {
        "op": "socket",
        "sandbox": sandbox,
        "family": int(family),
        "udp": udp,
        "address": address,
        "port": port,
        "mark": mark,
    }
    try:
        _, fds = await launcher.request(request)
    except OSError as error:
        raise SandboxError(f"{sandbox or 'node'}: {error.strerror}") from error
    opened = socket.socket(fileno=fds[0])
    opened.setblocking(False)
    return opened


async def open_shared_udp(
    launcher: Channel, address: str, port: int, count: int
) -> list[socket.socket]:
    """``count`` UDP sockets of the node's network, non-blocking, that share an address and port.

    Raises `SandboxError`.
    """
    opened: list[socket.socket] = []
    while len(opened) < count:
        request: wire.Message = {
            "op": "socket",
            "sandbox": "",
            "family": int(socket.AF_INET),
            "udp": True,
            "address": address,
            "port": port,
            "share": True,
            "count": min(count - len(opened), wire.MAX_FDS - 1),
        }
        try:
            _, fds = await launcher.request(request)
        except OSError as error:
            raise SandboxError(f"node: {error.strerror}") from error
        opened += [socket.socket(fileno=fd) for fd in fds]
    for item in opened:
        item.setblocking(False)
    return opened


def _start_error(what: str, error: OSError, where: str) -> SandboxError:
    text = f"{what}: {error.strerror}"
    if error.errno in (2, 13) and "volume" not in text and "mount" not in text:
        return CommandNotFoundError(text, f"give a command that exists {where}")
    return SandboxError(text)


def _handles(pid: int, number: int) -> bool:
    """Does the process handle or ignore the signal by its own will (proc(5), SigCgt, SigIgn)?"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        masks = int(fields["SigCgt"], 16) | int(fields["SigIgn"], 16)
    except (OSError, KeyError, ValueError):
        return True
    return bool(masks >> (number - 1) & 1)


def _is_alone(pid: int) -> bool:
    """Has the process no living children?"""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return False
    return all(_is_zombie(child) for child in children)


def _is_zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True
