"""Checks among Kubernetes objects."""

from __future__ import annotations

from collections.abc import Iterable

from lateen.api.findings import Finding
from lateen.api.resource import Resource


def validate_services_together(resources: Iterable[Resource]) -> list[Finding]:
    """Services that claim the same address."""
    return []
