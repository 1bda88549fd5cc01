"""Collects the findings about one object while validators walk it."""

from __future__ import annotations

from lateen.api.findings import FieldPath, Finding, Severity
from lateen.api.resource import Resource
from lateen.api.rule import Rule


class Report:
    """Findings about one resource. A validator gets one and adds to it; it never raises."""

    __slots__ = ("findings", "resource")

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.findings: list[Finding] = []

    def add(
        self,
        rule: Rule,
        path: FieldPath,
        message: str,
        hint: str = "",
        severity: Severity | None = None,
    ) -> None:
        """Add one finding at ``path``; its severity is the rule's unless given."""
        self.findings.append(
            Finding(
                rule=rule.id,
                severity=severity or rule.severity,
                message=message,
                hint=hint,
                key=self.resource.key,
                path=path,
                provenance=self.resource.provenance,
            )
        )

    def error(self, rule: Rule, path: FieldPath, message: str, hint: str = "") -> None:
        """Add an error: the object is refused."""
        self.add(rule, path, message, hint, Severity.ERROR)

    def warn(self, rule: Rule, path: FieldPath, message: str, hint: str = "") -> None:
        """Add a warning: the object is accepted, the author should look."""
        self.add(rule, path, message, hint, Severity.WARNING)

    def info(self, rule: Rule, path: FieldPath, message: str, hint: str = "") -> None:
        """Add a remark that needs no action."""
        self.add(rule, path, message, hint, Severity.INFO)

    @property
    def has_errors(self) -> bool:
        """Whether any finding so far is an error."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)
