"""Many real Envoys under one control plane: change to last acknowledgement, memory, correctness.

``python -m benchmarks.real_envoys [--envoys 100] [--services 500] [--changes 30] [-o json]``

Pods of one Deployment in the local runtime, each with its Envoy; services with five endpoints each
(addresses that nobody calls) and a VirtualService for every tenth. A change is written through the
API and the time runs until every proxy has acknowledged; the debounce (100 ms) is part of it. At
the end the configuration dump of each Envoy is compared, resource by resource, with what the
control plane says it has sent: names, versions and contents.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from benchmarks.mesh import BenchMesh, bench_mesh, percentile, private_megabytes
from lateen.runtime.agent_client import http_get
from lateen.source.client import Client

DEBOUNCE_MS = 100.0
ADMIN_PORT = 15000
_SECTIONS = {
    "ClustersConfigDump": ("dynamic_active_clusters", "cluster"),
    "EndpointsConfigDump": ("dynamic_endpoint_configs", "endpoint_config"),
    "ListenersConfigDump": ("dynamic_listeners", "listener"),
    "RoutesConfigDump": ("dynamic_route_configs", "route_config"),
}
Raw = dict[str, Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envoys", type=int, default=100)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("-o", dest="form", choices=("text", "json"), default="text")
    options = parser.parse_args()
    _check_limit(options.envoys)
    result = measure(options.envoys, options.services, options.changes)
    if options.form == "json":
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:32} {value}")


def measure(envoys: int, services: int, changes: int) -> Raw:
    """Everything there is to measure, by name."""
    with bench_mesh() as mesh, tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "mesh.yaml"
        manifest.write_text(yaml.safe_dump_all(manifests(envoys, services), sort_keys=False))
        began = time.monotonic()
        if mesh.start_up("-f", str(manifest), "--timeout", "600").wait(660) != 0:
            raise SystemExit("lateen up failed")
        client = mesh.client()
        names = _in_sync(client, envoys)
        started = time.monotonic() - began
        route = _timed(changes, lambda number: _apply(client, virtual_service(0, number)))
        endpoint = _timed(changes, lambda number: _apply(client, endpoint_slice(0, number)))
        time.sleep(5)
        memory = [private_megabytes(pid) for pid in _envoy_pids(mesh)]
        return {
            "envoys": len(names),
            "services": services,
            "start_to_all_in_sync_s": round(started, 1),
            "route_change_ms": _summary(route),
            "endpoint_change_ms": _summary(endpoint),
            "route_beyond_debounce_ms": _summary([value - DEBOUNCE_MS for value in route]),
            "endpoint_beyond_debounce_ms": _summary([value - DEBOUNCE_MS for value in endpoint]),
            "envoy_private_mb": _summary(memory) if memory else {},
            "control_plane_private_mb": round(_control_plane_memory(mesh), 1),
            **compared(mesh, client, names),
        }


def _check_limit(envoys: int) -> None:
    """End when the kernel does not let one user run so many Envoys: each thread of an Envoy that
    handles events has an inotify instance (two per sidecar), and Envoy crashes without."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    running = sum(
        entry.read_text().strip() == "envoy" for entry in Path("/proc").glob("[0-9]*/comm")
    )
    if (envoys + 1 + running) * 2 > limit:
        raise SystemExit(
            f"{envoys} Envoys beside {running} that run already need {(envoys + 1 + running) * 2} "
            f"inotify instances, and fs.inotify.max_user_instances is {limit}; raise it "
            f"(`sysctl fs.inotify.max_user_instances=1024`) or give --envoys "
            f"{max(1, limit // 2 - running - 1)}"
        )


def manifests(envoys: int, services: int) -> Iterator[Raw]:
    """The mesh: one Deployment of proxies, services with endpoints, some routes."""
    labels = {"app": "sleep"}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "sleep", "namespace": "default"},
        "spec": {
            "replicas": envoys,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {"name": "sleep", "image": "busybox", "command": ["/bin/sleep", "infinity"]}
                    ]
                },
            },
        },
    }
    for number in range(services):
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"svc{number}", "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": 80 + number % 5, "targetPort": 8080}]},
        }
        yield endpoint_slice(number, 0)
        if number % 10 == 0:
            yield virtual_service(number, 0)


def endpoint_slice(service: int, change: int) -> Raw:
    """Five endpoints of a service; one of them differs with each change."""
    base = f"10.244.{200 + service // 50 % 40}.{service % 50 * 5}"
    prefix, _, last = base.rpartition(".")
    addresses = [f"{prefix}.{int(last) + index}" for index in range(5)]
    if change:
        addresses[0] = f"10.244.{240 + change // 250}.{change % 250 + 1}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"svc{service}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": f"svc{service}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}} for address in addresses
        ],
    }


def virtual_service(service: int, change: int) -> Raw:
    """A route of a service; its timeout differs with each change."""
    host = f"svc{service}"
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": host, "namespace": "default"},
        "spec": {
            "hosts": [host],
            "http": [{"timeout": f"{10 + change}s", "route": [{"destination": {"host": host}}]}],
        },
    }


def compared(mesh: BenchMesh, client: Client, names: list[str]) -> Raw:
    """Each Envoy's own dump against what it was sent: resources looked at, and what differs."""

    def one(name: str) -> tuple[int, list[str]]:
        sent = resources(client.request("GET", f"/lateen/v1/proxies/{name}.default/config"))
        answer = http_get(
            mesh.folder / "agent.sock",
            "default",
            name,
            ADMIN_PORT,
            "/config_dump?include_eds",
            60.0,
        )
        return difference(name, sent, resources(json.loads(answer)))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, names))
    wrong = [text for _, texts in found for text in texts]
    return {
        "resources_compared": sum(count for count, _ in found),
        "differences": len(wrong),
        **({"first_differences": wrong[:5]} if wrong else {}),
    }


