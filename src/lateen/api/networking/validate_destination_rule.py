"""DestinationRule."""

from __future__ import annotations

from math import isqrt

from lateen.api.base import Duration, duration_nanoseconds
from lateen.api.findings import FieldPath
from lateen.api.networking.checks import (
    check_duration,
    check_export_to,
    check_one_of,
    check_selector,
)
from lateen.api.networking.destination_rule import (
    ConnectionPoolSettings,
    ConsistentHashLB,
    DestinationRule,
    HTTPSettings,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    TCPSettings,
    TrafficPolicy,
    TunnelSettings,
)
from lateen.api.networking.names import (
    fqdn_problem,
    is_ip,
    is_label,
    labels_problem,
    port_problem,
    wildcard_problem,
)
from lateen.api.networking.rules import DEPRECATED, HOST, PERCENTAGE, POLICY, PORT, SELECTOR
from lateen.api.networking.validate_locality import check_failover, check_locality
from lateen.api.networking.validate_tls import check_client_tls
from lateen.api.report import Report

_MAX_MAGLEV = 5_000_011
_MILLISECOND = 1_000_000


def validate_destination_rule(obj: DestinationRule, report: Report) -> None:
    """Host, policies, subsets."""
    spec, namespace = obj.spec, obj.metadata.namespace
    problem = wildcard_problem(spec.host)
    if problem:
        report.error(HOST, ("spec", "host"), problem)
    check_traffic_policy(spec.traffic_policy, namespace, ("spec", "trafficPolicy"), report)
    names: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        path: FieldPath = ("spec", "subsets", index)
        if subset.name in names:
            report.error(POLICY, (*path, "name"), f"duplicate subset names: {subset.name}")
        names.add(subset.name)
        if not is_label(subset.name):
            message = f"subset name is invalid: {subset.name}" if subset.name else "cannot be empty"
            report.error(POLICY, (*path, "name"), message)
        problem = labels_problem(subset.labels)
        if problem:
            report.error(SELECTOR, (*path, "labels"), problem)
        check_traffic_policy(subset.traffic_policy, namespace, (*path, "trafficPolicy"), report)
    selector = spec.workload_selector
    check_export_to(spec.export_to, namespace, report, with_selector=selector is not None)
    labels = None if selector is None else selector.match_labels
    check_selector(labels, ("spec", "workloadSelector", "matchLabels"), "destination rule", report)


def check_traffic_policy(
    policy: TrafficPolicy | None, namespace: str, path: FieldPath, report: Report
) -> None:
    """All parts of a traffic policy of a rule in ``namespace``."""
    if policy is None:
        return
    if policy == TrafficPolicy():
        report.error(POLICY, path, "traffic policy must have at least one field")
        return
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        report.error(POLICY, path, "tunnel and proxyProtocol must not be set together")
    _common(policy, namespace, path, report)
    for index, port_policy in enumerate(policy.port_level_settings):
        here: FieldPath = (*path, "portLevelSettings", index)
        if port_policy.port is None:
            report.error(PORT, here, "portTrafficPolicy must have valid port")
        elif port_problem(port_policy.port.number):
            number = port_policy.port.number
            message = f"{port_problem(number)}: the policy has no effect"
            report.warn(PORT, (*here, "port", "number"), message)
        if port_policy == PortTrafficPolicy(port=port_policy.port):
            report.error(POLICY, here, "port traffic policy must have at least one field")
        _common(port_policy, namespace, here, report)
    if policy.tunnel is not None:
        _tunnel(policy.tunnel, (*path, "tunnel"), report)
    if policy.retry_budget is not None:
        here = (*path, "retryBudget", "budgetInterval")
        check_duration(policy.retry_budget.budget_interval, here, report)


def _common(
    policy: TrafficPolicy | PortTrafficPolicy, namespace: str, path: FieldPath, report: Report
) -> None:
    if policy.outlier_detection is not None:
        _outlier(policy.outlier_detection, (*path, "outlierDetection"), report)
    if policy.connection_pool is not None:
        check_connection_pool(policy.connection_pool, (*path, "connectionPool"), report)
    if policy.load_balancer is not None:
        has_outlier = policy.outlier_detection is not None
        _load_balancer(policy.load_balancer, has_outlier, (*path, "loadBalancer"), report)
    check_client_tls(policy.tls, namespace, (*path, "tls"), report)


