"""Starting and ending a mesh's node from a command: state directory, locks, left-overs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lateen.runtime.engine.commands import installed
from lateen.runtime.images import ImageCatalog
from lateen.runtime.node.errors import NodeStartError
from lateen.runtime.node.launch import NodeHandle, launch_node
from lateen.runtime.node.spec import NodeConfig

PROGRAM = "lateen.runtime.supervisor:main"
KEPT = frozenset({"lock", "ca", "store.db", "store.db-wal", "store.db-shm"})
"""What a new start takes over from one that crashed, or that ended with ``down --keep``."""


class MeshRunning(Exception):
    """A mesh of that name runs already; ``pid`` is its node's."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(f"mesh {name} is running already (process {pid})")
        self.pid = pid


AUTHORITY_FILES = ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem")
"""Names as in Istio's Secret ``cacerts``."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What `lateen up` was asked for, as far as the node is concerned."""

    images: Sequence[str] = ()
    image_file: str = ""
    image_folder: str = "/"
    """What relative names in ``images`` refer to."""
    engine: str = "auto"
    """Container engine for images that nobody maps: a name, ``auto`` or ``none``."""
    publish: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """As `lateen.runtime.host_ports.parse_publish` makes it."""
    address: str = "127.0.0.1"
    """Address of the host on which ports are published."""
    watch: Sequence[str] = ()
    inject: bool = True
    mesh_config: str = ""
    concurrency: int = 1
    """Worker threads of each Envoy."""
    die_with_parent: bool = False
    authority: Path | None = None
    """Folder with the certificate authority to use (`AUTHORITY_FILES`), instead of one made."""


@dataclass(slots=True)
class RunningNode:
    """A node this process started; holds the mesh's lock."""

    name: str
    folder: Path
    handle: NodeHandle
    lock: IO[str]

    def stop(self, *, keep: bool = False) -> None:
        """End the node and remove its state directory, or with ``keep`` all but the objects."""
        self.handle.stop()
        clean(self.folder, keep=keep)
        self.lock.close()

    def detach(self) -> None:
        """Let the node live on."""
        self.handle.detach()
        self.lock.close()


def start(name: str, folder: Path, options: NodeOptions) -> RunningNode:
    """Start a node for mesh ``name`` with its state in ``folder``.

    Raises `MeshRunning`, `NodeStartError` for a folder that is not this user's alone, and the
    errors of `lateen.runtime.node.launch_node`.
    """
    for watched in options.watch if os.getuid() == 0 else ():
        _see_that_all_may_read(Path(watched))
    catalog = ImageCatalog.parse(list(options.images), options.image_file, options.image_folder)
    # A state directory is never shown, whatever a command refers to.
    exposed = tuple(p for p in catalog.exposed if not str(folder.parent).startswith(p + "/"))
    lock = _lock(name, folder)
    logs = folder / "logs"
    logs.mkdir(exist_ok=True, mode=0o700)
    if options.authority is not None:
        _take_authority(options.authority, folder / "ca")
    arguments: dict[str, Any] = {
        "state_dir": str(folder),
        "images": list(options.images),
        "image_file": options.image_file,
        "image_folder": options.image_folder,
        "publish": {key: list(ports) for key, ports in options.publish.items()},
        "address": options.address,
        "watch": list(options.watch),
        "inject": options.inject,
        "mesh_config": _take_mesh_config(options.mesh_config, folder),
        "concurrency": options.concurrency,
    }
    config = NodeConfig(
        state_dir=str(folder),
        # The keys and sockets of this user's other meshes.
        hidden_paths=(str(folder.parent),),
        exposed_paths=exposed,
        engine=_engine(options.engine),
        die_with_parent=options.die_with_parent,
    )
    try:
        handle = launch_node(PROGRAM, arguments, config, log_path=str(logs / "agent.log"))
    except BaseException:
        clean(folder)
        lock.close()
        raise
    write_node_file(folder, {"pid": handle.pid, "started": time.time(), "options": arguments})
    return RunningNode(name, folder, handle, lock)


def _take_mesh_config(source: str, folder: Path) -> str:
    """Put a copy of a user's MeshConfig where the control plane can read it: as root it runs as a
    user of its own, which may not enter every folder. Returns the path of the copy."""
    if not source:
        return ""
    target = folder / "mesh-config.yaml"
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(Path(source).read_bytes())
        # Nothing in it is secret, and only the control plane can enter the folder beside us.
        os.fchmod(stream.fileno(), 0o644)
    return str(target)


