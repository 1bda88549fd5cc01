"""Profiles of the running process, on demand: where it spends time, what it holds.

CPU profiles are taken by a thread that looks at all stacks a hundred times a second, so they cost
nothing while nobody asks. They come in the format of pprof (``go tool pprof`` reads it) or as
collapsed stacks, the format of ``py-spy record --format raw`` and of flame graphs. A profiler from
outside (``py-spy dump --pid``, ``py-spy record --pid``) works as well and needs nothing from here.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import linecache
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

MAX_SECONDS = 300.0
HERTZ = 100
_MAX_DEPTH = 200

Frame = tuple[str, str, int]
"""Function, file, line."""
Stack = tuple[Frame, ...]
"""Outermost frame first."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How often each stack was seen; ``period`` and ``duration`` in seconds."""

    stacks: Counter[Stack]
    period: float
    duration: float


async def cpu_profile(seconds: float, hertz: int = HERTZ) -> Profile:
    """Sample all threads' stacks for ``seconds``, without holding up the event loop."""
    return await asyncio.to_thread(sample, min(max(seconds, 0.01), MAX_SECONDS), hertz)


def sample(seconds: float, hertz: int = HERTZ) -> Profile:
    """As `cpu_profile`, in the calling thread, which is left out."""
    period = 1.0 / hertz
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks: Counter[Stack] = Counter()
    begun = time.monotonic()
    due = begun
    while (now := time.monotonic()) < begun + seconds:
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            stack = _stack(frame)
            if not _waiting(stack[-1]):
                stacks[((names.get(ident, "thread"), "", 0), *stack)] += 1
        due = max(due + period, now)
        time.sleep(max(0.0, due - time.monotonic()))
    return Profile(stacks, period, time.monotonic() - begun)


def collapsed(profile: Profile) -> str:
    """One line per stack: ``frame;frame;frame COUNT``, frames as ``function (file:line)``."""
    lines = []
    for stack, count in sorted(profile.stacks.items()):
        frames = [f"{name} ({file}:{line})" if file else name for name, file, line in stack]
        lines.append(f"{';'.join(frame.replace(';', ',') for frame in frames)} {count}\n")
    return "".join(lines)


def pprof(profile: Profile) -> bytes:
    """The profile in pprof's format (``perftools.profiles.Profile``, compressed)."""
    strings: dict[str, int] = {"": 0}
    functions: dict[tuple[str, str], int] = {}
    locations: dict[Frame, int] = {}
    nanoseconds = round(profile.period * 1e9)

    def text(value: str) -> int:
        return strings.setdefault(value, len(strings))

    def value_type(kind: str, unit: str) -> bytes:
        return _number(1, text(kind)) + _number(2, text(unit))

    parts = [
        _bytes(1, value_type("samples", "count")),
        _bytes(1, value_type("cpu", "nanoseconds")),
    ]
    for stack, count in profile.stacks.items():
        ids = [locations.setdefault(frame, len(locations) + 1) for frame in reversed(stack)]
        sample_message = b"".join(_number(1, found) for found in ids)
        sample_message += _number(2, count) + _number(2, count * nanoseconds)
        parts.append(_bytes(2, sample_message))
    for (name, file, line), ident in locations.items():
        function = functions.setdefault((name, file), len(functions) + 1)
        where = _number(1, function) + _number(2, line)
        parts.append(_bytes(4, _number(1, ident) + _bytes(4, where)))
    for (name, file), ident in functions.items():
        function_message = _number(1, ident) + _number(2, text(name)) + _number(3, text(name))
        parts.append(_bytes(5, function_message + _number(4, text(file))))
    parts.append(_number(10, round(profile.duration * 1e9)))
    parts.append(_bytes(11, value_type("cpu", "nanoseconds")))
    parts.append(_number(12, nanoseconds))
    parts[2:2] = [_bytes(6, value.encode()) for value in strings]
    return gzip.compress(b"".join(parts))


async def allocations(seconds: float, top: int = 100) -> dict[str, object]:
    """What was allocated during ``seconds`` and is still held, by source line.

    Tracing costs time and memory, so it is on for these seconds only.
    """
    if tracemalloc.is_tracing():
        raise ValueError("allocations are being traced already; ask again in a moment")
    tracemalloc.start(8)
    try:
        await asyncio.sleep(min(max(seconds, 0.0), MAX_SECONDS))
        taken = await asyncio.to_thread(tracemalloc.take_snapshot)
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    statistics = await asyncio.to_thread(taken.statistics, "lineno")
    return {
        "seconds": seconds,
        "heldBytes": current,
        "peakBytes": peak,
        "lines": [
            {
                "file": _short(found.traceback[0].filename),
                "line": found.traceback[0].lineno,
                "source": linecache.getline(
                    found.traceback[0].filename, found.traceback[0].lineno
                ).strip(),
                "bytes": found.size,
                "objects": found.count,
            }
            for found in statistics[:top]
        ],
    }


def heap(top: int = 100) -> dict[str, object]:
    """What the process holds: objects that the collector tracks by type, and resident memory.

    Objects frozen after the start (``gc.freeze``) are counted, not listed.
    """
    objects = gc.get_objects()
    kinds = Counter(f"{type(found).__module__}.{type(found).__qualname__}" for found in objects)
    sizes: Counter[str] = Counter()
    for found in objects:
        kind = type(found)
        sizes[f"{kind.__module__}.{kind.__qualname__}"] += sys.getsizeof(found, 0)
    return {
        "residentBytes": _resident(),
        "tracked": len(objects),
        "frozen": gc.get_freeze_count(),
        "collections": gc.get_stats(),
        "types": [
            {"type": kind, "objects": kinds[kind], "bytes": size}
            for kind, size in sizes.most_common(top)
        ],
    }


def stacks() -> str:
    """Every thread's and every task's stack as text, for hangs."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {names.get(ident, ident)}\n{_lines(_stack(frame))}\n")
    for task in asyncio.all_tasks():
        frames = [found for top in task.get_stack(limit=20) for found in _stack(top)[-1:]]
        parts.append(f"task {task.get_name()}\n{_lines(frames)}\n")
    return "\n".join(parts)


def _lines(frames: Iterable[Frame]) -> str:
    return "".join(f"  {name} ({file}:{line})\n" for name, file, line in frames)


def _stack(frame: FrameType | None) -> Stack:
    frames: list[Frame] = []
    while frame is not None and len(frames) < _MAX_DEPTH:
        code = frame.f_code
        frames.append((code.co_qualname, _short(code.co_filename), frame.f_lineno or 0))
        frame = frame.f_back
    return tuple(reversed(frames))


def _waiting(frame: Frame) -> bool:
    """Whether a thread whose innermost frame this is waits for something to do."""
    name, file, _ = frame
    return (name, file.rpartition("/")[2]) in {
        ("EpollSelector.select", "selectors.py"),
        ("Condition.wait", "threading.py"),
        ("Event.wait", "threading.py"),
        ("_worker", "thread.py"),
    }


def _short(path: str) -> str:
    """The path below the folder with the packages, which is the same on every machine."""
    for marker in ("/site-packages/", "/src/", "/lib/"):
        _, found, rest = path.rpartition(marker)
        if found:
            return rest
    return path


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
