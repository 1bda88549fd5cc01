"""Validation of single objects, and of what needs only a look at all of them together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from lateen.api.findings import Finding
from lateen.api.metadata import validate_metadata
from lateen.api.reading import DUPLICATE_OBJECT
from lateen.api.report import Report
from lateen.api.resource import ObjectKey, Resource

Validator = Callable[[Any, Report], None]
"""Checks one typed object and adds to the report. The first argument is the kind's struct."""

_GROUPS = ("core", "networking", "security", "telemetry", "extensions", "gatewayapi", "meshconfig")


@cache
def _validators() -> Mapping[tuple[str, str], Validator]:
    found: dict[tuple[str, str], Validator] = {}
    for name in _GROUPS:
        package = importlib.import_module(f"lateen.api.{name}")
        found.update(getattr(package, "VALIDATORS", {}))
    return found


def validate(resource: Resource) -> list[Finding]:
    """Everything that can be said about ``resource`` by itself, errors and warnings."""
    report = Report(resource)
    validate_metadata(resource, report)
    validator = _validators().get((resource.key.group, resource.key.kind))
    if validator is not None:
        validator(resource.object, report)
    return report.findings


def validate_all(resources: Iterable[Resource]) -> list[Finding]:
    """`validate` for each, and what is wrong among them: objects given twice, shared addresses."""
    from lateen.api.core.together import validate_services_together

    findings: list[Finding] = []
    first: dict[ObjectKey, Resource] = {}
    for resource in resources:
        findings += validate(resource)
        earlier = first.setdefault(resource.key, resource)
        if earlier is not resource:
            # In one file it is a mistake; folders of alternatives (as samples are) are not, and
            # like kubectl the last one wins.
            report = Report(resource)
            same_file = earlier.provenance.path == resource.provenance.path
            (report.error if same_file else report.warn)(
                DUPLICATE_OBJECT,
                ("metadata", "name"),
                f"{resource.key} is already defined at {earlier.provenance}",
                "Keep one of the two or rename one; the last one wins.",
            )
            findings += report.findings
    findings += validate_services_together(first.values())
    return findings
