"""Startup, liveness and readiness probes of one container (Kubernetes ``Probe``)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lateen.agent.http import Connect
from lateen.agent.probe_checks import (
    Execute,
    ProbeFailedError,
    check_exec,
    check_grpc,
    check_http,
    check_tcp,
)

FIRST_POLL = 0.1
"""Seconds between the first checks until one succeeds, so that a start-up that takes half a second
is not stretched to a whole period."""
POLL_GROWTH = 1.3
PATIENCE = 2.0
"""Seconds of failures before they are told: most containers start within them."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe. Times are in seconds; the defaults are Kubernetes'."""

    action: dict[str, Any]
    """The raw probe: exactly one of ``httpGet``, ``tcpSocket``, ``grpc``, ``exec``."""
    initial_delay: float = 0.0
    timeout: float = 1.0
    period: float = 10.0
    success_threshold: int = 1
    failure_threshold: int = 3

    @property
    def patience(self) -> float:
        """Seconds from the first check until a probe that never succeeds has failed."""
        return self.period * self.failure_threshold


def probe_of(raw: dict[str, Any] | None) -> Probe | None:
    """Read a raw probe; None without one. Zero means the default, as in Kubernetes."""
    if not raw:
        return None
    return Probe(
        action=raw,
        initial_delay=float(raw.get("initialDelaySeconds") or 0),
        timeout=float(raw.get("timeoutSeconds") or 1),
        period=float(raw.get("periodSeconds") or 10),
        success_threshold=int(raw.get("successThreshold") or 1),
        failure_threshold=int(raw.get("failureThreshold") or 3),
    )


def port_number(port: int | str, container: dict[str, Any]) -> int:
    """A probe's port as a number. Raises `ProbeFailedError` for a name the container lacks."""
    text = str(port)
    if text.isdigit():
        return int(text)
    for declared in container.get("ports") or []:
        if declared.get("name") == text:
            return int(declared["containerPort"])
    raise ProbeFailedError(
        f'the probe asks for port "{text}", but container {container.get("name", "")} '
        "declares no port of this name"
    )


class ProbeRunner:
    """Runs the probes of one container from its start to its end.

    ``container`` is the raw container. Connections are made with ``connect`` inside the pod, past
    any redirection; a ``host`` in a probe therefore only becomes the Host header. ``on_change`` is
    called after `ready` or `started` have changed, ``on_failed`` once with the reason when the
    container must be restarted. `message` is the last failure, for events.
    """

    ready: bool
    started: bool

    def __init__(
        self,
        container: dict[str, Any],
        *,
        connect: Connect,
        execute: Execute,
        on_change: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._container = container
        self._connect = connect
        self._execute = execute
        self._on_change = on_change
        self._on_failed = on_failed
        self._startup = probe_of(container.get("startupProbe"))
        self._liveness = probe_of(container.get("livenessProbe"))
        self._readiness = probe_of(container.get("readinessProbe"))
        self.started = self._startup is None
        self.ready = self.started and self._readiness is None
        self.message = ""
        self.failing = ""
        """What the container is not ready for: the last failure of its startup or readiness probe,
        once it has failed for `PATIENCE` seconds."""

    async def run(self) -> None:
        """Probe until cancelled. The other probes wait for the startup probe."""
        if self._startup is not None:
            reason = await self._first_success(self._startup, self._startup.patience)
            if reason:
                self._on_failed(f"Startup probe failed: {reason}")
                return
            self.started = True
            self.ready = self._readiness is None
            self._on_change()
        async with asyncio.TaskGroup() as tasks:
            if self._readiness is not None:
                tasks.create_task(self._watch_readiness(self._readiness))
            if self._liveness is not None:
                tasks.create_task(self._watch_liveness(self._liveness))

    async def check(self, probe: Probe) -> str:
        """One attempt; empty for success, else what went wrong."""
        try:
            async with asyncio.timeout(probe.timeout):
                await self._attempt(probe.action)
        except TimeoutError:
            return f"no answer within {probe.timeout:g} s"
        except ProbeFailedError as error:
            return str(error)
        return ""

    async def _attempt(self, raw: dict[str, Any]) -> None:
        if action := raw.get("httpGet"):
            await check_http(
                self._connect,
                port_number(action["port"], self._container),
                scheme=str(action.get("scheme") or "HTTP"),
                host=str(action.get("host") or ""),
                path=str(action.get("path") or "/"),
                headers=tuple(
                    (str(field["name"]), str(field.get("value") or ""))
                    for field in action.get("httpHeaders") or []
                ),
            )
        elif action := raw.get("tcpSocket"):
            await check_tcp(self._connect, port_number(action["port"], self._container))
        elif action := raw.get("grpc"):
            port = port_number(action["port"], self._container)
            await check_grpc(self._connect, port, str(action.get("service") or ""))
        elif action := raw.get("exec"):
            await check_exec(self._execute, tuple(action.get("command") or ("",)))
        else:
            raise ProbeFailedError("the probe has none of httpGet, tcpSocket, grpc and exec")

    async def _first_success(self, probe: Probe, patience: float | None) -> str:
        """Check often until the first success; the last failure when ``patience`` is over."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(probe.initial_delay)
        began = loop.time()
        delay = FIRST_POLL
        while problem := await self.check(probe):
            self.message = problem
            if loop.time() - began >= PATIENCE:
                self._say(problem)
            if patience is not None and loop.time() - began >= patience:
                return problem
            await asyncio.sleep(min(delay, probe.period))
            delay *= POLL_GROWTH
        self.failing = ""
        return ""

    def _say(self, problem: str) -> None:
        if problem != self.failing:
            self.failing = problem
            self._on_change()

    async def _watch_readiness(self, probe: Probe) -> None:
        await self._first_success(probe, None)
        successes, failures = 1, 0
        while True:
            ready = self.ready
            if successes >= probe.success_threshold:
                ready = True
            elif failures >= probe.failure_threshold:
                ready = False
            if ready != self.ready:
                self.ready = ready
                self.failing = "" if ready else self.message
                self._on_change()
            await asyncio.sleep(probe.period)
            problem = await self.check(probe)
            self.message = problem or self.message
            successes, failures = (0, failures + 1) if problem else (successes + 1, 0)

    async def _watch_liveness(self, probe: Probe) -> None:
        # Not all pods of a machine at the same moment.
        await asyncio.sleep(probe.initial_delay + random.uniform(0, min(probe.period, 1.0)))
        failures = 0
        while True:
            problem = await self.check(probe)
            self.message = problem or self.message
            failures = failures + 1 if problem else 0
            if failures >= probe.failure_threshold:
                self._on_failed(f"Liveness probe failed: {problem}")
                return
            await asyncio.sleep(probe.period)
