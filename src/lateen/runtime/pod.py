"""One pod through its life: network, proxy, containers, status, and the end in the right order.

The order is the point: capture and proxy before the application starts, and at the end the proxy
drains while clients still learn that the pod is gone, then the application stops, then the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lateen.agent.certificates import CertificateError, CertificateKeeper
from lateen.agent.proxy import ProxySupervisor
from lateen.capture import CaptureConfig, CaptureError, ProxyMatch, from_annotations
from lateen.runtime.container_spec import ContainerConfigError, container_spec, find_program
from lateen.runtime.container_worker import ContainerWorker, Process
from lateen.runtime.engine.config import stop_signal
from lateen.runtime.engine.errors import ImageRefused
from lateen.runtime.environment import MissingReference
from lateen.runtime.images import ImageCommand, ImageUnknown
from lateen.runtime.injection import (
    PROXY_CONTAINER,
    application_containers,
    is_gateway,
    is_injected,
)
from lateen.runtime.node.errors import NodeError
from lateen.runtime.node.sandbox import Container, Sandbox
from lateen.runtime.node.spec import ContainerSpec, ExecSpec, Mount, SandboxSpec
from lateen.runtime.pod_context import DNS_ADDRESS, PLAIN_DNS_ADDRESS, PodContext
from lateen.runtime.pod_files import hosts, proxy_environment, resolv_conf, write_private_json
from lateen.runtime.pod_status import Conditions, proxy_status, waiting_statuses
from lateen.runtime.pod_volumes import PodVolumes
from lateen.runtime.proxy_settings import ProxySettings, proxy_settings
from lateen.runtime.raw import (
    Raw,
    annotations_of,
    full_name,
    name_of,
    namespace_of,
    now,
    spec_of,
)
from lateen.runtime.tasks import cancel
from lateen.runtime.volumes import VolumeUnsupported, remove_volumes
from lateen.source.client import ApiError, ApiUnavailable

logger = logging.getLogger(__name__)

RESOLV_CONF = "proxy-resolv.conf"
PROXY_DIRECTORY = "/run/lateen/proxy"
"""Where a proxy finds its bootstrap and its SDS files, the same in every pod."""
PROXY_READY_TIMEOUT = 30.0


@dataclass
class PodWorker:
    """Runs one Pod until it is deleted. `run` is the whole story, top to bottom."""

    context: PodContext
    pod: Raw
    ip: str
    containers: list[ContainerWorker] = field(default_factory=list)
    init_containers: list[ContainerWorker] = field(default_factory=list)
    proxy: ProxySupervisor | None = None
    certificate: CertificateKeeper | None = None
    sandbox: Sandbox | None = None
    phase: str = "Pending"
    problem: tuple[str, str] | None = None
    """Reason and message when the pod cannot go on."""
    started_at: str = field(default_factory=now)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _grace: float = 30.0
    _drain: float | None = None
    _settings: ProxySettings = field(default_factory=ProxySettings)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _published: Raw = field(default_factory=dict)
    _conditions: Conditions = field(default_factory=Conditions)
    _rotation: asyncio.Task[None] | None = None
    _refreshing: asyncio.Task[None] | None = None
    _envoy: Container | None = None
    _programs: dict[str, ImageCommand] = field(default_factory=dict)
    """What each container runs, by its name."""

    @functools.cached_property
    def _volumes(self) -> PodVolumes:
        context = self.context
        root = self._scratch / "volumes"
        return PodVolumes(context.client, context.cache, self.pod, self.ip, context.node_name, root)

    @property
    def _applications(self) -> list[Raw]:
        return application_containers(self.pod)

    @property
    def key(self) -> str:
        """``NAMESPACE/NAME``."""
        return full_name(self.pod)

    @property
    def injected(self) -> bool:
        """Whether the pod has a proxy."""
        return is_injected(self.pod)

    @property
    def ready(self) -> bool:
        """Whether the pod can take requests."""
        if self._stop.is_set() or self.phase != "Running":
            return False
        if self.proxy is not None and not self.proxy.ready:
            return False
        return all(worker.ready for worker in self.containers)

    def stop(self, grace: float, drain: float | None = None) -> None:
        """Ask the pod to end; ``drain`` seconds are for its clients to go elsewhere, by default
        those of the proxy's settings."""
        self._grace = grace
        self._drain = drain
        self._stop.set()
        self._changed.set()

    async def run(self) -> None:
        """From nothing to nothing: returns when the pod is gone from this machine."""
        publisher = asyncio.create_task(self._publish_for_ever())
        work = asyncio.create_task(self._start_and_supervise())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                work.result()
                await stopping
            await self._leave_gracefully()
        finally:
            await cancel(work, stopping, publisher, self._rotation, self._refreshing)
            await self._tear_down()

    async def _start_and_supervise(self) -> None:
        while not await self._try_to_start():
            await asyncio.sleep(1.0)
        if spec_of(self.pod).get("volumes"):
            self._refreshing = asyncio.create_task(self._volumes.keep_current())
        statuses = await asyncio.gather(*(worker.run() for worker in self.containers))
        if self.containers:
            self.phase = "Failed" if any(statuses) else "Succeeded"
        self._changed.set()

    async def _try_to_start(self) -> bool:
        """True when the containers may run; False to try again (something was missing)."""
        try:
            await self._prepare_sandbox()
            if self.injected:
                await self._start_proxy()
            await self._find_programs()
            self.containers = [self._worker(raw) for raw in self._applications]
            if not await self._run_init_containers():
                self.phase = "Failed"
                self.containers = []
                self._changed.set()
                return True
        except (ImageUnknown, VolumeUnsupported) as error:
            self._fail("InvalidImageName" if isinstance(error, ImageUnknown) else "Volume", error)
        except ImageRefused as error:
            self._fail(error.reason, error)
        except (MissingReference, ContainerConfigError) as error:
            self._fail("CreateContainerConfigError", error)
        except CertificateError as error:
            self._fail("ProxyCertificate", error)
        except (ApiError, ApiUnavailable) as error:
            self._fail("ControlPlaneUnavailable", error)
        except CaptureError as error:
            self._fail("InvalidAnnotation", error)
        except (OSError, NodeError) as error:
            self._fail("CreatePodSandboxError", error)
        else:
            self.problem = None
            self.phase = "Running"
            self._changed.set()
            return True
        return False

    def _fail(self, reason: str, error: Exception) -> None:
        if self.problem != (reason, str(error)):
            logger.warning("pod %s: %s: %s", self.key, reason, error)
        self.problem = (reason, str(error))
        self._changed.set()

    async def _prepare_sandbox(self) -> None:
        context = self.context
        if self.sandbox is None:
            hostname = str(spec_of(self.pod).get("hostname") or name_of(self.pod))
            self.sandbox = await context.node.create_sandbox(
                SandboxSpec(
                    name=self.key,
                    ip=self.ip,
                    hostname=hostname[:63],
                    resolv_conf=resolv_conf(
                        self.pod,
                        DNS_ADDRESS if self.injected else PLAIN_DNS_ADDRESS,
                        context.domain,
                    ),
                    hosts=hosts(self.pod, self.ip, hostname, context.domain),
                ),
                capture=self._capture(),
            )
        await self._volumes.fill()

    def _capture(self) -> CaptureConfig | None:
        if not self.injected or is_gateway(self.pod):
            return None
        return from_annotations(annotations_of(self.pod), proxy_match=ProxyMatch.MARK)

    async def _start_proxy(self) -> None:
        if self.proxy is not None:
            return
        assert self.sandbox is not None
        directory = self._scratch / "proxy"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        user = self.context.node.proxy_user
        owner = (user, user) if user is not None else None
        if owner:
            os.chown(directory, *owner)
        namespace, name = namespace_of(self.pod), name_of(self.pod)
        query = f"namespace={namespace}&pod={name}"
        client = self.context.client
        keeper = CertificateKeeper(client, namespace, name, directory, owner=owner)
        _, bootstrap, found = await asyncio.gather(
            keeper.start(),
            client.request("GET", f"/lateen/v1/bootstrap?{query}&ip={self.ip}&mark=1"),
            client.request("GET", f"/lateen/v1/proxy-settings?{query}"),
        )
        self._settings = settings = proxy_settings(found, self.context.proxy_concurrency)
        self.certificate = keeper
        self._rotation = asyncio.create_task(keeper.run())
        write_private_json(directory / "bootstrap.json", bootstrap, user)
        resolver = resolv_conf(self.pod, PLAIN_DNS_ADDRESS, self.context.domain)
        (self._scratch / RESOLV_CONF).write_text(resolver)
        proxy = ProxySupervisor(
            self._start_envoy,
            self._connect,
            bootstrap_path=f"{PROXY_DIRECTORY}/bootstrap.json",
            environment={
                **settings.environment,
                **proxy_environment(self.pod, settings.trust_domain),
            },
            concurrency=settings.concurrency,
            drain_seconds=settings.drain_seconds,
            on_change=self._changed.set,
        )
        await proxy.start()
        self.proxy = proxy
        if settings.hold_application or is_gateway(self.pod):
            await self._wait_for_proxy(proxy)

    async def _wait_for_proxy(self, proxy: ProxySupervisor) -> None:
        while not await proxy.wait_ready(PROXY_READY_TIMEOUT):
            log = self._log_path(PROXY_CONTAINER)
            self._fail(
                "ProxyNotReady",
                TimeoutError(
                    f"Envoy is not ready after {PROXY_READY_TIMEOUT:.0f} s; "
                    f"`lateen status` shows what it rejected, its log is {log}"
                ),
            )
        self.problem = None

    async def _start_envoy(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Container:
        assert self.sandbox is not None
        directory = str(self._scratch / "proxy")
        user = self.context.node.proxy_user
        spec = ContainerSpec(
            name=PROXY_CONTAINER,
            argv=argv,
            env=dict(env),
            mounts=(
                Mount(directory, PROXY_DIRECTORY, read_only=True),
                Mount(str(self._scratch / RESOLV_CONF), "/etc/resolv.conf", read_only=True),
            ),
            uid=user,
            gid=user,
            mark_sockets=True,
            log_path=self._log_path(PROXY_CONTAINER),
        )
        self._envoy = await self.sandbox.start(spec)
        return self._envoy

    async def _run_init_containers(self) -> bool:
        for raw in spec_of(self.pod).get("initContainers") or []:
            sidecar = raw.get("restartPolicy") == "Always"
            if any(worker.name == raw["name"] for worker in self.init_containers):
                continue
            worker = self._worker(raw, "Always" if sidecar else "OnFailure")
            self.init_containers.append(worker)
            if sidecar:
                self.containers.append(worker)
                continue
            if spec_of(self.pod).get("restartPolicy") == "Never":
                worker.restart_policy = "Never"
            if await worker.run() != 0:
                return False
        return True

    async def _find_programs(self) -> None:
        """What each container runs; the container engine fetches a pod's images side by side."""
        missing = [
            raw
            for raw in (*(spec_of(self.pod).get("initContainers") or ()), *self._applications)
            if raw["name"] not in self._programs
        ]
        find = functools.partial(find_program, self.context.images, self.context.puller, self.pod)
        found = await asyncio.gather(*map(find, missing), return_exceptions=True)
        for raw, program in zip(missing, found, strict=True):
            if isinstance(program, BaseException):
                raise program
            self._programs[raw["name"]] = program

    def has_own_files(self, container: str) -> bool:
        """Whether a container's root is an image's, so that programs of this machine mean nothing
        in it."""
        program = self._programs.get(container)
        return program is not None and program.image is not None

    def _worker(self, raw: Raw, policy: str = "") -> ContainerWorker:
        program = self._programs[raw["name"]]
        spec = container_spec(
            self.pod,
            raw,
            program,
            self.context.cache,
            self._volumes.directories,
            ip=self.ip,
            node_name=self.context.node_name,
            switches_user=self.context.node.can_switch_user,
            log_path=self._log_path(str(raw["name"])),
        )
        sandbox = self.sandbox
        assert sandbox is not None
        return ContainerWorker(
            raw,
            start_process=lambda: sandbox.start(spec),
            execute=lambda argv: self.execute(str(raw["name"]), argv),
            connect=self._connect,
            on_change=self._changed.set,
            grace=float(spec_of(self.pod).get("terminationGracePeriodSeconds", 30)),
            stop_signal=stop_signal(program.image.config.stop_signal if program.image else ""),
            restart_policy=policy or str(spec_of(self.pod).get("restartPolicy") or "Always"),
        )

    async def execute(self, container: str, argv: tuple[str, ...]) -> int:
        """Run a command in a container without input or output; returns its exit status."""
        null = os.open(os.devnull, os.O_RDWR)
        try:
            running = await self.exec_in(container, ExecSpec(argv), (null, null, null))
            return await running.wait()
        finally:
            os.close(null)

    async def exec_in(
        self, container: str, spec: ExecSpec, descriptors: tuple[int, int, int]
    ) -> Process:
        """Start a command in a container with the given standard descriptors.

        Raises `ProcessLookupError` when the container does not run.
        """
        running: object = None
        for worker in (*self.containers, *self.init_containers):
            if worker.name == container:
                running = worker.process
        if container == PROXY_CONTAINER:
            running = self._envoy
        if isinstance(running, Container):
            return await running.execute(spec, *descriptors)
        raise ProcessLookupError(f"container {container} of pod {self.key} is not running")

    async def _connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the pod's own loopback: capture leaves that alone."""
        assert self.sandbox is not None
        opened = await self.sandbox.open_socket("", 0)
        try:
            await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=opened)
        except BaseException:
            opened.close()
            raise

    async def _leave_gracefully(self) -> None:
        deadline = time.monotonic() + self._grace
        wanted = self._settings.termination_drain_seconds if self._drain is None else self._drain
        drain = min(wanted, self._grace)
        if self.proxy is not None and self.proxy.ready and drain > 0:
            with contextlib.suppress(OSError, TimeoutError, NodeError):
                async with asyncio.timeout(drain + 1):
                    await self.proxy.drain(drain)
        remaining = max(0.0, deadline - time.monotonic())
        await asyncio.gather(
            *(worker.stop(remaining) for worker in (*self.containers, *self.init_containers))
        )
        if self.proxy is not None:
            with contextlib.suppress(OSError, NodeError):
                await self.proxy.stop(min(5.0, max(0.5, deadline - time.monotonic())))

    async def _tear_down(self) -> None:
        if self.proxy is not None:
            with contextlib.suppress(OSError, NodeError):
                await self.proxy.stop(0.5)
        if self.sandbox is not None:
            with contextlib.suppress(OSError, NodeError):
                await self.sandbox.remove()
        remove_volumes(self._scratch)

    @property
    def _scratch(self) -> Path:
        return Path(self.context.node.scratch_dir, namespace_of(self.pod), name_of(self.pod))

    def _log_path(self, container: str) -> str:
        folder = self.context.state_dir / "logs" / namespace_of(self.pod) / name_of(self.pod)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return str(folder / f"{container}.log")

    async def _publish_for_ever(self) -> None:
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            status = self.status()
            if status != self._published:
                if await self._publish(status):
                    self._published = status
                else:
                    self._changed.set()
                    await asyncio.sleep(0.3)

    async def _publish(self, status: Raw) -> bool:
        path = f"/api/v1/namespaces/{namespace_of(self.pod)}/pods/{name_of(self.pod)}/status"
        try:
            raw = await self.context.client.request("PATCH", path, {"status": status})
            self.context.cache.put(raw)
        except ApiError as error:
            return error.status == 404
        except (ApiUnavailable, TimeoutError, OSError):
            return False
        return True

    def status(self) -> Raw:
        """Kubernetes ``PodStatus``."""
        applications = [worker.status() for worker in self.containers]
        reason, message = self.problem or (None, None)
        unready = [f"{w.name}: {w.not_ready}" for w in self.containers if w.not_ready]
        if not applications:
            applications = waiting_statuses(
                self._applications,
                reason or "ContainerCreating",
                message or "",
            )
        status: Raw = {
            "phase": self.phase,
            "hostIP": self.context.node.config.node_ip,
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "startTime": self.started_at,
            "reason": reason,
            "message": message,
            "conditions": self._conditions.data(
                {"ContainersReady": "\n".join(unready)},
                PodScheduled=True,
                Initialized=self.phase != "Pending",
                ContainersReady=self.ready,
                Ready=self.ready,
            ),
            "containerStatuses": [*applications, *self._proxy_status()],
        }
        if self.init_containers:
            status["initContainerStatuses"] = [worker.status() for worker in self.init_containers]
        return status

    def _proxy_status(self) -> list[Raw]:
        if not self.injected:
            return []
        proxy = self.proxy
        running = proxy.started_at if proxy is not None and proxy.pid is not None else ""
        return [
            proxy_status(
                PROXY_CONTAINER,
                ready=bool(proxy and proxy.ready),
                restarts=proxy.restarts if proxy else 0,
                running_since=running,
            )
        ]
