"""What can be said only by looking at several objects together."""

from __future__ import annotations

from lateen.api.findings import Finding
from lateen.model import kinds
from lateen.model.destination_rules import destination_rules
from lateen.model.peer_authentication import peer_authentications
from lateen.model.proxies import proxy_of
from lateen.model.scope import inbound_findings
from lateen.model.snapshot import Snapshot
from lateen.model.virtual_services import virtual_services


def findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Objects that could not be used and why, in a stable order."""
    return (
        *snapshot.mesh_findings,
        *snapshot.services.findings,
        *virtual_services(snapshot).findings,
        *destination_rules(snapshot).findings,
        *peer_authentications(snapshot).findings,
    )


def workload_port_findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Services that disagree on the protocol of a workload's port. Looks at every pod, so it is
    not part of `findings`, which pushes look at."""
    found: dict[tuple[object, ...], Finding] = {}
    for _, resource in sorted(snapshot.of_kind(*kinds.POD).items()):
        for finding in inbound_findings(snapshot, proxy_of(snapshot, resource)):
            found.setdefault((finding.key, finding.message), finding)
    return tuple(found.values())
