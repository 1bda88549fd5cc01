"""CPU time and memory of a server: of a process and of all that it has started (``/proc``)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _CPU = 1, slice(11, 15)
"""Fields of ``stat`` behind the name: the parent; own CPU time and that of children waited for."""


def process_tree(pid: int) -> list[int]:
    """The process and its descendants, as far as they live."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[_PARENT]), []).append(int(folder.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, ())
    return found


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants, also of those that have ended."""
    ticks = sum(int(x) for each in process_tree(pid) for x in _stat(each)[_CPU])
    return ticks / _TICKS


def tree_rss_mb(pid: int) -> float:
    """Resident memory of a process and its descendants in MB; what they share counts once."""
    private, shared = 0, 0
    for each in process_tree(pid):
        own, together = _memory(each)
        private += own
        shared = max(shared, together)
    return (private + shared) / 1024


def _memory(pid: int) -> tuple[int, int]:
    """Resident kB that are the process' own, and those that others map too. What another user's
    process shares is not told: all of it counts as its own."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        resident, own = _sum(lines, ("Rss:",)), _sum(lines, ("Private_",))
        return own, resident - own
    except OSError:
        pass
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    return _sum(lines, ("VmRSS:",)), 0


def _sum(lines: Iterable[str], names: tuple[str, ...]) -> int:
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))


def _stat(pid: int) -> list[str]:
    """Fields of ``stat`` behind the name; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
