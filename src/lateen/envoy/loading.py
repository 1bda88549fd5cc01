"""Loading configuration into the real Envoy (``--mode validate``): the last word on its form."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lateen.envoy import build, decode
from lateen.envoy.binary import envoy_path
from lateen.envoy.tls import SECRET_DIRECTORY
from lateen.model import discovery
from lateen.model.discovery import DiscoveryResource

_TIMEOUT = 60.0
_LOADED = re.compile(r"configuration '.*' OK")
_ERROR = re.compile(r"error initializing configuration '[^']*':\s*(.*)", re.DOTALL)
_LOG_LINE = re.compile(r"\[\d{4}-\d\d-\d\d ")
_CONSTRAINT = "Proto constraint validation failed"
_EMPTY_SECRETS = json.dumps({"resources": []})


def check(resources: Iterable[DiscoveryResource]) -> list[str]:
    """Load clusters, endpoints, listeners and routes into one Envoy; what it says against them.

    Routes are put inline where a listener names them and endpoints into their clusters, so that
    all are checked as one static configuration; secrets are not looked at. When Envoy refuses
    the whole, each cluster and listener is tried alone and named. Route configurations that no
    listener uses are loaded behind a listener of their own. Raises `EnvoyNotFoundError`.
    """
    return check_parts(parts(resources))


def check_parts(given: Sequence[Part]) -> list[str]:
    """As `check`, for what `parts` made."""
    with tempfile.TemporaryDirectory(prefix="lateen-check-") as directory:
        if not given or _load(given, Path(directory)) is None:
            return []
        return [
            f"{part[0]}: {error}"
            for part in given
            if (error := _load([part], Path(directory))) is not None
        ] or [f"all together: {_load(given, Path(directory))}"]


def fits(given: Sequence[Part]) -> bool:
    """Whether one Envoy loads all of what `parts` made; no two may have one name or address."""
    with tempfile.TemporaryDirectory(prefix="lateen-check-") as directory:
        return not given or _load(given, Path(directory)) is None


def check_bootstrap(bootstrap: bytes) -> list[str]:
    """Load a bootstrap (JSON); secret files need not exist."""
    with tempfile.TemporaryDirectory(prefix="lateen-check-") as directory:
        secrets = _write_empty_secrets(Path(directory))
        error = _run(_without_secrets(json.loads(bootstrap), secrets), Path(directory))
    return [] if error is None else [error]


def standalone(
    resources: Iterable[DiscoveryResource], base: Mapping[str, Any], secret_directory: Path
) -> dict[str, Any]:
    """A bootstrap (as `bootstrap.as_dict` makes) that runs resources without a control plane.

    Routes and endpoints are put inline, secrets are read from ``secret_directory``.
    """
    static = dict(base.get("static_resources", {}))
    for _, kind, value in parts(resources):
        static[kind] = [*static.get(kind, []), value]
    static["clusters"] = [
        cluster for cluster in static["clusters"] if cluster["name"] != "xds-grpc"
    ]
    rest = {key: value for key, value in base.items() if key != "dynamic_resources"}
    text = json.dumps({**rest, "static_resources": static})
    result: dict[str, Any] = json.loads(
        text.replace(f"{SECRET_DIRECTORY}/", f"{secret_directory}/").replace(
            json.dumps(SECRET_DIRECTORY), json.dumps(str(secret_directory))
        )
    )
    return result


Part = tuple[str, str, dict[str, Any]]
"""What it is (for messages), the bootstrap list it belongs to, and its JSON."""


def parts(
    resources: Iterable[DiscoveryResource],
    to_dict: Callable[[DiscoveryResource], dict[str, Any]] = decode.to_dict,
) -> list[Part]:
    """Clusters and listeners that have in them what Envoy would ask the control plane for.

    ``to_dict`` may remember what it made before; nothing of it is changed.
    """
    by_type: dict[str, dict[str, dict[str, Any]]] = {}
    for resource in resources:
        by_type.setdefault(resource.type_url, {})[resource.name] = to_dict(resource)
    endpoints = by_type.get(discovery.ENDPOINT, {})
    routes = _complete(
        by_type.get(discovery.ROUTE, {}), by_type.get(discovery.VIRTUAL_HOST, {}).values()
    )
    used: set[str] = set()
    found: list[Part] = []
    for name, cluster in by_type.get(discovery.CLUSTER, {}).items():
        found.append((f"cluster {name}", "clusters", _with_endpoints(cluster, endpoints)))
    for name, listener in by_type.get(discovery.LISTENER, {}).items():
        whole = _with_extensions(_with_routes(listener, routes, used))
        found.append((f"listener {name}", "listeners", whole))
    found += [
        (f"route configuration {name}", "listeners", _listener_for(route, number))
        for number, (name, route) in enumerate(routes.items())
        if name not in used
    ]
    return found


def _complete(
    routes: dict[str, dict[str, Any]], hosts: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Route configurations with the virtual hosts that Envoy would ask the control plane for."""
    found: dict[str, list[dict[str, Any]]] = {}
    for host in hosts:
        found.setdefault(host["name"].rpartition("/")[0], []).append(host)
    return {
        name: {
            **{key: value for key, value in route.items() if key != "vhds"},
            "virtual_hosts": [*route.get("virtual_hosts", []), *found.get(name, [])],
        }
        for name, route in routes.items()
    }