def resources(dump: Raw) -> dict[tuple[str, str], tuple[str, Raw]]:
    """Section and name to version and contents."""
    found = {}
    for config in dump["configs"]:
        section = config["@type"].rpartition(".")[2]
        entries, field = _SECTIONS.get(section, ("", ""))
        for entry in config.get(entries, ()):
            state = entry.get("active_state", entry)
            body = state[field]
            name = body.get("name") or body.get("cluster_name", "")
            found[section, name] = (state.get("version_info", ""), body)
    return found


def difference(
    proxy: str,
    sent: dict[tuple[str, str], tuple[str, Raw]],
    held: dict[tuple[str, str], tuple[str, Raw]],
) -> tuple[int, list[str]]:
    """How many resources were compared, and in words what differs."""
    wrong = [f"{proxy} lacks {name}" for name in sent if name not in held]
    for name, (version, body) in held.items():
        if name not in sent:
            if name[0] != "EndpointsConfigDump":  # static clusters of the bootstrap are among them
                wrong.append(f"{proxy} has {name}, which it was not sent")
            continue
        if name[0] == "EndpointsConfigDump":
            if addresses(body) != addresses(sent[name][1]):
                wrong.append(f"{proxy} has other endpoints of {name}")
        elif "vhds" in body:  # Envoy shows what it put together of many resources
            if hosts(body) != hosts(sent[name][1]):
                wrong.append(f"{proxy} has {name} with other virtual hosts")
        elif version != sent[name][0]:
            wrong.append(f"{proxy} has {name} in version {version}, sent was {sent[name][0]}")
        elif plain(body) != plain(sent[name][1]):
            wrong.append(f"{proxy} has {name} with other contents")
    return len(sent), wrong


def hosts(configuration: Raw) -> dict[str, object]:
    """Virtual hosts of a route configuration by name; their order means nothing."""
    return {host["name"]: plain(host) for host in configuration.get("virtual_hosts", ())}


def addresses(assignment: Raw) -> list[tuple[str, int, int]]:
    """Addresses of a load assignment, as Envoy shows them after it has taken them in."""
    return sorted(
        (place["address"], place["port_value"], endpoint.get("load_balancing_weight", 1))
        for locality in assignment.get("endpoints", ())
        for endpoint in locality.get("lb_endpoints", ())
        if (place := endpoint["endpoint"]["address"].get("socket_address"))
    )


def plain(value: object) -> object:
    """JSON data without what printers of Protocol Buffers are free in: empty messages of a
    ``oneof`` stay, numbers and the texts of 64-bit numbers are the same."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _in_sync(client: Client, count: int) -> list[str]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        proxies = client.request("GET", "/lateen/v1/status")["proxies"]
        ready = [item["name"] for item in proxies if item["inSync"]]
        if len(ready) >= count:
            return [name for name in ready if name.startswith("sleep-")]
        time.sleep(0.5)
    raise SystemExit(f"only {len(ready)} of {count} proxies are in sync")


def _timed(changes: int, change: Callable[[int], None]) -> list[float]:
    change(1000)
    times = []
    for number in range(1, changes + 1):
        began = time.perf_counter()
        change(number)
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.05)
    return times


def _apply(client: Client, raw: Raw) -> None:
    body = {"documents": [{"raw": raw}], "wait": True, "timeout": 60.0}
    lines = list(client.lines("POST", "/lateen/v1/apply", body))
    if not lines[-1]["wait"]["acknowledged"]:
        raise SystemExit(f"not acknowledged: {lines[-1]}")


def _envoy_pids(mesh: BenchMesh) -> Iterator[int]:
    """Envoys below this mesh's node: others may run on the machine."""
    for pid, command in _processes(mesh):
        if os.path.basename(command[0]) == "envoy":
            yield pid


def envoy_of(mesh: BenchMesh, pod: str) -> int:
    """Process id of the Envoy beside a pod of the default namespace."""
    for pid in _envoy_pids(mesh):
        if pod in (Path("/proc") / str(pid) / "environ").read_bytes().decode(errors="replace"):
            return pid
        if pod in " ".join(_command(pid)):
            return pid
    raise SystemExit(f"no Envoy beside {pod}")


def _command(pid: int) -> list[str]:
    return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode().split("\0")


def _control_plane_memory(mesh: BenchMesh) -> float:
    return sum(
        private_megabytes(pid)
        for pid, command in _processes(mesh)
        if "lateen.serve.main" in command
    )


def _processes(mesh: BenchMesh) -> Iterator[tuple[int, list[str]]]:
    marker = f"{mesh.state_home}"
    parents: dict[int, int] = {}
    commands: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
            commands[int(entry.name)] = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, IndexError):
            continue
    roots = {
        parents[pid]
        for pid, command in commands.items()
        if "lateen.serve.main" in command and any(marker in word for word in command)
    }
    for pid, command in commands.items():
        above: int | None = pid
        while above is not None and above not in roots:
            above = parents.get(above)
        if above is not None and command and command[0]:
            yield pid, command


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 1),
        "median": round(statistics.median(values), 1),
        "p99": round(percentile(values, 0.99), 1),
        "max": round(max(values), 1),
    }


if __name__ == "__main__":
    main()
