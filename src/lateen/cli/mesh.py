"""`lateen up` and `lateen down`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from lateen.cli.errors import ENVIRONMENT, FINDING, USAGE, CommandError
from lateen.cli.mesh_state import MeshState, mesh_state, meshes, not_running
from lateen.cli.opening import say_open
from lateen.cli.options import Mesh, Namespace, Recursive
from lateen.cli.output import DEFAULT_MESH, NOTE, OK, WARN, complain, say
from lateen.runtime.local import MeshRunning, NodeOptions, RunningNode, start, stop
from lateen.runtime.node.errors import NodeError

START_TIMEOUT = 30.0


def up(
    files: Annotated[
        list[str] | None,
        typer.Option("-f", "--filename", help="File, folder, glob or -; repeatable."),
    ] = None,
    mesh: Mesh = DEFAULT_MESH,
    namespace: Namespace = "default",
    recursive: Recursive = False,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Return when everything is ready.")
    ] = False,
    watch: Annotated[
        list[str] | None,
        typer.Option("--watch", help="Mirror this folder into the mesh, changes included."),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="NAME=COMMAND: what runs for an image; repeatable."),
    ] = None,
    image_file: Annotated[str, typer.Option(help="File with a NAME=COMMAND per line.")] = "",
    engine: Annotated[
        str,
        typer.Option(
            help="Container engine that other images come from: auto, docker, podman, nerdctl or "
            "none. auto takes the first of these three that works."
        ),
    ] = "auto",
    publish: Annotated[
        list[str] | None,
        typer.Option(
            "--publish",
            help="[NAMESPACE/NAME:]SERVICEPORT:HOSTPORT of LoadBalancer services and gateways; "
            "none for HOSTPORT does not publish; repeatable.",
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Address of this machine that published ports listen on.")
    ] = "127.0.0.1",
    injection: Annotated[
        bool,
        typer.Option(
            "--injection/--no-injection",
            help="Label namespaces that no file declares with istio-injection=enabled.",
        ),
    ] = True,
    mesh_config: Annotated[str, typer.Option(help="File with a MeshConfig.")] = "",
    ca: Annotated[
        str,
        typer.Option(
            help="Folder with your own authority: ca-cert.pem, ca-key.pem, root-cert.pem."
        ),
    ] = "",
    concurrency: Annotated[int, typer.Option(help="Worker threads of each Envoy.")] = 1,
    drive: Annotated[
        str, typer.Option(help="Path to request through the gateway, so that something is seen.")
    ] = "",
    timeout: Annotated[float, typer.Option(help="Seconds until everything must be ready.")] = 120.0,
) -> None:
    """Start a mesh on this machine and run the pods of the manifests in it.

    Stays in the foreground with a live view until Ctrl-C, which ends and removes everything;
    --detach returns when everything is ready.
    """
    began = time.monotonic()
    state = mesh_state(mesh)
    if not files and not watch:
        raise CommandError("nothing to run", "give manifests with -f, or a folder --watch", USAGE)
    options = NodeOptions(
        images=_checked_images(image or [], image_file),
        image_file=str(Path(image_file).resolve()) if image_file else "",
        image_folder=os.getcwd(),
        engine=_checked_engine(engine),
        publish=_ports(publish or []),
        address=address,
        watch=[str(Path(folder).resolve()) for folder in watch or []],
        inject=injection,
        mesh_config=str(Path(mesh_config).resolve()) if mesh_config else "",
        concurrency=concurrency,
        die_with_parent=not detach,
        authority=_checked_authority(ca) if ca else None,
    )
    if mesh_config:
        _check_mesh_config(mesh_config)
    signals = _Signals.caught()
    stopping = signals.stopping
    node = _start(state, options)
    try:
        with signals.interrupting():
            # Parsing the manifests takes as long as the node takes to start: both at once.
            from lateen.cli.bring_up import Progress, bring_up

            progress = Progress(began, timeout, stopping)
            info = bring_up(state, node, files or [], namespace, recursive, progress)
            from lateen.cli.live import send_some, show_until

            if not detach:
                show_until(state, info, stopping, drive)
            elif drive and info["urls"]:
                good = send_some(info["urls"][0] + drive, 20)
                say(OK if good == 20 else WARN, f"{good} of 20 requests answered 200")
        if detach and stopping.is_set():
            raise KeyboardInterrupt
    except BaseException as error:
        node.stop()
        if isinstance(error, NodeError):
            raise CommandError(str(error), error.hint) from error
        raise
    if detach:
        # Outside of the handler above: the mesh lives on, also when not everything is ready.
        node.detach()
        _next_steps(state, info)
        return
    say(NOTE, "stopping: applications, proxies, control plane")
    node.stop()
    say(OK, f"mesh {state.name} is gone; nothing is left of it on this machine")


def down(
    mesh: Mesh = DEFAULT_MESH,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the objects for the next `up`.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="All meshes of this user.")] = False,
) -> None:
    """Stop a mesh, and remove all that is left of it, also after a crash."""
    names = [state.name for state in meshes()] if everything else [mesh]
    if everything and not names:
        say(NOTE, "no mesh is on this machine")
    for name in names:
        state = mesh_state(name)
        if not stop(state.folder, keep=keep):
            raise CommandError(f"no mesh named {name} is on this machine", not_running(state).hint)
        say(OK, f"mesh {name} is gone")


def _start(state: MeshState, options: NodeOptions) -> RunningNode:
    try:
        return start(state.name, state.folder, options)
    except MeshRunning as error:
        raise CommandError(
            str(error),
            f"`lateen apply -f FILE --mesh {state.name}` changes it, "
            f"`lateen down --mesh {state.name}` ends it, --mesh NAME starts another",
        ) from error
    except NodeError as error:
        raise CommandError(str(error), error.hint, ENVIRONMENT) from error
    except OSError as error:
        raise CommandError(
            f"cannot use {state.folder}: {error.strerror}",
            "make that folder writable, or set XDG_STATE_HOME to another place",
        ) from error


@dataclass(slots=True)
class _Signals:
    """Ctrl-C, SIGTERM and a closed terminal while a mesh is starting and running."""

    stopping: threading.Event = field(default_factory=threading.Event)
    """Set by the first of them."""
    _may_raise: bool = False

    @classmethod
    def caught(cls) -> _Signals:
        """From now on; none of them ends the process by itself."""
        signals = cls()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signals._handle)
        return signals

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within, another Ctrl-C is an exception, once; starting and ending a node are not cut off,
        or something would be left of it. Raises `KeyboardInterrupt` when one came before."""
        self._may_raise = True
        try:
            if self.stopping.is_set():
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False

    def _handle(self, number: int, _frame: object) -> None:
        if self.stopping.is_set() and number == signal.SIGINT and self._may_raise:
            self._may_raise = False
            raise KeyboardInterrupt
        self.stopping.set()


