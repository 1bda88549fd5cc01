"""What a running mesh says of its objects: findings, and what is held back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from lateen.api.locate import locate
from lateen.cli.output import BAD, NOTE, WARN, out, print_hint, say
from lateen.source.client import Client
from lateen.translate.rules import NO_EFFECT_YET, NOT_ENFORCED

MARKS = {"error": BAD, "warning": WARN, "info": NOTE}
_SAID_OF_FILES = frozenset({NO_EFFECT_YET.id, NOT_ENFORCED.id})


def warnings_of(client: Client) -> list[dict[str, Any]]:
    """Errors and warnings about the objects of a mesh, such as a Service that selects nothing.

    Settings without effect are left out: they were said of their files, with an excerpt.
    """
    return [
        finding
        for finding in client.get("/lateen/v1/findings")["findings"]
        if finding["severity"] != "info" and finding["rule"] not in _SAID_OF_FILES
    ]


def warnings_about(client: Client, objects: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`warnings_of` that are about ``objects`` (kind, namespace, name)."""
    keys = {_key(item) for item in objects}
    return [item for item in warnings_of(client) if _key(item.get("object") or {}) in keys]


def _key(item: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(item.get(name, "") for name in ("kind", "namespace", "name"))


def print_mesh_finding(finding: dict[str, Any]) -> None:
    """One finding, with its place and hint."""
    where = f"{_place(finding)}: " if finding.get("file") else ""
    subject = finding.get("object")
    name = f"{subject['kind']} {subject['namespace']}/{subject['name']}: " if subject else ""
    rule = f" [dim]\\[{finding['rule']}][/]" if finding.get("rule") else ""
    mark = MARKS[finding["severity"]]
    out.print(f"{mark} {escape(where)}{escape(name)}{escape(finding['message'])}{rule}")
    print_hint(finding.get("hint") or "")


def _place(finding: dict[str, Any]) -> str:
    """``file:line:column`` of a finding, or of its object when the file cannot be read here."""
    path, line, column = finding["file"], finding["line"], finding["column"]
    if not column and finding["path"]:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            text = ""
        found = locate(text, finding["document"], tuple(finding["path"]))
        line, column = found if found[0] else (line, column)
    return f"{path}:{line}:{column}" if column else f"{path}:{line}"


def print_held(entry: dict[str, Any]) -> None:
    """An object that is held back: where it is written, what is in force instead, and why."""
    where = f"{entry['file']}:{entry['line']}: " if entry.get("file") else ""
    subject = entry["object"]
    place = f"{subject['namespace']}/" if subject["namespace"] else ""
    instead = (
        "is held back, its last good version is in force"
        if entry.get("inForce")
        else "is left out, as it never had a good version"
    )
    by = f"{entry['proxy']} refused it: " if entry.get("proxy") else ""
    say(
        BAD,
        f"{where}{subject['kind']} {place}{subject['name']} {instead}: "
        f"{by}{str(entry.get('message', '')).strip()}",
        "change the object; a new version is tried at once",
    )
