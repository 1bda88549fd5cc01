"""Containers as PID 1 of the node starts them: what a request says, and what its child then does.

A container's process is the first of a PID namespace and has a mount namespace of its own; `exec`
joins both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import privileges, process, rootfs, wire
from lateen.runtime.node.pod_table import PodNamespaces
from lateen.runtime.node.pod_users import PodUsers, make_pod_users
from lateen.runtime.node.spec import NodeConfig

GENERATED_FILES = ("resolv.conf", "hosts", "hostname")
"""What every container of a pod finds in /etc."""


@dataclass(slots=True)
class RunningContainer:
    """What `exec` must know of a running container."""

    sandbox: str
    mnt: int
    pid_namespace: int
    env: dict[str, str]
    cwd: str
    uid: int
    gid: int
    groups: Sequence[int] = ()
    capabilities: Sequence[int] = ()
    """What `exec` keeps too: an image's uid 0 is the same for every program in it."""
    image: bool = False
    confined: bool = True
    users: PodUsers | None = None


@dataclass(frozen=True, slots=True)
class MachineView:
    """What containers see of the machine's files."""

    readable: tuple[str, ...]
    """Programs of the mesh, which other users must reach too."""
    covered: tuple[str, ...]
    programs: tuple[str, ...]
    exposed: tuple[tuple[str, tuple[str, ...]], ...]
    hidden: tuple[str, ...]


def machine_view(config: NodeConfig) -> MachineView:
    """What of this machine containers see, from where Python, Lateen and its packages lie."""
    hidden = (config.state_dir, *config.hidden_paths)
    package = str(Path(__file__).resolve().parents[3])
    readable = (
        sys.executable,
        sys.prefix,
        sys.base_prefix,
        package,
        # Packages may lie outside the prefix, by a .pth file or PYTHONPATH: Envoy is one.
        *(path for path in sys.path if os.path.isdir(path)),
        *config.exposed_paths,
    )
    return MachineView(
        readable,
        rootfs.covered_directories(readable),
        rootfs.program_directories(readable),
        rootfs.closed_directories(readable, hidden) if os.getuid() == 0 else (),
        hidden,
    )


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A container to start, read from a message (`lateen.runtime.node.spec.ContainerSpec`)."""

    argv: Sequence[str]
    env: dict[str, str]
    cwd: str
    uid: int | None
    gid: int | None
    groups: Sequence[int]
    capabilities: Sequence[int]
    root: rootfs.RootFs
    logs: bool
    confined: bool

    @property
    def plain_root(self) -> bool:
        """Whether it is root of an image: other programs never keep capabilities by being uid 0."""
        return bool(self.root.image) and self.uid == 0


def start_request(
    message: wire.Message,
    identity: tuple[int | None, int | None],
    pod: PodNamespaces,
    view: MachineView,
    stage: str,
    scratch_bytes: int,
    mark_capability: int,
) -> StartRequest:
    """Reads a message. ``stage`` is an empty directory. Raises `ValueError` for one that is not
    well-formed."""
    capabilities = _numbers(message, "capabilities")
    if message.get("mark_sockets"):
        capabilities.append(mark_capability)
    root = rootfs.RootFs(
        stage=stage,
        scratch_bytes=scratch_bytes,
        files=tuple((f"{pod.directory}/{file}", f"/etc/{file}") for file in GENERATED_FILES),
        mounts=_mounts(message),
        hidden=view.hidden,
        exposed=view.exposed,
        covered=view.covered,
        programs=view.programs,
        read_only_root=bool(message.get("read_only_root")),
        image=wire.text(message, "image"),
    )
    return StartRequest(
        argv=wire.strings(message, "argv"),
        env=_environment(message, wire.text(message, "hostname")),
        cwd=wire.text(message, "cwd") or "/",
        uid=identity[0],
        gid=identity[1],
        groups=_numbers(message, "groups"),
        capabilities=capabilities,
        root=root,
        logs=bool(wire.text(message, "log_path")),
        confined=message.get("confined") is not False,
    )


def application_users(request: StartRequest, message: wire.Message) -> PodUsers | None:
    """The user namespace of a container that is not a proxy, where the node runs as root.

    A proxy's capability must count in the pod's network, so that it stays in the node's.
    """
    if os.getuid() != 0 or message.get("mark_sockets"):
        return None
    return make_pod_users(move=not request.root.image)


def run_container(
    request: StartRequest,
    pod: PodNamespaces,
    users: PodUsers | None,
    stdin: int,
    stdout: int,
    stderr: int,
) -> None:
    """In the forked child, first of its PID namespace: becomes the container's program."""
    uid, gid = request.uid, request.gid
    process.prepare_standard_io(stdin, stdout, stderr, tty=False)
    if request.logs:
        # Programs open /dev/stdout by name (Envoy does); a pipe's own mode decides then.
        os.fchown(1, _outside(uid, users), _outside(gid, users))
    for fd in pod.descriptors:
        ns.setns(fd)
    ns.unshare(ns.CLONE_NEWNS)
    rootfs.enter(request.root)
    process.change_directory(request.cwd, create=not request.root.read_only_root)
    process.run(
        request.argv,
        request.env,
        uid=uid,
        gid=gid,
        capabilities=request.capabilities,
        groups=request.groups,
        plain_root=request.plain_root,
        confined=request.confined,
        user_namespace=users.fd if users else None,
    )


