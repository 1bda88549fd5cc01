"""`lateen config`: what a proxy runs now, read from the proxy itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from rich.markup import escape

from lateen.cli.completion import config_words, pods
from lateen.cli.errors import USAGE, CommandError
from lateen.cli.mesh_state import connect, mesh_state, not_running
from lateen.cli.options import Mesh, Namespace, Output
from lateen.cli.output import emit, out, table
from lateen.cli.pods import find_pod
from lateen.runtime.agent_client import AgentRefused, AgentUnavailable, http_get

Raw = dict[str, Any]
ADMIN_PORT = 15000
KINDS = ("clusters", "listeners", "routes", "endpoints", "secrets", "all")


def config(
    what: Annotated[str, typer.Argument(help=" | ".join(KINDS), autocompletion=config_words)],
    target: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="POD, deploy/NAME ...", autocompletion=pods)
    ],
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    output: Output = "text",
) -> None:
    """What a proxy runs now: a summary, or with -o json|yaml what Envoy itself says."""
    if what not in KINDS:
        raise CommandError(f"unknown part {what!r}", f"one of {', '.join(KINDS)}", USAGE)
    state = mesh_state(mesh)
    pod = find_pod(connect(mesh), target, namespace)
    place, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    try:
        body = http_get(
            state.agent_socket, place, name, ADMIN_PORT, "/config_dump?include_eds", 30.0
        )
    except AgentUnavailable as error:
        raise not_running(state) from error
    except AgentRefused as error:
        raise CommandError(
            f"the proxy of {place}/{name} cannot be read: {error}",
            "has the pod a sidecar? `lateen ps` shows 2/2 for those that have",
        ) from error
    dump = json.loads(body)
    sections = split(dump)
    if output != "text":
        emit(dump if what == "all" else {what: sections[what]}, output)
        return
    for index, part in enumerate(KINDS[:-1] if what == "all" else (what,)):
        if index:
            out.print()
        heads, rows = SUMMARIES[part](sections[part])
        table(heads, rows)


def split(dump: Raw) -> dict[str, list[Raw]]:
    """Envoy's ``/config_dump`` as lists of resources by kind; Envoy leaves private keys out."""
    sections: dict[str, list[Raw]] = {kind: [] for kind in KINDS[:-1]}
    for part in dump.get("configs", []):
        kind = str(part.get("@type", "")).rpartition(".")[2]
        if kind == "ClustersConfigDump":
            found = (*part.get("static_clusters", ()), *part.get("dynamic_active_clusters", ()))
            sections["clusters"] += [entry["cluster"] for entry in found]
        elif kind == "ListenersConfigDump":
            sections["listeners"] += [
                entry["listener"] for entry in part.get("static_listeners", ())
            ]
            sections["listeners"] += [
                entry["active_state"]["listener"]
                for entry in part.get("dynamic_listeners", ())
                if "active_state" in entry
            ]
        elif kind == "RoutesConfigDump":
            found = (*part.get("static_route_configs", ()), *part.get("dynamic_route_configs", ()))
            sections["routes"] += [entry["route_config"] for entry in found]
        elif kind == "EndpointsConfigDump":
            found = (
                *part.get("static_endpoint_configs", ()),
                *part.get("dynamic_endpoint_configs", ()),
            )
            sections["endpoints"] += [entry["endpoint_config"] for entry in found]
        elif kind == "SecretsConfigDump":
            found = (
                *part.get("static_secrets", ()),
                *part.get("dynamic_active_secrets", ()),
                *part.get("dynamic_warming_secrets", ()),
            )
            sections["secrets"] += [entry.get("secret", {"name": entry["name"]}) for entry in found]
    return sections


Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def _clusters(found: Iterable[Raw]) -> Rows:
    rows = []
    for cluster in found:
        name = cluster["name"]
        parts = name.split("|")
        host, port, subset, direction = name, "-", "-", "-"
        if len(parts) == 4:
            direction, port, subset, host = parts[0], parts[1], parts[2] or "-", parts[3] or "-"
        kind = cluster.get("type") or (cluster.get("cluster_type") or {}).get("name") or "-"
        kind = str(kind).rpartition(".")[2].upper()
        rows.append((escape(host), port, subset, direction, kind, _origin(cluster)))
    return ("SERVICE", "PORT", "SUBSET", "DIRECTION", "TYPE", "RULE"), sorted(rows)


def _listeners(found: Iterable[Raw]) -> Rows:
    rows: list[tuple[str, ...]] = []
    for listener in found:
        address = (listener.get("address") or {}).get("socket_address") or {}
        place = (address.get("address", ""), str(address.get("port_value", "")))
        chains = list(listener.get("filter_chains", ()))
        if "default_filter_chain" in listener:
            chains.append({**listener["default_filter_chain"], "filter_chain_match": {}})
        name = escape(listener.get("name", ""))
        rows += [
            (
                name,
                *place,
                escape(_match(chain.get("filter_chain_match") or {})),
                escape(_destination(chain)),
            )
            for chain in chains
        ]
    return ("LISTENER", "ADDRESS", "PORT", "MATCH", "DESTINATION"), rows


