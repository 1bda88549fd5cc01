"""An engine's archive of an image becomes a directory tree, whatever the archive says.

Images come from strangers. Two fences stand around each other: the child that writes has the tree
as its root directory and no way to another one, and every member is checked against the tree that
the archive itself has made so far. Refused are absolute paths, ``..``, members below a link or a
file, hard links to anything but a file of the tree, and sizes without bounds. Devices, sockets and
pipes are left out: a container gets the usual devices from Lateen.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import tarfile
from dataclasses import dataclass, field
from typing import IO

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import privileges, process

MAX_BYTES = 8 * 1024**3
"""Most bytes of one image's files."""
MAX_ENTRIES = 1_000_000
MAX_DEPTH = 200
MAX_PATH = 4000
"""Bytes of a path; the kernel's own limit is 4096."""
_MAX_ID = 2**32 - 2
_MAX_TIME = 2**33
_MEMORY = 1024**3
_CHUNK = 1024 * 1024
_PERMISSIONS = 0o1777
"""Set-user-ID and set-group-ID bits would do nothing in a container, and harm outside of one."""


class HostileArchive(Exception):
    """An archive that no image has; the message says which member and why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one archive may take."""

    bytes: int = MAX_BYTES
    entries: int = MAX_ENTRIES


@dataclass(slots=True)
class _Tree:
    """What has been written, by path without the leading slash."""

    directories: set[str] = field(default_factory=lambda: {""})
    files: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    times: dict[str, int] = field(default_factory=dict)
    bytes: int = 0


def unpack(stream: int, root: str, limits: Limits = Limits()) -> int:
    """Writes the tar archive of a descriptor into an existing, empty directory.

    As root the files get their owners; otherwise they are all the caller's. Returns the bytes of
    all files. Raises `HostileArchive`, or `OSError` (a full disk).
    """
    counted, count = os.pipe2(os.O_CLOEXEC)
    try:
        pid, failure = process.fork(lambda: _child(stream, root, limits, count))
        os.close(count)
        with open(failure, "rb") as pipe:
            report = pipe.read()
        with open(counted, "rb", closefd=False) as pipe:
            size = pipe.read()
    finally:
        os.close(counted)
    _, status = os.waitpid(pid, 0)
    if report:
        error = json.loads(report)
        if error["errno"]:
            raise OSError(error["errno"], error["error"])
        raise HostileArchive(error["error"])
    if status or not size:
        raise HostileArchive("the archive took more memory or time than any image's")
    return int(size)


def _child(stream: int, root: str, limits: Limits, count: int) -> None:
    """In a process of its own: goes where only the tree is, and writes it."""
    privileges.die_with_parent(signal.SIGKILL)
    own = os.getuid() != 0
    if own:
        uid, gid = os.getuid(), os.getgid()
        ns.unshare(ns.CLONE_NEWUSER | ns.CLONE_NEWNS)
        ns.map_single_user(uid, gid)
    else:
        ns.unshare(ns.CLONE_NEWNS)
    ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
    ns.bind(root, root, recursive=False)
    ns.pivot_root(root)
    ns.detach_old_root()
    keep = (privileges.CAP_CHOWN, privileges.CAP_DAC_OVERRIDE, privileges.CAP_FOWNER)
    privileges.drop_privileges(() if own else keep)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.umask(0)
    with open(stream, "rb", closefd=False) as source:
        size = _extract(source, limits, own=own)
    os.write(count, str(size).encode())
    os._exit(0)


def _extract(source: IO[bytes], limits: Limits, *, own: bool) -> int:
    """Writes an archive below ``/``; the caller has seen to it that this is the tree."""
    tree = _Tree()
    os.chmod("/", 0o755)
    entries = 0
    try:
        with tarfile.open(fileobj=source, mode="r|", errorlevel=2) as archive:
            while (member := archive.next()) is not None:
                entries += 1
                if entries > limits.entries:
                    raise HostileArchive(f"more than {limits.entries} files")
                _write(archive, member, tree, limits, own=own)
                # It remembers every member, for look-ups that nobody makes here.
                archive.members = []  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        raise HostileArchive(f"not a whole archive: {error}") from error
    while source.read(_CHUNK):
        pass  # an engine whose pipe closes early reports a failure
    for path, seconds in tree.times.items():
        os.utime(f"/{path}", (seconds, seconds), follow_symlinks=False)
    return tree.bytes


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, tree: _Tree, limits: Limits, *, own: bool
) -> None:
    path = member_path(member.name)
    uid, gid = member.uid, member.gid
    if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
        raise HostileArchive(f"{_shown(path)}: no such owner {uid}:{gid}")
    kind = _kind(member)
    if kind == "other" or (kind == "hardlink" and member_path(member.linkname) in tree.skipped):
        tree.skipped.add(path)
        return
    _make_parents(path, tree)
    if kind == "directory":
        _directory(path, member, tree, own=own)
    else:
        if path in tree.directories:
            raise HostileArchive(f"{_shown(path)}: takes the place of a directory")
        if path in tree.files or path in tree.links:
            os.unlink(f"/{path}")
            tree.files.discard(path)
            tree.links.discard(path)
        if kind == "file":
            _file(archive, member, path, tree, limits, own=own)
        elif kind == "symlink":
            os.symlink(_link_text(member), f"/{path}")
            tree.links.add(path)
        else:
            _hard_link(member, path, tree)
    if not own and kind != "hardlink":
        os.chown(f"/{path}", uid, gid, follow_symlinks=False)
        # The kernel may clear bits when the owner changes.
        if kind != "symlink":
            os.chmod(f"/{path}", member.mode & _PERMISSIONS)


