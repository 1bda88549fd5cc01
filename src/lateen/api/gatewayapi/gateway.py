"""GatewayClass, Gateway and ListenerSet (Gateway API ``apis/v1``)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import JsonObject, Message
from lateen.api.gatewayapi.scalars import (
    GATEWAY_GROUP,
    AnnotationValue,
    Group,
    Hostname,
    Kind,
    LabelKey,
    LabelSelector,
    LabelValue,
    LocalObjectReference,
    Namespace,
    ObjectName,
    ObjectReference,
    Options,
    PortNumber,
    SecretObjectReference,
    SectionName,
)
from lateen.api.resource import ApiObject

ControllerName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
        r"\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
    ),
]
ProtocolType = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        # The published pattern is not anchored before the domain, so one character of it decides.
        # As it is written there it takes seconds for 20 KB, and it is searched before the length
        # is looked at.
        pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|[a-z0-9]\/[A-Za-z0-9]+$",
    ),
]
"""HTTP, HTTPS, TLS, TCP, UDP (any case), HBONE, or a name with a domain."""


class ParametersReference(Message, frozen=True, kw_only=True):
    """Implementation-specific settings of a GatewayClass."""

    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class GatewayClassSpec(Message, frozen=True, kw_only=True):
    """Spec of GatewayClass."""

    controller_name: ControllerName
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, Meta(max_length=64)] | None = None


class GatewayClass(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io GatewayClass (cluster-scoped)."""

    spec: GatewayClassSpec
    status: JsonObject = {}


class ListenerTLSConfig(Message, frozen=True, kw_only=True):
    """How a listener handles TLS; ``options`` hold Istio's ``gateway.istio.io/...`` keys."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[list[SecretObjectReference], Meta(max_length=64)] = []
    options: Options = {}


class RouteNamespaces(Message, frozen=True, kw_only=True):
    """From where routes may attach."""

    from_: Literal["All", "Selector", "Same", "None"] = "Same"
    selector: LabelSelector | None = None


class RouteGroupKind(Message, frozen=True, kw_only=True):
    """A kind of route."""

    kind: Kind
    group: Group = GATEWAY_GROUP


class AllowedRoutes(Message, frozen=True, kw_only=True):
    """Which routes may attach to a listener: by namespace (default the same) and kind."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[list[RouteGroupKind], Meta(max_length=8)] = []


class Listener(Message, frozen=True, kw_only=True):
    """A port, protocol and host name on which a gateway accepts connections."""

    name: SectionName
    port: PortNumber
    protocol: ProtocolType
    hostname: Hostname | None = None
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewaySpecAddress(Message, frozen=True, kw_only=True):
    """An address asked for; with type Hostname it names an existing Service."""

    type: Annotated[str, Meta(min_length=1, max_length=253)] = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] = ""


class GatewayInfrastructure(Message, frozen=True, kw_only=True):
    """What is put on the objects made for a gateway."""

    labels: Annotated[dict[LabelKey, LabelValue], Meta(max_length=8)] = {}
    annotations: Annotated[dict[LabelKey, AnnotationValue], Meta(max_length=16)] = {}
    parameters_ref: LocalObjectReference | None = None


class ListenerNamespaces(Message, frozen=True, kw_only=True):
    """From where ListenerSets may attach."""

    from_: Literal["All", "Selector", "Same", "None"] = "None"
    selector: LabelSelector | None = None


class AllowedListeners(Message, frozen=True, kw_only=True):
    """Which ListenerSets may attach to a gateway; none unless allowed."""

    namespaces: ListenerNamespaces = ListenerNamespaces()


class FrontendTLSValidation(Message, frozen=True, kw_only=True):
    """How client certificates are verified."""

    ca_certificate_refs: Annotated[list[ObjectReference], Meta(min_length=1, max_length=8)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class TLSConfig(Message, frozen=True, kw_only=True):
    """TLS settings that several listeners share."""

    validation: FrontendTLSValidation | None = None


class TLSPortConfig(Message, frozen=True, kw_only=True):
    """TLS settings of the HTTPS listeners on one port."""

    port: PortNumber
    tls: TLSConfig


class FrontendTLSConfig(Message, frozen=True, kw_only=True):
    """Client certificate validation of HTTPS listeners, by default and per port."""

    default: TLSConfig
    per_port: Annotated[list[TLSPortConfig], Meta(max_length=64)] = []


class GatewayBackendTLS(Message, frozen=True, kw_only=True):
    """The certificate that a gateway shows to backends."""

    client_certificate_ref: SecretObjectReference | None = None


class GatewayTLSConfig(Message, frozen=True, kw_only=True):
    """TLS settings of a whole gateway."""

    backend: GatewayBackendTLS | None = None
    frontend: FrontendTLSConfig | None = None


class GatewaySpec(Message, frozen=True, kw_only=True):
    """Spec of Gateway."""

    gateway_class_name: ObjectName
    listeners: Annotated[list[Listener], Meta(min_length=1, max_length=64)]
    addresses: Annotated[list[GatewaySpecAddress], Meta(max_length=16)] = []
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners | None = None
    tls: GatewayTLSConfig | None = None
    default_scope: Literal["All", "None"] | None = None


class Gateway(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io Gateway."""

    spec: GatewaySpec
    status: JsonObject = {}


class ParentGatewayReference(Message, frozen=True, kw_only=True):
    """The Gateway that a ListenerSet adds listeners to."""

    name: ObjectName
    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: Namespace | None = None


class ListenerEntry(Message, frozen=True, kw_only=True):
    """A listener of a ListenerSet. Port 0, experimental only, leaves the choice to the gateway."""

    name: SectionName
    protocol: ProtocolType
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    hostname: Hostname | None = None
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class ListenerSetSpec(Message, frozen=True, kw_only=True):
    """Spec of ListenerSet."""

    parent_ref: ParentGatewayReference
    listeners: Annotated[list[ListenerEntry], Meta(min_length=1, max_length=64)]


class ListenerSet(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """ListenerSet, and its experimental form XListenerSet."""

    spec: ListenerSetSpec
    status: JsonObject = {}
