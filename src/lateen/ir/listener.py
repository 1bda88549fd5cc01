"""Listeners, filter chains and network filters."""

from __future__ import annotations

import enum

import msgspec

from lateen.ir.origin import Origin
from lateen.ir.route import HashPolicy, RouteConfiguration
from lateen.ir.tls import DownstreamTls


class Direction(enum.StrEnum):
    """Envoy ``TrafficDirection``."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"


class Reporter(enum.StrEnum):
    """Who counts a request in Istio's metrics."""

    SOURCE = "source"
    DESTINATION = "destination"


class Telemetry(msgspec.Struct, frozen=True):
    """What a chain reports. ``mutual_tls`` says which security policy a server-side chain has."""

    reporter: Reporter
    mutual_tls: bool = False
    access_log: bool = True
    metrics: bool = True


class HttpConnectionManager(msgspec.Struct, frozen=True):
    """Envoy ``HttpConnectionManager``. One of ``route_name`` (RDS) and ``routes`` is set."""

    stat_prefix: str
    telemetry: Telemetry
    route_name: str = ""
    routes: RouteConfiguration | None = None
    codec: str = "AUTO"
    use_remote_address: bool = False
    trusted_hops: int = 0
    forward_client_certificate: str = "APPEND_FORWARD"
    """``APPEND_FORWARD`` on sidecar inbound, ``SANITIZE_SET`` on gateways, ``FORWARD_ONLY``..."""
    client_certificate_details: bool = False
    stream_idle_timeout: float | None = 0.0
    idle_timeout: float | None = None
    request_timeout: float | None = None
    request_headers_timeout: float | None = None
    http1_accept_http10: bool = False
    upstream_alpn: bool = False
    """Sniffed outbound chains: choose the mesh ALPN per request (`envoy` adds the filter)."""
    server_name: str = "istio-envoy"
    normalize_path: bool = True
    merge_slashes: bool = False
    decode_slashes: bool = False
    """Escaped slashes become slashes before routing (``UNESCAPE_AND_FORWARD``)."""
    websocket: bool = True
    on_demand: bool = False
    """Clusters that the proxy does not have are fetched when a request is routed to them."""
    resolve_hosts: str = ""
    """Look up hosts for DYNAMIC_FORWARD_PROXY clusters, in this family (as
    ``Cluster.dns_lookup_family``); empty when there are none."""


class WeightedTcpCluster(msgspec.Struct, frozen=True):
    """One destination of opaque TCP."""

    cluster: str
    weight: int = 1


class TcpProxy(msgspec.Struct, frozen=True):
    """Envoy ``TcpProxy``; seconds."""

    stat_prefix: str
    clusters: tuple[WeightedTcpCluster, ...]
    telemetry: Telemetry
    idle_timeout: float | None = None
    max_connection_duration: float | None = None
    hash_policies: tuple[HashPolicy, ...] = ()
    upstream_alpn: bool = False
    tunnel_host: str = ""
    tunnel_post: bool = False
    on_demand: bool = False
    """A cluster that the proxy does not have is fetched when a connection goes to it."""
    resolve_sni: str = ""
    """Look up the SNI for a DYNAMIC_FORWARD_PROXY cluster, in this family; empty for others."""
    resolved_port: int = 0
    """The port to connect to on the host that the SNI names."""


NetworkFilter = HttpConnectionManager | TcpProxy


class ChainMatch(msgspec.Struct, frozen=True):
    """Envoy ``FilterChainMatch``."""

    destination_port: int = 0
    prefixes: tuple[str, ...] = ()
    """Destination CIDRs."""
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    """``tls``, ``raw_buffer`` or empty."""
    application_protocols: tuple[str, ...] = ()


class FilterChain(msgspec.Struct, frozen=True, weakref=True):
    """One filter chain; its last filter is terminal."""

    name: str
    filter: NetworkFilter
    match: ChainMatch = ChainMatch()
    tls: DownstreamTls | None = None
    connect_timeout: float | None = None
    """Seconds a client may take for the TLS handshake."""
    origins: tuple[Origin, ...] = ()


class Listener(msgspec.Struct, frozen=True, weakref=True):
    """Envoy ``Listener``. Inspectors run on all ports but those listed as excluded."""

    name: str
    address: str
    port: int
    direction: Direction
    filter_chains: tuple[FilterChain, ...] = ()
    default_filter_chain: FilterChain | None = None
    bind_to_port: bool = True
    use_original_dst: bool = False
    original_dst_filter: bool = False
    transparent: bool = False
    tls_inspector: bool = False
    http_inspector: bool = False
    inspector_excluded_ports: tuple[int, ...] = ()
    """Ports on which the HTTP inspector must not wait (no chain of the port needs its answer)."""
    tls_inspector_excluded_ports: tuple[int, ...] = ()
    """Ports on which TLS is not looked for either: all bytes count as ``raw_buffer``."""
    inspection_timeout: float | None = None
    continue_on_inspection_timeout: bool = True
    proxy_protocol: bool = False
    exact_balance: bool = False
    origins: tuple[Origin, ...] = ()
