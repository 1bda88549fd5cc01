"""`lateen status`: what every proxy has, what is refused, and by which object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from lateen.api.locate import locate
from lateen.cli.apply import print_held
from lateen.cli.errors import FINDING
from lateen.cli.mesh_state import connect
from lateen.cli.options import Mesh, Output
from lateen.cli.output import BAD, NOTE, OK, WARN, emit, out, say, table
from lateen.source.client import Client
from lateen.translate.rules import NO_EFFECT_YET, NOT_ENFORCED

_COLOURS = {"SYNCED": "green", "STALE": "yellow", "ERROR": "red", "NOT SENT": "yellow"}
_SAID_OF_FILES = frozenset({NO_EFFECT_YET.id, NOT_ENFORCED.id})
_TYPES = ("cds", "lds", "eds", "rds")
_WORST_FIRST = ("ERROR", "STALE", "NOT SENT", "SYNCED")


def status(
    mesh: Mesh = "default",
    output: Output = "text",
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Warnings about objects too.")
    ] = False,
) -> None:
    """Per proxy: connected, acknowledged, rejected and by which object; exit 1 if one is behind."""
    data = connect(mesh).get("/lateen/v1/status")
    if output == "text":
        _print(data, verbose=verbose)
    else:
        emit(data, output)
    if data["quarantined"] or data["broken"] or any(_is_bad(p) for p in data["proxies"]):
        raise typer.Exit(FINDING)


def _print(data: dict[str, Any], *, verbose: bool) -> None:
    rows = []
    for proxy in data["proxies"]:
        states = [_state(type_state(proxy["types"], kind)) for kind in _TYPES]
        mark = BAD if _is_bad(proxy) else OK if proxy["inSync"] else WARN
        name = f"{escape(proxy['name'])}.{escape(proxy['namespace'])}"
        rows.append((mark, name, proxy["type"], *states, escape(proxy["identity"])))
    if rows:
        table(("", "PROXY", "TYPE", "CDS", "LDS", "EDS", "RDS", "IDENTITY"), rows)
    else:
        say(NOTE, "no proxy is connected")
    for proxy in data["proxies"]:
        for kind, entry in proxy["types"].items():
            if entry.get("message"):
                say(
                    BAD, f"{proxy['name']}.{proxy['namespace']} rejected {kind}: {entry['message']}"
                )
    for entry in data["quarantined"]:
        print_held(entry)
    for entry in data.get("refusedAlone", ()):
        where = f"{entry['file']}:{entry['line']}: " if entry.get("file") else ""
        names = ", ".join(entry["resources"])
        say(
            WARN,
            f"{where}{entry['proxy']} alone refuses {entry['type']} {names}, which others accept: "
            f"{str(entry['message']).strip()}",
            "it keeps what it has; look at this proxy's version and at who runs in its pod",
        )
    for finding in data["broken"]:
        _print_finding(BAD, finding)
    overload = data.get("overload", {})
    if overload.get("overloaded"):
        say(WARN, overload_text(overload), "narrow what proxies see with Sidecar or exportTo")
    warnings = [f for f in data["findings"] if f["severity"] != "info"]
    if verbose:
        for finding in warnings:
            _print_finding(WARN, finding)
    elif warnings:
        say(NOTE, f"{len(warnings)} warnings about objects; `lateen status -v` shows them")
    in_sync = sum(1 for proxy in data["proxies"] if proxy["inSync"])
    mark = OK if in_sync == len(data["proxies"]) else WARN
    say(
        mark, f"{in_sync} of {len(data['proxies'])} proxies have all of revision {data['revision']}"
    )


def overload_text(overload: dict[str, Any]) -> str:
    """What the control plane says of its overload, as a sentence."""
    count, classes = overload["deferredChanges"], overload["deferredByClass"]
    text = (
        f"the control plane has been overloaded for {overload['seconds']:.0f} s: endpoints, "
        "secrets and security policies go first"
    )
    if not count:
        return f"{text}, nothing is deferred now"
    named = ", ".join(f"{number} of {name}" for name, number in sorted(classes.items()))
    oldest = overload["oldestSeconds"]
    return f"{text}, {count} other changes are deferred ({named}), the oldest for {oldest:.1f} s"


def type_state(types: dict[str, Any], kind: str) -> str:
    """Routes are in the worst state of route configurations and their virtual hosts."""
    kinds = (kind, "vhds") if kind == "rds" else (kind,)
    found = {types.get(name, {}).get("state", "IGNORED") for name in kinds}
    return next((state for state in _WORST_FIRST if state in found), "IGNORED")


def print_warnings(client: Client) -> None:
    """What is wrong among the objects of a mesh, such as a Service that selects nothing.

    Settings without effect are left out: they were said of their files, with an excerpt.
    """
    for finding in client.get("/lateen/v1/status")["findings"]:
        if finding["severity"] != "info" and finding["rule"] not in _SAID_OF_FILES:
            _print_finding(WARN if finding["severity"] == "warning" else BAD, finding)


def _print_finding(mark: str, finding: dict[str, Any]) -> None:
    where = f"{_place(finding)}: " if finding.get("file") else ""
    subject = finding.get("object")
    name = f"{subject['kind']} {subject['namespace']}/{subject['name']}: " if subject else ""
    out.print(f"{mark} {escape(where)}{escape(name)}{escape(finding['message'])}")
    if finding.get("hint"):
        out.print(f"  [dim]→[/] {escape(finding['hint'])}")


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


def _state(state: str) -> str:
    colour = _COLOURS.get(state, "dim")
    return f"[{colour}]{state}[/]"


def _is_bad(proxy: dict[str, Any]) -> bool:
    return any(entry.get("state") == "ERROR" for entry in proxy["types"].values())
