"""Which changes go first while the control plane is overloaded."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from lateen.api.resource import ObjectKey
from lateen.model.change import Change
from lateen.model.mesh import holds_mesh_config


class ChangeClass(StrEnum):
    """What an object is about, as far as its urgency goes."""

    ENDPOINTS = "endpoints"
    SECRETS = "secrets"
    SECURITY = "security"
    """Who may make requests, and how both sides prove who they are."""
    SUBJECTS = "subjects"
    """What endpoints and security policies refer to."""
    MESH = "mesh"
    """The mesh configuration."""
    SERVICES = "services"
    ROUTES = "routes"
    """Routes and what holds for connections to destinations."""
    GATEWAYS = "gateways"
    VISIBILITY = "visibility"
    TELEMETRY = "telemetry"
    EXTENSIONS = "extensions"
    OTHER = "other"


FIRST = frozenset(
    {
        ChangeClass.ENDPOINTS,
        ChangeClass.SECRETS,
        ChangeClass.SECURITY,
        ChangeClass.SUBJECTS,
        ChangeClass.MESH,
    }
)
"""Never deferred. All others are, those of kinds not known here among them."""

_KINDS: Mapping[ChangeClass, tuple[str, ...]] = {
    ChangeClass.ENDPOINTS: ("Pod", "EndpointSlice", "Endpoints", "WorkloadEntry"),
    ChangeClass.SECRETS: ("Secret",),
    ChangeClass.SECURITY: (
        "PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy", "ReferenceGrant",
    ),
    ChangeClass.SUBJECTS: ("Namespace", "Node", "ServiceAccount"),
    ChangeClass.SERVICES: (
        "Service", "ServiceEntry", "WorkloadGroup", "ServiceExport", "ServiceImport",
        "InferencePool",
    ),
    ChangeClass.ROUTES: (
        "VirtualService", "DestinationRule", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute",
        "UDPRoute", "BackendTLSPolicy", "XBackendTrafficPolicy",
    ),
    ChangeClass.GATEWAYS: (
        "Gateway", "GatewayClass", "ListenerSet", "XListenerSet", "Ingress", "IngressClass",
    ),
    ChangeClass.VISIBILITY: ("Sidecar",),
    ChangeClass.TELEMETRY: ("Telemetry",),
    ChangeClass.EXTENSIONS: ("EnvoyFilter", "WasmPlugin", "TrafficExtension", "ProxyConfig"),
}  # fmt: skip
_CLASS_OF_KIND = {kind: name for name, kinds in _KINDS.items() for kind in kinds}

URGENT_KINDS = frozenset(
    kind
    for name in (ChangeClass.ENDPOINTS, ChangeClass.SECRETS, ChangeClass.SECURITY)
    for kind in _KINDS[name]
)
"""Where requests can go, and who may make them: what a storm of other changes must not delay."""


def class_of(key: ObjectKey) -> ChangeClass:
    """The class of an object: always the same, so that changes of one object stay in order."""
    if holds_mesh_config(key):
        return ChangeClass.MESH
    return _CLASS_OF_KIND.get(key.kind, ChangeClass.OTHER)


def takes_all_along(change: Change) -> bool:
    """Whether a change must overtake none that was made before it.

    A policy is often taken away together with the routes or the gateway that it guarded: without
    them, and not before. The mesh configuration has everything made anew, so that leaving out the
    rest would spare nothing.
    """
    kind = class_of(change.key)
    return kind is ChangeClass.MESH or (kind is ChangeClass.SECURITY and change.resource is None)
