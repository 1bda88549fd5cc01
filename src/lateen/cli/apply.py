"""`lateen apply`."""

from __future__ import annotations

import difflib
from typing import Any

import typer
from rich.markup import escape

from lateen.api.parse import to_raw
from lateen.api.resource import Resource
from lateen.cli.errors import FINDING, USAGE, CommandError
from lateen.cli.findings import finding_row, print_findings, sort_key, summary
from lateen.cli.mesh_findings import print_held, print_mesh_finding, warnings_about
from lateen.cli.mesh_state import connect, mesh_state
from lateen.cli.options import Files, Mesh, Namespace, Output, Recursive, Timeout, Wait
from lateen.cli.output import BAD, NOTE, OK, WARN, emit, out, print_hint, say
from lateen.cli.published import ports_of, print_settled
from lateen.cli.validate import all_findings, effect_findings, objects_without_errors
from lateen.source.client import Client
from lateen.source.files import Inputs, read_inputs
from lateen.source.rules import BEING_DELETED

_SILENT_SECONDS = 5.0
"""A proxy that acknowledges nothing for so long is said to."""
_MARKS = {"created": OK, "configured": OK, "unchanged": NOTE, "refused": BAD}


def apply(
    files: Files,
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    recursive: Recursive = False,
    wait: Wait = True,
    timeout: Timeout = 30.0,
    output: Output = "text",
) -> None:
    """Write objects into a running mesh. Objects with errors are left out; the others go on.

    Waits until every affected proxy has acknowledged, and names those that have not in time.
    """
    client = connect(mesh)
    inputs = read_inputs(files, recursive=recursive, default_namespace=namespace)
    _check_namespace(client, inputs, namespace)
    findings = sorted(all_findings(inputs), key=sort_key)
    good = objects_without_errors(inputs, findings)
    findings += sorted(effect_findings(inputs, good), key=sort_key)
    lines = list(send(client, good, wait=wait, timeout=timeout)) if good else []
    waited = next((line["wait"] for line in lines if "wait" in line), None)
    results = [line for line in lines if "result" in line]
    errors, _warnings, _remarks = summary(findings)
    # What is wrong beside other objects of the mesh can be said once it is in force. It is no
    # failure: what is missing may be applied next.
    later = warnings_about(client, [r["object"] for r in results]) if waited else []
    refused = [r for r in results if r["result"] == "refused"]
    if output == "text":
        print_findings(findings, inputs.texts.get)
        for result in results:
            print_result(result)
        print_wait(waited, timeout)
        for finding in later:
            print_mesh_finding(finding)
        # The mesh has what was applied; a port of the machine that is taken is no fault of it.
        if wait and (ports := ports_of(to_raw(resource) for resource in good)):
            print_settled(mesh_state(mesh), ports)
    else:
        rows = [*(finding_row(f) for f in findings), *later]
        emit({"objects": results, "findings": rows, "wait": waited}, output)
    late = waited is not None and not waited["acknowledged"]
    if not inputs.resources and not findings:
        raise CommandError("the files hold no object", "nothing was changed", FINDING)
    if errors or refused or late or not inputs.resources:
        raise typer.Exit(FINDING)


def _check_namespace(client: Client, inputs: Inputs, namespace: str) -> None:
    """Raises `CommandError` when objects would go to a namespace of ``-n`` that does not exist.

    A namespace that an object names itself is made with it; one of the command line may be
    misspelt.
    """
    used = any(resource.key.namespace == namespace for resource in inputs.resources)
    declared = any(
        (resource.key.kind, resource.key.name) == ("Namespace", namespace)
        for resource in inputs.resources
    )
    if namespace == "default" or declared or not used:
        return
    known = [str(item["metadata"]["name"]) for item in client.get("/api/v1/namespaces")["items"]]
    if namespace in known:
        return
    near = difflib.get_close_matches(namespace, known, n=1)
    hint = f"did you mean -n {near[0]}? " if near else ""
    raise CommandError(
        f"there is no namespace {namespace!r} in this mesh; nothing was changed",
        f"{hint}A new one is made by a Namespace object, or by metadata.namespace of an object",
        USAGE,
    )


def send(
    client: Client, resources: list[Resource], *, wait: bool, timeout: float = 30.0
) -> list[dict[str, Any]]:
    """Apply resources through the API: a line per object and, with ``wait``, one for the wait."""
    documents = [
        {
            "raw": to_raw(resource),
            "path": resource.provenance.path,
            "line": resource.provenance.line,
            "document": resource.provenance.document,
            "item": resource.provenance.item,
        }
        for resource in resources
    ]
    body = {"documents": documents, "manager": "lateen", "wait": wait, "timeout": timeout}
    return list(client.lines("POST", "/lateen/v1/apply", body, timeout=timeout + 30))


def print_result(result: dict[str, Any]) -> None:
    """One object's line: what became of it."""
    obj = result["object"]
    name = f"{obj['namespace']}/{obj['name']}" if obj["namespace"] else obj["name"]
    out.print(f"{_MARKS[result['result']]} {obj['kind']} {escape(name)} {result['result']}")
    if result["result"] == "refused":
        said = result["findings"]
    else:
        # The rest of what is to be said of an object was said of its file.
        said = [f for f in result["findings"] if f["rule"] == BEING_DELETED.id]
    for finding in said:
        mark = f"{WARN} " if finding["severity"] == "warning" else ""
        out.print(f"    {mark}{escape(finding['message'])}")
        print_hint(finding["hint"])


def _why_late(laggard: dict[str, Any]) -> str:
    if laggard.get("rejection"):
        return f": {laggard['rejection']}"
    if laggard.get("unsettledSeconds", 0.0) < _SILENT_SECONDS:
        return ""
    types = ", ".join(laggard.get("types") or ())
    return f": no acknowledgement of {types} for {laggard['unsettledSeconds']:.0f} s"


def print_wait(waited: dict[str, Any] | None, timeout: float) -> None:
    """Whether the change is live."""
    if waited is None:
        return
    if waited["acknowledged"]:
        count = waited.get("proxies", 0)
        if count:
            say(OK, f"live: acknowledged by {count} {'proxy' if count == 1 else 'proxies'}")
        else:
            say(NOTE, "no proxy is affected")
        return
    if waited.get("deferredChanges"):
        say(
            WARN,
            f"not live after {timeout:g} s: the control plane is overloaded, and "
            f"{waited['deferredChanges']} changes wait for endpoints and security policies",
            "nothing is lost: they are pushed by themselves; `lateen status` shows when",
        )
        return
    laggards, held = waited.get("laggards", []), waited.get("rejections", [])
    for entry in held:
        print_held(entry)
    seconds = waited.get("seconds", timeout)
    if laggards:
        say(WARN, f"not live everywhere after {seconds:.3g} s; not acknowledged by:")
        for laggard in laggards:
            out.print(f"    {escape(laggard['proxy'])}{escape(_why_late(laggard))}")
    elif not held:
        say(WARN, f"not live after {seconds:.3g} s: the control plane has not sent it yet")
    rejected = held or any(laggard.get("rejection") for laggard in laggards)
    what = "what each proxy has and what is held back" if rejected else "what each proxy has"
    print_hint(f"`lateen status` shows {what}")
