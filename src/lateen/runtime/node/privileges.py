"""Capabilities, securebits and the other per-process settings of prctl(2) and capset(2)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_PR_SET_NAME = 15

_SECUREBITS_NO_ROOT = 0x1 | 0x2 | 0x4 | 0x8  # NOROOT and NO_SETUID_FIXUP, both locked
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _prctl(option: int, first: int = 0, second: int = 0) -> int:
    result: int = _libc.prctl(
        ctypes.c_int(option),
        ctypes.c_ulong(first),
        ctypes.c_ulong(second),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
    return result


def set_capabilities(capabilities: Iterable[int], *, inheritable: bool = True) -> None:
    """Makes exactly these the effective, permitted and (or else none) inheritable capabilities
    (capset(2))."""
    words = [0, 0]
    for capability in capabilities:
        words[capability // 32] |= 1 << (capability % 32)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)(*(_Data(word, word, word if inheritable else 0) for word in words))
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def drop_privileges(
    keep: Iterable[int] = (),
    *,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] = (),
) -> None:
    """Becomes ``uid``/``gid`` (if given) with only the capabilities of ``keep``, for good.

    The capabilities kept are ambient, so that they survive exec; no program run from here on can
    gain others, whatever its file says (bounding set, no_new_privs, SECBIT_NOROOT).
    """
    kept = tuple(keep)
    _bound(kept)
    # NO_SETUID_FIXUP keeps the permitted set across setuid, so that `keep` can be applied after.
    _prctl(_PR_SET_SECUREBITS, _SECUREBITS_NO_ROOT)
    if gid is not None and (gid != os.getgid() or os.getgroups() or groups):
        if _can_set_groups():
            os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
    if uid is not None and uid != os.getuid():
        os.setresuid(uid, uid, uid)
    set_capabilities(kept)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in kept:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_plain_root(keep: Iterable[int], *, gid: int, groups: Sequence[int] = ()) -> None:
    """Becomes uid 0 with only the capabilities of ``keep``, for good, for programs of an image.

    Unlike after `drop_privileges` the capabilities belong to uid 0: a program that becomes another
    user, as servers do, loses them (capabilities(7)). No program run from here on gains others.
    """
    kept = tuple(keep)
    _bound(kept)
    os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(0, 0, 0)
    set_capabilities(kept, inheritable=False)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _bound(keep: Sequence[int]) -> None:
    """Drops all other capabilities from the bounding set."""
    capability = 0
    while True:
        try:
            if not _prctl(_PR_CAPBSET_READ, capability):
                capability += 1
                continue
        except OSError:
            break
        if capability not in keep:
            _prctl(_PR_CAPBSET_DROP, capability)
        capability += 1


def _can_set_groups() -> bool:
    try:
        # As bytes: below the root of an image Python finds no codec that it has not loaded yet.
        with open("/proc/self/setgroups", "rb") as file:
            return file.read().strip() == b"allow"
    except OSError:
        return True


def die_with_parent(signal_number: int) -> None:
    """The kernel sends ``signal_number`` to this process when its parent ends (PDEATHSIG)."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def forbid_tracing() -> None:
    """Closes this process's /proc entry and ptrace to others of its uid until it runs a program
    (PR_SET_DUMPABLE)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """The name `ps` shows for this process (at most 15 bytes, PR_SET_NAME)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0)
