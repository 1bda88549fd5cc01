"""Who a program of an image runs as: by the image's ``USER``, its own users, and the manifest.

Sources: passwd(5), group(5), the OCI image configuration (``User``), Kubernetes' SecurityContext.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from lateen.runtime.node import namespaces as ns

MAX_FILE = 1024 * 1024
"""Bytes of a passwd or group file that are read."""
_MAX_ID = 2**32 - 2


class UnknownUser(ValueError):
    """An image names a user or group that is not in its own files."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Ids of a process, and the home directory of its user."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve(
    user: str,
    passwd: str,
    group: str,
    run_as_user: int | None = None,
    run_as_group: int | None = None,
    supplemental: Sequence[int] = (),
) -> Identity:
    """The identity for an image's ``USER`` (``name``, ``uid``, ``name:group``, ``uid:gid``).

    ``runAsUser`` takes the place of all of it, ``runAsGroup`` that of the group. Raises
    `UnknownUser`.
    """
    name, _, group_name = user.partition(":")
    if run_as_user is not None:
        name, group_name = str(run_as_user), ""
    accounts = _rows(passwd, 7)
    wanted = _id(name) if name else 0
    account = next(
        (row for row in accounts if (row[0] == name if wanted is None else _id(row[2]) == wanted)),
        None,
    )
    if wanted is None and account is None:
        raise UnknownUser(f"user {name!r} is not in the image's /etc/passwd")
    uid = wanted if wanted is not None else _id(account[2]) if account else None
    if uid is None:
        raise UnknownUser(f"user {name!r} has no number in the image's /etc/passwd")
    gid = (_id(account[3]) if account else None) or 0
    groups: tuple[int, ...] = ()
    rows = _rows(group, 4)
    if group_name:
        gid = _group(group_name, rows)
    elif account:
        members = ((row[2], row[3].split(",")) for row in rows)
        found = {_id(number) for number, names in members if account[0] in names}
        groups = tuple(sorted(number for number in found if number is not None))
    if run_as_group is not None:
        gid = run_as_group
    home = account[5] if account and account[5].startswith("/") else "/"
    more = sorted({*groups, *supplemental} - {gid})
    return Identity(uid, gid, tuple(more), home)


def read_file(root: str, path: str) -> str:
    """A small text file of an image; links in it lead nowhere but into the image. Empty when there
    is none that is a plain file."""
    directory = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        descriptor = ns.open_in_root(directory, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return ""
    with open(descriptor, "rb") as file:
        return file.read(MAX_FILE).decode(errors="replace")


def _group(name: str, rows: Sequence[Sequence[str]]) -> int:
    wanted = _id(name)
    if wanted is not None:
        return wanted
    for row in rows:
        number = _id(row[2])
        if row[0] == name and number is not None:
            return number
    raise UnknownUser(f"group {name!r} is not in the image's /etc/group")


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = [line.split(":") for line in text.splitlines()]
    return [row for row in rows if len(row) >= columns]


def _id(text: str) -> int | None:
    """A user or group number; None for a name and for numbers that the kernel does not have."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text) if len(text) <= 10 else _MAX_ID + 1
    return number if number <= _MAX_ID else None
