"""The life of one Envoy: started, watched, restarted, drained, stopped."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from lateen.agent import envoy_admin
from lateen.agent.envoy_command import envoy_command
from lateen.agent.http import Connect, HttpError

__all__ = ["Connect", "Process", "ProxySupervisor"]

FIRST_DELAY = 0.25
"""Seconds before the second restart in a row; doubled for each one after."""
LONGEST_DELAY = 30.0
STABLE_SECONDS = 10.0
"""An Envoy that ran so long and dies is restarted at once, whatever was before."""
WATCH_SECONDS = 15.0
WATCH_FAILURES = 4
"""Readiness is looked at every `WATCH_SECONDS`; lost after so many failures (as in Istio)."""
QUIET_SECONDS = 1.0
"""A drain ends early after so long without a request or a TCP stream in progress."""
SHORTEST_DRAIN = 2.0
"""No drain is shorter, unless it was asked to be: new endpoints need time to reach all clients."""
_FIRST_POLL, _LONGEST_POLL = 0.02, 0.25

logger = logging.getLogger(__name__)


class Process(Protocol):
    """A running process."""

    @property
    def pid(self) -> int:
        """Its process id."""

    async def wait(self) -> int:
        """Exit status: the code, or 128 + n (or -n) after signal n."""

    def signal(self, number: int) -> Awaitable[None] | None:
        """Send a signal; nothing happens when it has ended."""


Start = Callable[[tuple[str, ...], Mapping[str, str]], Awaitable[Process]]


class ProxySupervisor:
    """Keeps one Envoy running for a pod.

    ``start`` runs a command line with an environment and gives the process. ``on_change`` is
    called after `ready`, `restarts` or `last_exit` have changed. ``drain_seconds`` is the time
    Envoy gives clients of a listener that goes away.
    """

    ready: bool
    """Envoy has its configuration and serves."""
    restarts: int
    started_at: str
    """Start of the running process, RFC 3339, empty before the first."""
    last_exit: str
    """How the last process ended, for people; empty while the first one runs."""

    def __init__(
        self,
        start: Start,
        connect: Connect,
        *,
        bootstrap_path: str,
        environment: Mapping[str, str],
        concurrency: int = 2,
        on_change: Callable[[], None] | None = None,
        drain_seconds: float,
        service_node: str = "",
        service_cluster: str = "",
        log_level: str = "warning",
        component_log_level: str = "misc:error",
        ready_port: int = envoy_admin.READY_PORT,
        admin_port: int = envoy_admin.ADMIN_PORT,
    ) -> None:
        self.ready = False
        self.restarts = 0
        self.started_at = ""
        self.last_exit = ""
        self._start = start
        self._connect = connect
        self._environment = dict(environment)
        self._on_change = on_change
        self._ready_port = ready_port
        self._admin_port = admin_port
        self._command = envoy_command(
            bootstrap_path,
            concurrency=concurrency,
            drain_seconds=drain_seconds,
            service_node=service_node,
            service_cluster=service_cluster,
            log_level=log_level,
            component_log_level=component_log_level,
        )
        self._process: Process | None = None
        self._began = 0.0
        self._stopping = False
        self._draining = False
        self._became_ready = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running Envoy, None between two of them."""
        return self._process.pid if self._process else None

    @property
    def command(self) -> tuple[str, ...]:
        """The command line."""
        return self._command

    async def start(self) -> None:
        """Start the first process; raises what ``start`` raises. Watching begins."""
        if self._watch is not None:
            raise RuntimeError("the proxy has been started already")
        process = await self._launch()
        self._watch = asyncio.create_task(self._run(process))

    async def wait_ready(self, timeout: float) -> bool:
        """Wait until Envoy serves; False when ``timeout`` seconds are over."""
        try:
            async with asyncio.timeout(timeout):
                await self._became_ready.wait()
        except TimeoutError:
            return False
        return True

    async def drain(self, seconds: float) -> None:
        """Let inbound work finish: no readiness any more, clients are told to go elsewhere.

        Returns after ``seconds``, or before when nothing is open or in progress any more.
        Connections are still accepted meanwhile. Does nothing without a running Envoy.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        earliest = loop.time() + min(SHORTEST_DRAIN, seconds)
        self._draining = True
        self._set_ready(False)
        try:
            async with asyncio.timeout(max(seconds, 0.1)):
                await envoy_admin.begin_drain(self._connect, self._admin_port)
        except (HttpError, TimeoutError) as error:
            logger.warning("envoy could not be drained: %s", error)
            return
        busy = loop.time()
        while (now := loop.time()) < deadline and self._process is not None:
            try:
                load = await envoy_admin.load(self._connect, self._admin_port)
            except HttpError:
                return  # it is gone
            if load is not None and now >= earliest and not load.connections:
                return
            if load is None or load.requests or load.streams or now < earliest:
                busy = now
            elif now - busy >= QUIET_SECONDS:
                return
            await asyncio.sleep(min(0.1, max(0.0, deadline - now)))

    async def stop(self, grace: float = 5.0) -> None:
        """SIGTERM, SIGKILL after ``grace`` seconds; returns when the process is gone."""
        self._stopping = True
        if self._watch is None:
            return
        process = self._process
        if process is None:
            self._watch.cancel()  # between two processes
        else:
            await _signal(process, signal.SIGTERM)
        done, _ = await asyncio.wait([self._watch], timeout=grace)
        if not done:
            if self._process is not None:
                await _signal(self._process, signal.SIGKILL)
            await asyncio.wait([self._watch])
        self._set_ready(False)

    async def _launch(self) -> Process:
        process = await self._start(self._command, self._environment)
        self._process = process
        self._began = asyncio.get_running_loop().time()
        self.started_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return process

    async def _run(self, process: Process) -> None:
        """Watch the process, and each one after it, until `stop`."""
        failures = 0
        while True:
            if self._stopping:  # stop() came while this one was being started
                await _signal(process, signal.SIGTERM)
            status = await self._until_exit(process)
            lived = asyncio.get_running_loop().time() - self._began
            self._process = None
            self.last_exit = exit_text(status)
            self.ready = False
            self._became_ready.clear()
            if self._stopping:
                self._changed()
                return
            failures = 0 if lived >= STABLE_SECONDS else failures + 1
            delay = restart_delay(failures)
            logger.warning(
                "envoy (pid %d) ended after %.1f s: %s; restarting%s",
                process.pid,
                lived,
                self.last_exit,
                f" in {delay:g} s" if delay else "",
            )
            self._changed()
            while True:
                await asyncio.sleep(delay)
                try:
                    process = await self._launch()
                    break
                except Exception as error:
                    # Whatever keeps it from starting may pass: memory, a full disk, the launcher.
                    # `start` is the caller's, so no narrower kind is known here; a pod without
                    # its proxy refuses all traffic and must get it back.
                    failures += 1
                    delay = restart_delay(failures)
                    self.last_exit = f"could not be started: {error}"
                    logger.warning(
                        "envoy %s; next attempt in %g s",
                        self.last_exit,
                        delay,
                        exc_info=not isinstance(error, OSError),
                    )
                    self._changed()
            self.restarts += 1
            self._draining = False
            self._changed()

    async def _until_exit(self, process: Process) -> int:
        readiness = asyncio.create_task(self._watch_readiness())
        try:
            return await process.wait()
        finally:
            readiness.cancel()
            await asyncio.wait([readiness])

    async def _watch_readiness(self) -> None:
        delay = _FIRST_POLL
        while not await self._is_ready():
            await asyncio.sleep(delay)
            delay = min(delay * 1.3, _LONGEST_POLL)
        self._set_ready(not self._draining)
        failures = 0
        while True:
            await asyncio.sleep(WATCH_SECONDS if not failures else 1.0)
            failures = 0 if await self._is_ready() else failures + 1
            self._set_ready(failures < WATCH_FAILURES and not self._draining)

    async def _is_ready(self) -> bool:
        return await envoy_admin.is_ready(self._connect, self._ready_port, self._admin_port)

    def _set_ready(self, ready: bool) -> None:
        if ready == self.ready:
            return
        self.ready = ready
        if ready:
            self._became_ready.set()
        else:
            self._became_ready.clear()
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()


def restart_delay(failures: int) -> float:
    """Seconds before a restart after so many short-lived processes in a row."""
    if failures <= 1:
        return 0.0
    return min(FIRST_DELAY * 2.0 ** min(failures - 2, 16), LONGEST_DELAY)


def exit_text(status: int) -> str:
    """An exit status for people."""
    number = -status if status < 0 else status - 128
    if 0 < number < signal.NSIG:
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exit code {status}"


async def _signal(process: Process, number: int) -> None:
    sent = process.signal(number)
    if inspect.isawaitable(sent):
        await sent
