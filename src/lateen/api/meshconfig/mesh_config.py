"""The settings of a whole mesh (``MeshConfig`` of Istio ``mesh/v1alpha1/config.proto``)."""

from __future__ import annotations

from typing import Literal

import msgspec

from lateen.api.base import Duration, Int32, JsonObject, Message
from lateen.api.gatewayapi.scalars import LabelSelector
from lateen.api.meshconfig.providers import (
    BUILT_IN_PROVIDERS,
    DefaultProviders,
    ExtensionProvider,
    ProviderList,
)
from lateen.api.meshconfig.proxy_config import ProxyConfig
from lateen.api.networking.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LocalityLbSetting,
    OutlierDetection,
    TcpKeepalive,
    ZoneAwareLbSetting,
)
from lateen.api.networking.virtual_service import HTTPRetry


class OutboundTrafficPolicy(Message, frozen=True, kw_only=True):
    """What happens to traffic to hosts that the mesh does not know."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "VIRTUAL_SERVICE_ONLY", "ALLOW_ANY_DYNAMIC_DNS"] = (
        "ALLOW_ANY"
    )
    tls: ClientTLSSettings | None = None


class InboundTrafficPolicy(Message, frozen=True, kw_only=True):
    """Whether a workload's traffic reaches it on its own address or on localhost."""

    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class ConfigSource(Message, frozen=True, kw_only=True):
    """Where a control plane reads configuration from."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    subscribed_resources: list[str] = []


class CertificateData(Message, frozen=True, kw_only=True):
    """Further trust anchors: PEM text, or the address of a SPIFFE bundle."""

    pem: str | None = None
    spiffe_bundle_url: str | None = None
    cert_signers: list[str] = []
    trust_domains: list[str] = []


class Certificate(Message, frozen=True, kw_only=True):
    """A DNS certificate to provision (deprecated by Istio)."""

    secret_name: str = ""
    dns_names: list[str] = []


class ServiceSetting(Message, frozen=True, kw_only=True):
    """``cluster_local``: clients use endpoints of their own cluster only."""

    cluster_local: bool = False


class ServiceSettings(Message, frozen=True, kw_only=True):
    """Settings for services by host name, wildcards allowed."""

    settings: ServiceSetting = ServiceSetting()
    hosts: list[str] = []


class CA(Message, frozen=True, kw_only=True):
    """An external certificate authority."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    request_timeout: Duration = "10s"
    istiod_side: bool = True


class ProxyPathNormalization(Message, frozen=True, kw_only=True):
    """How request paths are normalised before they are matched; DEFAULT is BASE."""

    normalization: Literal[
        "DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"
    ] = "DEFAULT"


class TLSConfig(Message, frozen=True, kw_only=True):
    """TLS parameters."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    ecdh_curves: list[str] = []
    cipher_suites: list[str] = []


class DefaultTrafficPolicy(Message, frozen=True, kw_only=True):
    """Baseline of every cluster; a DestinationRule replaces it block by block."""

    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


class VisibilityRule(Message, frozen=True, kw_only=True):
    """Matches namespaces by labels; a rule without a matcher never matches."""

    namespace_selector: LabelSelector | None = None


Visibility = Literal["VISIBILITY_UNSPECIFIED", "NONE", "NAMESPACE", "PUBLIC"]


class VisibilityPolicy(Message, frozen=True, kw_only=True):
    """Visibility of ServiceEntry objects in namespaces that match all rules."""

    visibility: Visibility = "VISIBILITY_UNSPECIFIED"
    matching_rules: list[VisibilityRule] = []


class ServiceEntryVisibility(Message, frozen=True, kw_only=True):
    """How far ServiceEntry objects are seen; the first policy that matches counts."""

    default_visibility: Visibility = "VISIBILITY_UNSPECIFIED"
    policies: list[VisibilityPolicy] = []
    apply_to_sidecars: bool = False


class MeshConfig(Message, frozen=True, kw_only=True):
    """Settings of a mesh, with Istio's defaults. Durations are text.

    ``extension_providers`` holds what the user defined; look providers up with `provider`, which
    also knows the built-in ones.
    """

    proxy_listen_port: Int32 = 15001
    proxy_inbound_listen_port: Int32 = 15006
    proxy_http_port: Int32 = 0
    connect_timeout: Duration = "10s"
    protocol_detection_timeout: Duration = "0s"
    tcp_keepalive: TcpKeepalive | None = None
    ingress_class: str = "istio"
    ingress_service: str = "istio-ingressgateway"
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    ingress_selector: str = ""
    enable_tracing: bool = True
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    enable_envoy_access_log_service: bool = False
    disable_envoy_listener_log: bool = False
    default_config: ProxyConfig = ProxyConfig()
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    inbound_traffic_policy: InboundTrafficPolicy = InboundTrafficPolicy()
    config_sources: list[ConfigSource] = []
    enable_auto_mtls: bool = True
    trust_domain: str = "cluster.local"
    trust_domain_aliases: list[str] = []
    ca_certificates: list[CertificateData] = []
    default_service_export_to: list[str] = msgspec.field(default_factory=lambda: ["*"])
    default_virtual_service_export_to: list[str] = msgspec.field(default_factory=lambda: ["*"])
    default_destination_rule_export_to: list[str] = msgspec.field(default_factory=lambda: ["*"])
    root_namespace: str = "istio-system"
    locality_lb_setting: LocalityLbSetting = LocalityLbSetting(enabled=True)
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    dns_refresh_rate: Duration = "60s"
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    certificates: list[Certificate] = []
    service_settings: list[ServiceSettings] = []
    enable_prometheus_merge: bool = True
    verify_certificate_at_client: bool = True
    ca: CA | None = None
    extension_providers: ProviderList = []
    default_providers: DefaultProviders = DefaultProviders()
    discovery_selectors: list[LabelSelector] = []
    path_normalization: ProxyPathNormalization = ProxyPathNormalization()
    default_http_retry_policy: HTTPRetry | None = None
    default_inbound_http_retry_policy: HTTPRetry | None = None
    default_traffic_policy: DefaultTrafficPolicy | None = None
    service_entry_visibility: ServiceEntryVisibility | None = None
    mesh_mtls: TLSConfig | None = msgspec.field(name="meshMTLS", default=None)
    tls_defaults: TLSConfig | None = None
    compliance_policy: str = ""
    service_scope_configs: list[JsonObject] = []
    hbone_idle_timeout: Duration | None = None

    @property
    def locality_load_balancing(self) -> bool:
        """Whether locality failover is on, which it is unless switched off."""
        return self.locality_lb_setting.enabled is not False

    def provider(self, name: str) -> ExtensionProvider | None:
        """The provider of this name, any case; ``None`` if there is none."""
        wanted = name.lower()
        for provider in (*self.extension_providers, *BUILT_IN_PROVIDERS):
            if provider.name.lower() == wanted:
                return provider
        return None
