"""`lateen status`: what every proxy has, what is refused, and by which object."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from lateen.cli.errors import FINDING
from lateen.cli.mesh_findings import print_held, print_mesh_finding
from lateen.cli.mesh_state import connect, mesh_state
from lateen.cli.options import Mesh, Output
from lateen.cli.output import BAD, NOTE, OK, WARN, emit, say, table
from lateen.cli.published import print_unpublished, published_ports

_COLOURS = {"SYNCED": "green", "STALE": "yellow", "ERROR": "red", "NOT SENT": "yellow"}
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
        print_unpublished(published_ports(mesh_state(mesh)))
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
        print_mesh_finding(finding)
    overload = data.get("overload", {})
    if overload.get("overloaded"):
        say(WARN, overload_text(overload), "narrow what proxies see with Sidecar or exportTo")
    warnings = [f for f in data["findings"] if f["severity"] != "info"]
    if verbose:
        for finding in warnings:
            print_mesh_finding(finding)
    elif warnings:
        say(NOTE, f"{_counted(warnings)} about objects; `lateen status -v` shows them")
    in_sync = sum(1 for proxy in data["proxies"] if proxy["inSync"])
    mark = OK if in_sync == len(data["proxies"]) else WARN
    say(
        mark, f"{in_sync} of {len(data['proxies'])} proxies have all of revision {data['revision']}"
    )


def _counted(findings: list[dict[str, Any]]) -> str:
    """``2 errors and 1 warning``."""
    counts = []
    for severity in ("error", "warning"):
        number = sum(1 for finding in findings if finding["severity"] == severity)
        if number:
            counts.append(f"{number} {severity}{'' if number == 1 else 's'}")
    return " and ".join(counts)


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


def _state(state: str) -> str:
    colour = _COLOURS.get(state, "dim")
    return f"[{colour}]{state}[/]"


def _is_bad(proxy: dict[str, Any]) -> bool:
    return any(entry.get("state") == "ERROR" for entry in proxy["types"].values())