def _routes(found: Iterable[Raw]) -> Rows:
    rows: list[tuple[str, ...]] = []
    for config in found:
        name = config.get("name", "")
        for host in config.get("virtual_hosts", ()):
            domains = host.get("domains", [])
            shown = domains[0] + (f" (+{len(domains) - 1})" if len(domains) > 1 else "")
            rows += [
                (
                    escape(name),
                    escape(host.get("name", "").removeprefix(f"{name}/")),
                    escape(shown),
                    escape(_route_match(route.get("match") or {})),
                    escape(_action(route)),
                    _origin(route),
                )
                for route in host.get("routes", ()) or [{}]
            ]
    return ("ROUTE", "VIRTUAL HOST", "DOMAINS", "MATCH", "ACTION", "RULE"), rows


def _endpoints(found: Iterable[Raw]) -> Rows:
    rows = []
    for assignment in found:
        for locality in assignment.get("endpoints", ()):
            for entry in locality.get("lb_endpoints", ()):
                address = ((entry.get("endpoint") or {}).get("address") or {}).get(
                    "socket_address"
                ) or {}
                metadata = (entry.get("metadata") or {}).get("filter_metadata") or {}
                mode = (metadata.get("envoy.transport_socket_match") or {}).get("tlsMode", "-")
                workload = (metadata.get("istio") or {}).get("workload", "-")
                rows.append(
                    (
                        f"{address.get('address', '?')}:{address.get('port_value', '?')}",
                        str(entry.get("health_status", "HEALTHY")),
                        "mTLS" if mode == "istio" else "plain",
                        escape(str(workload)),
                        escape(assignment.get("cluster_name", "")),
                    )
                )
    return ("ENDPOINT", "HEALTH", "TRANSPORT", "WORKLOAD", "CLUSTER"), sorted(set(rows))


def _secrets(found: Iterable[Raw]) -> Rows:
    rows = []
    for secret in found:
        kind = "certificate" if "tls_certificate" in secret else "trust bundle"
        rows.append((escape(secret.get("name", "")), kind))
    return ("SECRET", "KIND"), sorted(set(rows))


SUMMARIES: dict[str, Callable[[Iterable[Raw]], Rows]] = {
    "clusters": _clusters,
    "listeners": _listeners,
    "routes": _routes,
    "endpoints": _endpoints,
    "secrets": _secrets,
}


def _origin(resource: Raw) -> str:
    """The object that shaped a resource, from the path Istio's tools read too."""
    metadata = (resource.get("metadata") or {}).get("filter_metadata") or {}
    path = (metadata.get("istio") or {}).get("config", "")
    parts = path.strip("/").split("/")
    return escape(f"{parts[-2]} {parts[-3]}/{parts[-1]}") if len(parts) >= 7 else "-"


def _match(match: Raw) -> str:
    parts = []
    if match.get("server_names"):
        parts.append("SNI " + ",".join(match["server_names"]))
    if match.get("transport_protocol"):
        parts.append(match["transport_protocol"])
    if match.get("application_protocols"):
        parts.append("ALPN " + ",".join(match["application_protocols"]))
    ranges = [
        f"{r['address_prefix']}/{r.get('prefix_len', 0)}" for r in match.get("prefix_ranges", ())
    ]
    if ranges:
        parts.append(",".join(ranges))
    if match.get("destination_port"):
        parts.append(f"port {match['destination_port']}")
    return "; ".join(parts) or "all"


def _destination(chain: Raw) -> str:
    for entry in reversed(chain.get("filters", [])):
        typed = entry.get("typed_config") or {}
        if "rds" in typed:
            return f"route {typed['rds'].get('route_config_name')}"
        if "route_config" in typed:
            return f"inline route {typed['route_config'].get('name', '')}"
        if "cluster" in typed:
            return f"cluster {typed['cluster']}"
        if "weighted_clusters" in typed:
            return "weighted clusters"
        for state in typed.get("on_new_connection", ()):
            if state.get("object_key") == "envoy.tcp_proxy.cluster":
                text = state["format_string"]["text_format_source"]["inline_string"]
                return f"cluster {text}"
    return "-"


def _route_match(match: Raw) -> str:
    text = next(
        (str(match[k]) for k in ("prefix", "path", "path_separated_prefix") if k in match),
        (match.get("safe_regex") or {}).get("regex", "/"),
    )
    headers = [h.get("name", "") for h in match.get("headers", ())]
    return text + (f" [{', '.join(headers)}]" if headers else "")


def _action(route: Raw) -> str:
    if "redirect" in route:
        return "redirect"
    if "direct_response" in route:
        return f"answer {route['direct_response'].get('status')}"
    forward = route.get("route")
    if not forward:
        return "404"
    if "cluster" in forward:
        return str(forward["cluster"])
    weighted = (forward.get("weighted_clusters") or {}).get("clusters", ())
    return ", ".join(f"{c['name']} {c.get('weight', 0)}" for c in weighted)
