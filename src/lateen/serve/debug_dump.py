"""What proxies hold, as the messages that Istio's tools read over xDS.

``istioctl proxy-status`` asks for where every proxy stands, ``istioctl proxy-status POD`` for the
sections of Envoy's own configuration dump, with which it compares what the Envoy says.
"""

from __future__ import annotations

from collections.abc import Callable

from envoy.admin.v3 import config_dump_pb2
from envoy.admin.v3 import config_dump_shared_pb2 as dump
from envoy.service.status.v3 import csds_pb2
from google.protobuf.message import Message

from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    SECRET,
    DiscoveryResource,
)
from lateen.serve import wire
from lateen.serve.connection import Connection
from lateen.serve.status import held_resources, type_state

CLIENT_CONFIG = "type.googleapis.com/envoy.service.status.v3.ClientConfig"

Body = tuple[str, bytes]
"""Type URL and serialised message."""


def sync_config(connection: Connection) -> Body:
    """Where a proxy stands with each type (``envoy.service.status.v3.ClientConfig``)."""
    message = csds_pb2.ClientConfig()
    proxy = connection.proxy
    message.node.id = f"{proxy.name}.{proxy.namespace}"
    message.node.metadata.update(
        {
            "CLUSTER_ID": proxy.identity.cluster,
            "ISTIO_VERSION": str(connection.node.metadata.get("ISTIO_VERSION", "")),
            "NAMESPACE": proxy.namespace,
        }
    )
    message.node.user_agent_name = str(proxy.type)
    for type_url, subscription in connection.session.subscriptions.items():
        entry = message.generic_xds_configs.add(type_url=type_url)
        state = type_state(subscription).replace(" ", "_")
        entry.config_status = csds_pb2.ConfigStatus.Value(state)
        sent_at = connection.record(type_url).sent_at
        if sent_at:
            entry.last_updated.FromMilliseconds(int(sent_at * 1000))
        if subscription.rejection is not None:
            entry.error_state.details = subscription.rejection.message
    return CLIENT_CONFIG, message.SerializeToString()


def config_sections(connection: Connection) -> list[Body]:
    """Every resource that a proxy holds, a message of ``envoy.admin.v3`` for each type; secrets
    without their content."""
    found = []
    for type_url, (make, place) in _SECTIONS.items():
        message = make()
        if type_url in connection.session.subscriptions:
            for _, item in sorted(held_resources(connection, type_url).items()):
                place(message, item)
        name = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
        found.append((name, message.SerializeToString()))
    return found


def _cluster(message: dump.ClustersConfigDump, item: DiscoveryResource) -> None:
    entry = message.dynamic_active_clusters.add(version_info=item.version)
    _fill(entry.cluster, item)


def _endpoint(message: dump.EndpointsConfigDump, item: DiscoveryResource) -> None:
    entry = message.dynamic_endpoint_configs.add(version_info=item.version)
    _fill(entry.endpoint_config, item)


def _listener(message: dump.ListenersConfigDump, item: DiscoveryResource) -> None:
    entry = message.dynamic_listeners.add(name=item.name)
    entry.active_state.version_info = item.version
    _fill(entry.active_state.listener, item)


def _route(message: dump.RoutesConfigDump, item: DiscoveryResource) -> None:
    entry = message.dynamic_route_configs.add(version_info=item.version)
    _fill(entry.route_config, item)


def _extension(message: dump.EcdsConfigDump, item: DiscoveryResource) -> None:
    _fill(message.ecds_filters.add(version_info=item.version).ecds_filter, item)


def _secret(message: config_dump_pb2.SecretsConfigDump, item: DiscoveryResource) -> None:
    entry = message.dynamic_active_secrets.add(name=item.name, version_info=item.version)
    entry.secret.type_url = SECRET
    entry.secret.value = wire.encode_named_empty(item.name)


_Section = tuple[Callable[[], Message], Callable[..., None]]
_SECTIONS: dict[str, _Section] = {
    CLUSTER: (dump.ClustersConfigDump, _cluster),
    ENDPOINT: (dump.EndpointsConfigDump, _endpoint),
    LISTENER: (dump.ListenersConfigDump, _listener),
    ROUTE: (dump.RoutesConfigDump, _route),
    EXTENSION: (dump.EcdsConfigDump, _extension),
    SECRET: (config_dump_pb2.SecretsConfigDump, _secret),
}


def _fill(place: Message, item: DiscoveryResource) -> None:
    """Put a resource into an ``Any`` as it was sent."""
    place.type_url, place.value = item.type_url, item.body  # type: ignore[attr-defined]
