"""Service, Endpoints and EndpointSlice."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from lateen.api.base import JsonObject, Message
from lateen.api.core.selectors import IntOrString, ObjectReference
from lateen.api.resource import ApiObject

Protocol = Literal["TCP", "UDP", "SCTP"]


class ServicePort(Message, frozen=True, kw_only=True):
    """A port of a service; ``targetPort`` is a number or a container port's name."""

    name: str = ""
    protocol: Protocol = "TCP"
    app_protocol: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)]
    target_port: IntOrString | None = None
    node_port: int = 0


class ServiceSpec(Message, frozen=True, kw_only=True):
    """``core/v1`` ServiceSpec. ``clusterIP: None`` is a headless service."""

    ports: list[ServicePort] = []
    selector: dict[str, str] = {}
    cluster_ip: str = field(name="clusterIP", default="")
    cluster_ips: list[str] = field(name="clusterIPs", default_factory=list)
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    external_ips: list[str] = field(name="externalIPs", default_factory=list)
    session_affinity: Literal["None", "ClientIP", ""] = ""
    session_affinity_config: JsonObject | None = None
    load_balancer_ip: str = field(name="loadBalancerIP", default="")
    load_balancer_source_ranges: list[str] = []
    load_balancer_class: str | None = None
    external_name: str = ""
    external_traffic_policy: Literal["Cluster", "Local", ""] = ""
    internal_traffic_policy: Literal["Cluster", "Local"] | None = None
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    ip_families: list[Literal["IPv4", "IPv6"]] = []
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    allocate_load_balancer_node_ports: bool | None = None
    traffic_distribution: str | None = None


class Service(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` Service."""

    spec: ServiceSpec = ServiceSpec()
    status: JsonObject = {}


class EndpointPort(Message, frozen=True, kw_only=True):
    """A port of endpoints; no number in an EndpointSlice means all ports."""

    name: str = ""
    port: int | None = None
    protocol: Protocol = "TCP"
    app_protocol: str | None = None


class EndpointAddress(Message, frozen=True, kw_only=True):
    """One address of an Endpoints object."""

    ip: str
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointSubset(Message, frozen=True, kw_only=True):
    """Addresses that have the same ports."""

    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class Endpoints(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` Endpoints (deprecated by Kubernetes in favour of EndpointSlice)."""

    subsets: list[EndpointSubset] = []


class EndpointConditions(Message, frozen=True, kw_only=True):
    """State of an endpoint; unset ``ready`` means ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Message, frozen=True, kw_only=True):
    """One endpoint of a slice."""

    addresses: Annotated[list[str], Meta(min_length=1)]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    target_ref: ObjectReference | None = None
    deprecated_topology: dict[str, str] = {}
    node_name: str | None = None
    zone: str | None = None
    hints: JsonObject | None = None


class EndpointSlice(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``discovery.k8s.io/v1`` EndpointSlice of the service in ``kubernetes.io/service-name``."""

    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: list[Endpoint] = []
    ports: list[EndpointPort] = []
