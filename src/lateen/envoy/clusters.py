"""Clusters: Envoy ``Cluster``.

A cluster is assembled from serialised fragments (protobuf messages merge when concatenated), so
that what many clusters share is made once.
"""

from __future__ import annotations

import functools
from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, protocol_pb2, socket_option_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.extensions.upstreams.tcp.v3 import tcp_protocol_options_pb2

from lateen.envoy import dynamic_hosts, endpoints, metadata, tls, values
from lateen.ir.cluster import (
    Cluster,
    ClusterType,
    ConnectionPool,
    LoadBalancer,
    OutlierDetection,
    SlowStart,
    UpstreamProtocol,
)

PROXY_MARK = 1337
"""SO_MARK of the proxy's own sockets, by which capture tells them from the application's."""
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TCP_OPTIONS = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions"
_MAX_STREAMS = 1073741824
_CLUSTER = cluster_pb2.Cluster
_TYPES = {
    kind: getattr(_CLUSTER, kind.value)
    for kind in ClusterType
    if kind is not ClusterType.DYNAMIC_FORWARD_PROXY
}
_BALANCERS = {kind: getattr(_CLUSTER, kind.value) for kind in LoadBalancer}
_FAMILIES = {
    "AUTO": _CLUSTER.AUTO,
    "V4_ONLY": _CLUSTER.V4_ONLY,
    "V6_ONLY": _CLUSTER.V6_ONLY,
    "V4_PREFERRED": _CLUSTER.V4_PREFERRED,
    "ALL": _CLUSTER.ALL,
}
FALLBACKS = frozenset(
    {
        "BlackHoleCluster",
        "PassthroughCluster",
        "InboundPassthroughCluster",
        "AllowAnyDynamicDNSCluster",
    }
)
"""Clusters without a service; metrics name them as the destination service."""


def cluster(source: Cluster, mark: bool = True) -> bytes:
    """Serialised ``Cluster``. ``mark`` puts `PROXY_MARK` on sockets with a source of their own."""
    return b"".join(
        (
            _own(source),
            _limits(source.pool),
            _protocol(source.protocol, source.pool, *_automatic(source.tls)),
            _balancing(
                source.load_balancer,
                source.panic_threshold,
                source.locality_weighted,
                source.slow_start,
                source.ring_minimum_size,
                source.maglev_table_size,
            ),
            _outliers(source.outlier_detection) if source.outlier_detection else b"",
            _bind(source.bind_source, mark) if source.bind_source else b"",
            _transport(source),
            _metadata(source),
        )
    )


def _own(source: Cluster) -> bytes:
    own = _CLUSTER(
        name=source.name,
        alt_stat_name=f"{source.name};",
        connect_timeout=values.duration(source.connect_timeout),
    )
    if source.type is ClusterType.DYNAMIC_FORWARD_PROXY:
        own.MergeFromString(dynamic_hosts.cluster_type(source.dns_lookup_family))
    else:
        own.type = _TYPES[source.type]
    if source.type is ClusterType.EDS:
        own.MergeFromString(_eds())
    elif source.type in (ClusterType.STRICT_DNS, ClusterType.LOGICAL_DNS):
        own.dns_refresh_rate.CopyFrom(values.duration(source.dns_refresh_rate))
        own.respect_dns_ttl = source.respect_dns_ttl
        own.dns_lookup_family = _FAMILIES[source.dns_lookup_family]
    elif source.type is ClusterType.ORIGINAL_DST and (
        source.upstream_port_override or source.original_dst_header
    ):
        settings = own.original_dst_lb_config
        if source.upstream_port_override:
            settings.upstream_port_override.value = source.upstream_port_override
        if source.original_dst_header:
            settings.use_http_header = True
            settings.http_header_name = source.original_dst_header
    if source.load_assignment is not None:
        own.load_assignment.MergeFromString(endpoints.load_assignment(source.load_assignment))
    body: bytes = own.SerializeToString(deterministic=True)
    return body


@functools.cache
def _eds() -> bytes:
    part = _CLUSTER(eds_cluster_config=_CLUSTER.EdsClusterConfig(eds_config=tls.ads()))
    result: bytes = part.SerializeToString(deterministic=True)
    return result


