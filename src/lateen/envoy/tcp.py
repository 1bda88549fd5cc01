"""Opaque TCP (Envoy ``TcpProxy``).

The access loggers of a forwarder are 11 kB, and every TCP service has a listener of its own. So
forwarders that differ in nothing but their cluster are one: a listener names the cluster in the
connection's state and asks for the rest by name (Envoy ECDS, ``ExtensionConfigSource``).
"""

from __future__ import annotations

import functools
import itertools

from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2
from msgspec.structs import replace

from lateen.envoy import protos, telemetry, tls, values
from lateen.envoy.protos import TYPE_PREFIX
from lateen.ir.listener import Reporter, TcpProxy, Telemetry, WeightedTcpCluster

_EARLY_DATA_LIMIT = 65536
_TCP = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
_STATE = "envoy.extensions.filters.network.set_filter_state.v3.Config"
_FILTER = "envoy.config.listener.v3.Filter"
CLUSTER_KEY = "envoy.tcp_proxy.cluster"
"""Filter state that Envoy's TCP proxy takes its cluster from, before its own configuration."""
_NO_CLUSTER = "BlackHoleCluster"


def filters(source: TcpProxy, *, mutual_tls: bool) -> tuple[bytes, ...]:
    """The serialised ``Filter`` messages that forward a connection."""
    name = shared_name(source) if not mutual_tls else ""
    if not name:
        body = tcp_proxy(source, mutual_tls=mutual_tls, gateway=False)
        whole = listener_components_pb2.Filter(
            name="envoy.filters.network.tcp_proxy", typed_config=values.packed(_TCP, body)
        )
        return (whole.SerializeToString(deterministic=True),)
    return _to_cluster(source.clusters[0].cluster), _by_name(name)


def shared_name(source: TcpProxy) -> str:
    """The name under which proxies get ``source`` but for its cluster; empty when it has settings
    of its own."""
    telemetry = source.telemetry
    if len(source.clusters) != 1 or "%" in source.clusters[0].cluster:
        return ""
    if not (telemetry.metrics or telemetry.access_log):
        return ""  # nothing to share
    plain = _plain(telemetry, source.on_demand)
    if replace(source, clusters=plain.clusters, stat_prefix="", upstream_alpn=False) != plain:
        return ""
    return _name(telemetry, source.on_demand)


@functools.cache
def shared_filters() -> dict[str, bytes]:
    """Serialised ``TypedExtensionConfig`` messages by the names that listeners ask for."""
    found = {}
    for metrics, access_log, on_demand in itertools.product((True, False), repeat=3):
        telemetry = Telemetry(Reporter.SOURCE, metrics=metrics, access_log=access_log)
        if not (metrics or access_log):
            continue
        name = _name(telemetry, on_demand)
        source = replace(_plain(telemetry, on_demand), stat_prefix="outbound")
        extension = extension_pb2.TypedExtensionConfig(
            name=name,
            typed_config=values.packed(_TCP, tcp_proxy(source, mutual_tls=False, gateway=False)),
        )
        found[name] = extension.SerializeToString(deterministic=True)
    return found


def _plain(telemetry: Telemetry, on_demand: bool) -> TcpProxy:
    own = Telemetry(Reporter.SOURCE, metrics=telemetry.metrics, access_log=telemetry.access_log)
    return TcpProxy("", (WeightedTcpCluster(_NO_CLUSTER),), own, on_demand=on_demand)


def _name(telemetry: Telemetry, on_demand: bool) -> str:
    parts = (
        "lateen.tcp",
        *(("log",) if telemetry.access_log else ()),
        *(("metrics",) if telemetry.metrics else ()),
        *(("on-demand",) if on_demand else ()),
    )
    return ".".join(parts)


@functools.lru_cache(maxsize=4096)
def _to_cluster(cluster: str) -> bytes:
    state = {
        "object_key": CLUSTER_KEY,
        "format_string": {"text_format_source": {"inline_string": cluster}},
    }
    config = {"@type": TYPE_PREFIX + _STATE, "on_new_connection": [state]}
    return protos.from_dict(_FILTER, {"name": "lateen.cluster", "typed_config": config})


@functools.cache
def _by_name(name: str) -> bytes:
    found = listener_components_pb2.Filter(name=name)
    found.config_discovery.config_source.CopyFrom(tls.ads())
    found.config_discovery.type_urls.append(TYPE_PREFIX + _TCP)
    body: bytes = found.SerializeToString(deterministic=True)
    return body


def tcp_proxy(source: TcpProxy, *, mutual_tls: bool, gateway: bool) -> bytes:
    """Serialised ``TcpProxy``.

    On a chain with mutual TLS the upstream connection waits for the handshake, so that who the
    client is is known when the connection is counted.
    """
    own = tcp_proxy_pb2.TcpProxy(stat_prefix=source.stat_prefix)
    if len(source.clusters) == 1:
        own.cluster = source.clusters[0].cluster
    else:
        for entry in source.clusters:
            own.weighted_clusters.clusters.add(name=entry.cluster, weight=entry.weight)
    if source.idle_timeout is not None:
        own.idle_timeout.CopyFrom(values.duration(source.idle_timeout))
    if source.max_connection_duration is not None:
        own.max_downstream_connection_duration.CopyFrom(
            values.duration(source.max_connection_duration)
        )
    if any(policy.source_ip for policy in source.hash_policies):
        own.hash_policy.add(source_ip=hash_policy_pb2.HashPolicy.SourceIp())
    if source.tunnel_host:
        own.tunneling_config.hostname = source.tunnel_host
        own.tunneling_config.use_post = source.tunnel_post
    if source.on_demand:
        own.on_demand.odcds_config.CopyFrom(tls.ads())
        own.on_demand.timeout.CopyFrom(values.duration(values.ON_DEMAND_TIMEOUT))
    if mutual_tls:
        own.upstream_connect_mode = tcp_proxy_pb2.ON_DOWNSTREAM_TLS_HANDSHAKE
        own.max_early_data_bytes.value = _EARLY_DATA_LIMIT
    body: bytes = own.SerializeToString(deterministic=True)
    return body + telemetry.tcp_loggers(source.telemetry, gateway=gateway)
