"""Who is connected, kept in a file: a control plane that starts again waits for them to come back.

They run the configuration of before while it is away, and nothing else tells of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lateen.pki.files import replace_file

_log = logging.getLogger(__name__)


def write(path: Path, proxies: Iterable[str]) -> None:
    """Write the node ids; a failure is logged, as the mesh goes on without the file."""
    try:
        replace_file(path, msgspec.json.encode(sorted(proxies)))
    except OSError as error:
        _log.warning("cannot remember which proxies are connected: %s", error)


def read(path: Path) -> list[str]:
    """The node ids that were written last; none without a file, or when it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("cannot read %s: %s; who was connected is not waited for", path, error)
        return []
