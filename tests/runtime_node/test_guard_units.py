"""The filter of system calls and the maps of user namespaces, without a kernel."""

from __future__ import annotations

import errno
import struct

import pytest

from lateen.runtime.node.pod_users import POD_USER, has_pod_user, id_map
from lateen.runtime.node.seccomp import FORBIDDEN, MACHINES, NEWEST, Machine, filter_program

ALLOW = 0
BOTH = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


def decide(machine: Machine, number: int, first: int = 0, audit: int | None = None) -> int:
    """Runs the filter as the kernel does; the errno that the call fails with, or `ALLOW`."""
    data = struct.pack("<iIQ6Q", number, audit or machine.audit, 0, first, 0, 0, 0, 0, 0)
    program = list(struct.iter_unpack("=HBBI", filter_program(machine)))
    accumulator, at = 0, 0
    while True:
        code, then, otherwise, operand = program[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            return ALLOW if operand == 0x7FFF0000 else operand & 0xFFFF
        else:
            met = {
                0x15: accumulator == operand,
                0x25: accumulator > operand,
                0x45: bool(accumulator & operand),
            }[code]
            at += then if met else otherwise


@BOTH
def test_every_call_of_the_list_is_refused_and_no_other(machine: Machine) -> None:
    refused = {
        numbers[machine.column] for numbers in FORBIDDEN.values() if len(numbers) > machine.column
    }
    # personality(0) and clone(0) are among the allowed ones here.
    for number in range(NEWEST + 1):
        expected = errno.EPERM if number in refused else errno.ENOSYS if number == 435 else ALLOW
        assert decide(machine, number) == expected, number


@BOTH
def test_what_is_not_known_does_not_exist(machine: Machine) -> None:
    for number in (NEWEST + 1, 0x40000000, 0x40000000 + 59, 0x7FFFFFFF, -1):
        assert decide(machine, number) == errno.ENOSYS, number
    # i386 and 32-bit ARM, whose numbers mean other calls.
    for audit in (0x40000003, 0x40000028):
        assert decide(machine, 1, audit=audit) == errno.ENOSYS


@BOTH
@pytest.mark.parametrize(
    ("call", "first", "expected"),
    [
        ("clone", 0x003D0F00, ALLOW),  # pthread_create
        ("clone", 17, ALLOW),  # fork
        ("clone", 0x10000000 | 17, errno.EPERM),
        ("clone", 0x00020000, errno.EPERM),
        ("clone", 0x02000000, errno.EPERM),
        ("socket", 2, ALLOW),
        ("socket", 40, errno.EPERM),
        ("ptrace", 0, ALLOW),
        ("ptrace", 16, errno.EPERM),
        ("ptrace", 0x4206, errno.EPERM),
        ("personality", 0x40000, errno.EPERM),
        ("personality", 0x20000, ALLOW),
        ("personality", 0xFFFFFFFF, ALLOW),
    ],
)
def test_some_calls_are_refused_by_their_first_argument(
    machine: Machine, call: str, first: int, expected: int
) -> None:
    assert decide(machine, getattr(machine, call), first) == expected


def test_only_the_application_s_user_is_another_one_outside() -> None:
    everything = "         0          0 4294967295\n"
    assert has_pod_user(everything)
    assert id_map(everything, move=True) == (
        f"0 0 65534\n65535 65535 {POD_USER - 65535}\n"
        f"{POD_USER + 1} {POD_USER + 1} {4294967295 - POD_USER - 1}\n"
        f"65534 {POD_USER} 1\n"
    )
    assert id_map(everything, move=False) == "0 0 4294967295\n"


def test_where_root_has_few_ids_they_stay() -> None:
    few = "0 100000 65536\n"
    assert not has_pod_user(few)
    assert id_map(few, move=False) == "0 0 65536\n"