def _checked_images(images: list[str], image_file: str) -> list[str]:
    from lateen.runtime.images import ImageCatalog

    try:
        missing = ImageCatalog.parse(images, image_file, os.getcwd()).missing
    except ValueError as error:
        raise CommandError(str(error), "write --image 'NAME=COMMAND ARG...'", USAGE) from error
    except OSError as error:
        raise CommandError(f"cannot read {image_file}: {error.strerror}", "", USAGE) from error
    if missing:
        raise CommandError(
            "; ".join(missing),
            "relative names refer to the folder of the mapping file, those of --image to this one",
            USAGE,
        )
    return images


def _check_mesh_config(path: str) -> None:
    """Say what is wrong with the file of ``--mesh-config`` before anything starts."""
    from lateen.api.findings import Severity
    from lateen.api.locate import with_positions
    from lateen.api.meshconfig import parse_mesh_config
    from lateen.cli.findings import print_findings, sort_key
    from lateen.source.files import read_text
    from lateen.translate.mesh_settings import file_findings

    text = read_text(path)
    mesh, found = parse_mesh_config(text, path)
    found += file_findings(mesh, path)
    print_findings(sorted(with_positions(found, {path: text}.get), key=sort_key), {path: text}.get)
    if any(finding.severity is Severity.ERROR for finding in found):
        raise CommandError(
            f"{path} is no usable mesh configuration; nothing was started",
            "docs/configuration-reference/meshconfig.md lists its settings",
            FINDING,
        )


def _checked_engine(choice: str) -> str:
    from lateen.runtime.engine.commands import CHOICES, installed

    if choice not in CHOICES:
        raise CommandError(
            f"--engine {choice}: no such container engine", f"one of {', '.join(CHOICES)}", USAGE
        )
    if choice not in ("auto", "none") and not installed(os.environ, choice):
        raise CommandError(
            f"{choice} is not installed: no such command in PATH",
            "install it, or leave --engine out to take what there is",
            ENVIRONMENT,
        )
    return choice


def _checked_authority(folder: str) -> Path:
    """The folder of ``--ca``, when what is in it fits together and has not expired."""
    from lateen.pki.authority import load
    from lateen.pki.errors import PkiError
    from lateen.runtime.local import AUTHORITY_FILES

    place = Path(folder)
    certificate, key, root, chain = (place / name for name in AUTHORITY_FILES)
    try:
        load(
            certificate,
            key,
            chain if chain.exists() else None,
            root if root.exists() else None,
        )
    except PkiError as error:
        raise CommandError(
            f"{folder} holds no usable authority: {error}",
            "docs/security.md says how to make one; nothing was started",
            USAGE,
        ) from error
    return place


def _ports(options: list[str]) -> dict[str, list[int]]:
    from lateen.runtime.host_ports import parse_publish

    try:
        wanted = parse_publish(options)
    except ValueError as error:
        raise CommandError(
            str(error), "--publish 80:9090, --publish shop/web:80:9090, --publish 443:none", USAGE
        ) from error
    for port in (port for ports in wanted.values() for port in ports):
        if port < 1024 and os.geteuid() != 0:
            raise CommandError(f"host port {port} needs root", "choose a port from 1024 up", USAGE)
    return wanted


def _next_steps(state: MeshState, info: dict[str, Any]) -> None:
    flag = "" if state.name == DEFAULT_MESH else f" --mesh {state.name}"
    say_open(info["urls"])
    say(NOTE, f"next: lateen ps{flag} · lateen status{flag} · lateen apply -f FILE{flag}")
    say(NOTE, f"end it with: lateen down{flag}")
    if info["failed"]:
        complain("not everything is ready", "`lateen ps` says what is missing", mark=WARN)
        sys.stdout.flush()
        raise typer.Exit(FINDING)