@functools.lru_cache(maxsize=1024)
def _limits(pool: ConnectionPool) -> bytes:
    def limit(value: int | None) -> int:
        return values.UINT32_MAX if value is None else value

    thresholds = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=values.uint32(limit(pool.max_connections)),
        max_pending_requests=values.uint32(limit(pool.max_pending_requests)),
        max_requests=values.uint32(limit(pool.max_requests)),
        max_retries=values.uint32(limit(pool.max_retries)),
        track_remaining=True,
    )
    if pool.retry_budget_percent is not None or pool.retry_budget_min_concurrency is not None:
        budget = thresholds.retry_budget
        budget.SetInParent()
        if pool.retry_budget_percent is not None:
            budget.budget_percent.value = pool.retry_budget_percent
        if pool.retry_budget_min_concurrency is not None:
            budget.min_retry_concurrency.value = pool.retry_budget_min_concurrency
    part = _CLUSTER(circuit_breakers=circuit_breaker_pb2.CircuitBreakers(thresholds=[thresholds]))
    if (
        pool.keepalive_probes is not None
        or pool.keepalive_time is not None
        or pool.keepalive_interval is not None
    ):
        keepalive = part.upstream_connection_options.tcp_keepalive
        keepalive.SetInParent()
        if pool.keepalive_probes is not None:
            keepalive.keepalive_probes.value = pool.keepalive_probes
        if pool.keepalive_time is not None:
            keepalive.keepalive_time.value = round(pool.keepalive_time)
        if pool.keepalive_interval is not None:
            keepalive.keepalive_interval.value = round(pool.keepalive_interval)
    if pool.tcp_idle_timeout is not None:
        part.typed_extension_protocol_options[_TCP_OPTIONS].CopyFrom(
            values.pack(
                tcp_protocol_options_pb2.TcpProtocolOptions(
                    idle_timeout=values.duration(pool.tcp_idle_timeout)
                )
            )
        )
    result: bytes = part.SerializeToString(deterministic=True)
    return result


def _automatic(settings: object) -> tuple[bool, bool]:
    return (
        bool(getattr(settings, "auto_sni", False)),
        bool(getattr(settings, "auto_san_validation", False)),
    )


def _http1_only() -> http_protocol_options_pb2.HttpProtocolOptions:
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http_protocol_options.SetInParent()
    return options


_HTTP1_ONLY = _http1_only()


@functools.lru_cache(maxsize=1024)
def _protocol(
    protocol: UpstreamProtocol, pool: ConnectionPool, auto_sni: bool, auto_san: bool
) -> bytes:
    if protocol is UpstreamProtocol.NONE:
        return b""
    http2 = protocol_pb2.Http2ProtocolOptions(
        max_concurrent_streams=values.uint32(pool.max_concurrent_streams or _MAX_STREAMS)
    )
    if pool.http2_keepalive_interval is not None:
        http2.connection_keepalive.interval.CopyFrom(values.duration(pool.http2_keepalive_interval))
        http2.connection_keepalive.timeout.CopyFrom(
            values.duration(pool.http2_keepalive_timeout or 10.0)
        )
    http1 = protocol_pb2.Http1ProtocolOptions()
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if protocol is UpstreamProtocol.HTTP1:
        options.explicit_http_config.http_protocol_options.CopyFrom(http1)
    elif protocol is UpstreamProtocol.HTTP2:
        options.explicit_http_config.http2_protocol_options.CopyFrom(http2)
    else:
        options.use_downstream_protocol_config.http_protocol_options.CopyFrom(http1)
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(http2)
    common = options.common_http_protocol_options
    if pool.idle_timeout is not None:
        common.idle_timeout.CopyFrom(values.duration(pool.idle_timeout))
    if pool.max_requests_per_connection:
        common.max_requests_per_connection.value = pool.max_requests_per_connection
    if pool.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(values.duration(pool.max_connection_duration))
    if auto_sni or auto_san:
        options.upstream_http_protocol_options.auto_sni = auto_sni
        options.upstream_http_protocol_options.auto_san_validation = auto_san
    if options == _HTTP1_ONLY:
        return b""  # what Envoy does without options
    part = _CLUSTER(typed_extension_protocol_options={_HTTP_OPTIONS: values.pack(options)})
    result: bytes = part.SerializeToString(deterministic=True)
    return result


@functools.lru_cache(maxsize=1024)
def _balancing(
    balancer: LoadBalancer,
    panic: float | None,
    locality_weighted: bool,
    slow_start: SlowStart | None,
    ring_minimum: int,
    table_size: int,
) -> bytes:
    part = _CLUSTER(lb_policy=_BALANCERS[balancer])
    if panic is not None:
        part.common_lb_config.healthy_panic_threshold.value = panic
        part.common_lb_config.healthy_panic_threshold.SetInParent()
    if locality_weighted:
        part.common_lb_config.locality_weighted_lb_config.SetInParent()
    if balancer is LoadBalancer.RING_HASH and ring_minimum:
        part.ring_hash_lb_config.minimum_ring_size.value = ring_minimum
    if balancer is LoadBalancer.MAGLEV and table_size:
        part.maglev_lb_config.table_size.value = table_size
    if slow_start is not None and balancer in (
        LoadBalancer.ROUND_ROBIN,
        LoadBalancer.LEAST_REQUEST,
    ):
        config = (
            part.round_robin_lb_config
            if balancer is LoadBalancer.ROUND_ROBIN
            else part.least_request_lb_config
        )
        warm_up = config.slow_start_config
        warm_up.slow_start_window.CopyFrom(values.duration(slow_start.window))
        warm_up.min_weight_percent.value = slow_start.minimum_percent
        warm_up.aggression.default_value = slow_start.aggression
        warm_up.aggression.runtime_key = "upstream.slow_start.aggression"
    result: bytes = part.SerializeToString(deterministic=True)
    return result


