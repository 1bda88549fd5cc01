"""Bookinfo under a steady load while its routing and its pods change: does any request fail?

    .venv/bin/python benchmarks/soak.py [--rate 200] [--changes 100] [--restarts 20]

Brings up a mesh of its own, requests /productpage through the gateway at the given rate, applies
the routing changes (each until every proxy has acknowledged it) and replaces the pods, then ends
the mesh and prints one JSON object. Exit status 1 when a request failed.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.live.mesh import LOAD_SCRIPT, SAMPLES, Mesh, running  # noqa: E402 - after the path is set

WORKLOADS = ("reviews-v1", "reviews-v2", "reviews-v3", "details-v1", "ratings-v1", "productpage-v1")
VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews]
  http:
    - route:
        - {{destination: {{host: reviews, subset: {first}}}, weight: {weight}}}
        - {{destination: {{host: reviews, subset: {second}}}, weight: {rest}}}
"""


def change(number: int) -> str:
    """The routing rule after so many changes: other versions and weights each time."""
    versions = ("v1", "v2", "v3")
    weight = 10 + (number * 7) % 81
    return VIRTUAL_SERVICE.format(
        first=versions[number % 3],
        second=versions[(number + 1) % 3],
        weight=weight,
        rest=100 - weight,
    )


def soak(mesh: Mesh, rate: int, changes: int, restarts: int, clients: int) -> dict[str, Any]:
    """Run it; counts, and seconds per change and per restart."""
    mesh.apply(SAMPLES / "bookinfo" / "rules" / "destination-rules.yaml")
    url = f"http://127.0.0.1:{mesh.http_port}/productpage"
    argv = [sys.executable, str(LOAD_SCRIPT), url, "36000s", str(clients), f"rate:{rate}"]
    load = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    applied: list[float] = []
    replaced: list[float] = []
    try:
        for number in range(changes):
            began = time.monotonic()
            mesh.apply_text(change(number))
            applied.append(time.monotonic() - began)
            if (number + 1) * restarts // changes > len(replaced):
                began = time.monotonic()
                mesh.run("restart", f"deploy/{WORKLOADS[len(replaced) % len(WORKLOADS)]}")
                replaced.append(time.monotonic() - began)
        load.send_signal(signal.SIGTERM)
        out, _ = load.communicate(timeout=60)
    finally:
        load.kill()
        load.wait()
    result = json.loads(out.splitlines()[-1])
    good = result["statuses"].get("200", 0)
    return {
        "requests": result["total"],
        "failed": result["total"] - good,
        "statuses": result["statuses"],
        "failures": result["failures"],
        "requests_per_second": round(result["total"] / result["seconds"], 1),
        "routing_changes": len(applied),
        "seconds_per_change_median": round(statistics.median(applied), 3),
        "pod_restarts": len(replaced),
        "seconds_per_restart_median": round(statistics.median(replaced), 3) if replaced else None,
        "seconds": round(result["seconds"], 1),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=int, default=200, help="requests per second")
    parser.add_argument("--changes", type=int, default=100, help="routing changes")
    parser.add_argument("--restarts", type=int, default=20, help="pod restarts")
    parser.add_argument("--clients", type=int, default=32, help="connections")
    options = parser.parse_args()
    with running("-f", str(SAMPLES / "bookinfo"), name="soak") as mesh:
        result = soak(mesh, options.rate, options.changes, options.restarts, options.clients)
    print(json.dumps(result, indent=2))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
