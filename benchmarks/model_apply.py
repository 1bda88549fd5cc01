"""Cost of changes to a big mesh: 1,000 services x 5 pods, 10,000 objects.

Run: ``python -m benchmarks.model_apply``. Prints the build time and, for several kinds of change,
median and 99th percentile in milliseconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec

from lateen.api.core.pod import Pod
from lateen.api.parse import parse_documents
from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change
from lateen.model.destination_rules import destination_rules
from lateen.model.proxies import proxy_of
from lateen.model.scope import scope_of
from lateen.model.sidecar import sidecars
from lateen.model.snapshot import Snapshot, apply, snapshot_of
from lateen.model.virtual_services import virtual_services

SERVICES = 1_000
PODS_PER_SERVICE = 5
NAMESPACES = 20

_SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: s{n}, namespace: ns{ns}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{clusterIP: 10.96.{high}.{low}, selector: {{app: s{n}}}, ports: [{{name: http, port: 80}}]}}
---
"""
_RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s{n}, namespace: ns{ns}}}
spec:
  hosts: [s{n}]
  http: [{{route: [{{destination: {{host: s{n}, subset: v1}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: s{n}, namespace: ns{ns}}}
spec: {{host: s{n}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}
---
"""
_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: s{n}-{i}
  namespace: ns{ns}
  labels: {{app: s{n}, version: v{v}, security.istio.io/tlsMode: istio}}
spec: {{serviceAccountName: s{n}, containers: [{{name: app, image: app}}]}}
status:
  phase: Running
  podIP: 10.{i}.{high}.{low}
  conditions: [{{type: Ready, status: "True"}}]
---
"""
_OTHER = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: c{n}, namespace: ns{ns}}}
---
"""


def objects() -> list[Resource]:
    """The mesh's 10,000 objects."""
    parts = []
    for n in range(SERVICES):
        place = {"n": n, "ns": n % NAMESPACES, "high": n // 250, "low": n % 250 + 1}
        parts += [_SERVICE.format(**place), _RULES.format(**place)]
        parts += [_POD.format(i=i, v=i % 2 + 1, **place) for i in range(PODS_PER_SERVICE)]
        parts += [_OTHER.format(**place | {"n": f"{n}-{i}"}) for i in range(2)]
    result = parse_documents("".join(parts), "mesh.yaml")
    assert not result.findings, result.findings[:1]
    return result.resources


def timed(label: str, rounds: int, action: Callable[[int], object]) -> None:
    """Run ``action`` with 0, 1, ... and print how long it took."""
    samples = []
    for index in range(rounds):
        start = time.perf_counter()
        action(index)
        samples.append((time.perf_counter() - start) * 1e3)
    ordered = sorted(samples)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{label:<44} {statistics.median(samples):8.3f} ms median {p99:8.3f} ms p99")


def main() -> None:
    """Build the mesh and measure changes to it."""
    resources = objects()
    box: list[Snapshot] = []
    timed(f"build from {len(resources)} objects", 3, lambda _: box.append(snapshot_of(resources)))
    state = {"snapshot": box[-1]}

    def change(resource: Resource | None, key: ObjectKey) -> None:
        state["snapshot"], _ = apply(state["snapshot"], [Change(key, resource)])

    pods = [r for r in resources if isinstance(r.object, Pod)]

    def flip(index: int) -> None:
        pod = pods[index * 7 % len(pods)]
        assert isinstance(pod.object, Pod)
        other = msgspec.structs.replace(
            pod.object.status, conditions=[], pod_ip=f"10.9.{index // 250}.{index % 250}"
        )
        change(replace(pod, object=msgspec.structs.replace(pod.object, status=other)), pod.key)

    timed("one pod changes its address and readiness", 500, flip)
    services = [r for r in resources if r.key.kind == "Service"]
    timed("one service goes", 100, lambda i: change(None, services[i].key))
    timed("one service comes", 100, lambda i: change(services[i], services[i].key))

    def look(index: int) -> None:
        change(None, services[index].key)
        change(services[index], services[index].key)
        state["snapshot"].services.visible_to("ns1")

    timed("a service goes and comes, and visible_to", 20, look)
    rules = [r for r in resources if r.key.kind == "VirtualService"]

    def route(index: int) -> None:
        change(replace(rules[index]), rules[index].key)
        virtual_services(state["snapshot"]).for_mesh("ns1")

    timed("one VirtualService changes, and is looked up", 100, route)
    destinations = [r for r in resources if r.key.kind == "DestinationRule"]

    def policy(index: int) -> None:
        change(replace(destinations[index]), destinations[index].key)
        service = state["snapshot"].services.all()[0]
        destination_rules(state["snapshot"]).for_service("ns1", service)

    timed("one DestinationRule changes, and is looked up", 100, policy)
    timed(
        "sidecar scope of a namespace, first time",
        20,
        lambda i: sidecars(state["snapshot"]).scope(f"ns{i}", {}),
    )
    timed(
        "scope of one proxy",
        500,
        lambda i: scope_of(state["snapshot"], proxy_of(state["snapshot"], pods[i])),
    )


if __name__ == "__main__":
    main()
