"""`lateen delete`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from lateen.api.findings import Finding, Severity
from lateen.cli.apply import print_wait
from lateen.cli.completion import objects
from lateen.cli.errors import FINDING, USAGE, CommandError
from lateen.cli.findings import print_findings
from lateen.cli.kinds import Reference, resolve
from lateen.cli.mesh_state import connect
from lateen.cli.options import Mesh, Namespace, Recursive
from lateen.cli.output import NOTE, OK, complain, say
from lateen.source.client import ApiError, Client
from lateen.source.files import read_inputs

POLL_SECONDS = 0.1


def delete(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="KIND NAME..., or KIND/NAME...", metavar="OBJECT", autocompletion=objects
        ),
    ] = None,
    files: Annotated[
        list[str] | None, typer.Option("-f", "--filename", help="Delete what these files name.")
    ] = None,
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    recursive: Recursive = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="Missing objects are not an error.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait",
            help="Return when their pods have ended and every affected proxy has acknowledged.",
        ),
    ] = True,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait.")] = 60.0,
) -> None:
    """Delete objects from a running mesh, by file or by kind and name.

    Waits until the pods among them, and those of deleted workloads, have ended, and every affected
    proxy has acknowledged; names those that have not in time.
    """
    began = time.monotonic()
    client = connect(mesh)
    targets: list[tuple[str, str]] = []
    unread: list[Finding] = []
    if files:
        inputs = read_inputs(files, recursive=recursive, default_namespace=namespace)
        # What cannot be read is not deleted: that is said, and the command fails at its end.
        unread = [f for f in inputs.findings if f.severity is Severity.ERROR]
        print_findings(unread, inputs.texts.get)
        targets += [
            (resolve(f"{r.key.kind}.{r.key.group}").path(r.key.namespace, r.key.name), str(r.key))
            for r in inputs.resources
        ]
    targets += [
        (reference.kind.path(namespace, reference.name), f"{reference.kind.kind} {reference.name}")
        for reference in named(arguments or [])
    ]
    if not targets:
        raise CommandError("nothing to delete", "give -f FILE, or KIND NAME", USAGE)
    missing = 0
    deleted: list[dict[str, Any]] = []
    for path, label in targets:
        try:
            deleted.append(client.request("DELETE", path))
            say(OK, f"{label} deleted")
        except ApiError as error:
            if error.status != 404:
                raise
            missing += not ignore_not_found
            if ignore_not_found:
                say(NOTE, f"{label} does not exist")
            else:
                complain(f"{label} does not exist")
    remaining = _wait_for_pods(client, deleted, timeout) if wait else []
    if remaining:
        raise CommandError(
            f"deleted, but after {timeout:g} s these pods have not ended: {', '.join(remaining)}",
            "they end within their terminationGracePeriodSeconds; `lateen ps` shows them, "
            "--timeout waits longer",
            FINDING,
        )
    late = False
    if wait and deleted:
        left = max(1.0, timeout - (time.monotonic() - began))
        waited = client.request("POST", "/lateen/v1/wait", {"timeout": left}, timeout=left + 30)
        print_wait(waited, timeout)
        late = not waited["acknowledged"]
    if missing or unread or late:
        raise typer.Exit(FINDING)


def _wait_for_pods(client: Client, deleted: list[dict[str, Any]], timeout: float) -> list[str]:
    """Wait for the pods that go with ``deleted``; those that are left at the timeout."""
    gone = {str(raw["metadata"].get("uid")) for raw in deleted if "metadata" in raw}
    # Only what has a pod can keep anybody waiting.
    if not any(raw.get("kind") in _WITH_PODS for raw in deleted):
        return []
    deadline = time.monotonic() + timeout
    told = False
    while True:
        remaining = list(_ending(client.get("/api/v1/pods")["items"], gone))
        if not remaining or time.monotonic() >= deadline:
            return remaining
        if not told:
            told = True
            say(NOTE, f"waiting for {len(remaining)} pods to end")
        time.sleep(POLL_SECONDS)


_WITH_PODS = frozenset({"Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"})


def _ending(pods: Iterable[dict[str, Any]], gone: set[str]) -> Iterable[str]:
    """Names of the pods that are among ``gone`` (by uid) or belong to one of them."""
    for pod in pods:
        metadata = pod["metadata"]
        owners = {str(owner.get("uid")) for owner in metadata.get("ownerReferences") or []}
        if str(metadata.get("uid")) in gone or owners & gone:
            yield f"{metadata['namespace']}/{metadata['name']}"


def named(arguments: list[str]) -> list[Reference]:
    """``KIND NAME...`` or ``KIND/NAME...`` as references."""
    if not arguments:
        return []
    if "/" in arguments[0]:
        return [Reference.parse(argument) for argument in arguments]
    kind = resolve(arguments[0])
    if len(arguments) == 1:
        raise CommandError(f"which {kind.kind}?", f"give a name: {arguments[0]} NAME", USAGE)
    return [Reference(kind, name) for name in arguments[1:]]
