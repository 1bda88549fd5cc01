"""Clusters and their endpoints."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from lateen.ir.origin import Origin
from lateen.ir.tls import UpstreamTls
from lateen.model.service import Health, Locality, WorkloadIdentity


class ClusterType(enum.StrEnum):
    """Envoy ``Cluster.DiscoveryType`` and custom types."""

    EDS = "EDS"
    STATIC = "STATIC"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    ORIGINAL_DST = "ORIGINAL_DST"
    DYNAMIC_FORWARD_PROXY = "DYNAMIC_FORWARD_PROXY"
    """The host that a request or an SNI names, looked up when it is first asked for."""


class LoadBalancer(enum.StrEnum):
    """Envoy load balancing policies that Istio's API can ask for."""

    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"
    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"
    CLUSTER_PROVIDED = "CLUSTER_PROVIDED"


class UpstreamProtocol(enum.StrEnum):
    """How HTTP is spoken to the endpoints."""

    NONE = "none"
    """Opaque TCP."""
    HTTP1 = "http/1.1"
    HTTP2 = "h2"
    DOWNSTREAM = "downstream"
    """Whatever the client spoke (``use_downstream_protocol_config``): sniffed ports."""


class ServiceReference(msgspec.Struct, frozen=True):
    """The service a cluster belongs to, for telemetry labels and for istioctl."""

    hostname: str
    name: str
    namespace: str


class SlowStart(msgspec.Struct, frozen=True):
    """Envoy ``SlowStartConfig``; ``window`` in seconds."""

    window: float
    minimum_percent: float = 10.0
    aggression: float = 1.0


class ConnectionPool(msgspec.Struct, frozen=True):
    """Limits of connections and requests; None leaves Istio's default (no limit). Seconds."""

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    max_requests_per_connection: int | None = None
    max_concurrent_streams: int | None = None
    idle_timeout: float | None = None
    tcp_idle_timeout: float | None = None
    max_connection_duration: float | None = None
    keepalive_probes: int | None = None
    keepalive_time: float | None = None
    keepalive_interval: float | None = None
    http2_keepalive_interval: float | None = None
    http2_keepalive_timeout: float | None = None
    retry_budget_percent: float | None = None
    retry_budget_min_concurrency: int | None = None


class OutlierDetection(msgspec.Struct, frozen=True):
    """Envoy ``OutlierDetection``; None leaves Envoy's default. Seconds and percents."""

    consecutive_5xx: int | None = None
    consecutive_gateway_errors: int | None = None
    split_local_origin_errors: bool = False
    consecutive_local_origin_failures: int | None = None
    interval: float | None = None
    base_ejection_time: float | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int = 0


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a cluster."""

    address: str
    port: int
    weight: int = 1
    health: Health = Health.HEALTHY
    mtls: bool = False
    """Written as ``envoy.transport_socket_match`` metadata ``tlsMode: istio``."""
    identity: WorkloadIdentity | None = None
    hostname: str = ""


class LocalityEndpoints(msgspec.Struct, frozen=True):
    """Endpoints of one locality at one priority; ``weight`` 0 means unweighted."""

    endpoints: tuple[Endpoint, ...]
    locality: Locality = Locality()
    priority: int = 0
    weight: int = 0


class LoadAssignment(msgspec.Struct, frozen=True, weakref=True):
    """Endpoints of a cluster (Envoy ``ClusterLoadAssignment``)."""

    cluster: str
    localities: tuple[LocalityEndpoints, ...] = ()
    overprovisioning_factor: int | None = None


class Cluster(msgspec.Struct, frozen=True, weakref=True):
    """Envoy ``Cluster``. Timeouts in seconds."""

    name: str
    type: ClusterType
    load_balancer: LoadBalancer = LoadBalancer.LEAST_REQUEST
    connect_timeout: float = 10.0
    protocol: UpstreamProtocol = UpstreamProtocol.NONE
    pool: ConnectionPool = ConnectionPool()
    outlier_detection: OutlierDetection | None = None
    tls: UpstreamTls | None = None
    """TLS for every endpoint."""
    auto_mtls: UpstreamTls | None = None
    """TLS for endpoints marked ``mtls`` only, clear text for the others."""
    proxy_protocol: int = 0
    """PROXY protocol version to send, 0 for none."""
    load_assignment: LoadAssignment | None = None
    """Inline endpoints of STATIC and DNS clusters; EDS clusters have theirs sent apart."""
    bind_source: str = ""
    """Source address of upstream connections (127.0.0.6 inbound)."""
    upstream_port_override: int = 0
    """ORIGINAL_DST only: port to use instead of the original one."""
    original_dst_header: str = ""
    ring_minimum_size: int = 0
    maglev_table_size: int = 0
    slow_start: SlowStart | None = None
    locality_weighted: bool = False
    panic_threshold: float | None = 0.0
    """Percent; None leaves Envoy's default of 50."""
    dns_refresh_rate: float = 60.0
    dns_lookup_family: str = "V4_ONLY"
    respect_dns_ttl: bool = True
    inbound: bool = False
    service: ServiceReference | None = None
    other_services: tuple[ServiceReference, ...] = ()
    """Services besides ``service`` whose traffic an inbound cluster takes."""
    subset: str = ""
    external: bool = False
    origins: tuple[Origin, ...] = ()
    extra_metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
