"""Files that the command of an image mapping needs: where they lie, and what of them pods must see.

Pods have a /tmp and /run of their own, and see nothing of folders that are closed to other users,
except what is exposed to them (`lateen.runtime.node.spec.NodeConfig.exposed_paths`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_NEVER_WHOLE = frozenset(
    {"/", "/tmp", "/run", "/var/tmp", "/var", "/dev", "/proc", "/sys", "/home", "/root"}
)
"""Folders that are not shown as a whole for the sake of a file that lies in them."""


@dataclass(frozen=True, slots=True)
class Located:
    """A command with its program found."""

    argv: tuple[str, ...]
    cwd: str = ""
    """Where it runs: the folder that its relative names refer to; empty when it has none."""
    exposed: tuple[str, ...] = ()
    """Files and folders that pods must see."""
    missing: str = ""
    """What is wrong when its program, given as a path, does not exist."""


def locate(argv: tuple[str, ...], folder: str) -> Located:
    """Resolves a command against ``folder``: its program when it has a slash, and its other words
    that name files. Reads file names only, and ``pyvenv.cfg`` of a virtual environment."""
    exposed: dict[str, None] = {}
    words, cwd, missing = list(argv), "", ""
    for place, word in enumerate(argv):
        relative = not word.startswith("/")
        if place == 0 and "/" not in word:
            continue  # looked up in PATH
        path = os.path.normpath(os.path.join(folder, word))
        if not os.path.exists(path):
            if place == 0:
                missing = f"{word}: {_why(path)}" + (f" in {folder}" if relative else "")
            continue
        if relative:
            cwd = folder
        if place == 0:
            words[0] = path
            exposed |= dict.fromkeys(_interpreter(Path(path)))
        exposed |= dict.fromkeys(_visible(Path(path)))
    if cwd:
        exposed |= dict.fromkeys(_visible(Path(cwd), itself=True))
    return Located(tuple(words), cwd, tuple(exposed), missing)


def _visible(path: Path, *, itself: bool = False) -> list[str]:
    """What to show of the machine for ``path``: the folder it lies in, as written and as it really
    is, or the file alone where that folder is everybody's or a home."""
    found = []
    for name in dict.fromkeys((path, Path(os.path.realpath(path)))):
        folder = name if itself or name.is_dir() else name.parent
        if not _shared(folder):
            found.append(str(folder))
        elif name.is_file():
            found.append(str(name))
    return found


def _why(path: str) -> str:
    try:
        os.stat(path)
    except PermissionError:
        return f"{os.path.realpath(path)} is in a folder that is closed to this user"
    except OSError:
        pass
    return f"leads to {os.readlink(path)}, which does not exist" if os.path.islink(path) else _NONE


_NONE = "no such program"


def _shared(folder: Path) -> bool:
    return str(folder) in _NEVER_WHOLE or folder == Path.home() or folder.parent == Path("/home")


def _interpreter(program: Path) -> list[str]:
    """Folders of the virtual environment that ``program`` belongs to, and of its base Python."""
    environment = program.parent.parent
    configuration = environment / "pyvenv.cfg"
    try:
        lines = configuration.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = [environment]
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "home" and value.strip().startswith("/"):
            base = Path(value.strip())
            found += [base.parent, Path(os.path.realpath(base)).parent]
    return [str(folder) for folder in found if not _shared(folder)]
