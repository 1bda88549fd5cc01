"""One routing change to the acknowledgement of the last of N real Envoys.

``python -m benchmarks.change_to_ack [--envoys 20] [--changes 100] [-o json]``

A change is one VirtualService written through the API; the time runs from the request to the
answer that every affected proxy has acknowledged. The debounce (100 ms) is part of it and is
subtracted in the second row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.mesh import bench_mesh, percentile
from lateen.source.client import Client

DEBOUNCE_MS = 100.0
MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: sleep}
spec:
  selector: {app: sleep}
  ports: [{name: http, port: 80, targetPort: 8000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleep}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: sleep}}
  template:
    metadata: {labels: {app: sleep}}
    spec:
      containers: [{name: sleep, image: curlimages/curl, command: [/bin/sleep, infinity]}]
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envoys", type=int, default=20)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("-o", dest="form", choices=("text", "json"), default="text")
    options = parser.parse_args()
    times = measure(options.envoys, options.changes)
    result = {
        "envoys": options.envoys,
        "changes": len(times),
        "total_ms": _summary(times),
        "beyond_debounce_ms": _summary([value - DEBOUNCE_MS for value in times]),
    }
    if options.form == "json":
        print(json.dumps(result, indent=2))
        return
    print(f"{options.envoys} Envoys, {len(times)} changes of one VirtualService")
    for name in ("total_ms", "beyond_debounce_ms"):
        print(f"{name:20} {result[name]}")


def measure(envoys: int, changes: int) -> list[float]:
    """Milliseconds of each change."""
    with bench_mesh() as mesh, tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "mesh.yaml"
        manifest.write_text(MANIFEST.replace("REPLICAS", str(envoys)))
        if mesh.start_up("-f", str(manifest)).wait(180) != 0:
            raise SystemExit("lateen up failed")
        client = mesh.client()
        _change(client, 0)
        times = []
        for number in range(1, changes + 1):
            began = time.perf_counter()
            _change(client, number)
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(0.02)
        return times


def _change(client: Client, number: int) -> None:
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "sleep", "namespace": "default"},
        "spec": {
            "hosts": ["sleep"],
            "http": [
                {"timeout": f"{10 + number}s", "route": [{"destination": {"host": "sleep"}}]},
            ],
        },
    }
    body = {"documents": [{"raw": rule}], "wait": True, "timeout": 30.0}
    lines = list(client.lines("POST", "/lateen/v1/apply", body))
    if not lines[-1]["wait"]["acknowledged"]:
        raise SystemExit(f"change {number} was not acknowledged: {lines[-1]}")


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 1),
        "median": round(statistics.median(values), 1),
        "p99": round(percentile(values, 0.99), 1),
        "max": round(max(values), 1),
    }


if __name__ == "__main__":
    main()
