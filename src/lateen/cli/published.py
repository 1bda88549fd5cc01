"""What commands say of ports of the machine that LoadBalancer services are published on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from lateen.cli.mesh_state import MeshState
from lateen.cli.output import BAD, NOTE, say
from lateen.runtime.agent_client import AgentUnavailable, ask

_SETTLING = 1.0
"""Seconds that the node may take to publish what was applied just now."""
_POLL = 0.03


def published_ports(state: MeshState) -> dict[str, Any]:
    """``published``, ``problems`` and ``notes`` of the node; empty when it does not answer."""
    answer: dict[str, Any] = {"published": [], "problems": [], "notes": []}
    try:
        found = ask(state.agent_socket, {"op": "published"})
    except AgentUnavailable:
        return answer
    return {key: found.get(key) or value for key, value in answer.items()}


def print_unpublished(published: dict[str, Any]) -> None:
    """A line for each port that is not published."""
    for problem in published["problems"]:
        say(BAD, str(problem["text"]))


def print_settled(state: MeshState, ports: Iterable[int]) -> None:
    """What became of these service ports where it is not what was to be expected."""
    wanted = set(ports)
    found = _settled(state, wanted)
    print_unpublished(found)
    for note in found["notes"]:
        if note["port"] in wanted:
            say(NOTE, str(note["text"]))


def _settled(state: MeshState, wanted: set[int]) -> dict[str, Any]:
    """As `published_ports`, once the node has dealt with these service ports, or after a second."""
    deadline = time.monotonic() + _SETTLING
    while True:
        found = published_ports(state)
        known = {int(entry["port"]) for entry in found["published"]}
        if found["problems"] or wanted <= known or time.monotonic() > deadline:
            return found
        time.sleep(_POLL)


def ports_of(objects: Iterable[dict[str, Any]]) -> set[int]:
    """Ports that these objects have the node publish: of LoadBalancer services, and of Gateways for
    the standard ingress gateway."""
    found: set[object] = set()
    for raw in objects:
        spec = raw.get("spec") or {}
        if raw.get("kind") == "Service" and spec.get("type") == "LoadBalancer":
            found |= {p.get("port") for p in spec.get("ports") or []}
        elif raw.get("kind") == "Gateway" and spec.get("selector") == {"istio": "ingressgateway"}:
            found |= {(s.get("port") or {}).get("number") for s in spec.get("servers") or []}
    return {port for port in found if isinstance(port, int)}