def run_in_container(
    container: RunningContainer,
    pod: PodNamespaces,
    message: wire.Message,
    stdin: int,
    stdout: int,
    stderr: int,
) -> None:
    """In the forked child, in the container's PID namespace: becomes the command of `exec`."""
    env = container.env | {str(k): str(v) for k, v in wire.mapping(message, "env").items()}
    cwd = wire.text(message, "cwd") or container.cwd
    tty = bool(message.get("tty"))
    # The container sees this process before it has become the program: it must neither
    # trace it nor reach the machine's files through its /proc entry.
    privileges.forbid_tracing()
    if tty:
        process.give_terminal(stdin, _outside(container.uid, container.users))
    process.prepare_standard_io(stdin, stdout, stderr, tty=tty)
    for fd in (*pod.descriptors, container.mnt):
        ns.setns(fd)
    process.change_directory(cwd, create=False)
    argv = wire.strings(message, "argv")
    plain_root = container.image and container.uid == 0 and os.getuid() == 0
    process.run(
        argv,
        env,
        uid=container.uid,
        gid=container.gid,
        capabilities=container.capabilities if plain_root else (),
        groups=container.groups,
        plain_root=plain_root,
        confined=container.confined,
        user_namespace=container.users.fd if container.users else None,
    )


def _outside(number: int | None, users: PodUsers | None) -> int:
    """A uid or gid for chown(2) before the user namespace is entered."""
    if number is None:
        return -1
    return users.outside(number) if users is not None else number


def _environment(message: wire.Message, hostname: str) -> dict[str, str]:
    env = {"PATH": process.DEFAULT_PATH, "HOSTNAME": hostname, "HOME": "/"}
    env.update((str(k), str(v)) for k, v in wire.mapping(message, "env").items())
    return env


def _numbers(message: wire.Message, key: str) -> list[int]:
    value = message.get(key, [])
    return [item for item in value if isinstance(item, int)] if isinstance(value, list) else []


def _mounts(message: wire.Message) -> tuple[rootfs.VolumeMount, ...]:
    value = message.get("mounts", [])
    if not isinstance(value, list):
        raise ValueError("mounts must be a list")
    found = []
    for item in value:
        target = wire.text(item, "target")
        if not target.startswith("/"):
            raise ValueError(f"mount path {target!r} must be absolute")
        source, sub_path = wire.text(item, "source"), wire.text(item, "sub_path")
        found.append(
            rootfs.VolumeMount(source, target, bool(item.get("read_only")), sub_path),
        )
    # Parents before children, so that a volume inside another one is not covered by it.
    return tuple(sorted(found, key=lambda mount: mount.target.count("/")))