def member_path(name: str) -> str:
    """A member's path without the leading ``./``. Raises `HostileArchive`."""
    if name.startswith("/"):
        raise HostileArchive(f"{_shown(name)}: an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise HostileArchive(f"{_shown(name)}: leads upwards")
    path = "/".join(parts)
    if "\0" in path or len(parts) > MAX_DEPTH or len(os.fsencode(path)) > MAX_PATH:
        raise HostileArchive(f"{_shown(name)}: too long, too deep, or with a null character")
    return path


def _kind(member: tarfile.TarInfo) -> str:
    if member.isdir():
        return "directory"
    if member.isreg():  # sparse and contiguous files too
        return "file"
    if member.issym():
        return "symlink"
    return "hardlink" if member.islnk() else "other"


def _make_parents(path: str, tree: _Tree) -> None:
    parent = path.rpartition("/")[0]
    missing = []
    while parent not in tree.directories:
        if parent in tree.files or parent in tree.links:
            raise HostileArchive(f"{_shown(path)}: below a link or a file")
        missing.append(parent)
        parent = parent.rpartition("/")[0]
    for directory in reversed(missing):
        os.mkdir(f"/{directory}", 0o755)
        tree.directories.add(directory)


def _directory(path: str, member: tarfile.TarInfo, tree: _Tree, *, own: bool) -> None:
    if path in tree.files or path in tree.links:
        raise HostileArchive(f"{_shown(path)}: takes the place of a link or a file")
    if path not in tree.directories:
        os.mkdir(f"/{path}", 0o700)
        tree.directories.add(path)
    # A user without privileges must be able to look into, and remove, what is his.
    os.chmod(f"/{path}", member.mode & _PERMISSIONS | (0o700 if own or not path else 0))
    tree.times[path] = _seconds(member)


def _file(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: str,
    tree: _Tree,
    limits: Limits,
    *,
    own: bool,
) -> None:
    if member.size < 0 or tree.bytes + member.size > limits.bytes:
        raise HostileArchive(f"{_shown(path)}: more than {limits.bytes} bytes in all files")
    tree.bytes += member.size
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    content = archive.extractfile(member)
    with open(os.open(f"/{path}", flags, 0o600), "wb") as file:
        remaining = member.size
        while remaining and content is not None:
            data = content.read(min(_CHUNK, remaining))
            if not data:
                break
            file.write(data)
            remaining -= len(data)
        if remaining:
            raise HostileArchive(f"{_shown(path)}: shorter than announced")
        os.fchmod(file.fileno(), member.mode & _PERMISSIONS | (stat.S_IRUSR if own else 0))
        file.flush()
        seconds = _seconds(member)
        os.utime(file.fileno(), (seconds, seconds))
    tree.files.add(path)


def _hard_link(member: tarfile.TarInfo, path: str, tree: _Tree) -> None:
    target = member_path(member.linkname)
    if target not in tree.files and target not in tree.links:
        raise HostileArchive(f"{_shown(path)}: a hard link to {_shown(target)}, which is no file")
    os.link(f"/{target}", f"/{path}", follow_symlinks=False)
    (tree.files if target in tree.files else tree.links).add(path)


def _link_text(member: tarfile.TarInfo) -> str:
    text = member.linkname
    if not text or "\0" in text or len(os.fsencode(text)) > MAX_PATH:
        raise HostileArchive(f"{_shown(member.name)}: a link to nowhere")
    return text


def _seconds(member: tarfile.TarInfo) -> int:
    seconds = member.mtime
    return int(seconds) if 0 <= seconds < _MAX_TIME else 0


def _shown(path: str) -> str:
    """A path for an error's text: short, and printable."""
    return ascii(path if len(path) <= 120 else path[:120] + "...")
