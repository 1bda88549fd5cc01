"""`lateen validate`: is it well-formed, offline."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import typer

from lateen.api.findings import Finding, Severity
from lateen.api.locate import with_positions
from lateen.api.resource import Resource
from lateen.api.validate import validate_all
from lateen.cli.errors import FINDING
from lateen.cli.findings import finding_row, print_findings, sort_key, summary
from lateen.cli.options import Files, Namespace, Output
from lateen.cli.output import BAD, OK, WARN, emit, say
from lateen.model.rules import SELECTS_NOTHING
from lateen.source.files import Inputs, read_inputs
from lateen.translate.rules import (
    UNKNOWN_GATEWAY,
    UNKNOWN_HOST,
    UNKNOWN_SUBSET,
)
from lateen.translate.unused_kinds import effect_findings as object_effect_findings


def validate(files: Files, output: Output = "text", namespace: Namespace = "default") -> None:
    """Check files and folders without a mesh: every finding with file, line, excerpt and hint.

    Folders are read with all that is below them. Exit status 1 when there is an error.
    """
    started = time.perf_counter()
    inputs = read_inputs(files, recursive=True, default_namespace=namespace)
    found = all_findings(inputs)
    good = objects_without_errors(inputs, found)
    # Offline nobody is misled by a policy that is not enforced here: the file is valid.
    found += map(_as_warning, effect_findings(inputs, good))
    found += reference_findings(inputs, good)
    findings = sorted(found, key=sort_key)
    errors, warnings, _remarks = summary(findings)
    if output == "text":
        print_findings(findings, inputs.texts.get)
        counted = f"{len(inputs.resources)} objects in {len(inputs.texts)} files"
        seconds = time.perf_counter() - started
        mark = BAD if errors else WARN if warnings else OK
        say(mark, f"{counted}: {errors} errors, {warnings} warnings ({seconds:.1f} s)")
    else:
        emit({"findings": [finding_row(finding) for finding in findings]}, output)
    if errors:
        raise typer.Exit(FINDING)


def _as_warning(finding: Finding) -> Finding:
    return replace(finding, severity=min(finding.severity, Severity.WARNING, key=_BADNESS.index))


_BADNESS = (Severity.INFO, Severity.WARNING, Severity.ERROR)


def all_findings(inputs: Inputs) -> list[Finding]:
    """What parsing and validation say of the inputs, with positions."""
    later = validate_all(inputs.resources)
    return inputs.findings + list(with_positions(later, inputs.texts.get))


def effect_findings(inputs: Inputs, resources: Iterable[Resource]) -> list[Finding]:
    """What is accepted but has no effect yet, with positions; said whenever objects are applied."""
    found = [finding for resource in resources for finding in object_effect_findings(resource)]
    return list(with_positions(found, inputs.texts.get))


def reference_findings(inputs: Inputs, resources: list[Resource]) -> list[Finding]:
    """What leads nowhere among ``resources``, or is in the way of something else.

    Files need not be the whole mesh. What may be elsewhere is only a remark when the files hold
    nothing of its kind, as a host is when they have no service.
    """
    from lateen.cli.offline import offline_snapshot
    from lateen.translate.mesh_findings import mesh_findings

    present = {(resource.key.group, resource.key.kind) for resource in resources}
    if not present & _REFERRING:
        return []
    snapshot = offline_snapshot(resources)
    found = [
        _as_remark(item) if _may_be_elsewhere(item, present) else item
        for item in (*snapshot.findings, *mesh_findings(snapshot))
    ]
    return list(with_positions(found, inputs.texts.get))


_NETWORKING = "networking.istio.io"
_REFERRING = {
    (_NETWORKING, "VirtualService"),
    (_NETWORKING, "Gateway"),
    (_NETWORKING, "DestinationRule"),
    (_NETWORKING, "ServiceEntry"),
    ("", "Service"),
    ("security.istio.io", "PeerAuthentication"),
}
"""Kinds that such findings are about."""
_SERVICES = {("", "Service"), (_NETWORKING, "ServiceEntry")}
_WORKLOADS = {
    ("", "Pod"),
    *(("apps", kind) for kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")),
    *(("batch", kind) for kind in ("Job", "CronJob")),
}
_NEEDED = {
    UNKNOWN_HOST.id: {("", "Service")},
    UNKNOWN_SUBSET.id: _SERVICES,
    UNKNOWN_GATEWAY.id: {(_NETWORKING, "Gateway"), *_SERVICES},
    SELECTS_NOTHING.id: _WORKLOADS,
}
"""By rule, kinds of which files have some if they are to be complete."""


def _may_be_elsewhere(finding: Finding, present: set[tuple[str, str]]) -> bool:
    needed = _NEEDED.get(finding.rule)
    return needed is not None and not present & needed


def _as_remark(finding: Finding) -> Finding:
    return replace(finding, severity=Severity.INFO)


def objects_without_errors(inputs: Inputs, findings: list[Finding]) -> list[Resource]:
    """The resources that no error is about."""
    bad = {(f.key, f.provenance.path) for f in findings if f.severity == "error"}
    return [r for r in inputs.resources if (r.key, r.provenance.path) not in bad]
