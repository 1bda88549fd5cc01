"""Which settings of DestinationRules and of the mesh hold for one cluster, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from lateen.api.base import duration_seconds
from lateen.api.meshconfig.mesh_config import DefaultTrafficPolicy
from lateen.api.networking.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    HTTPSettings,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    ProxyProtocol,
    RetryBudget,
    TcpKeepalive,
    TCPSettings,
    TrafficPolicy,
    TunnelSettings,
)
from lateen.ir import cluster as ir


class EffectivePolicy(msgspec.Struct, frozen=True):
    """The settings that hold for one cluster, block by block; None where nobody set one."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


def effective(
    mesh: DefaultTrafficPolicy | None,
    rule: TrafficPolicy | None,
    subset: TrafficPolicy | None,
    port: int,
) -> EffectivePolicy:
    """Settings for ``port``: mesh < rule (or its entry for the port) < subset < its entry.

    An entry in ``portLevelSettings`` replaces the rule's whole policy for that port: what it
    leaves out falls back to the mesh's defaults, not to the rule.
    """
    result = _rule_layer(rule, port)
    if mesh is not None:
        result = EffectivePolicy(
            load_balancer=result.load_balancer,
            connection_pool=result.connection_pool or mesh.connection_pool,
            outlier_detection=result.outlier_detection or mesh.outlier_detection,
            tls=result.tls,
            tunnel=result.tunnel,
            proxy_protocol=result.proxy_protocol,
            retry_budget=result.retry_budget,
        )
    if subset is None:
        return result
    entry = _of_port(subset.port_level_settings, port)
    upper: TrafficPolicy | PortTrafficPolicy = subset if entry is None else entry
    return EffectivePolicy(
        load_balancer=upper.load_balancer or result.load_balancer,
        connection_pool=upper.connection_pool or result.connection_pool,
        outlier_detection=upper.outlier_detection or result.outlier_detection,
        tls=upper.tls or result.tls,
        tunnel=subset.tunnel or result.tunnel,
        proxy_protocol=subset.proxy_protocol or result.proxy_protocol,
        retry_budget=subset.retry_budget or result.retry_budget,
    )


def _rule_layer(rule: TrafficPolicy | None, port: int) -> EffectivePolicy:
    if rule is None:
        return EffectivePolicy()
    entry = _of_port(rule.port_level_settings, port)
    if entry is not None:
        return EffectivePolicy(
            load_balancer=entry.load_balancer,
            connection_pool=entry.connection_pool,
            outlier_detection=entry.outlier_detection,
            tls=entry.tls,
            tunnel=rule.tunnel,
        )
    return EffectivePolicy(
        load_balancer=rule.load_balancer,
        connection_pool=rule.connection_pool,
        outlier_detection=rule.outlier_detection,
        tls=rule.tls,
        tunnel=rule.tunnel,
        proxy_protocol=rule.proxy_protocol,
        retry_budget=rule.retry_budget,
    )


def _of_port(entries: Sequence[PortTrafficPolicy], port: int) -> PortTrafficPolicy | None:
    return next(
        (entry for entry in entries if entry.port is not None and entry.port.number == port), None
    )


def connection_pool(
    settings: ConnectionPoolSettings | None, budget: RetryBudget | None = None, *, http2: bool
) -> ir.ConnectionPool:
    """Limits as Envoy takes them; zeros and absent values leave Istio's "no limit"."""
    tcp = settings.tcp if settings is not None else None
    http = settings.http if settings is not None else None
    keepalive = tcp.tcp_keepalive if tcp is not None else None
    ping = http.http2_keep_alive if http is not None and http2 else None
    return ir.ConnectionPool(
        max_connections=_positive(tcp.max_connections) if tcp else None,
        max_pending_requests=_positive(http.http1_max_pending_requests) if http else None,
        max_requests=_positive(http.http2_max_requests) if http else None,
        max_retries=_positive(http.max_retries) if http else None,
        max_requests_per_connection=_positive(http.max_requests_per_connection) if http else None,
        max_concurrent_streams=_positive(http.max_concurrent_streams) if http and http2 else None,
        idle_timeout=_http_idle_timeout(http, tcp),
        tcp_idle_timeout=_seconds(tcp.idle_timeout) if tcp else None,
        max_connection_duration=_seconds(tcp.max_connection_duration) if tcp else None,
        keepalive_probes=_positive(keepalive.probes) if keepalive else None,
        keepalive_time=_seconds(keepalive.time) if keepalive else None,
        keepalive_interval=_seconds(keepalive.interval) if keepalive else None,
        http2_keepalive_interval=_seconds(ping.interval) if ping else None,
        http2_keepalive_timeout=_seconds(ping.timeout) if ping else None,
        retry_budget_percent=_percent(budget),
        retry_budget_min_concurrency=_concurrency(budget),
    )


def _http_idle_timeout(http: HTTPSettings | None, tcp: TCPSettings | None) -> float | None:
    """Seconds after which an idle connection to an HTTP port is closed: without a time for HTTP
    that for TCP holds."""
    if http is not None and http.idle_timeout is not None:
        return _seconds(http.idle_timeout)
    return _seconds(tcp.idle_timeout) if tcp is not None else None


def with_keepalive(pool: ir.ConnectionPool, mesh: TcpKeepalive | None) -> ir.ConnectionPool:
    """``pool`` with the mesh's TCP keepalive in the fields that it leaves open."""
    if mesh is None:
        return pool
    return replace(
        pool,
        keepalive_probes=pool.keepalive_probes or _positive(mesh.probes),
        keepalive_time=pool.keepalive_time or _seconds(mesh.time),
        keepalive_interval=pool.keepalive_interval or _seconds(mesh.interval),
    )


def outlier_detection(settings: OutlierDetection | None) -> ir.OutlierDetection | None:
    """Ejection settings; an error count of 0 switches that kind of ejection off."""
    if settings is None:
        return None
    return ir.OutlierDetection(
        consecutive_5xx=settings.consecutive_5xx_errors,
        consecutive_gateway_errors=settings.consecutive_gateway_errors,
        split_local_origin_errors=settings.split_external_local_origin_errors,
        consecutive_local_origin_failures=settings.consecutive_local_origin_failures,
        interval=_seconds(settings.interval),
        base_ejection_time=_seconds(settings.base_ejection_time),
        max_ejection_percent=_positive(settings.max_ejection_percent),
        min_health_percent=settings.min_health_percent,
    )


def _positive(value: int) -> int | None:
    return value if value > 0 else None


def _seconds(text: str | None) -> float | None:
    return None if text is None else duration_seconds(text)


def _percent(budget: RetryBudget | None) -> float | None:
    if budget is None:
        return None
    return 20.0 if budget.percent is None else budget.percent


def _concurrency(budget: RetryBudget | None) -> int | None:
    if budget is None:
        return None
    return 3 if budget.min_retry_concurrency is None else budget.min_retry_concurrency
