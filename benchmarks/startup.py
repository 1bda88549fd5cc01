"""From Enter on `lateen up` for Bookinfo to the first 200 through the gateway, and all pods ready.

``python -m benchmarks.startup [--runs 5] [-o json]``
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mesh import ROOT, BenchMesh, bench_mesh, first_answer, private_megabytes

IDLE_SECONDS = 13.0
"""After a start: the agent's short-lived helpers (netlink, keys) end when idle for ten seconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """One start: seconds, and megabytes of private memory by kind of process."""

    first_200: float
    all_ready: float
    down: float
    memory: dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-o", dest="form", choices=("text", "json"), default="text")
    options = parser.parse_args()
    measure()
    runs = [measure(weigh=number == 0) for number in range(options.runs)]
    result = {
        "runs": len(runs),
        "first_200_s": summary([run.first_200 for run in runs]),
        "all_ready_s": summary([run.all_ready for run in runs]),
        "down_s": summary([run.down for run in runs]),
        "private_mb": {kind: round(value, 1) for kind, value in runs[0].memory.items()},
    }
    if options.form == "json":
        print(json.dumps(result, indent=2))
        return
    for name in ("first_200_s", "all_ready_s", "down_s"):
        print(f"{name:14} {result[name]}")
    print(f"private memory {result['private_mb']} MB (idle; sidecar: median of the Envoys)")


def measure(*, weigh: bool = False) -> Run:
    """One start and end; ``weigh`` waits until the mesh is idle and takes its memory."""
    with bench_mesh() as mesh:
        began = time.monotonic()
        process = mesh.start_up("-f", str(ROOT / "samples" / "bookinfo"))
        answered = first_answer(f"{mesh.url}/productpage") - began
        if process.wait(60) != 0:
            raise SystemExit("lateen up failed")
        ready = time.monotonic() - began
        memory = {}
        if weigh:
            time.sleep(IDLE_SECONDS)
            memory = memory_by_kind(mesh)
        stopping = time.monotonic()
        mesh.lateen("down")
        return Run(answered, ready, time.monotonic() - stopping, memory)


def memory_by_kind(mesh: BenchMesh) -> dict[str, float]:
    """Private megabytes of the control plane, the agent and a typical sidecar of this mesh."""
    node = json.loads((mesh.folder / "node.json").read_text())["pid"]
    found: dict[str, list[float]] = {"control-plane": [], "agent": [], "sidecar": []}
    for pid in descendants(node):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if "lateen.serve.main" in command:
            found["control-plane"].append(private_megabytes(pid))
        elif "_bin/envoy" in command:
            found["sidecar"].append(private_megabytes(pid))
        elif "runtime.node" in command:
            found["agent"].append(private_megabytes(pid))
    # The node is several small processes (init, agent, forwarder); the agent is the largest.
    return {
        "control-plane": max(found["control-plane"]),
        "agent": max(found["agent"]),
        "node, all processes": sum(found["agent"]),
        "sidecar": statistics.median(found["sidecar"]),
    }


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``, itself included."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        queue += parents.get(current, [])
    return found


def summary(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum, in seconds."""
    return {
        "min": round(min(values), 2),
        "median": round(statistics.median(values), 2),
        "max": round(max(values), 2),
    }


if __name__ == "__main__":
    main()
