"""Findings on the terminal: position, words, excerpt, hint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape

from lateen.api.findings import Finding, Severity
from lateen.api.locate import excerpt
from lateen.cli.output import BAD, NOTE, WARN, out, print_hint

MOST_SHOWN = 100
"""Findings that are printed; whoever has more mends these first."""
_LONGEST = 600
"""Characters of a message."""
MARKS = {Severity.ERROR: BAD, Severity.WARNING: WARN, Severity.INFO: NOTE}


def print_findings(
    findings: Iterable[Finding], text_of: Callable[[str], str | None], to: Console = out
) -> None:
    """Each finding with the line it is about and its hint; of very many the first errors."""
    found = list(findings)
    shown = found
    if len(found) > MOST_SHOWN:
        worst = [item for item in found if item.severity is Severity.ERROR]
        shown = (worst or found)[:MOST_SHOWN]
    for finding in shown:
        print_finding(finding, text_of(finding.provenance.path) if finding.line else None, to)
    if len(shown) < len(found):
        to.print(f"{NOTE} and {len(found) - len(shown)} more; `-o json` lists all of them")


def print_finding(finding: Finding, text: str | None = None, to: Console = out) -> None:
    """One finding; ``text`` is the content of its file, for the excerpt."""
    where = place(finding)
    subject = f" {finding.key}:" if finding.key else ""
    message, hint = shortened(finding.message), shortened(finding.hint)
    # What is missing has no line of its own to point at, so it is named.
    field = f" {_dotted(finding)}:" if finding.message == "Required value" else ""
    to.print(
        f"{MARKS[finding.severity]} {escape(where)}{escape(shortened(subject))}{escape(field)}"
        f" {escape(message)}"
        f" [dim]\\[{finding.rule}][/]"
    )
    if text is not None and finding.line:
        for line in excerpt(text, finding.line, finding.column).splitlines():
            to.print(f"    [dim]{escape(line)}[/]")
    print_hint(hint, to)


def shortened(text: str) -> str:
    """``text`` with its middle left out when it is very long: messages quote what was written."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} … {text[-half:]}"


def _dotted(finding: Finding) -> str:
    """The path of a finding's field as people write it: ``spec.http[0].route``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in finding.path)
    return "".join(parts).removeprefix(".")


def place(finding: Finding) -> str:
    """``file:line:column`` as far as it is known, followed by a blank-separating colon."""
    path = finding.provenance.path
    if not path:
        return ""
    line = finding.line or finding.provenance.line
    if not line:
        return f"{path}:"
    return f"{path}:{line}:{finding.column}:" if finding.column else f"{path}:{line}:"


def finding_row(finding: Finding) -> dict[str, Any]:
    """A finding as documented for ``-o json``."""
    key = finding.key
    return {
        "rule": finding.rule,
        "severity": str(finding.severity),
        "file": finding.provenance.path,
        "line": finding.line or finding.provenance.line,
        "column": finding.column,
        "object": {
            "kind": key.kind if key else "",
            "namespace": key.namespace if key else "",
            "name": shortened(key.name) if key else "",
        },
        "message": shortened(finding.message),
        "hint": shortened(finding.hint),
    }


def sort_key(finding: Finding) -> tuple[str, int, int, str]:
    """Findings in the order of the files."""
    return (
        finding.provenance.path,
        finding.line or finding.provenance.line,
        finding.column,
        finding.rule,
    )


def summary(findings: Iterable[Finding]) -> tuple[int, int, int]:
    """How many errors, warnings and remarks."""
    found = [finding.severity for finding in findings]
    return (
        found.count(Severity.ERROR),
        found.count(Severity.WARNING),
        found.count(Severity.INFO),
    )
