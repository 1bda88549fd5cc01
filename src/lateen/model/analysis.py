"""What can be said only by looking at several objects together."""

from __future__ import annotations

from lateen.api.findings import Finding
from lateen.model.snapshot import Snapshot


def findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Objects that could not be used and why, in a stable order."""
    return snapshot.services.findings
