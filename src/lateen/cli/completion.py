"""What the shell offers when the user presses Tab: meshes, namespaces, kinds, objects, pods.

A mesh that does not answer within `_PATIENCE` seconds offers nothing; nothing is ever printed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from typing import Any

import typer

_PATIENCE = 1.0
_WORKLOADS = ("deploy", "sts", "ds")
"""Kinds whose objects are offered where a workload or one of its pods is meant."""


def words_so_far() -> list[str] | None:
    """Words of the command line that the shell completes; None when it does not complete."""
    if "_LATEEN_COMPLETE" not in os.environ:
        return None
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    try:
        return shlex.split(line)[1:]
    except ValueError:  # a quotation that is not closed yet
        return line.split()[1:]


def mesh_names(incomplete: str) -> list[str]:
    """Meshes on this machine, for ``--mesh``."""
    from lateen.cli.mesh_state import meshes

    return _starting(incomplete, (mesh.name for mesh in meshes() if mesh.node()))


def namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    """Namespaces of the mesh, for ``--namespace``."""
    return _starting(incomplete, _names(ctx, "namespaces"))


def objects(ctx: typer.Context, incomplete: str) -> list[str]:
    """``KIND``, ``KIND NAME`` and ``KIND/NAME``, for `get`, `delete` and `history`."""
    kind, slash, _ = incomplete.partition("/")
    if slash:
        return _starting(incomplete, (f"{kind}/{name}" for name in _names(ctx, kind)))
    before = [word for word in _positional(ctx) if "/" not in word]
    if before:
        return _starting(incomplete, _names(ctx, before[0]))
    from lateen.api.kinds import KINDS

    return _starting(incomplete, sorted({info.plural for info in KINDS.values()}))


def workloads(ctx: typer.Context, incomplete: str) -> list[str]:
    """``deploy/NAME`` and the like, for `restart` and `scale`."""
    found = (f"{kind}/{name}" for kind in _WORKLOADS for name in _names(ctx, kind))
    return _starting(incomplete, found)


def pods(ctx: typer.Context, incomplete: str) -> list[str]:
    """Workloads and pods, for `logs`, `exec` and `config`."""
    return [*workloads(ctx, incomplete), *_starting(incomplete, _names(ctx, "pods"))]


def config_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `config` shows."""
    from lateen.cli.config import KINDS

    return _starting(incomplete, KINDS)


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _positional(ctx: typer.Context) -> list[str]:
    words = ctx.params.get("arguments")
    return [str(word) for word in words] if isinstance(words, list | tuple) else []


def _names(ctx: typer.Context, kind: str) -> list[str]:
    """Names of the objects of a kind in the namespace and mesh that the command line names."""
    from lateen.cli.errors import CommandError
    from lateen.cli.kinds import resolve
    from lateen.cli.mesh_state import mesh_state
    from lateen.source.client import ApiError, ApiUnavailable, Client

    mesh, namespace = ctx.params.get("mesh"), ctx.params.get("namespace")
    try:
        state = mesh_state(str(mesh or os.environ.get("LATEEN_MESH") or "default"))
        client = Client(state.api_socket, _PATIENCE)
        items: list[dict[str, Any]] = client.get(resolve(kind).path(str(namespace or "default")))[
            "items"
        ]
    except (CommandError, ApiError, ApiUnavailable):
        return []
    return [str(item["metadata"]["name"]) for item in items]
