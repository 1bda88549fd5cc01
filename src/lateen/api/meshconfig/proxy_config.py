"""Settings of one proxy (``ProxyConfig`` of Istio ``mesh/v1alpha1/proxy.proto``).

Defaults are those that Istio's control plane fills in, not those of the messages.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from lateen.api.base import Duration, Int32, JsonObject, Message, UInt32
from lateen.api.networking.destination_rule import ClientTLSSettings, TcpKeepalive
from lateen.api.networking.proxy_config import ProxyImage
from lateen.api.networking.workload_group import ReadinessProbe


class Address(Message, frozen=True, kw_only=True):
    """A collector's address, ``HOST:PORT``."""

    address: str = ""


class Lightstep(Message, frozen=True, kw_only=True):
    """Lightstep collector (deprecated by Istio)."""

    address: str = ""
    access_token: str = ""


class OpenCensusAgent(Message, frozen=True, kw_only=True):
    """OpenCensus collector (deprecated by Istio)."""

    address: str = ""
    context: list[str] = []


class LiteralTag(Message, frozen=True, kw_only=True):
    """A fixed tag value."""

    value: str = ""


class NamedTag(Message, frozen=True, kw_only=True):
    """A tag value from an environment variable or a request header."""

    name: str = ""
    default_value: str = ""


class ProxyCustomTag(Message, frozen=True, kw_only=True):
    """Where a span tag's value comes from: one of the three."""

    literal: LiteralTag | None = None
    environment: NamedTag | None = None
    header: NamedTag | None = None


class ProxyTracing(Message, frozen=True, kw_only=True):
    """Tracing set at start-up; ``sampling`` in percent, 0 counts as not set."""

    zipkin: Address | None = None
    lightstep: Lightstep | None = None
    datadog: Address | None = None
    stackdriver: JsonObject | None = None
    open_census_agent: OpenCensusAgent | None = None
    custom_tags: dict[str, ProxyCustomTag] = {}
    max_path_tag_length: UInt32 = 0
    sampling: float = 0.0
    tls_settings: ClientTLSSettings | None = None
    enable_istio_tags: bool | None = None


class RemoteService(Message, frozen=True, kw_only=True):
    """A gRPC service that the proxy reports to."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    tcp_keepalive: TcpKeepalive | None = None


class ProxyProtocolConfiguration(Message, frozen=True, kw_only=True):
    """Accept the PROXY protocol on gateways."""


class Topology(Message, frozen=True, kw_only=True):
    """What is in front of a gateway."""

    num_trusted_proxies: UInt32 = 0
    forward_client_cert_details: Literal[
        "UNDEFINED",
        "SANITIZE",
        "FORWARD_ONLY",
        "APPEND_FORWARD",
        "SANITIZE_SET",
        "ALWAYS_FORWARD_ONLY",
    ] = "UNDEFINED"
    proxy_protocol: ProxyProtocolConfiguration | None = None


class PollDelay(Message, frozen=True, kw_only=True):
    """Settings of an accelerated private key method."""

    poll_delay: Duration | None = None
    fallback: bool | None = None


class PrivateKeyProvider(Message, frozen=True, kw_only=True):
    """Accelerated private keys; absent from the stock Envoy."""

    cryptomb: PollDelay | None = None
    qat: PollDelay | None = None


class ProxyStatsMatcher(Message, frozen=True, kw_only=True):
    """Envoy statistics that are created besides Istio's minimum."""

    inclusion_prefixes: list[str] = []
    inclusion_suffixes: list[str] = []
    inclusion_regexps: list[str] = []


class DisableableHeader(Message, frozen=True, kw_only=True):
    """Switches a header off."""

    disabled: bool | None = None


class ServerHeader(Message, frozen=True, kw_only=True):
    """The ``server`` response header: off, or with another value than ``istio-envoy``."""

    disabled: bool | None = None
    value: str = ""


class MetadataExchangeHeaders(Message, frozen=True, kw_only=True):
    """Where ``x-envoy-peer-metadata`` headers are sent."""

    mode: Literal["UNDEFINED", "IN_MESH"] = "UNDEFINED"


class SetCurrentClientCertDetails(Message, frozen=True, kw_only=True):
    """Parts of the client certificate in x-forwarded-client-cert."""

    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class ProxyHeaders(Message, frozen=True, kw_only=True):
    """Headers that the proxy adds by itself."""

    forwarded_client_cert: Literal[
        "UNDEFINED",
        "SANITIZE",
        "FORWARD_ONLY",
        "APPEND_FORWARD",
        "SANITIZE_SET",
        "ALWAYS_FORWARD_ONLY",
    ] = "UNDEFINED"
    set_current_client_cert_details: SetCurrentClientCertDetails | None = None
    request_id: DisableableHeader | None = None
    server: ServerHeader | None = None
    attempt_count: DisableableHeader | None = None
    envoy_debug_headers: DisableableHeader | None = None
    metadata_exchange_headers: MetadataExchangeHeaders | None = None
    preserve_http1_header_case: bool | None = None
    x_forwarded_host: JsonObject | None = None
    x_forwarded_port: JsonObject | None = None


class ProxyConfig(Message, frozen=True, kw_only=True):
    """One proxy's settings, fixed when it starts.

    Durations are text. ``concurrency`` is the number of worker threads: unset takes the CPU
    limit, 0 all cores. ``drain_duration`` bounds the draining of connections on configuration
    change (unset: 45 s, as in Istio), ``termination_drain_duration`` the one before exit (Istio:
    5 s); unset, who runs the proxy decides.
    """

    config_path: str = "./etc/istio/proxy"
    binary_path: str = "/usr/local/bin/envoy"
    service_cluster: str = "istio-proxy"
    tracing_service_name: (
        Literal["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"]
        | None
    ) = None
    drain_duration: Duration | None = None
    parent_shutdown_duration: Duration | None = None
    discovery_address: str = "istiod.istio-system.svc:15012"
    discovery_refresh_delay: Duration | None = None
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    proxy_admin_port: Int32 = 15000
    availability_zone: str = ""
    control_plane_auth_policy: Annotated[
        Literal["NONE", "MUTUAL_TLS", "INHERIT"],
        Meta(extra={"numbers": {0: "NONE", 1: "MUTUAL_TLS", 1000: "INHERIT"}}),
    ] = "MUTUAL_TLS"
    custom_config_file: str = ""
    stat_name_length: Int32 = 189
    concurrency: Int32 | None = None
    proxy_bootstrap_template_path: str = ""
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] = "REDIRECT"
    tracing: ProxyTracing | None = None
    sds: JsonObject | None = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    proxy_metadata: dict[str, str] = {}
    runtime_values: dict[str, str] = {}
    status_port: Int32 = 15020
    extra_stat_tags: list[str] = []
    gateway_topology: Topology = Topology()
    termination_drain_duration: Duration | None = None
    mesh_id: str = ""
    readiness_probe: ReadinessProbe | None = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    hold_application_until_proxy_starts: bool | None = None
    ca_certificates_pem: list[str] = []
    image: ProxyImage | None = None
    private_key_provider: PrivateKeyProvider | None = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: UInt32 | None = None
    stats_compression: bool | None = None
    connection_settings: JsonObject | None = msgspec.field(default=None)
