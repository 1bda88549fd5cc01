"""CPU of one change in the control plane, without the network.

``python -m benchmarks.push_cpu [--services 1000] [--endpoints 5] [--proxies 1000]
[--namespaces 20] [--repetitions 20] [-o json]``

Makes the load rig's mesh and the scopes of its proxies, then changes an endpoint, the routes of a
VirtualService that all see, and a DestinationRule, again and again: milliseconds of CPU until every
scope has its new target. ``outbound`` and ``inbound`` are the first translation of the sides that
the sidecars of a namespace share (with one inbound side each) and of the other inbound sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.scale.mesh import (
    Size,
    destination_rule,
    namespace_of,
    objects,
    pod,
    pod_name,
    proxy_places,
    virtual_service,
)
from lateen.api.parse import parse_object
from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import Snapshot, apply, snapshot_of
from lateen.serve.connection import ScopeState
from lateen.serve.generator import MeshGenerator
from lateen.serve.interpreter import keep_what_is_loaded
from lateen.serve.metrics import Metrics
from lateen.serve.session import Target
from lateen.serve.targets import ScopeTargets

_SERVICE = 10
"""A service that speaks HTTP and has a VirtualService and a DestinationRule."""


class Mesh:
    """A snapshot and the scopes of all proxies, kept up to date without any proxy."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.snapshot: Snapshot = snapshot_of([parsed(raw) for raw in objects(size)])
        keep_what_is_loaded()
        self._generator = MeshGenerator()
        self._targets = ScopeTargets(self._generator, Metrics())
        self.outbound = self.inbound = 0.0
        """CPU seconds of the first translation."""
        spaces: set[str] = set()
        for service, index in proxy_places(size):
            space = namespace_of(size, service)
            begun = time.process_time()
            self._enter(ObjectKey("", "Pod", space, pod_name(service, index)))
            taken = time.process_time() - begun
            if space in spaces:
                self.inbound += taken
            else:
                spaces.add(space)
                self.outbound += taken

    def _enter(self, key: ObjectKey) -> None:
        found = self.snapshot.get(key)
        assert found is not None
        scope = scope_of_pod(self.snapshot, found)
        resources = self._generator.generate(self.snapshot, scope)
        state = ScopeState(scope, self.snapshot, resources, Target(self.snapshot.version, {}))
        self._targets.states[scope] = state
        self._targets.retarget(state)

    def change(self, raw: dict[str, Any]) -> float:
        """Apply an object and bring all scopes up to date; CPU seconds."""
        resource = parsed(raw)
        begun = time.process_time()
        self.snapshot, changes = apply(self.snapshot, [Change(resource.key, resource)])
        for state in self._targets.states.values():
            if self._targets.translate(state, self.snapshot, changes):
                self._targets.retarget(state)
        return time.process_time() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=5)
    parser.add_argument("--proxies", type=int, default=1000)
    parser.add_argument("--namespaces", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("-o", dest="form", choices=("text", "json"), default="text")
    options = parser.parse_args()
    size = Size(options.services, options.endpoints, options.proxies, options.namespaces)
    mesh = Mesh(size)
    rows = {"outbound": mesh.outbound * 1000, "inbound": mesh.inbound * 1000}
    for name, make in CHANGES.items():
        mesh.change(make(size, 1))  # loads code, and fills what later changes find
        mesh.change(make(size, 2))
        taken = [mesh.change(make(size, turn)) for turn in range(3, options.repetitions + 3)]
        rows[name] = statistics.median(taken) * 1000
    if options.form == "json":
        print(json.dumps(rows, indent=2))
        return
    for name, value in rows.items():
        print(f"{value:10,.1f} ms  {name}")


def _limited(size: Size, turn: int) -> dict[str, Any]:
    rule = destination_rule(size, _SERVICE)
    policy = rule["spec"].setdefault("trafficPolicy", {})
    policy["connectionPool"] = {"tcp": {"maxConnections": 100 + turn}}
    return rule


CHANGES: dict[str, Callable[[Size, int], dict[str, Any]]] = {
    "endpoint": lambda size, turn: pod(size, _SERVICE, 1, turn),
    "route": lambda size, turn: virtual_service(size, _SERVICE, turn),
    "destination-rule": _limited,
}


def parsed(raw: dict[str, Any]) -> Resource:
    """An object of the mesh."""
    found = parse_object(raw)
    assert isinstance(found, Resource), found
    return found


if __name__ == "__main__":
    main()
