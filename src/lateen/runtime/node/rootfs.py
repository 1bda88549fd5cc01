"""The file system a container sees: the machine's, copy-on-write, with its own volumes.

The root is an overlay (lower layer: the machine's ``/``; upper layer: a tmpfs of the container), so
a mountPath may stand anywhere and nothing that an application writes outside its volumes reaches
the machine. Other mounts of the machine are shown read-only. /proc, /sys, /dev, /run and /tmp are
the container's own. Linux 5.12 is needed for overlay mounts in user namespaces and mount_setattr.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lateen.runtime.node import namespaces as ns

_OWN_DIRECTORIES = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_READ_ONLY_PROC = ("sys", "sysrq-trigger", "irq", "bus", "fs")
_MASKED_PROC = ("kcore", "keys", "timer_list", "sched_debug")
_SAFE = ns.MS_NOSUID | ns.MS_NODEV


@dataclass(frozen=True, slots=True)
class RootFs:
    """What `enter` builds. ``stage`` is an empty directory of the node's private tmpfs."""

    stage: str
    scratch_bytes: int
    files: tuple[tuple[str, str], ...]
    """(source, target) of generated files: /etc/hosts and the like."""
    mounts: tuple[tuple[str, str, bool], ...]
    """(source, target, read_only) of volumes."""
    hidden: tuple[str, ...]
    exposed: tuple[tuple[str, tuple[str, ...]], ...]
    """Closed directories, and what below each of them stays visible."""
    read_only_root: bool


def enter(spec: RootFs) -> None:
    """Builds the root in the calling process's own mount namespace and moves into it.

    The caller must be the first process of its PID namespace, or /proc shows another one's. Raises
    `OSError`; its text names the step.
    """
    mountpoints = top_level_mounts(Path("/proc/self/mountinfo").read_text())
    root = _overlay(spec)
    skip = (*_OWN_DIRECTORIES, *spec.hidden, spec.stage)
    for point in mountpoints:
        if not _within_any(point, skip):
            # A mount that this user may not even look at stays an empty directory.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                ns.bind(point, root + point, read_only=True)
    _kernel_file_systems(root)
    _devices(root)
    for path, mode in (("/run", "755"), ("/tmp", "1777"), ("/var/tmp", "1777")):
        if os.path.isdir(root + path):
            _tmpfs(root + path, mode, spec.scratch_bytes)
    for closed, visible in spec.exposed:
        _open_up(root, closed, visible)
    for path in spec.hidden:
        if os.path.isdir(root + path):
            _tmpfs(root + path, "555", 4096)
            ns.make_read_only(root + path)
    sources = [_open_source(source) for source, *_ in (*spec.files, *spec.mounts)]
    # From here on targets are looked up in the new root, so that absolute symbolic links in it
    # (/var/run -> /run) lead where the application will find them.
    ns.pivot_root(root)
    for (_, target), fd in zip(spec.files, sources, strict=False):
        if os.path.islink(target):
            os.unlink(target)
        _attach(fd, target, read_only=True)
    for (_, target, read_only), fd in zip(spec.mounts, sources[len(spec.files) :], strict=True):
        _attach(fd, target, read_only=read_only)
    ns.detach_old_root()
    if spec.read_only_root:
        ns.make_read_only("/", recursive=False)


def top_level_mounts(mountinfo: str) -> list[str]:
    """The mount points right below the root mount, from the text of /proc/PID/mountinfo."""
    points = sorted(
        {_unescape(line.split(" ")[4]) for line in mountinfo.splitlines() if line.strip()}
    )
    top: list[str] = []
    for point in points:
        if point != "/" and not _within_any(point, top):
            top.append(point)
    return top


