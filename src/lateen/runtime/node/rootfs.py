"""The file system a container sees: the machine's or an image's, copy-on-write, with its volumes.

With an image the root is an overlay over its unpacked tree, and of the machine nothing is in it but
devices, generated files and volumes. The rest of this text is about containers without one.

The root is an overlay (lower layer: the machine's ``/``; upper layer: a tmpfs of the container), so
a mountPath may stand anywhere and nothing that an application writes outside its volumes reaches
the machine. Other mounts of the machine are shown read-only. /proc, /sys, /dev, /run and /tmp are
the container's own. Linux 5.12 is needed for overlay mounts in user namespaces and mount_setattr.

In a user namespace the kernel does not lay an overlay over a directory that has mounts below it
(it would show what they cover), nor may this user make entries in root's directories. There the
root is a tmpfs that repeats the machine's tree: a plain directory where something must be added or
is mounted below, an overlay for every other directory.
"""

from __future__ import annotations

import contextlib
import errno
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
class VolumeMount:
    """See `lateen.runtime.node.spec.Mount`."""

    source: str
    target: str
    read_only: bool
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class RootFs:
    """What `enter` builds. ``stage`` is an empty directory of the node's private tmpfs."""

    stage: str
    scratch_bytes: int
    files: tuple[tuple[str, str], ...]
    """(source, target) of generated files: /etc/hosts and the like."""
    mounts: tuple[VolumeMount, ...]
    """The container's volumes."""
    hidden: tuple[str, ...]
    exposed: tuple[tuple[str, tuple[str, ...]], ...]
    """Closed directories, and what below each of them stays visible."""
    covered: tuple[str, ...]
    """Files and folders below the container's own /tmp and /run that must be seen all the same."""
    programs: tuple[str, ...]
    """Directories that must be seen also when a volume covers one above them."""
    read_only_root: bool
    image: str = ""
    """Directory with an image's files. ``hidden`` to ``programs`` mean nothing then."""


def enter(spec: RootFs) -> None:
    """Builds the root in the calling process's own mount namespace and moves into it.

    The caller must be the first process of its PID namespace, or /proc shows another one's. Raises
    `OSError`; its text names the step.
    """
    root = f"{spec.stage}/root"
    mountinfo = Path("/proc/self/mountinfo").read_text()
    _tmpfs(spec.stage, "755", spec.scratch_bytes)
    os.mkdir(root)
    if spec.image:
        writable = _lay_image(spec, root)
    else:
        writable = _lay_machine(spec, root, top_level_mounts(mountinfo))
    sources = [_open_source(source) for source, _ in spec.files]
    volumes = [_open_source(mount.source, mount.sub_path) for mount in spec.mounts]
    programs = [] if spec.image else [(path, _open_source(path)) for path in spec.programs]
    # From here on targets are looked up in the new root, so that absolute symbolic links in it
    # (/var/run -> /run) lead where the application will find them.
    ns.pivot_root(root)
    for (_, target), fd in zip(spec.files, sources, strict=True):
        if os.path.islink(target):
            os.unlink(target)
        _attach(fd, target, read_only=True)
    for mount, fd in zip(spec.mounts, volumes, strict=True):
        _attach(fd, mount.target, read_only=mount.read_only)
    for path, fd in programs:
        # A volume may cover the folder that Lateen or Python lie in. One that cannot be written to
        # does so for good; what then cannot start says so.
        if not os.path.lexists(path):
            with contextlib.suppress(OSError):
                _attach(fd, path, read_only=True)
    ns.detach_old_root()
    if spec.read_only_root:
        for path in writable:
            if os.path.ismount(path):
                ns.make_read_only(path, recursive=False)


