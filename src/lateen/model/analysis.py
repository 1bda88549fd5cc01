"""What can be said only by looking at several objects together."""

from __future__ import annotations

from lateen.api.findings import Finding
from lateen.model.destination_rules import destination_rules
from lateen.model.peer_authentication import peer_authentications
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
