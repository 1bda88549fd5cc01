"""Services and endpoints as the mesh sees them, whatever object they came from."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from lateen.api.resource import ObjectKey, Provenance


class Protocol(enum.StrEnum):
    """A port's protocol after protocol selection (appProtocol, then port name, then number)."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    HTTPS = "HTTPS"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-Web"
    TCP = "TCP"
    TLS = "TLS"
    MONGO = "Mongo"
    MYSQL = "MySQL"
    REDIS = "Redis"
    UDP = "UDP"
    HTTP_PROXY = "HTTP_PROXY"
    HBONE = "HBONE"
    AUTO = "Auto"
    """Not declared: the proxy sniffs."""

    @property
    def is_http(self) -> bool:
        """Whether the port is declared to carry HTTP of some kind in clear text."""
        return self in _HTTP_PROTOCOLS

    @property
    def is_http2(self) -> bool:
        """Whether the upstream speaks HTTP/2 without negotiation."""
        return self in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_tls(self) -> bool:
        """Whether the bytes are TLS that the proxy must not terminate."""
        return self in (Protocol.TLS, Protocol.HTTPS)

    @property
    def is_tcp(self) -> bool:
        """Whether the port is declared opaque (clear-text) TCP."""
        return self in (Protocol.TCP, Protocol.MONGO, Protocol.MYSQL, Protocol.REDIS)


_HTTP_PROTOCOLS = frozenset(
    {Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.HTTP_PROXY}
)


class Resolution(enum.StrEnum):
    """How the addresses behind a service are found (decides the Envoy cluster type)."""

    CLIENT_SIDE = "ClientSide"
    """Endpoints by EDS: Kubernetes services and ServiceEntry STATIC."""
    PASSTHROUGH = "Passthrough"
    """The client's own choice of address: headless services and ServiceEntry NONE."""
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNSRoundRobin"
    DYNAMIC_DNS = "DynamicDNS"
    ALIAS = "Alias"
    """Kubernetes ExternalName."""


class Registry(enum.StrEnum):
    """Which kind of object declared a service."""

    KUBERNETES = "Kubernetes"
    SERVICE_ENTRY = "External"


class Health(enum.StrEnum):
    """Health of an endpoint as the control plane knows it."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    DRAINING = "Draining"


class Locality(msgspec.Struct, frozen=True):
    """Region, zone and sub-zone; empty text where unknown."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


class ServicePort(msgspec.Struct, frozen=True):
    """One port of a service. ``target_port`` is a number, a container port's name, or None."""

    name: str
    number: int
    protocol: Protocol
    target_port: int | str | None = None
    node_port: int = 0


class WorkloadIdentity(msgspec.Struct, frozen=True):
    """Who an endpoint or a proxy is: the facts of telemetry labels and of the SPIFFE identity."""

    namespace: str
    workload: str
    service_account: str = "default"
    app: str = ""
    version: str = ""
    canonical_name: str = ""
    canonical_revision: str = "latest"
    cluster: str = "Kubernetes"
    trust_domain: str = "cluster.local"

    @property
    def spiffe_id(self) -> str:
        """``spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`` (SPIFFE-ID, Istio's layout)."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


class Endpoint(msgspec.Struct, frozen=True):
    """One address behind one port of one service."""

    address: str
    """IP address, DNS name (DNS resolutions) or ``unix://`` path."""
    port: int
    service_port: str
    """Name of the `ServicePort` it serves."""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    locality: Locality = Locality()
    weight: int = 1
    health: Health = Health.HEALTHY
    mtls: bool = False
    """The workload has a sidecar of the mesh (label ``security.istio.io/tlsMode: istio``)."""
    identity: WorkloadIdentity | None = None
    network: str = ""
    node: str = ""
    hostname: str = ""
    """Pod host name for headless and StatefulSet DNS names; empty when it has none."""
    workload: ObjectKey | None = None
    """The Pod or WorkloadEntry behind it."""


class Service(msgspec.Struct, frozen=True, eq=False):
    """A host name of the mesh with its ports. Compared by identity, see `Resource`."""

    hostname: str
    namespace: str
    name: str
    registry: Registry
    resolution: Resolution
    ports: tuple[ServicePort, ...]
    addresses: tuple[str, ...] = ()
    """Virtual IPs or CIDRs; empty for headless services and for hosts without an address."""
    addresses_auto_allocated: bool = False
    """``addresses`` were chosen by the mesh (ServiceEntry ``status.addresses``): only clients
    whose DNS the mesh answers (``Scope.dns_capture``) ever send to them."""
    mesh_external: bool = False
    export_to: frozenset[str] = frozenset({"*"})
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    selector: Mapping[str, str] = msgspec.field(default_factory=dict)
    service_accounts: tuple[str, ...] = ()
    """SPIFFE identities (or SANs of a ServiceEntry) that clients accept."""
    creation_timestamp: str = ""
    external_name: str = ""
    session_affinity: bool = False
    publish_not_ready: bool = False
    internal_traffic_local: bool = False
    traffic_distribution: str = ""
    """``PreferClose``, ``PreferSameZone``, ``PreferSameNode`` or empty."""
    key: ObjectKey | None = None
    provenance: Provenance = msgspec.field(default_factory=Provenance)

    @property
    def headless(self) -> bool:
        """A Kubernetes service with ``clusterIP: None``."""
        return self.registry is Registry.KUBERNETES and self.resolution is Resolution.PASSTHROUGH

    def port(self, number: int) -> ServicePort | None:
        """The port with this number, if any."""
        return next((port for port in self.ports if port.number == number), None)

    def port_named(self, name: str) -> ServicePort | None:
        """The port with this name, if any."""
        return next((port for port in self.ports if port.name == name), None)