def _lay_image(spec: RootFs, root: str) -> list[str]:
    """The image's tree with /proc, /sys and /dev. Its /run and /tmp are its own, as elsewhere.
    Returns the mounts that containers may write to."""
    _overlay(spec.stage, spec.image, root, "whole")
    for name, mode in (("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("tmp", 0o1777)):
        _own_directory(f"{root}/{name}", mode)
    _kernel_file_systems(root)
    _devices(root)
    return ["/"]


def _own_directory(path: str, mode: int) -> None:
    """Makes sure that ``path`` is a directory itself: a link in an image would lead the mounts that
    follow to a place of the machine (this is before the root changes)."""
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
        os.unlink(path)
    if not os.path.lexists(path):
        os.mkdir(path)
        os.chmod(path, mode)


def _lay_machine(spec: RootFs, root: str, mountpoints: Sequence[str]) -> list[str]:
    """The machine's tree. Returns the mounts that containers may write to."""
    skip = (*_OWN_DIRECTORIES, *spec.hidden, spec.stage)
    points = [point for point in mountpoints if not _within_any(point, skip)]
    writable = ["/", "/run", "/tmp", "/var/tmp"]
    if os.getuid() == 0:
        _overlay(spec.stage, "/", root, "whole")
        for point in points:
            _show(point, root + point)
    else:
        targets = [*(f[1] for f in spec.files), *(m.target for m in spec.mounts)]
        _tmpfs(root, "755", spec.scratch_bytes)
        tree = _Tree(spec.stage, root, points, directories_to_open(targets, points))
        tree.repeat("/")
        writable += tree.overlays
    _kernel_file_systems(root)
    _devices(root)
    for path, mode in (("/run", "755"), ("/tmp", "1777"), ("/var/tmp", "1777")):
        if os.path.isdir(root + path):
            _tmpfs(root + path, mode, spec.scratch_bytes)
    for path in spec.covered:
        os.makedirs(os.path.dirname(root + path), mode=0o711, exist_ok=True)
        _make_target(root + path, os.path.isdir(path))
        ns.bind(path, root + path, read_only=True)
    for closed, visible in spec.exposed:
        _open_up(root, closed, visible)
    for path in spec.hidden:
        if os.path.isdir(root + path):
            _tmpfs(root + path, "555", 4096)
            ns.make_read_only(root + path)
    return writable


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


def covered_directories(paths: Sequence[str]) -> tuple[str, ...]:
    """Of these paths, those that a container's own /tmp or /run would cover."""
    real = sorted({os.path.realpath(path) for path in paths})
    covered: list[str] = []
    for path in real:
        below = _within_any(path, _OWN_DIRECTORIES) and not _within_any(path, covered)
        if below and os.path.exists(path) and path not in _OWN_DIRECTORIES:
            covered.append(path)
    return tuple(covered)


def own_directory_above(path: str) -> str:
    """Which of the directories that containers have of their own ``path`` lies in; or empty."""
    return next((own for own in _OWN_DIRECTORIES if _within_any(path, (own,))), "")


def program_directories(paths: Sequence[str]) -> tuple[str, ...]:
    """Of these paths, the directories, as written and as they really are; parents come first."""
    found = {name for path in paths for name in (os.path.abspath(path), os.path.realpath(path))}
    return tuple(sorted(path for path in found if os.path.isdir(path)))


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


def directories_to_open(targets: Sequence[str], mountpoints: Sequence[str]) -> frozenset[str]:
    """The directories that cannot be overlays: above a mount, or where an entry must be made."""
    opened: set[str] = {"/"}
    for point in mountpoints:
        opened.update(str(parent) for parent in Path(point).parents)
    for target in targets:
        # The last part as written: a generated file takes the place of a link.
        path = Path(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
        existing = path
        while not os.path.lexists(existing):
            existing = existing.parent
        if existing == path and not path.is_symlink():
            continue
        inside = existing if existing != path else existing.parent
        opened.update(map(str, (inside, *inside.parents)))
    return frozenset(opened)


class _Tree:
    """Repeats the machine's tree in a tmpfs, for user namespaces."""

    def __init__(
        self, stage: str, root: str, mountpoints: Sequence[str], opened: frozenset[str]
    ) -> None:
        self._stage = stage
        self._root = root
        self._mountpoints = frozenset(mountpoints)
        self._opened = opened
        self.overlays: list[str] = []
        """The directories that became overlays."""

    def repeat(self, directory: str) -> None:
        """Fills the copy of a directory that must be opened."""
        try:
            entries = list(os.scandir(directory))
        except PermissionError:
            return
        for entry in entries:
            path, copy = entry.path, self._root + entry.path
            if entry.is_symlink():
                os.symlink(os.readlink(path), copy)
            elif not entry.is_dir(follow_symlinks=False):
                if entry.is_file(follow_symlinks=False):
                    Path(copy).touch()
                    _show(path, copy)
            else:
                os.mkdir(copy, 0o755)
                self._directory(path, copy)

    def _directory(self, path: str, copy: str) -> None:
        if _within_any(path, _OWN_DIRECTORIES):
            return
        if path in self._mountpoints:
            _show(path, copy)
        elif path in self._opened:
            self.repeat(path)
        else:
            try:
                _overlay(self._stage, path, copy, str(len(self.overlays)))
                self.overlays.append(path)
            except OSError:
                # Some file systems cannot be the lower layer; nothing can be written there then.
                _show(path, copy)


def _overlay(stage: str, lower: str, target: str, name: str) -> None:
    upper, work = f"{stage}/upper-{name}", f"{stage}/work-{name}"
    os.mkdir(upper)
    os.chmod(upper, stat.S_IMODE(os.stat(lower).st_mode) | 0o500)
    os.mkdir(work)
    options = ",".join(
        f"{key}={value.translate(_ESCAPED)}"
        for key, value in (("lowerdir", lower), ("upperdir", upper), ("workdir", work))
    )
    try:
        # In a user namespace overlayfs may only write user.* attributes (Linux 5.11).
        ns.mount("overlay", target, "overlay", _SAFE, options + ",userxattr")
    except OSError:
        ns.mount("overlay", target, "overlay", _SAFE, options)


_ESCAPED = str.maketrans({"\\": "\\\\", ":": "\\:", ",": "\\,"})


def _show(path: str, target: str) -> None:
    """Read-only; what this user may not even look at stays an empty directory."""
    with contextlib.suppress(PermissionError, FileNotFoundError):
        ns.bind(path, target, read_only=True)


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
            ns.bind("/dev/null", path, read_only=True)
    try:
        ns.mount("sysfs", f"{root}/sys", "sysfs", _SAFE | ns.MS_NOEXEC | ns.MS_RDONLY)
    except PermissionError:
        ns.bind("/sys", f"{root}/sys", read_only=True)


def _devices(root: str) -> None:
    dev = f"{root}/dev"
    ns.mount("tmpfs", dev, "tmpfs", ns.MS_NOSUID, "mode=755,size=64k")
    for name in _DEVICES:
        Path(dev, name).touch()
        # Read-only is the file's mode and owner, not the device: nobody changes the machine's.
        ns.bind(f"/dev/{name}", f"{dev}/{name}", read_only=True)
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


def open_closed_directories(
    closed: Sequence[tuple[str, tuple[str, ...]]], writable: Sequence[str]
) -> None:
    """For a process of the mesh that runs as another user: in its own mount namespace, replaces
    closed directories by ones that hold only what it must reach. Raises `OSError`."""
    for directory, visible in closed:
        _open_up("", directory, visible, writable)


def _open_up(root: str, closed: str, visible: Sequence[str], writable: Sequence[str] = ()) -> None:
    """Replaces a closed directory by one that holds only what must be seen."""
    if not os.path.isdir(root + closed):
        return
    links = {path: os.readlink(path) for path in visible if os.path.islink(path)}
    # Opened first: the new directory may cover the paths themselves.
    sources = {path: _open_source(path) for path in visible if path not in links}
    directories = {path for path in sources if os.path.isdir(path)}
    _tmpfs(root + closed, "711", 64 * 1024)
    shown: list[str] = []
    for path in visible:
        if _within_any(path, shown):
            continue
        os.makedirs(os.path.dirname(root + path), mode=0o711, exist_ok=True)
        if path in links:
            os.symlink(links[path], root + path)
            continue
        _make_target(root + path, path in directories)
        read_only = not _within_any(path, writable)
        ns.bind(f"/proc/self/fd/{sources[path]}", root + path, read_only=read_only)
        shown.append(path)
    for fd in sources.values():
        os.close(fd)


def _open_source(source: str, sub_path: str = "") -> int:
    try:
        whole = os.open(source, os.O_PATH | os.O_CLOEXEC)
        if not sub_path:
            return whole
        try:
            return ns.open_beneath(whole, sub_path, os.O_PATH)
        finally:
            os.close(whole)
    except OSError as error:
        where = f"volume source {source}"
        if error.errno == errno.EXDEV:
            raise OSError(
                error.errno, f"{where}: volume subPath {sub_path!r} leaves it through a link"
            ) from error
        raise OSError(error.errno, f"{where}: {error.strerror}") from error


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
