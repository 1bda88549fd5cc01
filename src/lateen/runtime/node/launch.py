"""Starting a node from the command line's process, and holding on to it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import lateen
from lateen.runtime.node import wire
from lateen.runtime.node.check import check_node_support
from lateen.runtime.node.errors import NodeError, NodeStartError, NodeUnsupportedError
from lateen.runtime.node.spec import NodeConfig, to_json


class NodeHandle:
    """A node that was launched by this process."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, lifeline: int | None
    ) -> None:
        self._process = process
        self._control = control
        self._lifeline = lifeline
        self._exit_status: int | None = None

    @property
    def pid(self) -> int:
        """Of the host gateway: SIGTERM ends the node in order, SIGKILL at once."""
        return self._process.pid

    @property
    def identity(self) -> dict[str, int]:
        """What `stop_node` needs to find this node again, from any later process; JSON-able."""
        return {"pid": self.pid, "start_time": _start_time(self.pid)}

    def wait_ready(self, timeout: float) -> dict[str, object]:
        """Waits for `Node.ready`; returns its information.

        Raises `NodeStartError` when the node failed or did not get ready in ``timeout`` seconds
        (it goes on starting in that case; `stop` it).
        """
        deadline = time.monotonic() + timeout
        while True:
            message = self._next(deadline)
            if message is None:
                raise NodeStartError(f"the node is not ready after {timeout:g} s")
            if message.get("event") == "ready":
                return wire.mapping(message, "info")

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for the node's end; its exit status, or None after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._exit_status is None:
            try:
                if self._next(deadline) is None:
                    return None
            except NodeError:
                break
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def stop(self, timeout: float = 30.0) -> int | None:
        """Ends the node in order, by force after ``timeout`` seconds. Returns its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """Ends the node at once; the kernel removes all that belongs to it."""
        self._process.kill()
        self._process.wait()

    def detach(self) -> None:
        """Lets the node live on without this process (not with ``die_with_parent``)."""
        self._control.close()
        # Popen would warn of a child left behind; that is the point here.
        self._process.returncode = 0

    def _next(self, deadline: float | None) -> wire.Message | None:
        remaining = None if deadline is None else max(0.001, deadline - time.monotonic())
        self._control.settimeout(remaining)
        try:
            message, _ = wire.receive(self._control)
        except TimeoutError:
            return None
        except wire.ChannelClosed:
            raise NodeStartError(
                "the node ended while it was starting", "look at its log, or run `lateen check`"
            ) from None
        if message.get("event") == "error":
            raise NodeStartError(wire.text(message, "error"), wire.text(message, "hint"))
        if message.get("event") == "exit":
            self._exit_status = wire.number(message, "status")
            raise NodeStartError(f"the node ended with status {self._exit_status}")
        return message


def launch_node(
    main: str,
    arguments: Mapping[str, object],
    config: NodeConfig,
    *,
    log_path: str = "",
    timeout: float = 15.0,
) -> NodeHandle:
    """Starts a node whose main process runs ``await function(node, arguments)``.

    ``main`` is ``package.module:function``, ``arguments`` anything JSON can hold; the node's own
    output goes to ``log_path`` (else it is thrown away). Returns when the namespaces exist and the
    main process runs; use `NodeHandle.wait_ready` next. Raises `NodeUnsupportedError` with what to
    do where the kernel refuses, `NodeStartError` otherwise.
    """
    problems = [problem for problem in check_node_support() if problem.fatal]
    if problems:
        raise NodeUnsupportedError(
            "; ".join(problem.message for problem in problems),
            "\n".join(problem.hint for problem in problems),
        )
    ours, theirs = wire.pair()
    lifeline: int | None = None
    give: list[int] = []
    if config.die_with_parent:
        reader, lifeline = os.pipe2(os.O_CLOEXEC)
        give = [reader]
    output = (
        os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if log_path
        else os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    )
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            # Nothing is imported from the directory that the user happens to be in: it may be
            # one that others can write to.
            env={**os.environ, "PYTHONPATH": _python_path(), "PYTHONSAFEPATH": "1"},
        )
    finally:
        os.close(output)
        theirs.close()
    wire.send(
        ours,
        {"main": main, "arguments": dict(arguments), "config": to_json(config)},
        give,
    )
    for fd in give:
        os.close(fd)
    handle = NodeHandle(process, ours, lifeline)
    try:
        message = handle._next(time.monotonic() + timeout)
        if message is None:
            raise NodeStartError(f"no sign of life after {timeout:g} s")
    except NodeError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return handle


def node_is_running(identity: Mapping[str, int]) -> bool:
    """Does the node of `NodeHandle.identity` still live? A reused pid does not count."""
    started = _start_time(identity["pid"])
    return started != 0 and started == identity["start_time"]


def stop_node(identity: Mapping[str, int], timeout: float = 30.0) -> bool:
    """Ends a node from a process that did not launch it, by force after ``timeout`` seconds.

    Returns True when the node is gone, whether it ran or not. Raises `PermissionError` when it is
    another user's.
    """
    deadline = time.monotonic() + timeout
    signals = [signal.SIGTERM, signal.SIGKILL]
    while node_is_running(identity):
        if signals and (signals[0] is signal.SIGTERM or time.monotonic() >= deadline):
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity["pid"], signals.pop(0))
        if time.monotonic() >= deadline + 5:
            return False
        time.sleep(0.02)
    return True


def _start_time(pid: int) -> int:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22); 0: none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


_BOOT = """
import os, sys
fd = int(sys.argv[1])
if fd != 3:
    os.dup2(fd, 3); os.close(fd)
from lateen.runtime.node.boot import main
main()
"""


def _python_path() -> str:
    own = str(Path(lateen.__file__).resolve().parents[1])
    existing = os.environ.get("PYTHONPATH", "")
    return f"{own}{os.pathsep}{existing}" if existing else own
