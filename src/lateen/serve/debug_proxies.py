"""Debug endpoints about connected proxies, in the shapes that Istio's tools read."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Iterable, Mapping

from lateen import __version__
from lateen.model.discovery import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE
from lateen.model.proxy import ProxyType
from lateen.model.sidecar import sidecars
from lateen.serve.connection import Connection
from lateen.serve.control_plane import ControlPlane
from lateen.serve.mesh_metrics import kept_resources
from lateen.serve.metrics import SHORT_NAMES, short_name
from lateen.serve.serving import Serving
from lateen.serve.status import config_dump, find_proxy, proxy_status, resource_json, type_state

Query = Mapping[str, str]
Json = dict[str, object]

_SYNC = {
    CLUSTER: "cluster",
    LISTENER: "listener",
    ROUTE: "route",
    ENDPOINT: "endpoint",
    EXTENSION: "extensionconfig",
}
_ADDRESS = re.compile(r"^ipv[46]:")


def syncz(plane: Serving, query: Query) -> object:
    """Per proxy and type the last nonce sent and acknowledged; ``?namespace=``."""
    return [_sync(item) for item in _sorted(plane, query)]


def adsz(plane: Serving, query: Query) -> object:
    """Connected proxies with what they subscribe to; ``?push=true`` makes and sends all anew."""
    if query.get("push") == "true":
        plane.push_everything()
        return {"pushed": plane.snapshot.version, "proxies": len(plane.server.connections)}
    clients = [_client(item) | _subscriptions(item) for item in _sorted(plane, query)]
    return {"totalClients": len(clients), "clients": clients}


def connections(plane: Serving, query: Query) -> object:
    """Connected proxies; ``?namespace=``."""
    clients = [_client(item) for item in _sorted(plane, query)]
    return {"totalClients": len(clients), "clients": clients}


def dump(plane: Serving, query: Query) -> object:
    """Configuration as sent to ``?proxyID=POD.NAMESPACE``, shaped like Envoy's own dump;
    ``?types=TYPE,...`` picks (``cds`` or a type URL)."""
    connection = proxy_of_query(plane, query)
    wanted = [name.strip() for name in query.get("types", "").split(",") if name.strip()]
    urls = {short: url for url, short in SHORT_NAMES.items()}
    for name in wanted:
        if name not in urls and name not in SHORT_NAMES:
            raise ValueError(f'unknown type "{name}"; one of {", ".join(sorted(urls))}')
    configs: list[Json] = []
    for type_url in [urls.get(name, name) for name in wanted] or [""]:
        configs += config_dump(connection, type_url)["configs"]
    return {"configs": [_without_origins(config) for config in configs]}


def edsz(plane: Serving, query: Query) -> object:
    """Load assignments as sent to ``?proxyID=``."""
    return _resources(plane, query, ENDPOINT)


def ecdsz(plane: Serving, query: Query) -> object:
    """Extension configurations as sent to ``?proxyID=``."""
    return _resources(plane, query, EXTENSION)


def ndsz(plane: Serving, query: Query) -> object:
    """The DNS names that ``?proxyID=`` resolves to addresses of services (Istio's name table)."""
    connection = proxy_of_query(plane, query)
    table: dict[str, Json] = {}
    for service in plane.snapshot.services.visible_to(connection.proxy.namespace):
        addresses = list(service.addresses)
        if service.headless:
            found = plane.snapshot.services.endpoints(service)
            addresses = sorted({endpoint.address for endpoint in found})
            for endpoint in found:
                if endpoint.hostname:
                    name = f"{endpoint.hostname}.{service.hostname}"
                    table[name] = {
                        "ips": [endpoint.address],
                        "registry": str(service.registry),
                        "namespace": service.namespace,
                    }
        if addresses:
            table[service.hostname] = {
                "ips": addresses,
                "registry": str(service.registry),
                "shortname": service.name,
                "namespace": service.namespace,
            }
    return {"table": dict(sorted(table.items()))}


def sidecarz(plane: Serving, query: Query) -> object:
    """What ``?proxyID=`` sees of the mesh: its Sidecar, services, listeners, virtual services."""
    proxy = proxy_of_query(plane, query).proxy
    if proxy.type is not ProxyType.SIDECAR:
        raise LookupError(f"{proxy.name}.{proxy.namespace} is a {proxy.type}, not a sidecar")
    scope = sidecars(plane.snapshot).scope(proxy.namespace, proxy.labels)
    policy = scope.outbound_traffic_policy
    return {
        "namespace": scope.namespace,
        "sidecar": str(scope.resource.key) if scope.resource is not None else "",
        "source": str(scope.resource.provenance) if scope.resource is not None else "",
        "outboundTrafficPolicy": policy.mode if policy is not None else "",
        "services": [service.hostname for service in scope.services],
        "virtualServices": [f"{vs.namespace}/{vs.name}" for vs in scope.virtual_services],
        "egressListeners": [
            {
                "port": listener.port,
                "protocol": str(listener.protocol),
                "bind": listener.bind,
                "captureMode": listener.capture_mode,
                "services": [service.hostname for service in listener.services],
                "virtualServices": [f"{v.namespace}/{v.name}" for v in listener.virtual_services],
            }
            for listener in scope.egress
        ],
    }


def instancesz(plane: Serving, query: Query) -> object:
    """Per proxy the ports on which it gets traffic of services."""
    return {
        item.proxy.id: [
            {
                "service": port.hostname,
                "servicePort": {"name": port.service_port_name, "port": port.service_port},
                "targetPort": port.target_port,
                "protocol": port.protocol,
            }
            for port in (item.state.scope.inbound if item.state is not None else ())
        ]
        for item in _sorted(plane, query)
    }


def cachez(plane: Serving, query: Query) -> object:
    """Resources kept for proxies, by type; ``?sizes=true`` adds up bytes, ``?clear=true`` drops
    serialised responses (they are made anew when needed)."""
    if query.get("clear") == "true":
        for state in plane.server.scopes.values():
            for view in state.target.views.values():
                view.drop_full_messages()
        return {"cleared": True}
    kept = kept_resources(plane)
    if query.get("sizes") == "true":
        sizes: Json = {type_url: sum(found.values()) for type_url, found in kept.items()}
        return sizes | {"total": sum(sum(found.values()) for found in kept.values())}
    names: dict[str, set[str]] = {}
    for state in plane.server.scopes.values():
        for type_url, view in state.target.views.items():
            names.setdefault(type_url, set()).update(view.resources)
    return {type_url: sorted(found) for type_url, found in names.items()}


def push_status(plane: Serving, _query: Query) -> object:
    """Where pushes stand, what was held back, and what is wrong in the mesh."""
    wanted = (
        "revision", "snapshotVersion", "pushedVersion", "overload", "quarantined", "broken",
        "findings",
    )  # fmt: skip
    status: dict[str, object] = {}
    before = 0
    if isinstance(plane, ControlPlane):
        # Here and not above: replicas, which never answer this, need not load the API.
        from lateen.serve.api import status_data

        status, before = status_data(plane, plane.snapshot.findings), plane.standing.waiting
    return {key: status[key] for key in wanted if key in status} | {
        "pendingChanges": plane.server.waiting + before,
        "proxiesBehind": sorted(
            f"{item.proxy.name}.{item.proxy.namespace}"
            for item in plane.server.connections
            if not item.session.in_sync
        ),
        "totals": plane.metrics.totals(),
    }


def scopez(plane: Serving, _query: Query) -> object:
    """Scopes, how many proxies share each, and what they are sent."""
    return [
        {
            "type": str(state.scope.type),
            "namespace": state.scope.namespace,
            "labels": dict(state.scope.labels),
            "proxies": len(state.connections),
            "version": state.target.version,
            "resources": {
                short_name(type_url): len(view) for type_url, view in state.target.views.items()
            },
        }
        for state in plane.server.scopes.values()
    ]


def tasks(_plane: Serving, _query: Query) -> object:
    """Running tasks of the event loop by what they run."""
    names = [getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks()]
    return {name: names.count(name) for name in sorted(set(names))}


def proxy_of_query(plane: Serving, query: Query) -> Connection:
    """The connection that ``?proxyID=`` names. Raises ``LookupError``."""
    name = query.get("proxyID", "")
    if not name:
        raise ValueError("give ?proxyID=POD.NAMESPACE")
    connection = find_proxy(plane, name)
    if connection is None:
        raise LookupError(f'no proxy "{name}" is connected to this control plane')
    return connection


def _sync(item: Connection) -> Json:
    row: Json = {
        "cluster_id": item.proxy.identity.cluster,
        "proxy": f"{item.proxy.name}.{item.proxy.namespace}",
        "proxy_type": str(item.proxy.type),
        "proxy_version": item.node.version,
        "istio_version": str(item.node.metadata.get("ISTIO_VERSION", __version__)),
    }
    resources: dict[str, Json] = {}
    for type_url, subscription in item.session.subscriptions.items():
        record = item.record(type_url)
        entry: Json = {
            "sent": subscription.last_sent_nonce,
            "acked": subscription.last_acked_nonce,
            "state": type_state(subscription),
        }
        if record.sent_at:
            entry["sentTime"] = time_text(record.sent_at)
        if subscription.rejection is not None:
            entry["lastError"] = subscription.rejection.message
        resources[type_url] = entry
        name = _SYNC.get(type_url)
        if name is not None and subscription.last_sent_nonce:
            row[f"{name}_sent"] = subscription.last_sent_nonce
            row[f"{name}_acked"] = subscription.last_acked_nonce
    row["resources"] = resources
    return row


def _client(item: Connection) -> Json:
    return {
        "connectionId": item.proxy.id,
        "connectedAt": time_text(item.connected_at),
        "address": _ADDRESS.sub("", item.stream.peer),
        "identity": str(item.stream.identity),
    }


def _subscriptions(item: Connection) -> Json:
    return {
        "metadata": dict(item.proxy.metadata),
        "labels": dict(item.proxy.labels),
        "watches": {
            type_url: sorted(subscription.names)
            for type_url, subscription in item.session.subscriptions.items()
        },
        "convergenceSeconds": round(item.convergence, 6),
        "status": proxy_status(item),
    }


def _resources(plane: Serving, query: Query, type_url: str) -> object:
    subscription = proxy_of_query(plane, query).session.subscriptions.get(type_url)
    held = subscription.held.resources if subscription is not None else {}
    return [resource_json(item) for _, item in sorted(held.items())]


def _sorted(plane: Serving, query: Query) -> Iterable[Connection]:
    namespace = query.get("namespace", "")
    found = [item for item in plane.server.connections if namespace in ("", item.proxy.namespace)]
    return sorted(found, key=lambda item: (item.proxy.namespace, item.proxy.name))


def _without_origins(section: Json) -> Json:
    """Envoy's dump has no such field in its entries, and its readers refuse what they do not
    know."""
    return {
        name: [{key: entry[key] for key in entry if key != "origins"} for entry in value]
        if isinstance(value, list)
        else value
        for name, value in section.items()
    }


def time_text(seconds: float) -> str:
    """Unix time as RFC 3339."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
