"""Opaque TCP (Envoy ``TcpProxy``)."""

from __future__ import annotations

from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2

from lateen.envoy import telemetry, tls, values
from lateen.ir.listener import TcpProxy

_EARLY_DATA_LIMIT = 65536


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
