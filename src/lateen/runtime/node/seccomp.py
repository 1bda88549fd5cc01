"""The filter of system calls that containers run under, and session keyrings of their own.

The filter does what the default profile of container engines does for a container without
capabilities: calls that change the machine, reach other processes or reach namespaces fail with
``EPERM``; calls newer than this list, and those of other architectures, fail with ``ENOSYS``, so
that programs use the older call. All others are allowed. Sources: seccomp(2),
linux/{filter,seccomp,audit}.h, keyctl(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """What the kernel calls one architecture, and the calls of which only some uses are allowed."""

    column: int
    """Its place in the values of `FORBIDDEN`."""
    audit: int
    """``AUDIT_ARCH_*`` of linux/audit.h, which the filter sees."""
    clone: int
    personality: int
    ptrace: int
    socket: int
    seccomp: int


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(0, 0xC000003E, clone=56, personality=135, ptrace=101, socket=41, seccomp=317),
    "aarch64": Machine(
        1, 0xC00000B7, clone=220, personality=92, ptrace=117, socket=198, seccomp=277
    ),
}

FORBIDDEN: Mapping[str, tuple[int, ...]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_mempolicy": (239, 236),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    # Of x86_64 only.
    "_sysctl": (156,),
    "create_module": (174,),
    "get_kernel_syms": (177,),
    "ioperm": (173,),
    "iopl": (172,),
    "query_module": (178,),
    "sysfs": (139,),
    "uselib": (134,),
    "ustat": (136,),
}
"""Calls that fail with ``EPERM``: their numbers on x86_64 and aarch64."""

NEWEST = 466
"""Number of the newest call that was looked at (removexattrat, Linux 6.13), the same on both."""

NAMESPACE_FLAGS = 0x7E020000
"""``CLONE_NEW*`` of clone(2). clone3(2) has its flags in memory, which no filter can read."""

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, with and without an old uname and 32-bit addresses; and the question which one it is."""

TRACE_OTHERS = (16, 0x4206)
"""PTRACE_ATTACH and PTRACE_SEIZE. A debugger may trace what it starts itself."""

_CLONE3 = 435
_AF_VSOCK = 40
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16  # struct seccomp_data, little-endian
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_SET_MODE_FILTER, _FILTER_FLAG_SPEC_ALLOW = 1, 4

_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def filter_program(machine: Machine) -> bytes:
    """The filter as classic BPF (an array of struct sock_filter)."""
    refuse, absent = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    steps = [
        _step(_LOAD, _AT_ARCHITECTURE),
        *_when(_EQUAL, machine.audit, otherwise=absent),
        _step(_LOAD, _AT_NUMBER),
        # Also those of x32, which have bit 30 set.
        *_when(_GREATER, NEWEST, then=absent),
        *_by_argument(machine.clone, [(_ANY_BIT, NAMESPACE_FLAGS, refuse)], _ALLOW),
        *_by_argument(machine.socket, [(_EQUAL, _AF_VSOCK, refuse)], _ALLOW),
        *_by_argument(machine.ptrace, [(_EQUAL, k, refuse) for k in TRACE_OTHERS], _ALLOW),
        *_by_argument(machine.personality, [(_EQUAL, k, _ALLOW) for k in PERSONALITIES], refuse),
        *_when(_EQUAL, _CLONE3, then=absent),
    ]
    for numbers in FORBIDDEN.values():
        if machine.column < len(numbers):
            steps += _when(_EQUAL, numbers[machine.column], then=refuse)
    steps.append(_step(_RETURN, _ALLOW))
    return b"".join(steps)


def _step(code: int, operand: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, operand)


def _when(test: int, operand: int, *, then: int = 0, otherwise: int = 0) -> list[bytes]:
    """Ends with one of the two answers, where it is given, and goes on in the other case."""
    skip_then = 1 if otherwise else 0
    return [
        _step(test, operand, skip_then, 1 - skip_then),
        _step(_RETURN, then or otherwise),
    ]


def _by_argument(number: int, tests: list[tuple[int, int, int]], default: int) -> Iterator[bytes]:
    """For the call ``number``: the answer of the first test that its first argument passes.

    Its lower half is looked at, which is all that the kernel reads of these arguments.
    """
    body = [_step(_LOAD, _AT_FIRST_ARGUMENT)]
    for test, operand, answer in tests:
        body += _when(test, operand, then=answer)
    body.append(_step(_RETURN, default))
    yield _step(_EQUAL, number, 0, len(body))
    yield from body


# Made when this is imported: below the root of an image a child imports and finds nothing.
_MACHINE = MACHINES.get(platform.machine())
_FILTER = filter_program(_MACHINE) if _MACHINE else b""
_JOIN = _SYS_KEYCTL.get(platform.machine())


def confine() -> None:
    """Puts this process and all that it starts under the filter, for good.

    It needs PR_SET_NO_NEW_PRIVS. Raises `OSError` where the kernel has no such filters.
    """
    if _MACHINE is None:
        raise OSError(errno.ENOSYS, "there is no filter of system calls for this architecture")
    code = ctypes.create_string_buffer(_FILTER, len(_FILTER))
    program = _Program(len(_FILTER) // 8, ctypes.addressof(code))
    result = _libc.syscall(
        ctypes.c_long(_MACHINE.seccomp),
        ctypes.c_uint(_SET_MODE_FILTER),
        # Without it older kernels switch off speculation, which makes all programs slower.
        ctypes.c_uint(_FILTER_FLAG_SPEC_ALLOW),
        ctypes.byref(program),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the filter of system calls is refused: {os.strerror(number)}")


def join_new_session_keyring(*, required: bool) -> None:
    """Leaves the session keyring of whatever started Lateen for a new, empty one.

    A kernel without keyrings has nothing to leave. Where a new one is refused (a user may have 200
    keys), raises `OSError` if ``required``: programs under the filter cannot use keyrings anyway.
    """
    if _JOIN is None:
        return
    result = _libc.syscall(
        ctypes.c_long(_JOIN), ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), ctypes.c_char_p(None)
    )
    if result < 0 and required:
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise OSError(number, f"no session keyring: {os.strerror(number)}")
