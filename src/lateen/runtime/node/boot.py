"""How a node comes to life: ``python -m lateen.runtime.node.boot`` (started by `launch_node`).

    boot (host's namespaces)            stays as the host gateway
     ├─ fork: engine helper             only where there is a container engine
     └─ fork: new user namespace (without root), then new PID, network, mount, UTS, IPC namespaces
         └─ fork: PID 1 of the node     the launcher
             └─ fork: main              the program of the node, with few or no privileges

When boot ends, PID 1 gets SIGKILL from the kernel; when PID 1 ends, the kernel kills everything in
its PID namespace, and with the last process go namespaces, interfaces, rules and mounts.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import resource
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Sequence

from lateen.runtime.engine.helper import fork_helper
from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import privileges, process, seccomp, wire
from lateen.runtime.node.errors import NodeError, NodeStartError
from lateen.runtime.node.gateway import Gateway
from lateen.runtime.node.launcher import Launcher
from lateen.runtime.node.roles import ROLES
from lateen.runtime.node.spec import NodeConfig, node_config

NODE_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    # Pods reach each other through the node on purpose; it must not tell them of a shorter way.
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}

# With br_netfilter (Docker loads it) the kernel would translate addresses already while bridging,
# and a pod could no longer reach itself through its service. Absent without that module.
_BRIDGE_SYSCTLS = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_EXIT_ENVIRONMENT = 3


def main() -> None:
    """Reads the start message from descriptor 3, brings the node up, serves as host gateway."""
    control = socket.socket(fileno=3)
    control.set_inheritable(False)
    message, fds = wire.receive(control)
    privileges.set_process_name("lateen-host")
    with contextlib.suppress(OSError):
        os.setsid()
    config = node_config(wire.mapping(message, "config"))
    try:
        status = _supervise(control, config, message, fds[0] if fds else None)
    except (OSError, NodeError) as error:
        with contextlib.suppress(wire.ChannelClosed):
            wire.send(control, {"event": "error", **wire.error_reply(error)})
        status = _EXIT_ENVIRONMENT
    os._exit(status)


def _supervise(
    control: socket.socket, config: NodeConfig, message: wire.Message, lifeline: int | None
) -> int:
    privileges.become_subreaper()
    os.makedirs(config.state_dir, mode=0o700, exist_ok=True)
    directory = f"{config.state_dir}/node"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    # One channel for the main process and one for the forwarder.
    main_ours, main_theirs = wire.pair()
    forward_ours, forward_theirs = wire.pair()
    news, news_theirs = wire.pair()
    channels = [main_theirs, forward_theirs]
    if config.engine not in ("", "none"):
        # With all rights that this process has now, because engines need them; it only takes names.
        engine_ours, engine_theirs = wire.pair()
        fork_helper(engine_ours, config.engine)
        engine_ours.close()
        channels.append(engine_theirs)
    middle = os.fork()
    if middle == 0:
        for sock in (control, main_ours, forward_ours, news):
            sock.close()
        if lifeline is not None:
            os.close(lifeline)
        _enter_namespaces(
            news_theirs,
            lambda: _Init(config, directory, channels, news_theirs, message).run(),
        )
    for sock in (*channels, news_theirs):
        sock.close()
    try:
        report, _ = wire.receive(news)
        os.waitpid(middle, 0)
        if "error" in report:
            raise OSError(wire.number(report, "errno"), wire.text(report, "error"))
        init = wire.number(report, "pid")
        # PID 1 is now a child of this process: only now may it ask to die with its parent.
        wire.send(news, {"go": True})
        started, _ = wire.receive(news)
        if "error" in started:
            raise OSError(wire.number(started, "errno"), wire.text(started, "error"))
    except wire.ChannelClosed as error:
        raise NodeStartError("the node's first process ended while it was starting") from error
    wire.send(control, {"event": "started", "pid": init})
    if os.getuid() == 0:
        # What is left to do: low ports, and telling who owns a port that is taken.
        privileges.drop_privileges(
            (
                privileges.CAP_NET_BIND_SERVICE,
                privileges.CAP_DAC_READ_SEARCH,
                privileges.CAP_SYS_PTRACE,
            )
        )
    gateway = Gateway([main_ours, forward_ours], control, lifeline, init, config.stop_seconds)
    status = gateway.run()
    with contextlib.suppress(OSError):
        os.rmdir(directory)
    return status


def _enter_namespaces(news: socket.socket, init: _InitFunction) -> None:
    """In the middle process: makes the namespaces, forks PID 1, tells its pid, ends."""
    try:
        uid, gid = os.getuid(), os.getgid()
        if uid != 0:
            ns.unshare(ns.CLONE_NEWUSER)
            ns.map_single_user(uid, gid)
        ns.unshare(
            ns.CLONE_NEWPID | ns.CLONE_NEWNET | ns.CLONE_NEWNS | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC
        )
        pid = os.fork()
        if pid == 0:
            _run_init(news, init)
        wire.send(news, {"pid": pid})
    except BaseException as error:
        with contextlib.suppress(BaseException):
            wire.send(news, wire.error_reply(error))
        os._exit(1)
    os._exit(0)


def _run_init(news: socket.socket, init: _InitFunction) -> None:
    try:
        wire.receive(news)
        privileges.die_with_parent(signal.SIGKILL)
        os._exit(init())
    except BaseException as error:
        if not isinstance(error, OSError):
            traceback.print_exc()
        with contextlib.suppress(BaseException):
            wire.send(news, wire.error_reply(error))
        os._exit(1)


_InitFunction = Callable[[], int]


class _Init:
    """PID 1 until it becomes the launcher."""

    def __init__(
        self,
        config: NodeConfig,
        directory: str,
        channels: Sequence[socket.socket],
        news: socket.socket,
        message: wire.Message,
    ) -> None:
        self._config = config
        self._directory = directory
        self._channels = channels
        self._news = news
        self._message = message

    def run(self) -> int:
        """Sets the node up, starts its main process, serves as launcher."""
        privileges.set_process_name("lateen-node")
        # Programs that may not have a keyring of their own must not have the user's.
        seccomp.join_new_session_keyring(required=False)
        ns.sethostname("lateen")
        ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
        with contextlib.suppress(PermissionError):
            # Refused inside an engine with a masked /proc; the outer one serves as well.
            ns.mount("proc", "/proc", "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
        ns.mount("tmpfs", self._directory, "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=700")
        for name in ("stage", "pods", "scratch"):
            os.mkdir(f"{self._directory}/{name}", 0o700)
        process.write_sysctls(NODE_SYSCTLS)
        for key in _BRIDGE_SYSCTLS:
            with contextlib.suppress(FileNotFoundError):
                process.write_sysctls({key: "0"})
        interface_up("lo")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        ours, theirs = wire.pair()
        pid = os.fork()
        if pid == 0:
            channels = (theirs, *self._channels)
            process.close_all_but([channel.fileno() for channel in channels])
            os._exit(_run_main(self._config, self._directory, channels, self._message))
        for channel in (theirs, *self._channels):
            channel.close()
        launcher = Launcher(self._config, self._directory, ours, pid, ROLES, mark_capability())
        wire.send(self._news, {"started": True})
        return launcher.run()


def _run_main(
    config: NodeConfig,
    directory: str,
    channels: Sequence[socket.socket],
    message: wire.Message,
) -> int:
    """The node's main process: drops what it does not need and runs the program."""
    privileges.set_process_name("lateen-main")
    signal.set_wakeup_fd(-1)
    # Root's main process must reach the files of the users that containers run as.
    keep = (
        (privileges.CAP_CHOWN, privileges.CAP_DAC_OVERRIDE, privileges.CAP_FOWNER)
        if os.getuid() == 0
        else ()
    )
    privileges.drop_privileges(keep)
    gateway = channels[1]
    module, _, function = wire.text(message, "main").partition(":")
    try:
        # Only here: neither the host gateway nor PID 1 should carry asyncio.
        from lateen.runtime.node import node

        program = getattr(importlib.import_module(module), function)
        return node.run_program(
            program, wire.mapping(message, "arguments"), config, directory, channels
        )
    except NodeError as error:
        with contextlib.suppress(wire.ChannelClosed):
            wire.send(gateway, {"id": 0, "op": "failed", "error": str(error), "hint": error.hint})
        return 1
    except Exception as error:
        # The program is anybody's: whatever ends it, the starter must be told, or it waits.
        traceback.print_exc()
        with contextlib.suppress(wire.ChannelClosed):
            wire.send(gateway, {"id": 0, "op": "failed", "error": _described(error), "hint": _HINT})
        return 1


def interface_up(name: str) -> None:
    """Brings an interface of the current network namespace up (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", name.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags | _IFF_UP))


def mark_capability() -> int:
    """The weakest capability that permits SO_MARK here: CAP_NET_RAW since Linux 5.17."""
    pid = os.fork()
    if pid == 0:
        try:
            privileges.set_capabilities((privileges.CAP_NET_RAW,))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)
        except OSError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return privileges.CAP_NET_RAW if status == 0 else privileges.CAP_NET_ADMIN


if __name__ == "__main__":
    main()


_HINT = "run `lateen check`; the agent's log has the rest"


def _described(error: BaseException) -> str:
    """What a node that could not start says to whoever started it."""
    if isinstance(error, OSError):
        return f"the node cannot start: {error.strerror or error}"
    return f"the node cannot start: {type(error).__name__}: {error}"
