"""What a simulated proxy reads of a discovery response: names, versions, what to ask for next."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from benchmarks.scale.wire import CLUSTER, LISTENER, ROUTE, Entry, read_varint

_HTTP_MANAGER = http_connection_manager_pb2.HttpConnectionManager
_RESOURCES = 2 << 3 | 2
"""Tag of ``DeltaDiscoveryResponse.resources``."""


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """What matters of a discovery response. ``references`` are the names that its resources make
    a proxy ask for: endpoints for clusters, route configurations for listeners, and (by the name of
    the route configuration) virtual hosts for route configurations that do not have them inline."""

    type_url: str
    nonce: str
    version: str
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]
    references: tuple[str, ...]
    size: int


def read_delta(data: bytes) -> Response:
    """A ``DeltaDiscoveryResponse``, or a part of one that begins and ends with a field."""
    message = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
    found: dict[str, None] = {}
    entries = []
    for resource in message.resources:
        entry = _interned(resource.name, resource.version)
        entries.append(entry)
        if resource.resource.type_url in _REFERENCES:
            found.update(dict.fromkeys(_references(entry, resource.resource)))
    return Response(
        message.type_url,
        message.nonce,
        "",
        tuple(entries),
        tuple(message.removed_resources),
        tuple(found),
        len(data),
    )


def read_state(data: bytes) -> Response:
    """A state-of-the-world ``DiscoveryResponse``."""
    message = discovery_pb2.DiscoveryResponse.FromString(data)
    found: dict[str, None] = {}
    entries = []
    for resource in message.resources:
        entry = _interned(_name(resource.value), xxhash.xxh3_64_hexdigest(resource.value))
        entries.append(entry)
        if resource.type_url in _REFERENCES:
            found.update(dict.fromkeys(_references(entry, resource)))
    return Response(
        message.type_url,
        message.nonce,
        message.version_info,
        tuple(entries),
        (),
        tuple(found),
        len(data),
    )


def in_common(one: bytes, other: bytes) -> int:
    """Bytes of the resources that two delta responses both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    end = position = 0
    while position < low and one[position] == _RESOURCES:
        size, start = read_varint(one, position + 1)
        position = start + size
        if position <= low:
            end = position
    return end


@functools.lru_cache(maxsize=1 << 18)
def _interned(name: str, version: str) -> Entry:
    return (name, version)


_known: dict[Entry, tuple[str, ...]] = {}


def _references(entry: Entry, resource: any_pb2.Any) -> tuple[str, ...]:
    found = _known.get(entry)
    if found is None:
        found = _known[entry] = tuple(_REFERENCES[resource.type_url](resource.value))
    return found


def _endpoint_name(body: bytes) -> Iterator[str]:
    """What an EDS cluster asks for: its ``service_name`` or its own name."""
    cluster = cluster_pb2.Cluster.FromString(body)
    if cluster.type == cluster_pb2.Cluster.EDS:
        yield cluster.eds_cluster_config.service_name or cluster.name


def _route_names(body: bytes) -> Iterator[str]:
    """RDS names of all HTTP connection managers of a listener."""
    listener = listener_pb2.Listener.FromString(body)
    for chain in (*listener.filter_chains, listener.default_filter_chain):
        for network_filter in chain.filters:
            config = network_filter.typed_config
            if config.Is(_HTTP_MANAGER.DESCRIPTOR):
                manager = _HTTP_MANAGER.FromString(config.value)
                if manager.HasField("rds"):
                    yield manager.rds.route_config_name


def _discovered_hosts(body: bytes) -> Iterator[str]:
    route = route_pb2.RouteConfiguration.FromString(body)
    if route.HasField("vhds"):
        yield route.name


_REFERENCES = {CLUSTER: _endpoint_name, LISTENER: _route_names, ROUTE: _discovered_hosts}


def _name(body: bytes) -> str:
    """Of a resource: all types have it in field 1, which comes first."""
    size, start = read_varint(body, 1)
    return body[start : start + size].decode()