def _take_authority(source: Path, target: Path) -> None:
    """Put copies of a user's authority where the control plane looks for it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    for name in AUTHORITY_FILES:
        if (source / name).is_file():
            descriptor = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write((source / name).read_bytes())


def _engine(choice: str) -> str:
    """The choice, or nothing when no such engine is installed."""
    return choice if choice == "none" or installed(os.environ, choice) else ""


def stop(folder: Path, *, keep: bool = False, timeout: float = 30.0) -> bool:
    """End the mesh whoever started it, also after a crash; True when there was anything."""
    pid = running_pid(folder)
    if pid:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while running_pid(folder) == pid:
            if time.monotonic() > deadline:
                # The kernel removes everything in the node's namespaces with it.
                os.kill(pid, signal.SIGKILL)
                deadline += 5.0
            time.sleep(0.02)
    existed = folder.exists()
    clean(folder, keep=keep)
    return bool(pid) or existed


def clean(folder: Path, *, keep: bool = False) -> None:
    """Remove a mesh's state directory, or with ``keep`` all but its objects and its root key."""
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for left in folder.iterdir() if folder.is_dir() else ():
        if left.name not in KEPT:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


def running_pid(folder: Path) -> int:
    """Process id of the node, 0 when it does not run.

    The process start time is compared too: a process id may belong to another program by now.
    """
    try:
        with (folder / "node.json").open() as file:
            owner = os.fstat(file.fileno()).st_uid
            data = json.loads(file.read())
        pid, ticks = int(data["pid"]), int(data["start_ticks"])
        # Root must not signal whatever another user wrote into a file.
        if Path(f"/proc/{pid}").stat().st_uid != owner:
            return 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return pid if ticks and _start_ticks(pid) == ticks else 0


def write_node_file(folder: Path, data: dict[str, Any]) -> None:
    """Write ``node.json`` (private, atomic)."""
    data = {**data, "start_ticks": _start_ticks(int(data["pid"]))}
    temporary = folder / ".node.json.new"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(data, stream, indent=2)
    temporary.rename(folder / "node.json")


def _see_that_all_may_read(folder: Path) -> None:
    """The control plane of root runs as a user without rights. Raises `NodeStartError`."""
    for path in (folder, *folder.parents):
        needed = stat.S_IXOTH | (stat.S_IROTH if path == folder else 0)
        if path.is_dir() and path.stat().st_mode & needed != needed:
            what = "chmod -R o+rX" if path == folder else "chmod o+x"
            raise NodeStartError(
                f"the control plane may not read {folder}: it runs as a user without rights, and "
                f"{path} is closed to others",
                f"{what} {path}, or give the files with -f (without --watch)",
            )


def make_private(folder: Path) -> None:
    """Make a mesh's folder (mode 0700), or see that the one there is this user's own.

    With ``XDG_STATE_HOME`` in a shared directory somebody else may have been there first, with an
    authority whose key they know or links to files of ours. Raises `NodeStartError`.
    """
    hint = "set XDG_STATE_HOME to a folder that only you can write to"
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    shared = folder.parent.parent.stat().st_mode
    if shared & stat.S_IWOTH and not shared & stat.S_ISVTX:
        raise NodeStartError(f"anybody may replace folders in {folder.parent.parent}", hint)
    for path in (folder.parent, folder):
        path.mkdir(exist_ok=True, mode=0o700)
        for found in (path.lstat(), path.stat()):
            if found.st_uid != os.getuid():
                raise NodeStartError(f"{path} belongs to another user (uid {found.st_uid})", hint)
        if path.stat().st_mode & stat.S_IWOTH:
            raise NodeStartError(f"{path} can be written to by anybody", hint)


def _start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks (proc(5), field 22); 0 when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def _lock(name: str, folder: Path) -> IO[str]:
    """The lock that only one starter of a mesh can hold; raises `MeshRunning`."""
    make_private(folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.fdopen(os.open(folder / "lock", flags, 0o600), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise MeshRunning(name, running_pid(folder)) from None
    pid = running_pid(folder)
    if pid:
        lock.close()
        raise MeshRunning(name, pid)
    # Not before the lock is ours: the control plane of a running mesh reaches the folder by its
    # group, and would lose its keys.
    folder.chmod(0o700)
    for left in folder.iterdir():
        # Left by a crash: the kernel ended the processes, the files stayed. What users wrote into
        # the mesh was acknowledged, so it is kept.
        if left.name not in KEPT:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return lock
