"""Checks among Kubernetes objects."""

from __future__ import annotations

from collections.abc import Iterable

from lateen.api.core.rules import SHARED_ADDRESS
from lateen.api.core.service import Service
from lateen.api.findings import Finding
from lateen.api.report import Report
from lateen.api.resource import Resource


def validate_services_together(resources: Iterable[Resource]) -> list[Finding]:
    """Services that claim the same ClusterIP; the later one is at fault."""
    findings: list[Finding] = []
    owner: dict[str, Resource] = {}
    for resource in resources:
        if not isinstance(resource.object, Service):
            continue
        spec = resource.object.spec
        for address in dict.fromkeys((spec.cluster_ip, *spec.cluster_ips)):
            if address in ("", "None"):
                continue
            first = owner.setdefault(address, resource)
            if first is not resource:
                report = Report(resource)
                report.error(
                    SHARED_ADDRESS,
                    ("spec", "clusterIP"),
                    f"{address} is already the address of {first.key}",
                    "Leave clusterIP out and one is allocated.",
                )
                findings += report.findings
    return findings
