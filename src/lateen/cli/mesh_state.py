"""Where a mesh on this machine keeps its things, and how the commands find it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lateen.cli.errors import USAGE, CommandError
from lateen.runtime.local import running_pid
from lateen.source.client import ApiUnavailable, Client

_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")


@dataclass(frozen=True, slots=True)
class MeshState:
    """Paths of one mesh. The folder is private (mode 0700)."""

    name: str
    folder: Path

    @property
    def api_socket(self) -> Path:
        """Socket of the control plane's API."""
        return self.folder / "api.sock"

    @property
    def agent_socket(self) -> Path:
        """Socket of the node's agent (exec, logs, publishing)."""
        return self.folder / "agent.sock"

    @property
    def logs(self) -> Path:
        """Folder of container and component logs."""
        return self.folder / "logs"

    @property
    def node_file(self) -> Path:
        """What `up` wrote about the running node: process ids, options, published ports."""
        return self.folder / "node.json"

    def node(self) -> dict[str, Any]:
        """Content of `node_file`, empty when there is none or it is unreadable."""
        try:
            data = json.loads(self.node_file.read_text())
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def exists(self) -> bool:
        """Whether anything of this mesh is on this machine."""
        return self.folder.exists()


def state_root() -> Path:
    """``$XDG_STATE_HOME/lateen`` or ``~/.local/state/lateen``."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "lateen"


def mesh_state(name: str) -> MeshState:
    """The state of the mesh with this name. Raises `CommandError` for a name that cannot be one."""
    if not _NAME.match(name):
        raise CommandError(
            f"{name!r} cannot be the name of a mesh",
            "use lower-case letters, digits and dashes, at most 40",
            USAGE,
        )
    folder = state_root() / name
    # A Unix socket's path is limited to 107 bytes by the kernel (unix(7)).
    if len(str(folder / "agent.sock")) > 107:
        raise CommandError(
            f"the path {folder} is too long for Unix sockets",
            "set XDG_STATE_HOME to a shorter folder",
        )
    return MeshState(name, folder)


def meshes() -> list[MeshState]:
    """All meshes that have state on this machine."""
    root = state_root()
    if not root.is_dir():
        return []
    return [MeshState(p.name, p) for p in sorted(root.iterdir()) if p.is_dir()]


def connect(name: str, timeout: float = 30.0) -> Client:
    """A client of a running mesh's API. Raises `CommandError` when it does not run."""
    state = mesh_state(name)
    client = Client(state.api_socket, timeout)
    try:
        client.request("GET", "/version", timeout=5.0)
    except ApiUnavailable as error:
        raise not_running(state) from error
    return client


def ended(state: MeshState) -> CommandError:
    """The error for a mesh whose node has gone without `down`: killed, or out of memory."""
    return CommandError(
        f"mesh {state.name} has ended: its node was killed, and all of its pods with it",
        f"`lateen down --mesh {state.name}` cleans up, `lateen up` starts it again; its last words "
        f"are in {state.logs}/agent.log",
    )


def not_running(state: MeshState) -> CommandError:
    """The error for a mesh that does not answer, with what to do about it."""
    others = [other.name for other in meshes() if other.name != state.name and other.node()]
    if state.node():
        if not running_pid(state.folder):
            return ended(state)
        return CommandError(
            f"the control plane of mesh {state.name} does not answer",
            f"see {state.logs}/control-plane.log; `lateen down --mesh {state.name}` cleans up",
        )
    hint = "start one with `lateen up -f FILE` (or `make demo`)"
    if others:
        hint = f"running meshes: {', '.join(others)}; choose one with --mesh"
    return CommandError(f"no mesh named {state.name} runs on this machine", hint)
