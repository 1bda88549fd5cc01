"""Linux namespaces, mounts and confined look-ups by system call (Python 3.11 lacks them).

Every function raises `OSError` with the kernel's errno and the name of what was tried. Sources:
unshare(2), setns(2), mount(2), pivot_root(2), mount_setattr(2), openat2(2), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

MNT_DETACH = 0x2

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture since Linux 5.12
_SYS_OPENAT2 = 437  # likewise, since Linux 5.6
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH, _RESOLVE_IN_ROOT = 0x02, 0x08, 0x10
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.syscall.restype = ctypes.c_long


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def open_beneath(directory: int, path: str, flags: int) -> int:
    """Opens ``path`` below an open directory; the descriptor is close-on-exec.

    No symbolic link and no ``..`` on the way leads out: that is `OSError` with ``EXDEV``. The
    kernel looks and opens in one step, so whoever owns the directory cannot win a race.
    """
    return _open_at(directory, path, flags, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)


def open_in_root(directory: int, path: str, flags: int) -> int:
    """Like `open_beneath`, but links and ``..`` lead to where they would if the directory were
    the root (chroot(2) for one look-up)."""
    return _open_at(directory, path, flags, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)


def _open_at(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    result = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(directory),
        ctypes.c_char_p(path.encode()),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    return int(_check(result, path))


def unshare(flags: int) -> None:
    """Moves the calling process into new namespaces (``CLONE_NEW*``)."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int = 0) -> None:
    """Moves the calling process into the namespace of ``fd`` (for PID: its future children)."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), f"setns({kind:#x})")


def sethostname(name: str) -> None:
    """Sets the host name in the current UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), f"sethostname({name})")


def mount(
    source: str, target: str, fstype: str = "", flags: int = 0, options: str | None = None
) -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            source.encode(),
            target.encode(),
            fstype.encode() or None,
            flags,
            options.encode() if options is not None else None,
        ),
        f"mount {fstype or 'bind'} on {target}",
    )


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = True) -> None:
    """Shows ``source`` at ``target`` as well; ``read_only`` holds for everything below it."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        make_read_only(target)


def make_read_only(target: str, *, recursive: bool = True) -> None:
    """Makes the mount at ``target`` (and all mounts below it) read-only."""
    attributes = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            ctypes.c_char_p(target.encode()),
            ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        ),
        f"make {target} read-only",
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """Makes ``new_root`` (a mount point) the root of this mount namespace.

    The old root stays reachable through descriptors opened before, and lies on top of the current
    directory until `detach_old_root`; do not change directory in between.
    """
    number = _SYS_PIVOT_ROOT.get(platform.machine(), 155)
    os.chdir(new_root)
    _check(
        _libc.syscall(ctypes.c_long(number), ctypes.c_char_p(b"."), ctypes.c_char_p(b".")),
        f"pivot_root to {new_root}",
    )


def detach_old_root() -> None:
    """Drops the root that `pivot_root` replaced, and goes to the new one."""
    umount(".", MNT_DETACH)
    os.chdir("/")


def map_single_user(uid: int, gid: int) -> None:
    """In a fresh user namespace: maps exactly the caller's own uid and gid onto themselves.

    ``setgroups`` must be denied before an unprivileged process may write a gid map
    (user_namespaces(7)).
    """
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def namespace_fd(pid: int, kind: str) -> int:
    """An open file descriptor (close-on-exec) of a process's namespace ``kind`` (``net`` ...)."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
