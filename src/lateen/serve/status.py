"""What the control plane knows of its proxies, as JSON data for `lateen status` and tools."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from lateen.envoy.protos import to_dict
from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    SECRET,
    TYPES_IN_PUSH_ORDER,
    VIRTUAL_HOST,
    DiscoveryResource,
)
from lateen.serve.connection import Connection
from lateen.serve.metrics import short_name
from lateen.serve.protocol import Subscription
from lateen.serve.serving import Serving
from lateen.serve.virtual_hosts import whole_routes

Json = dict[str, Any]

_DUMPS = {
    CLUSTER: ("ClustersConfigDump", "dynamic_active_clusters", "cluster"),
    ENDPOINT: ("EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config"),
    LISTENER: ("ListenersConfigDump", "dynamic_listeners", "listener"),
    ROUTE: ("RoutesConfigDump", "dynamic_route_configs", "route_config"),
    EXTENSION: ("EcdsConfigDump", "ecds_filters", "ecds_filter"),
    SECRET: ("SecretsConfigDump", "dynamic_active_secrets", "secret"),
}


def proxy_status(connection: Connection) -> Json:
    """One proxy: who, since when, and per type what was sent, acknowledged and refused.

    ``state`` follows Istio's proxy-status: ``SYNCED``, ``STALE`` (sent, not acknowledged),
    ``ERROR`` (refused), ``NOT SENT``, ``IGNORED`` (never asked for).
    """
    proxy, session = connection.proxy, connection.session
    types = {}
    for type_url in TYPES_IN_PUSH_ORDER[:-1]:
        types[short_name(type_url)] = _type_status(connection, type_url)
    return {
        "name": proxy.name,
        "namespace": proxy.namespace,
        "type": str(proxy.type),
        "node": proxy.id,
        "identity": str(connection.stream.identity),
        "address": connection.stream.peer,
        "dialect": str(connection.stream.dialect),
        "envoyVersion": connection.node.version,
        "connectedSince": _time(connection.connected_at),
        "lastRequest": _time(connection.last_request_at),
        "version": session.target.version if session.target else 0,
        "acknowledgedVersion": connection.acknowledged_version,
        "inSync": session.in_sync,
        "slow": connection.slow,
        "types": types,
    }


def find_proxy(plane: Serving, name: str) -> Connection | None:
    """The newest connection of a proxy named ``POD.NAMESPACE``, ``POD`` or by its node id."""
    found = [
        item
        for item in plane.server.connections
        if name in (item.proxy.id, item.proxy.name, f"{item.proxy.name}.{item.proxy.namespace}")
    ]
    return max(found, key=lambda item: item.connected_at, default=None)


def type_state(subscription: Subscription | None) -> str:
    """Istio's word for where a proxy stands with a type."""
    if subscription is None:
        return "IGNORED"
    if subscription.rejection is not None:
        return "ERROR"
    if not subscription.last_sent_nonce:
        return "NOT SENT"
    return "STALE" if subscription.in_flight else "SYNCED"


def _type_status(connection: Connection, type_url: str) -> Json:
    subscription = connection.session.subscriptions.get(type_url)
    if subscription is None:
        return {"state": "IGNORED"}
    record = connection.record(type_url)
    data: Json = {
        "state": type_state(subscription),
        "resources": len(subscription.held),
        "sentVersion": record.sent_version,
        "acknowledgedVersion": record.acked_version,
        "sentAt": _time(record.sent_at),
        "acknowledgedAt": _time(record.acked_at),
        "responses": record.responses,
        "bytes": record.bytes,
        "rejections": record.rejections,
    }
    if subscription.rejection is not None:
        data["message"] = subscription.rejection.message
    if record.last_rejection:
        data["lastRejection"] = record.last_rejection
    return data


def config_dump(connection: Connection, type_url: str = "") -> Json:
    """The configuration as sent to a proxy, shaped like Envoy's ``/config_dump``.

    Private keys are never part of it.
    """
    configs = []
    for kind, (message, entries, field) in _DUMPS.items():
        subscription = connection.session.subscriptions.get(kind)
        if subscription is None or type_url not in ("", kind):
            continue
        configs.append(
            {
                "@type": f"type.googleapis.com/envoy.admin.v3.{message}",
                entries: [
                    _entry(item, field)
                    for _, item in sorted(held_resources(connection, kind).items())
                ],
            }
        )
    return {"configs": configs}


def held_resources(connection: Connection, type_url: str) -> Mapping[str, DiscoveryResource]:
    """What the proxy holds of a type; route configurations with their virtual hosts in them."""
    subscriptions = connection.session.subscriptions
    held = subscriptions[type_url].held
    hosts = subscriptions.get(VIRTUAL_HOST)
    if type_url == ROUTE and hosts is not None:
        held = whole_routes(held, hosts.held)
    return held.resources


def resource_json(item: DiscoveryResource) -> Json:
    """A resource as JSON; secrets without their contents."""
    base: Json = {"@type": item.type_url, "name": item.name}
    if item.type_url == SECRET or not item.content:
        return base
    try:
        found: Json = to_dict(item.type_url.rpartition("/")[2], item.body)
    except (KeyError, TypeError, DecodeError, json_format.Error) as error:
        # A body that another version made, or an extension that this one does not know.
        return {**base, "error": f"cannot be shown: {error}"}
    return {"@type": item.type_url, **found}


def _entry(item: DiscoveryResource, field: str) -> Json:
    entry: Json = {"version_info": item.version, field: resource_json(item)}
    if field == "listener":
        return {
            "name": item.name,
            "active_state": {"version_info": item.version, field: entry[field]},
        }
    if item.origins:
        entry["origins"] = [str(origin) for origin in item.origins]
    return entry


def _time(seconds: float) -> str:
    if not seconds:
        return ""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
