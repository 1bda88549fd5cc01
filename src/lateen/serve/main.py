"""``python -m lateen.serve.main``: the control plane as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import functools
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from lateen.observe import log

if TYPE_CHECKING:
    from lateen.api.findings import Finding
    from lateen.api.meshconfig import MeshConfig
    from lateen.pki.authority import ServerCertificate
    from lateen.serve.control_plane import ControlPlane
    from lateen.serve.http2_transport import Http2Transport
    from lateen.serve.tls import ServerTls
    from lateen.serve.workers import Workers

MAX_WORKERS = 64
WORKLOADS_PER_PROCESS = 5000
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
_log = logging.getLogger("lateen.serve")


@dataclass(frozen=True)
class Options:
    """Options of the process. Times in seconds."""

    state_dir: Path
    listen: str = "127.0.0.1:15012"
    metrics: str = "127.0.0.1:15014"
    trust_domain: str = "cluster.local"
    watch: tuple[Path, ...] = ()
    """Folders whose objects the store shall equal."""
    mesh_config: Path | None = None
    """File with a MeshConfig, which holds unless an object of the mesh has one."""
    debounce: float = 0.1
    debounce_max: float = 10.0
    debounce_urgent: float = 1.0
    overload_after: float = 2.0
    """A change that waits this long for the push before it means overload."""
    defer_max: float = 15.0
    """For how long less urgent changes are deferred then, at most."""
    certificate_ttl: float = 24 * 3600.0
    inject_new_namespaces: bool = True
    grace: float = 2.0
    """How long open streams get at the end."""
    workers: int | None = None
    """Processes that serve xDS; None: as many as the mesh needs."""
    balance_interval: float = 5.0
    max_connection_age: float = 1800.0
    """After about this long proxies connect anew; 0: never."""
    streams_per_proxy: int = 5
    log_level: str = "info"
    verify_incremental: bool = False
    """Make every update from scratch as well and compare (slow, for finding defects)."""


def make_parser() -> argparse.ArgumentParser:
    """The options of the process."""
    parser = argparse.ArgumentParser(
        prog="lateen control-plane", description="The control plane of a mesh."
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="the mesh's directory")
    parser.add_argument("--listen", default=Options.listen, help="IP:PORT for xDS (mutual TLS)")
    parser.add_argument("--metrics", default=Options.metrics, help="IP:PORT for metrics")
    parser.add_argument("--trust-domain", default=Options.trust_domain)
    parser.add_argument(
        "--watch",
        type=Path,
        action="append",
        default=[],
        help="keep the mesh equal to this folder of YAML; repeatable",
    )
    parser.add_argument("--mesh-config", type=Path, help="file with a MeshConfig")
    parser.add_argument("--debounce", type=float, default=Options.debounce, help="seconds")
    parser.add_argument("--debounce-max", type=float, default=Options.debounce_max, help="seconds")
    parser.add_argument(
        "--debounce-urgent",
        type=float,
        default=Options.debounce_urgent,
        help="seconds that endpoints, secrets and security policies wait at most for others",
    )
    parser.add_argument(
        "--overload-after",
        type=float,
        default=Options.overload_after,
        help="seconds that a change waits for the push before it, from which on others than "
        "endpoints, secrets and security policies are deferred",
    )
    parser.add_argument(
        "--defer-max",
        type=float,
        default=Options.defer_max,
        help="seconds for which changes are deferred at most",
    )
    parser.add_argument(
        "--certificate-ttl", type=float, default=Options.certificate_ttl, help="seconds"
    )
    parser.add_argument(
        "--no-injection",
        dest="inject_new_namespaces",
        action="store_false",
        help="do not label namespaces that no file declares for injection",
    )
    parser.add_argument("--grace", type=float, default=Options.grace, help="seconds")
    parser.add_argument(
        "--workers",
        type=_worker_count,
        default=Options.workers,
        metavar="N",
        help="processes that serve proxies on the one port (default: one per "
        f"{WORKLOADS_PER_PROCESS} workloads, on half of the cores at most)",
    )
    parser.add_argument(
        "--balance-interval",
        type=float,
        default=Options.balance_interval,
        help="seconds between looks for a process with more proxies than its share",
    )
    parser.add_argument(
        "--max-connection-age",
        type=float,
        default=Options.max_connection_age,
        help="seconds after which proxies connect anew, give or take a tenth; 0 for never",
    )
    parser.add_argument(
        "--streams-per-proxy",
        type=int,
        default=Options.streams_per_proxy,
        help="streams that one pod's proxy may have at once, per process",
    )
    parser.add_argument("--log-level", default=Options.log_level)
    parser.add_argument(
        "--verify-incremental",
        action="store_true",
        default=bool(os.environ.get("LATEEN_VERIFY_INCREMENTAL")),
        help="make every update from scratch as well and compare (slow; also "
        "LATEEN_VERIFY_INCREMENTAL=1)",
    )
    return parser


def parse_arguments(arguments: list[str] | None = None) -> Options:
    """Read the command line; exits with status 2 on a mistake."""
    parser = make_parser()
    found = parser.parse_args(arguments)
    for name in ("listen", "metrics"):
        if not _is_address(getattr(found, name)):
            parser.error(f"--{name} must be IP:PORT, not {getattr(found, name)}")
    if found.max_connection_age < 0:
        parser.error("--max-connection-age must not be negative")
    if found.overload_after <= 0:
        parser.error("--overload-after must be more than 0")
    if found.defer_max < 0:
        parser.error("--defer-max must not be negative")
    if found.streams_per_proxy < 1:
        parser.error("--streams-per-proxy must be at least 1")
    if _split(found.listen)[1] == 0:
        if found.workers is not None and found.workers > 1:
            parser.error("--workers needs a --listen address with a port")
        found.workers = 1
    found.watch = tuple(found.watch)
    return Options(**vars(found))


async def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    from aiohttp import web

    from lateen.serve.api import register
    from lateen.serve.control_plane import ControlPlane, ControlPlaneOptions
    from lateen.serve.debug_stream import DebugStreams
    from lateen.serve.generator import MeshGenerator
    from lateen.serve.http2_limits import Limits
    from lateen.serve.http2_transport import Http2Transport
    from lateen.serve.interpreter import read_without_collecting
    from lateen.serve.monitoring import make_monitoring
    from lateen.serve.push import PushOptions
    from lateen.serve.tls import ServerTls
    from lateen.source.api_server import bind_private_socket, make_app
    from lateen.source.store import Store

    read_without_collecting()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    address, metrics_address = _split(options.listen), _split(options.metrics)
    store = Store(options.state_dir / "store.db")
    plane = ControlPlane(
        ControlPlaneOptions(
            state_dir=options.state_dir,
            trust_domain=options.trust_domain,
            addresses=_own_addresses(address[0]),
            xds_address=address,
            certificate_ttl=datetime.timedelta(seconds=options.certificate_ttl),
            push=PushOptions(
                options.debounce,
                options.debounce_max,
                options.debounce_urgent,
                overload_after=options.overload_after,
                defer_max=options.defer_max,
                streams_per_proxy=options.streams_per_proxy,
            ),
            mesh=_mesh_config(options.mesh_config) if options.mesh_config else None,
        ),
        store,
        MeshGenerator(verify=options.verify_incremental),
    )
    # Root too: nothing on the machine can be kept from it, and as root the command line is root.
    owners = frozenset({0, os.getuid()})
    app = make_app(store, owners, inject_new_namespaces=options.inject_new_namespaces)
    register(app, plane)
    api = web.AppRunner(
        app, access_log=None, shutdown_timeout=options.grace, handler_cancellation=True
    )
    monitoring = web.AppRunner(make_monitoring(plane), access_log=None, shutdown_timeout=1.0)
    plane.server.on_debug = DebugStreams(plane).serve
    tls = _TlsSource(plane, ServerTls)
    several = options.workers != 1
    limits = Limits(connection_age=options.max_connection_age)
    transport = Http2Transport(
        options.listen,
        tls.current,
        plane.server.serve,
        limits,
        share_port=several,
        crowded=lambda: plane.server.crowded,
    )
    plane.server.shares += transport.shares
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(store.close)
        stack.callback(plane.close)
        workers = _workers(plane, options, tls.current, transport) if several else None
        if workers is not None:
            await workers.prepare()
        plane.load()
        keeping = [] if workers is None else [asyncio.ensure_future(workers.run())]
        stack.push_async_callback(_stop_serving, transport, workers, keeping, options.grace)
        if workers is not None:
            _refuse_second(address)
            await workers.wait_loaded()
        await transport.start()
        if workers is not None:
            await workers.listen()
        await monitoring.setup()
        stack.push_async_callback(monitoring.cleanup)
        await web.TCPSite(monitoring, *metrics_address).start()
        await api.setup()
        stack.push_async_callback(api.cleanup)
        # The socket comes last: it tells the agent that everything else is there.
        socket_path = options.state_dir / "api.sock"
        await web.SockSite(api, bind_private_socket(socket_path)).start()
        stack.callback(socket_path.unlink, missing_ok=True)
        work = [asyncio.ensure_future(plane.run())]
        work += [asyncio.ensure_future(_mirror(plane, options, f)) for f in options.watch]
        _log.info("serving xDS on %s, metrics on %s", options.listen, options.metrics)
        waiting = asyncio.ensure_future(stop.wait())
        running = [waiting, *keeping, *work]
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, *work):
            task.cancel()
        await asyncio.gather(waiting, *work, return_exceptions=True)
        for task in done - {waiting}:
            task.result()
    return 0


def _workers(
    plane: ControlPlane,
    options: Options,
    tls: Callable[[], ServerTls],
    transport: Http2Transport,
) -> Workers:
    """The replicas beside this process, if there shall be any, not started yet."""
    from lateen.serve.workers import Workers

    arguments = (
        "--listen", options.listen, "--debounce", str(options.debounce),
        "--debounce-max", str(options.debounce_max), "--grace", str(options.grace),
        "--log-level", options.log_level,
        "--debounce-urgent", str(options.debounce_urgent),
        "--max-connection-age", str(options.max_connection_age),
        "--streams-per-proxy", str(options.streams_per_proxy),
        *(("--verify-incremental",) if options.verify_incremental else ()),
    )  # fmt: skip
    interval = options.balance_interval
    return Workers(plane, _processes(plane, options), arguments, tls, transport.shed, interval)


def _processes(plane: ControlPlane, options: Options) -> Callable[[], int]:
    """How many processes shall serve the mesh as it is now."""
    if options.workers is not None:
        return functools.partial(int, options.workers)
    cores = len(os.sched_getaffinity(0))
    return lambda: processes_for(_workloads(plane), cores)


def processes_for(workloads: int, cores: int) -> int:
    """How many processes serve so many workloads well: when all their proxies connect at once, each
    process needs a core for seconds. Others on the machine keep half of the cores."""
    return max(1, min(-(-workloads // WORKLOADS_PER_PROCESS), cores // 2, MAX_WORKERS))


def _workloads(plane: ControlPlane) -> int:
    kinds = (("", "Pod"), ("networking.istio.io", "WorkloadEntry"))
    if not plane.server.ready:  # nothing is in the snapshot yet
        return sum(len(plane.store.select(*kind)) for kind in kinds)
    return sum(len(found) for kind in kinds for found in plane.snapshot.layers(kind).values())


async def _stop_serving(
    transport: Http2Transport,
    workers: Workers | None,
    keeping: Sequence[asyncio.Future[None]],
    grace: float,
) -> None:
    """End the streams of all processes at once, so that no proxy goes from one that ends to
    another that will, and the replicas."""
    ends = [transport.stop(grace)] + ([workers.stop(grace)] if workers is not None else [])
    await asyncio.gather(*ends)
    for task in keeping:
        task.cancel()
    await asyncio.gather(*keeping, return_exceptions=True)


def _refuse_second(address: tuple[str, int]) -> None:
    """Raise ``OSError`` when somebody listens on the port already: a shared port would hide it."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            text = f"cannot listen on {address[0]}:{address[1]}; is another control plane running?"
            raise OSError(text) from error


