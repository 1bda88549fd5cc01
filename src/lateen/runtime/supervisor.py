"""The node's main program: control plane, pods, DNS, services, ports; all that one machine runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from lateen.agent.dns import ClusterDns
from lateen.agent.dns_datagrams import SOCKETS
from lateen.agent.forward import Forwarder, machine_resolvers
from lateen.observe import log
from lateen.runtime.agent_server import AgentServer
from lateen.runtime.cache import ObjectCache
from lateen.runtime.controllers import WorkloadControllers
from lateen.runtime.image_puller import ImagePuller
from lateen.runtime.images import ImageCatalog
from lateen.runtime.ingress import ensure_ingress_gateway, in_front_of
from lateen.runtime.injection import is_gateway
from lateen.runtime.kubelet import Kubelet
from lateen.runtime.node import wire
from lateen.runtime.node.errors import NodeError, NodeStartError
from lateen.runtime.node.node import Node
from lateen.runtime.node.pod_users import mesh_user
from lateen.runtime.node.sandbox import Process
from lateen.runtime.node.spec import ProcessSpec
from lateen.runtime.pod_context import DNS_ADDRESS, PLAIN_DNS_ADDRESS, PodContext
from lateen.runtime.publisher import RETRY_SECONDS, Publisher
from lateen.runtime.raw import Raw
from lateen.runtime.service_table import build
from lateen.source.client import ApiUnavailable, AsyncClient

logger = logging.getLogger(__name__)

CONTROL_PLANE_USER = 1338
"""Uid and gid of the control plane when the node runs as root: nobody else's."""
XDS_PORT = 15012
METRICS_PORT = 15014
CONTROL_PLANE_TIMEOUT = 20.0
SHUTDOWN_GRACE = 5.0
STATE_CHECK_SECONDS = 3.0
DOMAIN = "cluster.local"


async def main(node: Node, arguments: Mapping[str, object]) -> None:
    """Run the node until it is told to end. ``arguments`` are those of `lateen.runtime.local`."""
    log.configure()
    supervisor = Supervisor(node, arguments)
    try:
        await supervisor.run()
    except BaseExceptionGroup as group:
        # One task failed and took the others with it: the failure itself is what users need.
        raise _first(group) from group
    finally:
        await supervisor.shut_down()