def _tunnel(tunnel: TunnelSettings, path: FieldPath, report: Report) -> None:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        message = 'tunnel protocol must be "CONNECT" or "POST"'
        report.error(POLICY, (*path, "protocol"), message)
    if fqdn_problem(tunnel.target_host) and not is_ip(tunnel.target_host):
        message = "tunnel target host must be valid FQDN or IP address"
        report.error(HOST, (*path, "targetHost"), message)
    problem = port_problem(tunnel.target_port)
    if problem:
        report.error(PORT, (*path, "targetPort"), f"tunnel target port is invalid: {problem}")


def _outlier(outlier: OutlierDetection, path: FieldPath, report: Report) -> None:
    check_duration(outlier.base_ejection_time, (*path, "baseEjectionTime"), report)
    check_duration(outlier.interval, (*path, "interval"), report)
    if outlier.consecutive_errors:
        report.warn(
            DEPRECATED,
            (*path, "consecutiveErrors"),
            "outlier detection consecutive errors is deprecated, "
            "use consecutiveGatewayErrors or consecutive5xxErrors instead",
        )
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        report.error(
            POLICY,
            (*path, "consecutiveLocalOriginFailures"),
            "outlier detection consecutive local origin failures is specified, "
            "but split external local origin errors is set to false",
        )
    for name, value in (
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ):
        if not 0 <= value <= 100:
            report.error(PERCENTAGE, (*path, name), f"percentage {value} is not in range 0..100")
    for index, code in enumerate(outlier.outlier_detection_http_error_codes):
        if not str(code).isdigit() or not 100 <= int(code) <= 599:
            here: FieldPath = (*path, "outlierDetectionHttpErrorCodes", index)
            report.error(POLICY, here, f"{code} is not an HTTP status code")


def check_connection_pool(pool: ConnectionPoolSettings, path: FieldPath, report: Report) -> None:
    """Limits are not negative, timeouts are durations."""
    if pool.http is None and pool.tcp is None:
        report.error(POLICY, path, "connection pool must have at least one field")
    if pool.http is not None:
        _http(pool.http, (*path, "http"), report)
    if pool.tcp is not None:
        _tcp(pool.tcp, (*path, "tcp"), report)


def _http(http: HTTPSettings, path: FieldPath, report: Report) -> None:
    for name, value in (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ):
        if value < 0:
            report.error(POLICY, (*path, name), f"{name} must be non-negative")
    check_duration(http.idle_timeout, (*path, "idleTimeout"), report)
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        message = "use client protocol must not be true when H2UpgradePolicy is UPGRADE"
        report.error(POLICY, (*path, "useClientProtocol"), message)
    keepalive = http.http2_keep_alive
    if keepalive is not None:
        here: FieldPath = (*path, "http2KeepAlive")
        for name, text in (("interval", keepalive.interval), ("timeout", keepalive.timeout)):
            if text is None:
                report.error(POLICY, here, f"http2KeepAlive needs interval and timeout: no {name}")
            check_duration(text, (*here, name), report)


def _tcp(tcp: TCPSettings, path: FieldPath, report: Report) -> None:
    if tcp.max_connections < 0:
        report.error(POLICY, (*path, "maxConnections"), "max connections must be non-negative")
    check_duration(tcp.connect_timeout, (*path, "connectTimeout"), report)
    check_duration(tcp.max_connection_duration, (*path, "maxConnectionDuration"), report)
    _tcp_idle(tcp.idle_timeout, (*path, "idleTimeout"), report)
    if tcp.tcp_keepalive is not None:
        check_duration(tcp.tcp_keepalive.time, (*path, "tcpKeepalive", "time"), report)
        check_duration(tcp.tcp_keepalive.interval, (*path, "tcpKeepalive", "interval"), report)