def _with_endpoints(
    cluster: dict[str, Any], endpoints: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    if cluster.get("type") != "EDS":
        return cluster
    name = cluster["name"]
    assignment = endpoints.get(name, {"cluster_name": name})
    rest = {key: value for key, value in cluster.items() if key != "eds_cluster_config"}
    return {**rest, "type": "STATIC", "load_assignment": assignment}


def _with_routes(value: Any, routes: dict[str, dict[str, Any]], used: set[str]) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_with_routes(item, routes, used) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        if key == "rds":
            name = item["route_config_name"]
            used.add(name)
            result["route_config"] = routes.get(name, {"name": name})
        else:
            result[key] = _with_routes(item, routes, used)
    return result


def _with_extensions(value: Any) -> Any:  # noqa: ANN401 - JSON
    """``value`` with the filters in it that Envoy would ask the control plane for."""
    if isinstance(value, list):
        return [_with_extensions(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = build.extensions().get(value["name"]) if "config_discovery" in value else None
    if found is not None:
        return {"name": found.name, "typed_config": decode.to_dict(found)["typed_config"]}
    return {key: _with_extensions(item) for key, item in value.items()}


def _listener_for(route: dict[str, Any], number: int) -> dict[str, Any]:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "check",
        "route_config": route,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {
        "name": f"check-{number}",
        "address": {"pipe": {"path": f"@lateen-check-{number}"}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }


def _load(loaded: Sequence[Part], directory: Path) -> str | None:
    secrets = _write_empty_secrets(directory)
    static: dict[str, list[Any]] = {"clusters": [], "listeners": []}
    for _, kind, value in loaded:
        static[kind].append(_without_secrets(value, secrets))
    return _run({"static_resources": static}, directory)


def _write_empty_secrets(directory: Path) -> Path:
    path = directory / "secrets.yaml"
    path.write_text(_EMPTY_SECRETS)
    return path


def _without_secrets(value: Any, secrets: Path) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_without_secrets(item, secrets) for item in value]
    if not isinstance(value, dict):
        return value
    if "sds_config" in value:
        return {**value, "sds_config": {"path_config_source": {"path": str(secrets)}}}
    return {key: _without_secrets(item, secrets) for key, item in value.items()}


def _run(bootstrap: dict[str, Any], directory: Path) -> str | None:
    file = directory / "bootstrap.json"
    file.write_text(json.dumps(bootstrap))
    result = subprocess.run(
        [
            envoy_path(),
            "--mode",
            "validate",
            "--config-path",
            file,
            "--log-level",
            "error",
            "--service-node",
            "check",
            "--service-cluster",
            "check",
        ],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    output = result.stdout + result.stderr
    # The exit status does not count: a shared statistics scope makes validation of good
    # configuration crash while it ends, after the verdict is printed.
    if _LOADED.search(output):
        return None
    found = _ERROR.search(output)
    return _readable(found.group(1) if found else output)


def _readable(text: str) -> str:
    # Envoy prints the whole message before the constraint that it breaks, and a trace after it.
    text = "\n".join(line for line in text.splitlines() if not _LOG_LINE.match(line)).strip()
    constraint = text.find(_CONSTRAINT)
    return text[constraint:] if constraint > 0 else text
