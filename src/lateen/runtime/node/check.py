"""Can this machine, this user, have a node? Tried, not guessed; each failure with its fix."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import seccomp
from lateen.runtime.node.spec import APP_USER, PROXY_USER

_NETLINK_NETFILTER = 12


@dataclass(frozen=True, slots=True)
class SupportProblem:
    """One thing that is missing."""

    rule: str
    """Stable identifier, for instance ``user-namespaces``."""
    message: str
    hint: str
    """What to do, as commands where there are any."""
    fatal: bool = True


def check_node_support() -> list[SupportProblem]:
    """What stands in the way of a node for this user; empty when all is well. Takes about 20 ms.

    A child process makes the namespaces and an overlay mount for a moment; nothing remains.
    """
    if sys.platform != "linux":
        return [SupportProblem("linux", "pods need Linux", "run Lateen in a Linux machine or VM")]
    if os.getuid() == 0 and (kind := unmapped(_id_map("uid"), _id_map("gid"))):
        return [
            SupportProblem(
                "mapped-users",
                f"this is uid 0 of a user namespace in which {kind} {APP_USER} does not exist: as "
                "root, Lateen runs pods as other users",
                "run Lateen as the ordinary user outside of that namespace (without `unshare -r`), "
                f"or map {kind}s 0 to 65535 into it (`unshare --map-root-user --map-auto`)",
            )
        ]
    step, number = _try()
    if step == "ok":
        return []
    return [_explain(step, number)]


def unmapped(uid_map: str, gid_map: str) -> str:
    """``uid`` or ``gid`` when a node's root cannot become the users of pods, else empty.

    The arguments are the texts of /proc/self/uid_map and gid_map (user_namespaces(7)).
    """
    wanted = (PROXY_USER, APP_USER)
    for kind, text in (("uid", uid_map), ("gid", gid_map)):
        rows = [[int(number) for number in line.split()] for line in text.splitlines()]
        ranges = [range(row[0], row[0] + row[2]) for row in rows if len(row) == 3]
        if not all(any(user in held for held in ranges) for user in wanted):
            return kind
    return ""


def _id_map(kind: str) -> str:
    return Path(f"/proc/self/{kind}_map").read_text(encoding="ascii")


def _try() -> tuple[str, int]:
    """Forks a child that tries each step. Returns the step that failed and its errno, or ok."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with tempfile.TemporaryDirectory(prefix="lateen-check-") as directory:
        pid = os.fork()
        if pid == 0:
            result = "ok 0"
            try:
                result = _attempt(directory)
            finally:
                os.write(writer, result.encode())
                os._exit(0)
        os.close(writer)
        with open(reader, encoding="ascii") as file:
            answer = file.read().split()
        os.waitpid(pid, 0)
    return (answer[0], int(answer[1])) if len(answer) == 2 else ("unknown", 0)


def _attempt(directory: str) -> str:
    step = "user"
    try:
        uid, gid = os.getuid(), os.getgid()
        if uid != 0:
            ns.unshare(ns.CLONE_NEWUSER)
            step = "map"
            ns.map_single_user(uid, gid)
        step = "namespaces"
        ns.unshare(ns.CLONE_NEWNET | ns.CLONE_NEWNS | ns.CLONE_NEWPID | ns.CLONE_NEWUTS)
        step = "mount"
        ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
        ns.mount("tmpfs", directory, "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=700")
        step = "overlay"
        for name in ("lower", "upper", "work", "root"):
            os.mkdir(f"{directory}/{name}")
        options = ",".join(f"{name}dir={directory}/{name}" for name in ("lower", "upper", "work"))
        try:
            ns.mount("overlay", f"{directory}/root", "overlay", 0, options + ",userxattr")
        except OSError:
            ns.mount("overlay", f"{directory}/root", "overlay", 0, options)
        step = "read-only"
        ns.make_read_only(f"{directory}/root")
        step = "nftables"
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER):
            pass
        further = 0
        if uid == 0:
            try:
                ns.unshare(ns.CLONE_NEWUSER)
            except OSError as error:
                further = error.errno or errno.EPERM
        step = "seccomp"
        seccomp.confine()
    except OSError as error:
        return f"{step} {error.errno}"
    return f"pod-users {further}" if further else "ok 0"


def _explain(step: str, number: int) -> SupportProblem:
    name = errno.errorcode.get(number, str(number))
    if step in ("user", "map"):
        return _user_namespaces(name)
    if step == "namespaces" and os.getuid() != 0:
        return _user_namespaces(name)
    if step in ("namespaces", "mount"):
        return SupportProblem(
            "namespaces",
            f"the kernel refuses new namespaces to this process ({name})",
            "inside a container start it with --privileged, or run Lateen on the machine itself",
        )
    if step == "overlay":
        return SupportProblem(
            "overlayfs",
            f"overlay mounts are refused ({name}); as an ordinary user they need Linux 5.11",
            "load the module (modprobe overlay), use a newer kernel, or run as root",
        )
    if step == "read-only":
        return SupportProblem(
            "kernel", f"mount_setattr is refused ({name})", "use Linux 5.12 or newer"
        )
    if step == "seccomp":
        return SupportProblem(
            "seccomp",
            f"the kernel has no filters of system calls for containers ({name})",
            "use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64",
        )
    if step == "pod-users":
        return SupportProblem(
            "pod-users",
            f"no user namespaces for applications ({name}): they share uid 65534 with the "
            "machine's programs that have it, which can then read their environment",
            "sudo sysctl -w user.max_user_namespaces=15000",
            fatal=False,
        )
    return SupportProblem(
        "nftables",
        f"nf_tables is not available ({name})",
        "load the kernel module: modprobe nf_tables",
    )


def _user_namespaces(name: str) -> SupportProblem:
    """Which of the known switches is in the way?"""
    switches = (
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    )
    found = []
    for key, bad, good in switches:
        with contextlib.suppress(OSError):
            if Path("/proc/sys", *key.split(".")).read_text().strip() == bad:
                found.append(f"sudo sysctl -w {key}={good}")
    message = f"an ordinary user may not make namespaces on this machine ({name})"
    hint = " and ".join(found) or (
        "check the sysctls kernel.unprivileged_userns_clone (1), user.max_user_namespaces (not 0), "
        "kernel.apparmor_restrict_unprivileged_userns (0)"
    )
    return SupportProblem("user-namespaces", message, f"{hint}; or run as root")