def _tcp_idle(text: Duration | None, path: FieldPath, report: Report) -> None:
    # Less than 1ms is none: it turns the timeout off.
    try:
        is_off = text is not None and 0 <= duration_nanoseconds(text) < _MILLISECOND
    except ValueError:
        is_off = False
    if not is_off:
        check_duration(text, path, report)


def _load_balancer(
    settings: LoadBalancerSettings, has_outlier: bool, path: FieldPath, report: Report
) -> None:
    policies = {
        "simple": settings.simple is not None,
        "consistentHash": settings.consistent_hash is not None,
    }
    check_one_of(policies, path, report)
    if settings.consistent_hash is not None:
        _consistent_hash(settings.consistent_hash, (*path, "consistentHash"), report)
    if settings.locality_lb_setting is not None:
        here: FieldPath = (*path, "localityLbSetting")
        check_locality(settings.locality_lb_setting, has_outlier, here, report)
    if settings.zone_aware_lb_setting is not None:
        if settings.locality_lb_setting is not None:
            message = "localityLbSetting and zoneAwareLbSetting must not be set together"
            report.error(POLICY, (*path, "zoneAwareLbSetting"), message, "Keep one of the two.")
        here = (*path, "zoneAwareLbSetting", "failover")
        check_failover(settings.zone_aware_lb_setting.failover, here, report)
    check_duration(settings.warmup_duration_secs, (*path, "warmupDurationSecs"), report)
    if settings.warmup is not None:
        check_duration(settings.warmup.duration, (*path, "warmup", "duration"), report)
        aggression = settings.warmup.aggression
        if aggression is not None and aggression < 1:
            message = f"aggression {aggression} should be greater than or equal to 1"
            report.error(POLICY, (*path, "warmup", "aggression"), message)


def _consistent_hash(lb: ConsistentHashLB, path: FieldPath, report: Report) -> None:
    keys = {
        "httpHeaderName": lb.http_header_name is not None,
        "httpCookie": lb.http_cookie is not None,
        "useSourceIp": lb.use_source_ip is not None,
        "httpQueryParameterName": lb.http_query_parameter_name is not None,
    }
    check_one_of(keys, path, report)
    algorithms = {"ringHash": lb.ring_hash is not None, "maglev": lb.maglev is not None}
    count = check_one_of(algorithms, path, report)
    if lb.http_cookie is not None:
        if not lb.http_cookie.name:
            report.error(POLICY, (*path, "httpCookie", "name"), "name required for HttpCookie")
        seen: set[str] = set()
        for index, attribute in enumerate(lb.http_cookie.attributes):
            here: FieldPath = (*path, "httpCookie", "attributes", index, "name")
            if not attribute.name:
                report.error(POLICY, here, "name required for an attribute of HttpCookie")
            elif attribute.name in seen:
                message = f'duplicate attribute "{attribute.name}" of HttpCookie'
                report.error(POLICY, here, message, "Keep one of the two.")
            seen.add(attribute.name)
    if lb.minimum_ring_size:
        message = "consistent hash MinimumRingSize is deprecated, use ringHash.minimumRingSize"
        report.warn(DEPRECATED, (*path, "minimumRingSize"), message)
        if count:
            message = "only one of MinimumRingSize or Maglev/Ringhash can be specified"
            report.error(POLICY, path, message)
    if lb.maglev is not None:
        size = lb.maglev.table_size
        here = (*path, "maglev", "tableSize")
        if size == 0:
            report.error(POLICY, here, "tableSize must be set for maglev", "The default is 65537.")
        elif size >= _MAX_MAGLEV:
            report.error(POLICY, here, f"tableSize must be less than {_MAX_MAGLEV} for maglev")
        elif not _is_prime(size):
            report.error(POLICY, here, "tableSize must be a prime number for maglev")


def _is_prime(number: int) -> bool:
    # One counts as prime, as in Envoy.
    return number < 4 or (
        number % 2 == 1 and all(number % factor for factor in range(3, isqrt(number) + 1, 2))
    )
