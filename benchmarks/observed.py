"""What ``scoping: observed`` saves: ``python -m benchmarks.observed [--services 1000] [-o json]``.

The same mesh twice, without and with ``LATEEN_SCOPING: observed`` in the MeshConfig: one client,
one server and services that nobody calls. Measured are the client's Envoy (private memory, clusters
it holds) and its first and later requests to the server, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.mesh import BenchMesh, bench_mesh, private_megabytes
from benchmarks.real_envoys import ADMIN_PORT, Raw, endpoint_slice, envoy_of
from lateen.runtime.agent_client import http_get

_REQUEST = (
    "import sys, time, urllib.request as u, urllib.error as e\n"
    "def once():\n"
    "  began = time.perf_counter()\n"
    "  try: status = u.urlopen(sys.argv[1], timeout=10).status\n"
    "  except e.HTTPError as error: status = error.code\n"
    "  except Exception as error: status = str(error)\n"
    "  return status, round((time.perf_counter() - began) * 1000, 1)\n"
    "import json; print(json.dumps([once() for _ in range(20)]))\n"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("-o", dest="form", choices=("text", "json"), default="text")
    options = parser.parse_args()
    result = {
        name: measure(options.services, observed=observed)
        for name, observed in (("default", False), ("observed", True))
    }
    saved = result["default"]["envoy_private_mb"] - result["observed"]["envoy_private_mb"]
    result["saved_mb"] = round(saved, 1)
    if options.form == "json":
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:10} {value}")


def measure(services: int, *, observed: bool) -> Raw:
    """One mesh."""
    with bench_mesh() as mesh, tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "mesh.yaml"
        manifest.write_text(yaml.safe_dump_all(_manifests(services, observed=observed)))
        if mesh.start_up("-f", str(manifest), "--timeout", "300").wait(330) != 0:
            raise SystemExit("lateen up failed")
        time.sleep(5)
        client = _pod(mesh, "client")
        before, clusters = envoy_of(mesh, client), _clusters(mesh, client)
        http = _requests(mesh, client, "http://web/")
        tcp = _requests(mesh, client, "http://web:9000/")
        time.sleep(1)
        return {
            "envoy_private_mb": round(private_megabytes(before), 1),
            "clusters": len(clusters),
            "clusters_after_requests": len(_clusters(mesh, client)),
            "first_http": http[0],
            "next_http_ms": statistics.median(row[1] for row in http[1:]),
            "failed": sum(row[0] != 200 for row in (*http, *tcp)),
            "first_tcp": tcp[0],
        }


def _manifests(services: int, *, observed: bool) -> Iterator[Raw]:
    if observed:
        settings = {"defaultConfig": {"proxyMetadata": {"LATEEN_SCOPING": "observed"}}}
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": yaml.safe_dump(settings)},
        }
    yield _deployment("client", ["/bin/sleep", "infinity"])
    yield _deployment("web", [sys.executable, "-m", "http.server", "8000"])
    ports = [
        {"name": "http", "port": 80, "targetPort": 8000},
        {"name": "tcp", "port": 9000, "targetPort": 8000},
    ]
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": ports},
    }
    for number in range(services):
        port = {"name": "http", "port": 80 + number % 5, "targetPort": 8080}
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"svc{number}", "namespace": "default"},
            "spec": {"ports": [port]},
        }
        yield endpoint_slice(number, 0)


def _deployment(name: str, command: list[str]) -> Raw:
    labels = {"app": name}
    container = {"name": name, "image": "busybox", "command": command, "workingDir": "/tmp"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def _pod(mesh: BenchMesh, app: str) -> str:
    pods = mesh.client().request("GET", "/api/v1/namespaces/default/pods")["items"]
    names: list[str] = [pod["metadata"]["name"] for pod in pods]
    return next(name for name in names if name.startswith(f"{app}-"))


def _clusters(mesh: BenchMesh, pod: str) -> set[str]:
    path = "/config_dump?resource=dynamic_active_clusters"
    body = http_get(mesh.folder / "agent.sock", "default", pod, ADMIN_PORT, path, 60.0)
    return {entry["cluster"]["name"] for entry in json.loads(body).get("configs", ())}


def _requests(mesh: BenchMesh, pod: str, url: str) -> list[Any]:
    done = mesh.lateen("exec", pod, "--", sys.executable, "-c", _REQUEST, url)
    rows: list[Any] = json.loads(done.stdout)
    return rows


if __name__ == "__main__":
    main()