class _TlsSource:
    """The server's TLS material; the same object until the certificate was renewed."""

    def __init__(self, plane: ControlPlane, kind: type[ServerTls]) -> None:
        self._plane = plane
        self._kind = kind
        self._last: tuple[ServerCertificate, ServerTls] | None = None

    def current(self) -> ServerTls:
        """What the next handshake uses."""
        certificate = self._plane.certificate()
        if self._last is None or self._last[0] is not certificate:
            bundle = self._plane.authority.trust_bundle
            made = self._kind(certificate.key, certificate.issued.chain, bundle)
            self._last = (certificate, made)
        return self._last[1]


def _mesh_config(path: Path) -> MeshConfig:
    """Read the MeshConfig of a file. Raises `OSError` with what is wrong in it and where."""
    from lateen.api.findings import Severity
    from lateen.api.locate import with_positions
    from lateen.api.meshconfig import parse_mesh_config
    from lateen.translate.mesh_settings import file_findings

    text = path.read_text()
    mesh, findings = parse_mesh_config(text, str(path))
    findings += file_findings(mesh, str(path))
    for finding in with_positions(findings, {str(path): text}.get):
        if finding.severity is Severity.ERROR:
            raise OSError(f"{path}:{finding.line}: {finding.message}")
        _log.warning("%s:%d: %s", path, finding.line, finding.message)
    return mesh


