"""Command line: ``python -m benchmarks.scale SCENARIO --services S ... [-o json]``."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.scale.cluster import Cluster, access_of
from benchmarks.scale.fleet import Fleet, Place
from benchmarks.scale.grid import grid
from benchmarks.scale.mesh import Size, objects
from benchmarks.scale.peer import Peer, PeerOptions, write_mesh
from benchmarks.scale.plane import LateenPlane, Plane, proxy_specs
from benchmarks.scale.report import scaling_plots, table
from benchmarks.scale.scenarios import SCENARIOS as _OF_ANY_SERVER
from benchmarks.scale.scenarios import Bench, Result
from benchmarks.scale.worker_loss import worker_loss
from lateen.pki.authority import Authority, load

SCENARIOS = {**_OF_ANY_SERVER, "worker-loss": worker_loss}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says."""
    options = _parser().parse_args(arguments)
    try:
        size = Size(
            options.services,
            options.endpoints,
            options.proxies,
            options.namespaces,
            options.sidecars,
            options.entries,
        )
    except ValueError as error:
        print(f"benchmarks.scale: {error}", file=sys.stderr)
        return 2
    if options.scenario == "manifest" and options.kubeconfig:
        begun, count = time.monotonic(), Cluster(access_of(options.kubeconfig)).load(size)
        print(f"{count} objects written in {time.monotonic() - begun:.0f} s", file=sys.stderr)
        return 0
    if options.scenario == "manifest" and options.folder:
        write_mesh(size, options.folder)
        return 0
    if options.scenario == "manifest":
        items = list(objects(size))
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        return 0
    results: list[Result] = []
    if options.scenario == "grid":
        for result in grid(lambda grown: _bench(options, grown), size):
            _progress(result)
            results.append(result)
    else:
        names = tuple(_OF_ANY_SERVER) if options.scenario == "all" else (options.scenario,)
        results = _run(options, size, names)
    _write(options, results)
    return 1 if any(result.errors for result in results) else 0


def _run(options: argparse.Namespace, size: Size, names: tuple[str, ...]) -> list[Result]:
    """Scenarios one after the other on one server; each is reported when it is done."""
    results = []
    with _bench(options, size) as bench:
        for name in names:
            results.append(SCENARIOS[name](bench))
            _progress(results[-1])
    return results


def _progress(result: Result) -> None:
    """Say that a scenario is done, before the table of all."""
    size = f"{result.size.services} services, {result.size.proxies} proxies"
    last = f"last ACK after {result.last_ack_ms.p50:,.0f} ms"
    print(f"{result.scenario}, {size}: {last}", file=sys.stderr, flush=True)


