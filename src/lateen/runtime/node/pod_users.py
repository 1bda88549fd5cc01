"""User namespaces of applications, with a user that no program of the machine has.

Only where the node runs as root. A program of the machine in a container believes to be `APP_USER`,
and is `POD_USER` to the machine: the machine's own user 65534 (nobody, or what services are often
given) can neither signal it nor read its environment. All other ids are the same inside and
outside, so that volumes and the files of images belong to whom they say. What is in another user
namespace cannot be traced or looked into by equal uids either (ptrace(2)), and the kernel keeps
user keyrings by user namespace (user-keyring(7)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node.spec import APP_USER

_FIRST = 1_879_048_192
POD_USER = _FIRST + APP_USER
"""Uid and gid of applications outside: above what systemd gives to containers and users."""

FORWARDER_USER = _FIRST + APP_USER - 1
"""Of the forwarder, which is no application's and no other user's to signal."""

_ALL = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PodUsers:
    """A user namespace, held open."""

    fd: int
    moved: bool
    """Whether `APP_USER` in it is `POD_USER` outside."""

    def outside(self, number: int) -> int:
        """The uid or gid that the machine knows ``number`` by."""
        return POD_USER if self.moved and number == APP_USER else number


def id_map(own: str, *, move: bool) -> str:
    """Lines for ``uid_map`` or ``gid_map`` of a child of a namespace whose map is ``own``.

    All ids that ``own`` has stay what they are, but with ``move``: there `APP_USER` is `POD_USER`,
    which is nobody else then.
    """
    lines = []
    for first, end in _ranges(own):
        start = first
        for gap in (APP_USER, POD_USER) if move else ():
            if start <= gap < end:
                if gap > start:
                    lines.append(f"{start} {start} {gap - start}")
                start = gap + 1
        if end > start:
            lines.append(f"{start} {start} {end - start}")
    if move:
        lines.append(f"{APP_USER} {POD_USER} 1")
    return "".join(f"{line}\n" for line in lines)


def has_pod_user(own: str) -> bool:
    """Whether `POD_USER` exists in a namespace whose map is ``own`` (root of a container of an
    engine may have 65,536 ids only)."""
    return any(first <= POD_USER < end for first, end in _ranges(own))


def forwarder_user() -> int:
    """`FORWARDER_USER`, or `APP_USER` where root has too few ids."""
    return FORWARDER_USER if _has_all() else APP_USER


def mesh_user(number: int) -> int:
    """Uid and gid for a process of the mesh's own: ``number`` above those of accounts, or itself
    where root has too few ids."""
    return _FIRST + number if _has_all() else number


def _has_all() -> bool:
    own = (Path(f"/proc/self/{name}").read_text() for name in ("uid_map", "gid_map"))
    return all(has_pod_user(text) for text in own)


def _ranges(own: str) -> Iterator[tuple[int, int]]:
    for line in own.splitlines():
        first, _outside, count = (int(word) for word in line.split())
        yield first, min(first + count, _ALL)


def make_pod_users(*, move: bool) -> PodUsers | None:
    """A new user namespace, with `APP_USER` moved if that is asked for and possible.

    None where this machine allows no further ones (``user.max_user_namespaces``). Raises `OSError`
    when it can be made and not be filled.
    """
    maps = {name: Path(f"/proc/self/{name}").read_text() for name in ("uid_map", "gid_map")}
    moved = move and all(has_pod_user(own) for own in maps.values())
    hold, release = os.pipe2(os.O_CLOEXEC)
    done, ready = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(release)
            ns.unshare(ns.CLONE_NEWUSER)
            os.write(ready, b"1")
            os.read(hold, 1)  # until the parent holds the namespace
        finally:
            os._exit(0)
    os.close(ready)
    try:
        if os.read(done, 1) != b"1":
            return None
        for name, own in maps.items():
            with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
                file.write(id_map(own, move=moved).encode())
        return PodUsers(ns.namespace_fd(pid, "user"), moved)
    finally:
        for fd in (hold, release, done):
            os.close(fd)
