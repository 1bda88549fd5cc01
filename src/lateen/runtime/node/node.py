"""The node as its main process uses it: sandboxes, services, published ports, own processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict

from lateen.capture import CaptureConfig
from lateen.runtime.engine.errors import EngineAbsent
from lateen.runtime.node import wire
from lateen.runtime.node.channel import Channel
from lateen.runtime.node.errors import CommandNotFoundError, NodeError, PortTakenError, SandboxError
from lateen.runtime.node.forwarding import Forwarding
from lateen.runtime.node.logs import open_log
from lateen.runtime.node.sandbox import Process, Sandbox, open_shared_udp, open_socket
from lateen.runtime.node.services import ServiceTable, service_changes
from lateen.runtime.node.spec import PROXY_USER, NodeConfig, ProcessSpec, SandboxSpec, to_json

_EADDRINUSE = 98
_EGRESS_PORT = 15099
_MAX_EARLY_EXITS = 1024


class Node:
    """Everything below the pods. One per mesh, in the node's main process."""

    def __init__(
        self,
        config: NodeConfig,
        directory: str,
        launcher: socket.socket,
        gateway: socket.socket,
        forward: socket.socket,
        engine: socket.socket | None = None,
    ) -> None:
        self.config = config
        self._directory = directory
        self._launcher = Channel(launcher, self._on_event)
        self._gateway = Channel(gateway)
        self._engine = Channel(engine, self._on_engine_event) if engine is not None else None
        self._engine_restarts = 0
        self._forward_gateway = forward
        self.forwarding = Forwarding(self._start_forwarder)
        self._netlink: Channel | None = None
        self._netlink_lock = asyncio.Lock()
        self._service_lock = asyncio.Lock()
        self._services: ServiceTable = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._sandboxes: dict[str, Sandbox] = {}

    # What it is

    @property
    def can_switch_user(self) -> bool:
        """True when the node runs as root, so that containers may have users of their own."""
        return os.getuid() == 0

    @property
    def proxy_user(self) -> int | None:
        """Uid and gid for Envoy's `ContainerSpec` (None: only the caller's own is possible)."""
        return PROXY_USER if self.can_switch_user else None

    @property
    def scratch_dir(self) -> str:
        """A private directory in memory, gone with the node: generated files, secrets, emptyDir."""
        return f"{self._directory}/scratch"

    @property
    def sandboxes(self) -> Mapping[str, Sandbox]:
        """All sandboxes by name."""
        return dict(self._sandboxes)

    # Life

    async def set_up(self) -> None:
        """Makes the node's network. Called once, before anything else, by `run_program`."""
        await self.forwarding.run()
        egress = _EGRESS_PORT if self.config.egress else 0
        await self._ask_netlink(
            {"op": "node", "config": to_json(self.config), "egress_port": egress}, ()
        )
        if egress:
            listener = await open_socket(
                self._launcher, "", self.config.node_ip, _EGRESS_PORT, udp=False
            )
            await self.forwarding.add("egress", {"op": "egress"}, listener)
            # Connections of the node's own processes are redirected to its loopback address.
            own = await open_socket(self._launcher, "", "127.0.0.1", _EGRESS_PORT, udp=False)
            await self.forwarding.add("egress-own", {"op": "egress"}, own)

    async def _start_forwarder(self) -> socket.socket:
        # Each gets a copy of the channel to the host gateway, which outlives it.
        _, fds = await self._role("forwarder", (self._forward_gateway.fileno(),))
        return socket.socket(fileno=fds[0])

    @property
    def parts(self) -> list[wire.Message]:
        """The node's own long-running processes: ``name``, whether each is ``running``, and how
        often it was started again (``restarts``)."""
        found: list[wire.Message] = [
            {
                "name": "forwarder",
                "running": self.forwarding.running,
                "restarts": self.forwarding.restarts,
            }
        ]
        if self._engine is not None:
            found.append(
                {
                    "name": "container engine helper",
                    "running": not self._engine.closed,
                    "restarts": self._engine_restarts,
                }
            )
        return found

    def _on_engine_event(self, message: wire.Message) -> None:
        if message.get("event") == "restarted" and self._engine is not None:
            self._engine_restarts += 1
            words = "the process that asks the container engine was started again"
            self._engine.fail_waiting(OSError(errno.EAGAIN, words))

    async def ready(self, info: Mapping[str, object]) -> None:
        """Tells whoever launched the node that it serves; ``info`` is what `wait_ready` returns."""
        await self._gateway.request({"op": "ready", "info": dict(info)})

    # Pods

    async def create_sandbox(
        self, spec: SandboxSpec, capture: CaptureConfig | None = None
    ) -> Sandbox:
        """Makes a pod's namespaces and connects them; with ``capture`` the rules are in place
        before anything can run. Raises `SandboxError`."""
        request: wire.Message = {
            "op": "sandbox.create",
            "name": spec.name,
            "hostname": spec.hostname,
            "resolv.conf": spec.resolv_conf,
            "hosts": spec.hosts or default_hosts(spec),
            "sysctls": dict(spec.sysctls),
        }
        created = False
        try:
            _, fds = await self._launcher.request(request)
            created = True
            message: wire.Message = {
                "op": "attach",
                "config": to_json(self.config),
                "ip": spec.ip,
            }
            if capture is not None:
                message["capture"] = asdict(capture)
            await self._ask_netlink(message, (fds[0],))
        except OSError as error:
            if created:
                os.close(fds[0])
                await self._launcher.request({"op": "sandbox.remove", "name": spec.name})
            raise SandboxError(f"{spec.name}: {error.strerror}") from error

        def removed(name: str) -> None:
            self._sandboxes.pop(name, None)

        sandbox = Sandbox(spec, fds[0], self._launcher, self._ask_netlink, self, removed)
        self._sandboxes[spec.name] = sandbox
        return sandbox

    async def set_services(self, services: ServiceTable) -> None:
        """Makes the kernel serve exactly these service ports; only the difference is written.

        Raises `NodeError`; the kernel then keeps what it had.
        """
        async with self._service_lock:
            changes = service_changes(self._services, services)
            if not changes:
                return
            try:
                await self._ask_netlink({"op": "services", "changes": asdict(changes)}, ())
            except OSError as error:
                raise NodeError(f"services: {error.strerror}") from error
            self._services = dict(services)

    # The world outside

    async def publish(
        self, host_port: int, ip: str, port: int, address: str = "127.0.0.1"
    ) -> Published:
        """Forwards a TCP port of the machine to a pod. Raises `PortTakenError`, `NodeError`."""
        try:
            _, fds = await self._gateway.request(
                {"op": "listen", "address": address, "port": host_port}
            )
        except OSError as error:
            hint = "publish another port, or end that program"
            kind = PortTakenError if error.errno == _EADDRINUSE else NodeError
            raise kind(str(error.strerror), hint if kind is PortTakenError else "") from error
        listener = socket.socket(fileno=fds[0])
        bound = int(listener.getsockname()[1])
        published = Published(address, bound, self.forwarding.remove)
        message: wire.Message = {"op": "publish", "address": ip, "port": port}
        await self.forwarding.add(published.key, message, listener)
        return published

    async def open_host_udp(self, address: str = "", port: int = 0) -> socket.socket:
        """A datagram socket in the machine's own network (DNS queries to its resolvers),
        connected when an address is given; non-blocking. Raises `OSError`."""
        _, fds = await self._gateway.request({"op": "udp", "address": address, "port": port})
        opened = socket.socket(fileno=fds[0])
        opened.setblocking(False)
        return opened

    async def connect_host(self, address: str, port: int) -> socket.socket:
        """A TCP connection made in the machine's own network, non-blocking: for the node itself,
        never on behalf of a pod. Raises `OSError`."""
        _, fds = await self._gateway.request({"op": "connect", "address": address, "port": port})
        opened = socket.socket(fileno=fds[0])
        opened.setblocking(False)
        return opened

    async def engine_image(self, image: str, policy: str) -> tuple[wire.Message, list[int]]:
        """Asks the container engine for an image's files (`lateen.runtime.engine.helper.answer`).

        Raises `EngineAbsent` when no process for that stays on the machine's side, `OSError`.
        """
        if self._engine is None:
            switched_off = self.config.engine == "none"
            raise EngineAbsent(
                "the container engine is switched off (--engine none)"
                if switched_off
                else "this machine has no container engine (docker, podman or nerdctl)"
            )
        return await self._engine.request({"image": image, "policy": policy})

    # The mesh's own

    async def spawn(self, name: str, spec: ProcessSpec) -> Process:
        """Starts one of the mesh's own processes in the node's network, without capabilities.

        Raises `CommandNotFoundError`.
        """
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        writer, log = null, None
        try:
            if spec.log_path:
                writer, log = open_log(spec.log_path, spec.log_bytes)
            request = {"op": "spawn", **to_json(spec)}
            reply, _ = await self._launcher.request(request, (null, writer, writer))
        except OSError as error:
            if log is not None:
                log.close()
            raise CommandNotFoundError(f"{name}: {error.strerror}") from error
        finally:
            os.close(null)
            if writer != null:
                os.close(writer)
        pid = wire.number(reply, "pid")
        return Process(name, pid, self._launcher, self.expect_exit(pid), log)

    async def open_socket(self, address: str, port: int, *, udp: bool = False) -> socket.socket:
        """A bound (TCP: listening), non-blocking socket in the node's network."""
        return await open_socket(self._launcher, "", address, port, udp=udp)

    async def open_shared_udp(self, address: str, port: int, count: int) -> list[socket.socket]:
        """UDP sockets of the node's network that share a port (see `sandbox.open_shared_udp`)."""
        return await open_shared_udp(self._launcher, address, port, count)

    # Inside

    def expect_exit(self, pid: int) -> asyncio.Future[int]:
        """The exit status of a child of the launcher, also when it has arrived already."""
        future = self._exits.get(pid)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._exits[pid] = future
        elif future.done():
            del self._exits[pid]
        return future

    def _on_event(self, message: wire.Message) -> None:
        if message.get("event") != "exit":
            return
        pid, status = wire.number(message, "pid"), wire.number(message, "status")
        future = self._exits.pop(pid, None)
        if future is not None and not future.done():
            future.set_result(status)
            return
        # Nobody has asked yet: its start is still being answered, or nobody ever will.
        early: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        early.set_result(status)
        self._exits[pid] = early
        done = [key for key, value in self._exits.items() if value.done()]
        for key in done[: max(0, len(done) - _MAX_EARLY_EXITS)]:
            del self._exits[key]

    async def _role(self, name: str, fds: tuple[int, ...]) -> tuple[wire.Message, list[int]]:
        return await self._launcher.request({"op": "role", "name": name}, fds)

    async def _ask_netlink(self, message: wire.Message, fds: tuple[int, ...]) -> None:
        """One request to the netlink worker, which is started when there is none.

        The worker ends when idle, maybe in the very moment of a request: then ask a new one.
        """
        async with self._netlink_lock:
            for attempt in (1, 2):
                if self._netlink is None or self._netlink.closed:
                    _, received = await self._role("netlink", ())
                    self._netlink = Channel(socket.socket(fileno=received[0]))
                try:
                    await self._netlink.request(message, fds)
                    return
                except wire.ChannelClosed:
                    if attempt == 2:
                        raise OSError(5, "the netlink worker ended") from None