@functools.lru_cache(maxsize=1024)
def _outliers(source: OutlierDetection) -> bytes:
    # A kind of failure that is not asked for must not eject: Envoy's defaults would.
    result = outlier_detection_pb2.OutlierDetection(
        split_external_local_origin_errors=source.split_local_origin_errors
    )
    result.enforcing_success_rate.SetInParent()
    if source.consecutive_5xx is not None:
        result.consecutive_5xx.value = source.consecutive_5xx
        result.enforcing_consecutive_5xx.value = 100 if source.consecutive_5xx else 0
    if source.consecutive_gateway_errors is not None:
        result.consecutive_gateway_failure.value = source.consecutive_gateway_errors
        result.enforcing_consecutive_gateway_failure.value = (
            100 if source.consecutive_gateway_errors else 0
        )
    if source.consecutive_local_origin_failures is not None:
        count = source.consecutive_local_origin_failures
        result.consecutive_local_origin_failure.value = count
        result.enforcing_consecutive_local_origin_failure.value = 100 if count else 0
    if source.interval is not None:
        result.interval.CopyFrom(values.duration(source.interval))
    if source.base_ejection_time is not None:
        result.base_ejection_time.CopyFrom(values.duration(source.base_ejection_time))
    if source.max_ejection_percent is not None:
        result.max_ejection_percent.value = source.max_ejection_percent
    part = _CLUSTER(outlier_detection=result)
    if source.min_health_percent >= 0:
        part.common_lb_config.healthy_panic_threshold.value = source.min_health_percent
    body: bytes = part.SerializeToString(deterministic=True)
    return body


def mark_option() -> socket_option_pb2.SocketOption:
    """``SO_MARK`` of Linux on an upstream socket (SOL_SOCKET 1, option 36)."""
    return socket_option_pb2.SocketOption(
        description="mark of the proxy's own traffic",
        level=1,
        name=36,
        int_value=PROXY_MARK,
        state=socket_option_pb2.SocketOption.STATE_PREBIND,
    )


@functools.lru_cache(maxsize=64)
def _bind(source: str, mark: bool) -> bytes:
    bind = address_pb2.BindConfig(
        source_address=address_pb2.SocketAddress(address=source, port_value=0),
        socket_options=[mark_option()] if mark else [],
    )
    result: bytes = _CLUSTER(upstream_bind_config=bind).SerializeToString(deterministic=True)
    return result


def _transport(source: Cluster) -> bytes:
    if source.auto_mtls is not None:
        mutual = tls.upstream_socket(source.auto_mtls, source.proxy_protocol)
        match = _MUTUAL_MATCH + values.delimited(_FIELD_MATCH_SOCKET, mutual)
        clear = _clear_match(source.proxy_protocol) if source.proxy_protocol else b""
        # Endpoints that match nothing get Envoy's own default, which is clear text.
        return values.delimited(_FIELD_MATCHES, match) + clear
    if source.tls is not None:
        socket = tls.upstream_socket(source.tls, source.proxy_protocol)
    elif source.proxy_protocol:
        socket = tls.raw_socket(source.proxy_protocol)
    else:
        return b""
    return values.delimited(_FIELD_SOCKET, socket)


def _mutual_match() -> bytes:
    match = _CLUSTER.TransportSocketMatch(name="tlsMode-istio")
    match.match.fields["tlsMode"].string_value = "istio"
    result: bytes = match.SerializeToString(deterministic=True)
    return result


def _number(message: Any, field: str) -> int:  # noqa: ANN401 - a generated class
    number: int = message.DESCRIPTOR.fields_by_name[field].number
    return number


_MUTUAL_MATCH = _mutual_match()
_FIELD_MATCHES = _number(_CLUSTER, "transport_socket_matches")
_FIELD_SOCKET = _number(_CLUSTER, "transport_socket")
_FIELD_MATCH_SOCKET = _number(_CLUSTER.TransportSocketMatch, "transport_socket")


@functools.cache
def _clear_match(proxy_protocol: int) -> bytes:
    match = _CLUSTER.TransportSocketMatch(
        name="tlsMode-disabled",
        transport_socket=base_pb2.TransportSocket.FromString(tls.raw_socket(proxy_protocol)),
    )
    match.match.SetInParent()
    result: bytes = _CLUSTER(transport_socket_matches=[match]).SerializeToString()
    return result


def _metadata(source: Cluster) -> bytes:
    istio: dict[str, metadata.Value] = {}
    path = metadata.config_path(source.origins)
    if path:
        istio["config"] = path
    service = source.service
    if service is not None:
        istio["services"] = [
            {"host": each.hostname, "name": each.name, "namespace": each.namespace}
            for each in (service, *source.other_services)
        ]
        istio["service_host"] = service.hostname
        istio["service_name"] = service.name
        istio["service_namespace"] = service.namespace
    elif source.name in FALLBACKS:
        istio["service_name"] = source.name
    if source.subset:
        istio["subset"] = source.subset
    if source.external:
        istio["external"] = True
    istio.update(source.extra_metadata)
    if not istio and not source.origins:
        return b""
    part = _CLUSTER(
        metadata=metadata.metadata(istio=istio, lateen=metadata.origins(source.origins))
    )
    result: bytes = part.SerializeToString(deterministic=True)
    return result
