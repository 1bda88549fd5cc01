"""PeerAuthentications with a selector that change nothing: an older one wins, or no such port.

For `validate`, `apply` and `status`; nothing of this is on the way of a push.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lateen.api.core.pod import Pod
from lateen.api.findings import Finding
from lateen.api.networking.sidecar import Sidecar
from lateen.api.resource import Resource
from lateen.api.security.authentication import PeerAuthentication
from lateen.model import kinds, rules
from lateen.model.peer_authentication import peer_authentications
from lateen.model.proxies import proxy_of
from lateen.model.scope import inbound_ports
from lateen.model.selection import selects, workload_selector
from lateen.model.snapshot import Snapshot

_MOST_POLICIES = 200
"""Policies of one namespace that are looked at: each pair of them may have to be compared."""


@dataclass(slots=True)
class _Use:
    """What becomes of one policy in its namespace."""

    selected: int = 0
    lost: list[str] = field(default_factory=list)
    """Pods that an older policy selects too."""
    winner: Resource | None = None
    """The older policy of the first of them."""
    pods: list[Resource] = field(default_factory=list)
    """Pods that it holds for."""


def peer_findings(snapshot: Snapshot, namespace: str) -> tuple[Finding, ...]:
    """The findings about the policies of ``namespace``, oldest policy first."""
    narrow = peer_authentications(snapshot).narrow(namespace)[:_MOST_POLICIES]
    if not narrow:
        return ()
    uses = _uses(snapshot, namespace, narrow)
    found: list[Finding] = []
    for index, policy in enumerate(narrow):
        use = uses[index]
        shadowed = _shadowed(policy, use, narrow[:index])
        if shadowed is not None:
            found.append(shadowed)
        if use.pods:
            found += _ports(snapshot, policy, use.pods)
    return tuple(found)


def _uses(snapshot: Snapshot, namespace: str, narrow: tuple[Resource, ...]) -> list[_Use]:
    uses = [_Use() for _ in narrow]
    selectors = [_selector(policy) for policy in narrow]
    for _, pod in sorted(snapshot.in_namespace(*kinds.POD, namespace).items()):
        winner: Resource | None = None
        for use, policy, selector in zip(uses, narrow, selectors, strict=True):
            if not selects(selector, pod.labels):
                continue
            use.selected += 1
            if winner is None:
                winner = policy
                use.pods.append(pod)
            else:
                use.lost.append(pod.key.name)
                use.winner = use.winner or winner
    return uses


def _selector(policy: Resource) -> Mapping[str, str]:
    return workload_selector(policy.object) or {}


def _shadowed(policy: Resource, use: _Use, older: Iterable[Resource]) -> Finding | None:
    own = _selector(policy).items()
    covering = next((other for other in older if _selector(other).items() <= own), None)
    winner = covering or use.winner
    if winner is None:
        return None
    hint = "Put all settings of a workload into one PeerAuthentication."
    if covering is not None or len(use.lost) == use.selected:
        which = "all of its workloads"
        message = f"has no effect: {winner.key} ({winner.provenance}) selects {which} and is older"
    else:
        which = f"{len(use.lost)} of its {use.selected} workloads, such as pod {use.lost[0]}"
        message = f"{winner.key} ({winner.provenance}) selects {which} and is older: it holds there"
    return rules.finding(rules.POLICY_SHADOWED, policy, ("spec", "selector"), message, hint)


def _ports(snapshot: Snapshot, policy: Resource, pods: list[Resource]) -> Iterator[Finding]:
    assert isinstance(policy.object, PeerAuthentication)
    wanted = {int(port): port for port in policy.object.spec.port_level_mtls or ()}
    known: set[int] = set()
    behind: dict[int, tuple[str, int]] = {}
    for pod in pods:
        known |= _declared(pod)
        for port in inbound_ports(snapshot, proxy_of(snapshot, pod)):
            known.add(port.target_port)
            behind.setdefault(port.service_port, (port.hostname, port.target_port))
    known |= _ingress_ports(snapshot, policy.key.namespace, pods)
    for number, text in sorted(wanted.items()):
        # A container need not declare its ports: without any, nothing is known of them.
        if number in known or not known:
            continue
        path = ("spec", "portLevelMtls", text)
        if number in behind:
            host, target = behind[number]
            message = f"no selected workload has port {number}: it is the port of service {host}"
            hint = f"Write {target}, the port of the workload behind it (targetPort)."
        else:
            message = f"no selected workload has port {number}"
            ports = ", ".join(str(port) for port in sorted(known)[:10])
            hint = f"Ports of the workloads are {ports}."
        yield rules.finding(rules.NO_SUCH_WORKLOAD_PORT, policy, path, message, hint)


def _declared(pod: Resource) -> set[int]:
    assert isinstance(pod.object, Pod)
    spec = pod.object.spec
    return {port.container_port for container in spec.containers for port in container.ports}


def _ingress_ports(snapshot: Snapshot, namespace: str, pods: list[Resource]) -> set[int]:
    ports: set[int] = set()
    for resource in snapshot.in_namespace(*kinds.SIDECAR, namespace).values():
        assert isinstance(resource.object, Sidecar)
        selector = workload_selector(resource.object) or {}
        if resource.object.spec.ingress and any(selects(selector, pod.labels) for pod in pods):
            ports |= {listener.port.number for listener in resource.object.spec.ingress}
    return ports
