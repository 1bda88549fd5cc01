"""PID 1 of a node: makes sandboxes, starts their processes, reaps, and ends all when it ends.

It uses the standard library only and stays small, because every container is a fork of it. The
node's main process asks over a `wire` channel; requests carry ``id`` and ``op``, replies repeat the
id, and ``{"event": "exit", "pid", "status"}`` tells of children that ended.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import process, rootfs, wire
from lateen.runtime.node.container_start import (
    GENERATED_FILES,
    RunningContainer,
    application_users,
    machine_view,
    run_container,
    run_in_container,
    start_request,
)
from lateen.runtime.node.pod_table import PodTable
from lateen.runtime.node.spec import APP_USER, NodeConfig

RoleFactory = Callable[[socket.socket, list[int]], None]


class Launcher:
    """The state and the loop of PID 1."""

    def __init__(
        self,
        config: NodeConfig,
        directory: str,
        channel: socket.socket,
        main_pid: int,
        roles: Mapping[str, RoleFactory],
        mark_capability: int,
    ) -> None:
        self._config = config
        self._directory = directory
        self._channel = channel
        self._main_pid = main_pid
        self._roles = roles
        self._mark_capability = mark_capability
        self._root = os.getuid() == 0
        self._own_net = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._own_pid = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._pods = PodTable(f"{directory}/pods")
        self._containers: dict[int, RunningContainer] = {}
        self._announced: set[int] = set()
        """Children whose end the main process wants to know."""
        self._selector = selectors.DefaultSelector()
        self._view = machine_view(config)

    def run(self) -> int:
        """Serves until the main process ends; returns its exit status (128 + n for a signal)."""
        wakeup, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self._selector.register(self._channel, selectors.EVENT_READ, self._serve)
        self._selector.register(wakeup, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wakeup, 512)
                else:
                    key.data()
            status = self._reap()
            if status is not None:
                return status

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._main_pid, signal.SIGTERM)

    def _reap(self) -> int | None:
        """Collects ended children. The exit status of the main process, if it was among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 1
            if pid == 0:
                return None
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            if pid == self._main_pid:
                return code
            self._forget_container(pid)
            # Not of orphans and helpers, whose pids nobody has been told.
            if pid in self._announced:
                self._announced.discard(pid)
                with contextlib.suppress(wire.ChannelClosed):
                    self._send({"event": "exit", "pid": pid, "status": code})

    def _send(self, message: Mapping[str, object], fds: tuple[int, ...] = ()) -> None:
        wire.send(self._channel, message, fds)

    # Requests

    def _serve(self) -> None:
        try:
            message, fds = wire.receive(self._channel)
        except wire.ChannelClosed:
            # The main process is ending; `_reap` will see it.
            self._selector.unregister(self._channel)
            return
        number = wire.number(message, "id")
        try:
            handler = _OPERATIONS[wire.text(message, "op")]
            result, give = handler(self, message, fds)
        except Exception as error:
            # This process is PID 1 of the node: one request that fails in a way nobody foresaw
            # must be answered, not end every pod.
            result, give = wire.error_reply(error), ()
        finally:
            for fd in fds:
                os.close(fd)
        if result is not None:
            self._send({"id": number, **result}, give)
        for fd in give:
            os.close(fd)

    def _create_sandbox(self, message: wire.Message, _fds: list[int]) -> _Reply:
        pod = self._pods.create(
            wire.text(message, "name"),
            wire.text(message, "hostname"),
            {str(k): str(v) for k, v in wire.mapping(message, "sysctls").items()},
            {file: wire.text(message, file) for file in GENERATED_FILES},
        )
        return {}, (os.dup(pod.net),)

    def _remove_sandbox(self, message: wire.Message, _fds: list[int]) -> _Reply:
        self._pods.remove(wire.text(message, "name"))
        return {}, ()

    def _start(self, message: wire.Message, fds: list[int]) -> _Reply:
        """Starts a container: descriptors are standard input, output and error."""
        name = wire.text(message, "sandbox")
        pod = self._pods.get(name)
        request = start_request(
            message,
            self._identity(message),
            pod,
            self._view,
            f"{self._directory}/stage",
            self._config.scratch_bytes,
            self._mark_capability,
        )
        users = application_users(request, message)

        def failed() -> None:
            if users is not None:
                os.close(users.fd)

        # A PID namespace per container: its end is the end of every process in it.
        try:
            pid, failure = self._fork_into(
                lambda: ns.unshare(ns.CLONE_NEWPID),
                lambda: run_container(request, pod, users, *fds),
            )
        except OSError:
            failed()
            raise

        def started() -> None:
            self._containers[pid] = RunningContainer(
                name,
                ns.namespace_fd(pid, "mnt"),
                ns.namespace_fd(pid, "pid"),
                request.env,
                request.cwd,
                os.getuid() if request.uid is None else request.uid,
                os.getgid() if request.gid is None else request.gid,
                request.groups,
                request.capabilities,
                bool(request.root.image),
                request.confined,
                users,
            )
            pod.containers.add(pid)

        return self._answer_after_exec(wire.number(message, "id"), pid, failure, started, failed)

    def _exec(self, message: wire.Message, fds: list[int]) -> _Reply:
        container = self._containers.get(wire.number(message, "container"))
        if container is None:
            raise OSError(errno.ESRCH, "the container is not running")
        pod = self._pods.get(container.sandbox)
        pid, failure = self._fork_into(
            lambda: ns.setns(container.pid_namespace, ns.CLONE_NEWPID),
            lambda: run_in_container(container, pod, message, *fds),
        )
        return self._answer_after_exec(wire.number(message, "id"), pid, failure)

    def _spawn(self, message: wire.Message, fds: list[int]) -> _Reply:
        """Starts one of the mesh's own processes, with the machine's files."""
        argv = wire.strings(message, "argv")
        env = {str(k): str(v) for k, v in wire.mapping(message, "env").items()}
        uid, gid = message.get("uid"), message.get("gid")
        cwd = wire.text(message, "cwd") or "/"
        reach = wire.strings(message, "paths")
        stdin, stdout, stderr = fds

        def child() -> None:
            process.prepare_standard_io(stdin, stdout, stderr, tty=False)
            if isinstance(uid, int) and uid != os.getuid():
                closed = rootfs.closed_directories((*self._view.readable, *reach))
                if closed:
                    ns.unshare(ns.CLONE_NEWNS)
                    rootfs.open_closed_directories(closed, reach)
            os.chdir(cwd)
            process.run(
                argv,
                env,
                uid=uid if isinstance(uid, int) else None,
                gid=gid if isinstance(gid, int) else None,
                capabilities=(),
            )

        pid, failure = process.fork(child)
        return self._answer_after_exec(wire.number(message, "id"), pid, failure)

    def _role(self, message: wire.Message, fds: list[int]) -> _Reply:
        """Forks one of Lateen's own helpers (`roles`); returns the channel to it."""
        function = self._roles[wire.text(message, "name")]
        ours, theirs = wire.pair()
        pid = os.fork()
        if pid == 0:
            try:
                process.close_all_but([theirs.fileno(), *fds])
                process.reset_signals()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                function(theirs, fds)
            except BaseException as error:
                with contextlib.suppress(BaseException):
                    sys.stderr.write(f"lateen node: {wire.text(message, 'name')}: {error!r}\n")
                os._exit(1)
            os._exit(0)
        theirs.close()
        return {"pid": pid}, (ours.detach(),)

    def _signal(self, message: wire.Message, _fds: list[int]) -> _Reply:
        pid, number = wire.number(message, "pid"), wire.number(message, "signal")
        if message.get("group"):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
        return {}, ()

    def _socket(self, message: wire.Message, _fds: list[int]) -> _Reply:
        """Opens a socket in a sandbox's network (or the node's, for an empty name), or ``count``
        of them that share their port (SO_REUSEPORT)."""
        name = wire.text(message, "sandbox")
        if name:
            ns.setns(self._pods.get(name).net, ns.CLONE_NEWNET)
        count = min(wire.number(message, "count", 1), wire.MAX_FDS - 1)
        share = bool(message.get("share"))
        opened: list[int] = []
        try:
            while len(opened) < count:
                opened.append(self._open(message, share=share))
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        finally:
            if name:
                ns.setns(self._own_net, ns.CLONE_NEWNET)
        return {}, tuple(opened)

    # Parts of the above

    def _open(self, message: wire.Message, *, share: bool) -> int:
        kind = socket.SOCK_DGRAM if message.get("udp") else socket.SOCK_STREAM
        opened = socket.socket(wire.number(message, "family"), kind)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            mark = wire.number(message, "mark")
            if mark:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            address = wire.text(message, "address")
            if address:
                opened.bind((address, wire.number(message, "port")))
                if kind == socket.SOCK_STREAM:
                    opened.listen(128)
        except OSError as error:
            opened.close()
            raise OSError(
                error.errno, f"{message.get('address')}:{message.get('port')}: {error.strerror}"
            ) from error
        return opened.detach()

    def _identity(self, message: wire.Message) -> tuple[int | None, int | None]:
        """Uid and gid to switch to; None means the node's own."""
        uid, gid = message.get("uid"), message.get("gid")
        if not self._root:
            for value, own, what in ((uid, os.getuid(), "uid"), (gid, os.getgid(), "gid")):
                if isinstance(value, int) and value != own:
                    raise OSError(
                        errno.EPERM,
                        f"without root every container runs as {what} {own}, not {value}",
                    )
            return None, None
        user = uid if isinstance(uid, int) else APP_USER
        return user, gid if isinstance(gid, int) else user

    def _fork_into(self, enter: Callable[[], None], child: Callable[[], None]) -> tuple[int, int]:
        """Forks a child into the PID namespace that ``enter`` chooses for future children."""
        enter()
        try:
            return process.fork(child)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                # What fork says of a PID namespace whose first process has ended.
                raise OSError(errno.ESRCH, "the container is not running") from error
            raise
        finally:
            ns.setns(self._own_pid, ns.CLONE_NEWPID)

    def _answer_after_exec(
        self,
        number: int,
        pid: int,
        failure: int,
        started: Callable[[], None] = lambda: None,
        failed: Callable[[], None] = lambda: None,
    ) -> _Reply:
        """Replies when the child has run its program, without waiting here meanwhile."""

        self._announced.add(pid)

        def finished() -> None:
            self._selector.unregister(failure)
            report = os.read(failure, 8192)
            os.close(failure)
            if report:
                self._announced.discard(pid)
                failed()
                self._send({"id": number, **json.loads(report)})
                return
            try:
                started()
            except OSError:  # it ended in this very moment
                failed()
            self._send({"id": number, "pid": pid})

        self._selector.register(failure, selectors.EVENT_READ, finished)
        return None, ()

    def _forget_container(self, pid: int) -> None:
        container = self._containers.pop(pid, None)
        if container is not None:
            os.close(container.mnt)
            os.close(container.pid_namespace)
            if container.users is not None:
                os.close(container.users.fd)
            pod = self._pods.find(container.sandbox)
            if pod is not None:
                pod.containers.discard(pid)


_Reply = tuple[wire.Message | None, tuple[int, ...]]
_Operation = Callable[[Launcher, wire.Message, list[int]], _Reply]

_OPERATIONS: dict[str, _Operation] = {
    "sandbox.create": Launcher._create_sandbox,
    "sandbox.remove": Launcher._remove_sandbox,
    "start": Launcher._start,
    "exec": Launcher._exec,
    "spawn": Launcher._spawn,
    "role": Launcher._role,
    "signal": Launcher._signal,
    "socket": Launcher._socket,
}