async def _mirror(plane: ControlPlane, options: Options, folder: Path) -> None:
    """Keep the store equal to a watched folder; what is broken in it goes to status and log."""
    from lateen.api.findings import Severity
    from lateen.source.watch import mirror

    def found(path: str, findings: tuple[Finding, ...]) -> None:
        errors = tuple(finding for finding in findings if finding.severity is Severity.ERROR)
        if errors:
            plane.broken_files[path] = errors
        else:
            plane.broken_files.pop(path, None)
        for finding in errors:
            _log.error("%s:%d: %s", path, finding.line, finding.message)
        plane.metrics.broken.set(len(plane.broken) + len(plane.broken_files))

    watched = mirror(plane.store, folder, inject_new_namespaces=options.inject_new_namespaces)
    watched.on_findings = found
    await watched.run()


def main(arguments: list[str] | None = None) -> int:
    """Run the process; errors of the environment are one line on standard error."""
    options = parse_arguments(arguments)
    log.configure(options.log_level.upper())
    from lateen.pki.errors import PkiError
    from lateen.source.store import StoreError

    try:
        options.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return uvloop.run(run(options))
    except (OSError, PkiError, StoreError) as error:
        print(f"control plane: {error}", file=sys.stderr)  # noqa: T201 - before logging helps
        return EXIT_ENVIRONMENT


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _worker_count(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MAX_WORKERS:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be 1 to {MAX_WORKERS}, not {text}")


def _is_address(text: str) -> bool:
    try:
        host, port = _split(text)
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return 0 <= port < 65536


def _own_addresses(host: str) -> tuple[str, ...]:
    """Addresses that the server certificate names."""
    return () if ipaddress.ip_address(host).is_unspecified else (host,)


if __name__ == "__main__":
    sys.exit(main())
