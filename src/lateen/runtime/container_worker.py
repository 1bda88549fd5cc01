"""One container through its life: start, probes, restarts with back-off, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from lateen.agent.probes import ProbeRunner
from lateen.agent.proxy import Connect
from lateen.runtime.node.errors import NodeError
from lateen.runtime.raw import Raw, now

FIRST_BACKOFF = 1.0
"""Seconds before the second restart (the first is at once); doubles up to `LONGEST_BACKOFF`."""
LONGEST_BACKOFF = 300.0
STABLE_AFTER = 600.0
"""Seconds of running after which back-off starts anew (Kubernetes: ten minutes)."""


class Process(Protocol):
    """A started container."""

    @property
    def pid(self) -> int:
        """Process id on the node."""

    async def wait(self) -> int:
        """Exit status; negative for the number of the signal that ended it."""

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""


@dataclass(slots=True)
class ContainerWorker:
    """Runs one container of a pod. `state` is what goes into the Pod's status."""

    raw: Raw
    start_process: Callable[[], Awaitable[Process]]
    execute: Callable[[tuple[str, ...]], Awaitable[int]]
    connect: Connect
    on_change: Callable[[], None]
    stop_signal: int = signal.SIGTERM
    restart_policy: str = "Always"
    grace: float = 30.0
    """Seconds a container has to end after its liveness probe gave up."""
    ready: bool = False
    started: bool = False
    restarts: int = 0
    exit_status: int | None = None
    """Set when the container ended for good."""
    state: Raw = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Raw = field(default_factory=dict)
    process: Process | None = None
    _stopping: bool = False
    _started_at: str = ""
    _end_reason: str = ""
    """What a probe said when it gave up."""
    not_ready: str = ""
    """What its startup or readiness probe says while it fails."""

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.raw["name"])

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None

    def status(self) -> Raw:
        """Kubernetes ``ContainerStatus``."""
        status: Raw = {
            "name": self.name,
            "image": str(self.raw.get("image", "")),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
        }
        if self.last_state:
            status["lastState"] = self.last_state
        return status

    async def run(self) -> int:
        """Keep it running by its restart policy; returns the last exit status."""
        backoff = 0.0
        while True:
            if self._stopping:
                return self.exit_status or 0
            began = time.monotonic()
            status = await self._run_once()
            if self._stopping or not self._restarts_after(status):
                self.exit_status = status
                self.on_change()
                return status
            if time.monotonic() - began > STABLE_AFTER:
                backoff = 0.0
            why = f"exited with {status}"
            if "terminated" in self.state:
                self.last_state = self.state
                why = f"exited with {self.state['terminated']['exitCode']}"
                why += f" ({said})" if (said := self.state["terminated"].get("message")) else ""
            else:
                why = str(self.state.get("waiting", {}).get("message", why))
            if backoff:
                self.state = {
                    "waiting": {
                        "reason": "CrashLoopBackOff",
                        "message": f"{why}; starts again in {backoff:.0f} s",
                    }
                }
                self.on_change()
                await asyncio.sleep(backoff)
            backoff = min(max(FIRST_BACKOFF, backoff * 2), LONGEST_BACKOFF)
            self.restarts += 1

    async def stop(self, grace: float) -> None:
        """Its stop signal (after the preStop hook), SIGKILL after ``grace`` seconds."""
        self._stopping = True
        process = self.process
        if process is None:
            return
        deadline = time.monotonic() + grace
        await self._pre_stop(grace)
        with contextlib.suppress(OSError, NodeError):
            await process.signal(self.stop_signal)
        await self._end(process, deadline)

    async def kill(self, reason: str) -> None:
        """End the process because a probe gave up; the restart policy decides what follows."""
        process = self.process
        if process is None:
            return
        self._end_reason = reason
        with contextlib.suppress(OSError, NodeError):
            await process.signal(self.stop_signal)
        await self._end(process, time.monotonic() + self._kill_grace())

    async def _end(self, process: Process, deadline: float) -> None:
        """SIGKILL for this very process if it is still there at ``deadline``."""
        while self.process is process and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self.process is process:
            with contextlib.suppress(OSError, NodeError):
                await process.signal(signal.SIGKILL)

    def _kill_grace(self) -> float:
        probe = self.raw.get("livenessProbe") or {}
        given = probe.get("terminationGracePeriodSeconds")
        return float(given if given is not None else self.grace)

    async def _run_once(self) -> int:
        try:
            self.process = process = await self.start_process()
        except (NodeError, OSError) as error:
            hint = error.hint if isinstance(error, NodeError) else ""
            message = f"cannot start: {error}" + (f" ({hint})" if hint else "")
            self.state = {"waiting": {"reason": "RunContainerError", "message": message}}
            self.on_change()
            return 128
        self._started_at = now()
        self.state = {"running": {"startedAt": self._started_at}}
        probes: ProbeRunner = ProbeRunner(
            self.raw,
            connect=self.connect,
            execute=self.execute,
            on_change=lambda: self._take_probes(probes),
            on_failed=lambda reason: _spawn(self.kill(reason)),
        )
        self._take_probes(probes)
        prober = asyncio.create_task(probes.run())
        hook = (self.raw.get("lifecycle") or {}).get("postStart")
        if hook:
            _spawn(self._hook(hook))
        try:
            status = await process.wait()
        finally:
            prober.cancel()
            self.process = None
            self.ready = self.started = False
            self.not_ready = ""
        reason = "Completed" if status == 0 else "Error"
        code = status if status >= 0 else 128 - status
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": self._started_at,
                "finishedAt": now(),
                **({"message": self._end_reason} if self._end_reason else {}),
            }
        }
        self._end_reason = ""
        self.on_change()
        return status

    def _take_probes(self, probes: ProbeRunner) -> None:
        self.ready, self.started = probes.ready, probes.started
        self.not_ready = probes.failing and f"{self._probe_name()} probe failed: {probes.failing}"
        self.on_change()

    def _probe_name(self) -> str:
        return "readiness" if self.started else "startup"

    def _restarts_after(self, status: int) -> bool:
        if self.restart_policy == "Always":
            return True
        return self.restart_policy == "OnFailure" and status != 0

    async def _pre_stop(self, grace: float) -> None:
        hook = (self.raw.get("lifecycle") or {}).get("preStop")
        if hook:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._hook(hook)

    async def _hook(self, hook: Raw) -> None:
        if hook.get("sleep"):
            await asyncio.sleep(float(hook["sleep"].get("seconds", 0)))
        elif hook.get("exec"):
            with contextlib.suppress(OSError, NodeError):
                await self.execute(tuple(hook["exec"].get("command") or ()))
        elif hook.get("httpGet"):
            await self._http_hook(hook["httpGet"])

    async def _http_hook(self, get: Raw) -> None:
        port = _port_number(get.get("port"), self.raw)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(30):
                reader, writer = await self.connect(port)
                path = get.get("path") or "/"
                request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                await reader.read()
                writer.close()


def _port_number(port: object, container: Raw) -> int:
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    return int(str(port)) if str(port).isdigit() else 0


_tasks: set[asyncio.Task[None]] = set()


def _spawn(work: Awaitable[None]) -> None:
    """Run beside everything else; the set keeps the task from being collected."""

    async def run() -> None:
        await work

    task = asyncio.create_task(run())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
