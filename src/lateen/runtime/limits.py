"""Limits of the machine that a mesh meets: watched before they bite, each with its remedy."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lateen.runtime.node.spec import PROXY_USER

INOTIFY_PER_PROXY = 2
"""inotify instances of one Envoy: one for certificates, one for its runtime."""
THREADS_PER_POD = 16
"""Of Envoy and a small application; the kernel counts threads as processes."""
MEMORY_PER_POD = 50 * 1024 * 1024
"""Bytes of one Envoy and a small application; docs/performance.md has the measurements."""
MEMORY_OF_MESH = 250 * 1024 * 1024
"""Bytes of control plane, node agent and the small processes, while they start."""
FILES_PER_PROCESS = 4096
"""Open files that a process of the node wants to be allowed."""
DISK_OF_MESH = 200 * 1024 * 1024
"""Bytes for the store and some logs."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: whether it is far enough away, in words, and what moves it."""

    name: str
    good: bool
    message: str
    remedy: str


def machine_limits(pods: int, state_dir: Path, proc: Path = Path("/proc")) -> Iterator[Limit]:
    """The limits that ``pods`` more pods with a proxy would meet; ``state_dir`` need not exist."""
    yield _inotify(pods, proc)
    yield _open_files()
    if os.geteuid() != 0:
        yield _processes(pods, proc)
    yield _memory(pods, proc)
    yield _disk(state_dir)


def _inotify(pods: int, proc: Path) -> Limit:
    limit = _number(proc / "sys/fs/inotify/max_user_instances")
    user = PROXY_USER if os.geteuid() == 0 else os.geteuid()
    used = _instances(proc, user)
    room = max(0, limit - used) // INOTIFY_PER_PROXY
    wanted = limit
    while (wanted - used) // INOTIFY_PER_PROXY < pods:
        wanted = max(1024, wanted * 2)
    return Limit(
        "inotify",
        room >= pods,
        f"inotify: room for {room} more proxies "
        f"(fs.inotify.max_user_instances is {limit}, {used} in use, each proxy takes "
        f"{INOTIFY_PER_PROXY})",
        f"sudo sysctl fs.inotify.max_user_instances={wanted}",
    )


def _open_files() -> Limit:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    return Limit(
        "open-files",
        unlimited or hard >= FILES_PER_PROCESS,
        f"open files: {'no limit' if unlimited else hard} for each process",
        f"ulimit -Hn {FILES_PER_PROCESS} as root, or `nofile` in /etc/security/limits.conf",
    )


def _processes(pods: int, proc: Path) -> Limit:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    unlimited = hard == resource.RLIM_INFINITY
    used = 0 if unlimited else _threads(proc, os.geteuid())
    room = pods if unlimited else max(0, hard - used) // THREADS_PER_POD
    return Limit(
        "processes",
        room >= pods,
        "processes: no limit"
        if unlimited
        else f"processes: room for {room} more pods ({used} threads of {hard})",
        "raise `nproc` in /etc/security/limits.conf and log in again",
    )


def _memory(pods: int, proc: Path) -> Limit:
    available = _available_memory(proc)
    needed = MEMORY_OF_MESH + pods * MEMORY_PER_POD
    return Limit(
        "memory",
        available >= needed,
        f"{available >> 20} MiB of memory available, {pods} pods need about {needed >> 20}",
        "end other programs, or start fewer pods (`replicas`)",
    )


def _disk(state_dir: Path) -> Limit:
    place = next(p for p in (state_dir, *state_dir.parents) if p.exists())
    free = shutil.disk_usage(place).free
    return Limit(
        "disk",
        free >= DISK_OF_MESH,
        f"{free >> 20} MiB free in {place}",
        f"free some space there ({DISK_OF_MESH >> 20} MiB), or set XDG_STATE_HOME to another disk",
    )


def _available_memory(proc: Path) -> int:
    """Bytes that programs may still take: of the machine, or of the cgroup if that is less."""
    available = 0
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    groups = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit = int((groups / "memory.max").read_text())
        available = min(available, limit - int((groups / "memory.current").read_text()))
    return available


def _instances(proc: Path, user: int) -> int:
    """inotify instances of a user, as far as this process may look."""
    found = 0
    for process in _processes_of(proc, user):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    found += os.readlink(descriptor) == "anon_inode:inotify"
    return found


def _threads(proc: Path, user: int) -> int:
    total = 0
    for process in _processes_of(proc, user):
        with contextlib.suppress(OSError):
            total += sum(1 for _ in (process / "task").iterdir())
    return total


def _processes_of(proc: Path, user: int) -> Iterator[Path]:
    for entry in proc.iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == user:
                yield entry


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 1 << 30