@contextmanager
def _bench(options: argparse.Namespace, size: Size) -> Iterator[Bench]:
    """A server with the mesh and the proxies beside it, until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="lateen-scale-"))
    plane: Plane | None = None
    fleet: Fleet | None = None
    try:
        plane, authority = _plane(options, size, folder)
        specs = proxy_specs(size, folder / "certificates", authority)
        workers = options.workers or max(1, min(2, size.proxies // 500))
        fleet = Fleet(specs, plane.place, delta=not options.sotw, workers=workers)
        yield Bench(
            size=size,
            plane=plane,
            fleet=fleet,
            dialect="state-of-the-world" if options.sotw else "delta",
            repetitions=options.repetitions,
            debounce=options.debounce,
            duration=options.duration,
            limit=options.limit,
            quiet=options.quiet,
        )
    finally:
        if fleet is not None:
            fleet.close()
        if plane is not None:
            plane.close()
        shutil.rmtree(folder, ignore_errors=True)


def _plane(options: argparse.Namespace, size: Size, folder: Path) -> tuple[Plane, Authority | None]:
    """Our own server over a generated mesh, or the one that ``--target`` names."""
    if not options.target:
        settings = ("--debounce", str(options.debounce), *options.server_option)
        plane = LateenPlane(folder, size, options=settings, profile=options.profile)
        return plane, plane.authority
    host, _, port = options.target.rpartition(":")
    authority, trust = None, ""
    if options.ca:
        authority = load(options.ca / "ca-cert.pem", options.ca / "ca-key.pem")
        trust = str(options.ca / "root-cert.pem")
    place = Place(host.strip("[]"), int(port), trust, options.server_name)
    peer = Peer(
        PeerOptions(
            place=place,
            apply=options.apply,
            folder=options.folder,
            kubeconfig=options.kubeconfig,
            start=options.start,
            ready=options.ready,
            restart=options.restart,
            pid=options.pid,
            metrics=options.metrics,
            log=options.log,
        )
    )
    return peer, authority


def _write(options: argparse.Namespace, results: list[Result]) -> None:
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for name, body in scaling_plots(results).items():
            (options.plots / name).write_text(body)
    if options.output != "json":
        print(table(results))
        return
    if len(results) == 1:
        print(json.dumps(results[0].data(), indent=2))
        return
    machine = f"{platform.machine()} Linux {platform.release()} Python {platform.python_version()}"
    data = {"machine": machine, "results": [result.data() for result in results]}
    print(json.dumps(data, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description="Put a control plane under load and measure what a change costs.",
        epilog="`all` runs every scenario but worker-loss (which needs --server-option=--workers "
        "--server-option=3 or the like), `grid` two of them over many sizes, `manifest` prints "
        "the mesh as a List for a peer (--target).",
    )
    parser.add_argument("scenario", choices=(*SCENARIOS, "all", "grid", "manifest"))
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--endpoints", type=int, default=5, help="per service")
    parser.add_argument("--proxies", type=int, default=100)
    parser.add_argument("--namespaces", type=int, default=5)
    parser.add_argument(
        "--sidecars", type=float, default=0.0, help="share of namespaces with a Sidecar"
    )
    parser.add_argument(
        "--entries",
        action="store_true",
        help="services and endpoints as ServiceEntries and WorkloadEntries (no Services, Pods)",
    )
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--debounce", type=float, default=0.1, help="seconds, of the server")
    parser.add_argument("--duration", type=float, default=600.0, help="seconds of churn")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds before giving up")
    parser.add_argument(
        "--quiet", type=float, default=0.5, help="seconds of silence after which all is delivered"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that play proxies")
    parser.add_argument("--sotw", action="store_true", help="speak state-of-the-world xDS")
    parser.add_argument("--profile", default="", help="file for a cProfile of our own server")
    parser.add_argument("--plots", type=Path, help="folder for SVG plots")
    parser.add_argument(
        "--server-option",
        action="append",
        default=[],
        help="a further option of our own server; repeat for several",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    peer = parser.add_argument_group("another server (it must hold the mesh of `manifest`)")
    peer.add_argument("--target", default="", help="HOST:PORT of its ADS")
    peer.add_argument("--ca", type=Path, help="folder with its ca-cert, ca-key, root-cert .pem")
    peer.add_argument("--server-name", default="istiod.istio-system.svc")
    peer.add_argument("--apply", default="", help="command that takes a List on standard input")
    peer.add_argument(
        "--folder",
        type=Path,
        help="folder whose subfolders `changing` and `still` it reads (`manifest` writes them)",
    )
    peer.add_argument(
        "--kubeconfig",
        type=Path,
        help="Kubernetes API that it reads its objects from (`manifest` writes them there)",
    )
    peer.add_argument(
        "--start", default="", help="command that runs it in the foreground; the rig ends it"
    )
    peer.add_argument("--ready", default="", help="URL that answers 200 when it has started")
    peer.add_argument("--log", type=Path, help="file for what it prints")
    peer.add_argument("--restart", default="", help="command that restarts it, without --start")
    peer.add_argument("--pid", type=int, default=0, help="its process, without --start")
    peer.add_argument("--metrics", default="", help="URL of its Prometheus metrics")
    return parser


if __name__ == "__main__":
    sys.exit(main())