class Published:
    """A port of the machine that leads into the mesh."""

    def __init__(self, address: str, port: int, remove: Callable[[str], Awaitable[None]]) -> None:
        self.address = address
        self.port = port
        self._remove = remove

    @property
    def key(self) -> str:
        """Its name at the forwarder."""
        return f"{self.address}:{self.port}"

    async def close(self) -> None:
        """Stops listening; connections that exist go on."""
        await self._remove(self.key)


def default_hosts(spec: SandboxSpec) -> str:
    """/etc/hosts as the kubelet writes it."""
    return (
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        f"{spec.ip}\t{spec.hostname}\n"
    )


Program = Callable[[Node, dict[str, object]], Awaitable[None]]


def run_program(
    program: Program,
    arguments: dict[str, object],
    config: NodeConfig,
    directory: str,
    channels: Sequence[socket.socket],
) -> int:
    """Runs ``await program(node, arguments)`` in a fresh event loop; returns the exit status.

    SIGTERM cancels the program, which then has `NodeConfig.stop_seconds` to clean up.
    """
    return asyncio.run(_run(program, arguments, config, directory, channels))


async def _run(
    program: Program,
    arguments: dict[str, object],
    config: NodeConfig,
    directory: str,
    channels: Sequence[socket.socket],
) -> int:
    node = Node(config, directory, *channels)
    await node.set_up()
    task = asyncio.ensure_future(program(node, arguments))
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
    return 0
