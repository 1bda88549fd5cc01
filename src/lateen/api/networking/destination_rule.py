"""``networking.istio.io`` DestinationRule."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from lateen.api.base import Duration, Int32, JsonObject, Message, UInt32, UInt64
from lateen.api.networking.common import MatchLabelsSelector
from lateen.api.networking.virtual_service import PortSelector
from lateen.api.resource import ApiObject


class HTTPCookieAttribute(Message, frozen=True, kw_only=True):
    """A further attribute of a generated cookie, such as ``SameSite``."""

    name: str
    value: str = ""


class HTTPCookie(Message, frozen=True, kw_only=True):
    """Hash on a cookie; with a ``ttl`` it is generated when missing (0s: session cookie)."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: list[HTTPCookieAttribute] = []


class RingHash(Message, frozen=True, kw_only=True):
    """Ring hash with at least this many virtual nodes (default 1024)."""

    minimum_ring_size: UInt64 = 0


class MagLev(Message, frozen=True, kw_only=True):
    """Maglev with a prime table size below 5000011 (default 65537)."""

    table_size: UInt64 = 0


class ConsistentHashLB(Message, frozen=True, kw_only=True):
    """Soft session affinity: one hash key, one algorithm."""

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0


class Distribute(Message, frozen=True, kw_only=True):
    """Weights (sum 100) over localities for traffic that starts in ``from``."""

    from_: str = field(name="from", default="")
    to: dict[str, UInt32] = {}


class Failover(Message, frozen=True, kw_only=True):
    """Region that takes over for the region ``from``."""

    from_: str = field(name="from", default="")
    to: str = ""


class LocalityLbSetting(Message, frozen=True, kw_only=True):
    """Locality load balancing; ``distribute`` and ``failover`` exclude each other."""

    distribute: list[Distribute] = []
    failover: list[Failover] = []
    failover_priority: list[str] = []
    enabled: bool | None = None


class ZoneAwareLbSetting(Message, frozen=True, kw_only=True):
    """Zone-aware routing by Envoy; ``minClusterSize`` endpoints are needed for it."""

    enabled: bool | None = None
    min_cluster_size: UInt64 | None = None
    failover: list[Failover] = []
    failover_priority: list[str] = []


class WarmupConfiguration(Message, frozen=True, kw_only=True):
    """Slow start of new endpoints."""

    duration: Duration
    minimum_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    aggression: Annotated[float, Meta(ge=0)] | None = None


class LoadBalancerSettings(Message, frozen=True, kw_only=True):
    """``simple`` and ``consistentHash`` exclude each other."""

    simple: (
        Literal[
            "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"
        ]
        | None
    ) = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None


class TcpKeepalive(Message, frozen=True, kw_only=True):
    """TCP keepalive; unset values are the operating system's."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Message, frozen=True, kw_only=True):
    """Connection pool settings common to HTTP and TCP."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class Http2KeepAlive(Message, frozen=True, kw_only=True):
    """HTTP/2 PING keepalive of upstream connections."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HTTPSettings(Message, frozen=True, kw_only=True):
    """Connection pool settings of HTTP/1.1, HTTP/2 and gRPC."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: Http2KeepAlive | None = None


class ConnectionPoolSettings(Message, frozen=True, kw_only=True):
    """Limits of connections and requests to one destination."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Message, frozen=True, kw_only=True):
    """Ejection of endpoints that fail."""

    consecutive_errors: Int32 = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = field(name="consecutive5xxErrors", default=None)
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0
    outlier_detection_http_error_codes: list[int | str] = []


class ClientTLSSettings(Message, frozen=True, kw_only=True):
    """TLS towards an upstream."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: list[str] = []
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class TunnelSettings(Message, frozen=True, kw_only=True):
    """Tunnel TCP through the destination by HTTP CONNECT or POST."""

    protocol: str = ""
    target_host: str
    target_port: UInt32


class ProxyProtocol(Message, frozen=True, kw_only=True):
    """Send the PROXY protocol header upstream."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Message, frozen=True, kw_only=True):
    """Concurrent retries as a share of active requests, instead of a fixed number."""

    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    min_retry_concurrency: UInt32 | None = None
    budget_interval: Duration | None = None


class PortTrafficPolicy(Message, frozen=True, kw_only=True):
    """Policy of one port; replaces the destination-wide policy as a whole."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TrafficPolicy(Message, frozen=True, kw_only=True):
    """What happens to traffic after routing."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: Annotated[list[PortTrafficPolicy], Meta(max_length=4096)] = []
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Message, frozen=True, kw_only=True):
    """A named set of endpoints, by labels."""

    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Message, frozen=True, kw_only=True):
    """Policies for a host, after routing."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] = []
    export_to: list[str] = []
    workload_selector: MatchLabelsSelector | None = None


class DestinationRule(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1`` DestinationRule."""

    spec: DestinationRuleSpec
    status: JsonObject = {}