class Supervisor:
    """Starts the parts in order and ends them in the reverse one."""

    def __init__(self, node: Node, arguments: Mapping[str, object]) -> None:
        self._node = node
        self._state_dir = Path(str(arguments["state_dir"]))
        self._arguments = arguments
        self._control_plane: Process | None = None
        self._restarts = 0
        """How often the control plane was started again."""
        self._client = AsyncClient(self._state_dir / "api.sock")
        self._cache = ObjectCache(self._client)
        self._kubelet: Kubelet | None = None
        self._services_changed = asyncio.Event()
        self._gateways_changed = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Everything up, then on until the end."""
        node, state_dir = self._node, self._state_dir
        wanted = {
            key: [port for port in ports if isinstance(port, int)]
            for key, ports in _mapping(self._arguments.get("publish")).items()
            if isinstance(ports, list)
        }
        publisher = Publisher(node, wanted, str(self._arguments.get("address") or "127.0.0.1"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_control_plane())
            await self._wait_for_api()
            context = PodContext(
                node=node,
                client=self._client,
                cache=self._cache,
                images=ImageCatalog.parse(
                    _texts(self._arguments.get("images")),
                    str(self._arguments.get("image_file") or ""),
                    str(self._arguments.get("image_folder") or "/"),
                ),
                puller=ImagePuller(node),
                state_dir=state_dir,
                node_name="local",
                domain=DOMAIN,
                proxy_concurrency=int(str(self._arguments.get("concurrency") or 1)),
            )
            self._cache.listen(self._on_change)
            dns = await self._start_dns(tasks)
            self._cache.listen(lambda verb, kind, raw: _feed(dns, verb, kind, raw))
            self._kubelet = kubelet = Kubelet(context)
            controllers = WorkloadControllers(self._client, self._cache)
            tasks.create_task(self._cache.run())
            await self._cache.ready.wait()
            await kubelet.start()
            tasks.create_task(controllers.run())
            tasks.create_task(self._sync_services(publisher))
            tasks.create_task(self._publish_again(publisher))
            tasks.create_task(self._sync_gateways())
            server = AgentServer(kubelet, publisher, self._ended.set, self._parts)
            tasks.create_task(server.serve(state_dir / "agent.sock"))
            tasks.create_task(self._end_with_state())
            await node.ready({"pid": os.getpid()})
            gc.collect()
            gc.freeze()
            await self._ended.wait()
            raise asyncio.CancelledError

    def _parts(self) -> list[wire.Message]:
        control_plane: wire.Message = {
            "name": "control plane",
            "running": self._control_plane is not None,
            "restarts": self._restarts,
        }
        return [control_plane, *self._node.parts]

    async def _end_with_state(self) -> None:
        """A node whose state directory is gone can no longer be found by `down`: it ends itself."""
        while (self._state_dir / "lock").exists():
            await asyncio.sleep(STATE_CHECK_SECONDS)
        logger.error("%s is gone; the mesh ends", self._state_dir)
        self._ended.set()

    async def shut_down(self) -> None:
        """Applications first, proxies next, the control plane last."""
        if self._kubelet is not None:
            await self._kubelet.stop_all(SHUTDOWN_GRACE)
        if self._control_plane is not None:
            with contextlib.suppress(OSError, NodeError):
                await self._control_plane.stop(3.0)

    async def _keep_control_plane(self) -> None:
        """Start the control plane, and again whenever it ends; traffic goes on meanwhile."""
        pause = 0.2
        while True:
            started = asyncio.get_running_loop().time()
            self._control_plane = await self._start_control_plane()
            status = await self._control_plane.wait()
            self._control_plane = None
            self._restarts += 1
            logger.error("the control plane ended with status %s and is started again", status)
            lived = asyncio.get_running_loop().time() - started
            pause = 0.2 if lived > 10 else min(pause * 2, 10.0)
            await asyncio.sleep(pause)

    async def _start_control_plane(self) -> Process:
        node_ip = self._node.config.node_ip
        argv = [
            sys.executable,
            "-m",
            "lateen.serve.main",
            "--state-dir",
            str(self._state_dir),
            "--listen",
            f"{node_ip}:{XDS_PORT}",
            "--metrics",
            f"{node_ip}:{METRICS_PORT}",
        ]
        for folder in _texts(self._arguments.get("watch")):
            argv += ["--watch", folder]
        if not self._arguments.get("inject", True):
            argv.append("--no-injection")
        mesh_config = str(self._arguments.get("mesh_config") or "")
        if mesh_config:
            argv += ["--mesh-config", mesh_config]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "PYTHONSAFEPATH": "1",
        }
        user = mesh_user(CONTROL_PLANE_USER) if self._node.can_switch_user else None
        if user is not None:
            _give(self._state_dir, user)
        spec = ProcessSpec(
            tuple(argv),
            environment,
            uid=user,
            gid=user,
            paths=(str(self._state_dir), *_texts(self._arguments.get("watch"))),
            log_path=str(self._control_plane_log),
        )
        return await self._node.spawn("control plane", spec)

    async def _wait_for_api(self) -> None:
        deadline = asyncio.get_running_loop().time() + CONTROL_PLANE_TIMEOUT
        while True:
            try:
                await self._client.request("GET", "/version")
            except (ApiUnavailable, OSError):
                if asyncio.get_running_loop().time() > deadline:
                    raise NodeStartError(
                        f"the control plane does not answer after {CONTROL_PLANE_TIMEOUT:.0f} s: "
                        f"{self._last_words()}",
                        "run `lateen check`; a store from another version is removed by "
                        "`lateen down`",
                    ) from None
                await asyncio.sleep(0.02)
            else:
                return

    def _last_words(self) -> str:
        """The end of the control plane's log: the state directory goes when the start fails."""
        try:
            lines = self._control_plane_log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:500] if lines else "it has said nothing"

    @property
    def _control_plane_log(self) -> Path:
        return self._state_dir / "logs" / "control-plane.log"

    async def _start_dns(self, tasks: asyncio.TaskGroup) -> ClusterDns:
        node = self._node
        forward = Forwarder(machine_resolvers(), node.open_host_udp, node.connect_host)
        dns = ClusterDns(forward, DOMAIN)
        for address, mesh_hosts in ((DNS_ADDRESS, True), (PLAIN_DNS_ADDRESS, False)):
            udp = await node.open_shared_udp(address, 53, SOCKETS)
            tcp = await node.open_socket(address, 53)
            tasks.create_task(dns.serve(udp, tcp, mesh_hosts=mesh_hosts))
        return dns

    def _on_change(self, _verb: str, kind: str, _raw: Raw) -> None:
        if kind in ("Service", "Pod", "EndpointSlice"):
            self._services_changed.set()
        if kind in ("Gateway", "Deployment"):
            self._gateways_changed.set()

    async def _sync_services(self, publisher: Publisher) -> None:
        while True:
            await self._services_changed.wait()
            self._services_changed.clear()
            services = list(self._cache.all("Service"))
            table = build(services, self._cache.all("Pod"), self._cache.all("EndpointSlice"))
            try:
                await self._node.set_services(table)
                gateways = [pod for pod in self._cache.all("Pod") if is_gateway(pod)]
                await publisher.update(services, in_front_of(gateways, services))
            except (NodeError, OSError) as error:
                logger.error("services are not up to date in the kernel: %s", error)
                self._services_changed.set()
                await asyncio.sleep(1.0)
            # Many pods change together; the kernel is told of them together.
            await asyncio.sleep(0.02)

    async def _publish_again(self, publisher: Publisher) -> None:
        """Try ports again that something else had."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if publisher.problems:
                self._services_changed.set()

    async def _sync_gateways(self) -> None:
        while True:
            await self._gateways_changed.wait()
            self._gateways_changed.clear()
            try:
                if await ensure_ingress_gateway(self._client, self._cache):
                    logger.info("made istio-system/istio-ingressgateway for the Gateways")
            except (ApiUnavailable, OSError, TimeoutError):
                self._gateways_changed.set()
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.05)


def _give(state_dir: Path, user: int) -> None:
    """Let the control plane own what it keeps: its store, its keys, its socket.

    The folder stays the node's, and sticky: a control plane that somebody took over must not put
    links and files of its own in the place of those that root opens.
    """
    os.chown(state_dir, os.getuid(), user)
    state_dir.chmod(0o1770)
    for path in (*state_dir.glob("store.db*"), state_dir / "ca", *state_dir.glob("ca/*")):
        if path.exists():
            os.chown(path, user, user, follow_symlinks=False)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The innermost first exception of a group."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _feed(dns: ClusterDns, verb: str, kind: str, raw: Raw) -> None:
    if kind in ("Service", "Pod", "ServiceEntry", "EndpointSlice"):
        dns.apply(verb, raw)


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, object]:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}
