"""`lateen get` and `lateen history`."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from lateen.cli.columns import columns_of
from lateen.cli.completion import objects
from lateen.cli.errors import FINDING, USAGE, CommandError
from lateen.cli.kinds import Kind, Reference, resolve
from lateen.cli.mesh_state import connect
from lateen.cli.options import AllNamespaces, Mesh, Namespace, Output
from lateen.cli.output import age, complain, emit, out, table
from lateen.source.client import ApiError, Client


def get(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="OBJECT",
            help="KIND[,KIND] [NAME...] or KIND/NAME...",
            autocompletion=objects,
        ),
    ],
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
    selector: Annotated[str, typer.Option("-l", "--selector", help="Label selector.")] = "",
    output: Output = "text",
) -> None:
    """Show objects: `get pods`, `get vs,dr -A`, `get deploy/reviews-v1 -o yaml`."""
    client = connect(mesh)
    place = "" if all_namespaces else namespace
    references, kinds = _targets(arguments)
    failed = False
    items: list[tuple[Kind, dict[str, Any]]] = []
    for reference in references:
        try:
            raw = client.get(reference.kind.path(place or namespace, reference.name))
            items.append((reference.kind, raw))
        except ApiError as error:
            if error.status != 404:
                raise
            failed = True
            complain(str(error))
    for kind in kinds:
        query = f"?labelSelector={selector}" if selector else ""
        found = client.get(kind.path(place) + query)["items"]
        items += [(kind, item) for item in found]
    if output == "text":
        _print(items, show_namespace=all_namespaces)
        if not items and not failed:
            where = "in this mesh" if all_namespaces else f"in namespace {namespace}"
            complain(f"nothing found {where}", "-A looks in all namespaces", mark="·")
    elif len(items) == 1 and references:
        emit(items[0][1], output)
    else:
        emit({"apiVersion": "v1", "kind": "List", "items": [raw for _, raw in items]}, output)
    if failed:
        raise typer.Exit(FINDING)


def history(
    reference: Annotated[str, typer.Argument(metavar="KIND/NAME", autocompletion=objects)],
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    output: Output = "text",
) -> None:
    """Every change of an object: revision, when, what, by whom, from which file."""
    client = connect(mesh)
    target = Reference.parse(reference)
    events = changes(client, target, namespace)
    if not events:
        raise CommandError(f"{reference} was never in this mesh", "check -n NAMESPACE", FINDING)
    if output != "text":
        emit({"items": events}, output)
        return
    rows = []
    for event in events:
        when = datetime.fromtimestamp(event["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        source = f"{event['file']}:{event['line']}" if event["file"] else "-"
        verb = {"ADDED": "created", "MODIFIED": "changed", "DELETED": "deleted"}[event["verb"]]
        rows.append((str(event["revision"]), when, verb, escape(source), escape(event["who"])))
    table(("REVISION", "WHEN", "WHAT", "FROM", "BY"), rows)


def changes(client: Client, target: Reference, namespace: str) -> list[dict[str, Any]]:
    """History of an object, newest first."""
    info = target.kind.info
    place = namespace if info.namespaced else ""
    query = f"group={info.group}&kind={info.kind}&namespace={place}&name={target.name}"
    items: list[dict[str, Any]] = client.get(f"/lateen/v1/history?{query}")["items"]
    return items


def _targets(arguments: list[str]) -> tuple[list[Reference], list[Kind]]:
    if any("/" in argument for argument in arguments):
        return [Reference.parse(argument) for argument in arguments], []
    kinds = [resolve(word) for word in arguments[0].split(",") if word]
    names = arguments[1:]
    if names and len(kinds) > 1:
        raise CommandError("names need one kind", f"get {arguments[0].split(',')[0]} NAME", USAGE)
    if names:
        return [Reference(kinds[0], name) for name in names], []
    return [], kinds


def _print(items: list[tuple[Kind, dict[str, Any]]], *, show_namespace: bool) -> None:
    by_kind: dict[str, list[tuple[Kind, dict[str, Any]]]] = {}
    for kind, raw in items:
        by_kind.setdefault(kind.info.plural, []).append((kind, raw))
    several = len(by_kind) > 1
    for index, group in enumerate(by_kind.values()):
        if index:
            out.print()
        kind = group[0][0]
        columns = columns_of(kind.kind)
        heads = [column.title for column in columns]
        spaces = show_namespace and kind.info.namespaced
        rows = []
        for _, raw in group:
            metadata = raw["metadata"]
            name = f"{kind.info.singular}/{metadata['name']}" if several else metadata["name"]
            cells = [name, *(escape(column.value(raw)) for column in columns), _age(metadata)]
            rows.append([metadata.get("namespace", ""), *cells] if spaces else cells)
        table([*(["NAMESPACE"] if spaces else []), "NAME", *heads, "AGE"], rows)


def _age(metadata: dict[str, Any]) -> str:
    stamp = metadata.get("creationTimestamp")
    if not stamp:
        return "-"
    return age(time.time() - datetime.fromisoformat(stamp).timestamp())
