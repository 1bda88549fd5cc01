"""`lateen control-plane` and `lateen agent`: the long-running parts, for service managers."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from lateen.cli.errors import USAGE, CommandError


def control_plane(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Options of the control plane; --help lists them.")
    ] = None,
) -> None:
    """Run the control plane in the foreground: store, API, xDS, certificate authority."""
    # A process of its own interpreter image: the command line's imports are not its business.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "lateen.serve.main", *(arguments or [])])


def agent(
    state_dir: Annotated[str, typer.Option(help="State directory of the mesh.")] = "",
    mesh: Annotated[str, typer.Option("--mesh", help="Name of the mesh.")] = "default",
) -> None:
    """Run a node's agent in the foreground, with its control plane and without manifests."""
    from pathlib import Path

    from lateen.cli.mesh_state import mesh_state
    from lateen.runtime.local import MeshRunning, NodeOptions, start
    from lateen.runtime.node.errors import NodeError

    folder = Path(state_dir) if state_dir else mesh_state(mesh).folder
    try:
        node = start(mesh, folder, NodeOptions(die_with_parent=True))
        node.handle.wait_ready(60.0)
    except MeshRunning as error:
        raise CommandError(str(error), f"`lateen down --mesh {mesh}` ends it") from error
    except NodeError as error:
        raise CommandError(str(error), error.hint, USAGE) from error
    try:
        node.handle.wait()
    except (NodeError, KeyboardInterrupt):
        pass
    finally:
        node.stop(keep=True)