def closed_directories(
    paths: Sequence[str], hidden: Sequence[str] = ()
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """For paths that other users cannot reach: the topmost closed directory above each of them.

    Returns (directory, paths below it) pairs; paths that every user can reach are left out.
    """
    found: dict[str, set[str]] = {}
    for path in paths:
        real = os.path.realpath(path)
        if not os.path.exists(real) or _within_any(real, tuple(hidden)):
            continue
        for parent in [*reversed(Path(real).parents)]:
            if not parent.stat().st_mode & stat.S_IXOTH:
                found.setdefault(str(parent), set()).add(real)
                # The path as written may lead through links below the closed directory.
                if _within_any(path, (str(parent),)) and path != real:
                    found[str(parent)].add(path)
                break
    return tuple((closed, tuple(sorted(visible))) for closed, visible in sorted(found.items()))


def _overlay(spec: RootFs) -> str:
    _tmpfs(spec.stage, "755", spec.scratch_bytes)
    root = f"{spec.stage}/root"
    for name in ("upper", "work", "root"):
        os.mkdir(f"{spec.stage}/{name}")
    os.chmod(f"{spec.stage}/upper", 0o755)
    options = f"lowerdir=/,upperdir={spec.stage}/upper,workdir={spec.stage}/work"
    try:
        # In a user namespace overlayfs may only write user.* attributes (Linux 5.11).
        ns.mount("overlay", root, "overlay", _SAFE, options + ",userxattr")
    except OSError:
        ns.mount("overlay", root, "overlay", _SAFE, options)
    return root


def _kernel_file_systems(root: str) -> None:
    try:
        ns.mount("proc", f"{root}/proc", "proc", _SAFE | ns.MS_NOEXEC)
    except PermissionError:
        # Inside another container engine with a masked /proc the kernel refuses a fresh one.
        ns.bind("/proc", f"{root}/proc")
    for name in _READ_ONLY_PROC:
        path = f"{root}/proc/{name}"
        if os.path.exists(path):
            ns.bind(path, path, read_only=True)
    for name in _MASKED_PROC:
        path = f"{root}/proc/{name}"
        if os.path.exists(path):
            ns.bind("/dev/null", path)
    try:
        ns.mount("sysfs", f"{root}/sys", "sysfs", _SAFE | ns.MS_NOEXEC | ns.MS_RDONLY)
    except PermissionError:
        ns.bind("/sys", f"{root}/sys", read_only=True)


def _devices(root: str) -> None:
    dev = f"{root}/dev"
    ns.mount("tmpfs", dev, "tmpfs", ns.MS_NOSUID, "mode=755,size=64k")
    for name in _DEVICES:
        Path(dev, name).touch()
        ns.bind(f"/dev/{name}", f"{dev}/{name}")
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{dev}/{name}")
    os.mkdir(f"{dev}/pts")
    ns.mount(
        "devpts", f"{dev}/pts", "devpts", ns.MS_NOSUID | ns.MS_NOEXEC, "newinstance,ptmxmode=0666"
    )
    os.mkdir(f"{dev}/shm")
    _tmpfs(f"{dev}/shm", "1777", 64 * 1024 * 1024)


def _tmpfs(path: str, mode: str, size: int) -> None:
    ns.mount("tmpfs", path, "tmpfs", _SAFE, f"mode={mode},size={size}")


def _open_up(root: str, closed: str, visible: Sequence[str]) -> None:
    """Replaces a closed directory by one that holds only what must be seen."""
    if not os.path.isdir(root + closed):
        return
    _tmpfs(root + closed, "711", 64 * 1024)
    made: list[str] = []
    for path in visible:
        if _within_any(path, made):
            continue
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), mode=0o711, exist_ok=True)
            os.symlink(os.readlink(path), root + path)
            continue
        _make_target(root + path, os.path.isdir(path))
        ns.bind(path, root + path, read_only=True)
        made.append(path)


def _open_source(source: str) -> int:
    try:
        return os.open(source, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"volume source {source}: {error.strerror}") from error


def _attach(fd: int, target: str, *, read_only: bool) -> None:
    try:
        _make_target(target, stat.S_ISDIR(os.fstat(fd).st_mode))
    except OSError as error:
        raise OSError(error.errno, f"mount path {target}: {error.strerror}") from error
    ns.bind(f"/proc/self/fd/{fd}", target, read_only=read_only)


def _make_target(path: str, directory: bool) -> None:
    if os.path.exists(path):
        return
    parent = path if directory else os.path.dirname(path)
    os.makedirs(parent, mode=0o755, exist_ok=True)
    if not directory:
        Path(path).touch(mode=0o644)


def _within_any(path: str, directories: Sequence[str]) -> bool:
    return any(path == item or path.startswith(item.rstrip("/") + "/") for item in directories)


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
