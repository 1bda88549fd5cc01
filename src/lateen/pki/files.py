"""Files that hold secrets: private from the first byte, replaced in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def private_directory(path: Path) -> None:
    """Make ``path`` (and parents) readable by its owner only; tighten it when it exists."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def replace_file(
    path: Path, content: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Write ``content`` beside ``path`` and rename it there: readers see all of it or the old.

    ``owner`` is a uid and gid that the file belongs to from before it has its name. Raises
    ``OSError``.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
