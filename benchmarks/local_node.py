"""What a pod costs on one machine: ``python -m benchmarks.local_node [--pods N] [--services N]``.

Prints JSON: milliseconds (median and worst) to make a sandbox with capture rules and to start and
stop a container, to write a service table and to change one endpoint, throughput and round trip
through a published port, and private memory by process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lateen.capture import CaptureConfig, ProxyMatch
from lateen.runtime.node.launch import launch_node
from lateen.runtime.node.node import Node
from lateen.runtime.node.services import ServicePort, service_table
from lateen.runtime.node.spec import ContainerSpec, NodeConfig, SandboxSpec

_BULK = 1 << 30
_SERVER = f"""
import socket, threading
server = socket.create_server(("0.0.0.0", 9000), backlog=512)
block = b"x" * (1 << 20)
def answer(client):
    with client:
        while data := client.recv(100):
            if data == b"bulk":
                for _ in range({_BULK} >> 20):
                    client.sendall(block)
                return
            client.sendall(data)
while True:
    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
"""


async def main(node: Node, arguments: dict[str, object]) -> None:
    """The node's side."""
    pods, services = int(str(arguments["pods"])), int(str(arguments["services"]))
    capture = CaptureConfig(proxy_match=ProxyMatch.MARK)
    times: dict[str, list[float]] = {"sandbox_ms": [], "container_ms": [], "stop_ms": []}
    boxes = []
    for index in range(pods):
        began = time.perf_counter()
        spec = SandboxSpec(f"bench/p{index}", f"10.244.1.{index + 1}", f"p{index}")
        boxes.append(await node.create_sandbox(spec, capture))
        times["sandbox_ms"].append(time.perf_counter() - began)
        began = time.perf_counter()
        container = await boxes[-1].start(ContainerSpec("main", ("sleep", "1000")))
        times["container_ms"].append(time.perf_counter() - began)
        began = time.perf_counter()
        await container.stop(5)
        times["stop_ms"].append(time.perf_counter() - began)
    facts: dict[str, object] = {
        name: {
            "median": round(statistics.median(values) * 1000, 2),
            "worst": round(max(values) * 1000, 2),
        }
        for name, values in times.items()
    }
    table = [
        ServicePort(
            f"10.96.{i // 250}.{i % 250 + 1}",
            80,
            endpoints=tuple((f"10.244.{i // 250 + 2}.{j + 1}", 80) for j in range(5)),
        )
        for i in range(services)
    ]
    began = time.perf_counter()
    await node.set_services(service_table(table))
    facts["all_services_ms"] = round((time.perf_counter() - began) * 1000, 2)
    table[0] = ServicePort(table[0].address, 80, endpoints=table[0].endpoints[:3])
    began = time.perf_counter()
    await node.set_services(service_table(table))
    facts["one_endpoint_change_ms"] = round((time.perf_counter() - began) * 1000, 2)
    server = await node.create_sandbox(SandboxSpec("bench/server", "10.244.0.10", "server"))
    await server.start(ContainerSpec("main", (sys.executable, "-c", _SERVER)))
    facts["port"] = (await node.publish(0, "10.244.0.10", 9000)).port
    await node.ready(facts)
    await asyncio.Event().wait()


def _connect(port: int) -> socket.socket:
    for _ in range(100):
        client = socket.create_connection(("127.0.0.1", port), 10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.sendall(b"ping")
            if client.recv(100) == b"ping":
                return client
        except OSError:
            pass
        client.close()
        time.sleep(0.05)
    raise SystemExit("the server in the pod does not answer")


def _published(port: int) -> dict[str, float]:
    with _connect(port) as client:
        trips = []
        for _ in range(2000):
            began = time.perf_counter()
            client.sendall(b"ping")
            client.recv(100)
            trips.append(time.perf_counter() - began)
        client.sendall(b"bulk")
        began = time.perf_counter()
        received = 0
        while data := client.recv(1 << 20):
            received += len(data)
        seconds = time.perf_counter() - began
    trips.sort()
    return {
        "published_mb_per_s": round(received / seconds / 1e6),
        "published_round_trip_us_p50": round(trips[1000] * 1e6),
        "published_round_trip_us_p99": round(trips[1980] * 1e6),
    }


def _memory() -> dict[str, int]:
    """Private memory in KiB of the node's processes that this user may look at."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "comm").read_text().strip()
            if name.startswith("lateen-"):
                rollup = (entry / "smaps_rollup").read_text().splitlines()
                found[name] = sum(int(x.split()[1]) for x in rollup if x.startswith("Private_"))
        except OSError:
            continue
    return found


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=20)
    parser.add_argument("--services", type=int, default=1000)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    with tempfile.TemporaryDirectory() as directory:
        config = NodeConfig(state_dir=f"{directory}/state", die_with_parent=True)
        began = time.perf_counter()
        handle = launch_node("benchmarks.local_node:main", vars(options), config)
        try:
            launched = time.perf_counter() - began
            facts = handle.wait_ready(120)
            facts |= _published(int(str(facts.pop("port"))))
            facts["launch_ms"] = round(launched * 1000, 1)
            time.sleep(12)  # until the netlink worker has gone
            facts["idle_private_kib"] = _memory()
        finally:
            handle.stop()
    sys.stdout.write(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    run()
