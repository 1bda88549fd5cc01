"""Gateway API, its experimental channel, multi-cluster services and inference pools."""

from __future__ import annotations

from collections.abc import Mapping

from lateen.api.gatewayapi.gateway import Gateway, GatewayClass, ListenerSet
from lateen.api.gatewayapi.gateway_validation import validate_gateway, validate_listener_set
from lateen.api.gatewayapi.multicluster import InferencePool, ServiceExport, ServiceImport
from lateen.api.gatewayapi.policies import (
    BackendTLSPolicy,
    ReferenceGrant,
    XBackendTrafficPolicy,
)
from lateen.api.gatewayapi.policy_validation import (
    validate_backend_tls_policy,
    validate_backend_traffic_policy,
    validate_inference_pool,
)
from lateen.api.gatewayapi.route_validation import (
    validate_grpc_route,
    validate_http_route,
    validate_l4_route,
    validate_tls_route,
)
from lateen.api.gatewayapi.routes import GRPCRoute, HTTPRoute, TCPRoute, TLSRoute, UDPRoute
from lateen.api.gatewayapi.scalars import EXPERIMENTAL_GROUP, GATEWAY_GROUP
from lateen.api.kinds import KindInfo
from lateen.api.resource import ApiObject
from lateen.api.validate import Validator

MULTICLUSTER_GROUP = "multicluster.x-k8s.io"
INFERENCE_GROUP = "inference.networking.k8s.io"
INFERENCE_EXPERIMENTAL_GROUP = "inference.networking.x-k8s.io"


def _kind(
    kind: str,
    plural: str,
    struct: type[ApiObject],
    *versions: str,
    group: str = GATEWAY_GROUP,
    short: tuple[str, ...] = (),
    namespaced: bool = True,
    inert: bool = False,
) -> KindInfo:
    return KindInfo(
        group=group,
        kind=kind,
        plural=plural,
        type=struct,
        versions=versions,
        short_names=short,
        namespaced=namespaced,
        inert=inert,
    )


KINDS = (
    _kind(
        "GatewayClass",
        "gatewayclasses",
        GatewayClass,
        "v1",
        "v1beta1",
        short=("gc",),
        namespaced=False,
    ),
    _kind("Gateway", "gateways", Gateway, "v1", "v1beta1", short=("gtw",)),
    _kind("HTTPRoute", "httproutes", HTTPRoute, "v1", "v1beta1"),
    _kind("GRPCRoute", "grpcroutes", GRPCRoute, "v1", "v1alpha2"),
    _kind("TCPRoute", "tcproutes", TCPRoute, "v1", "v1alpha2"),
    _kind("TLSRoute", "tlsroutes", TLSRoute, "v1", "v1alpha3", "v1alpha2"),
    _kind("UDPRoute", "udproutes", UDPRoute, "v1alpha2", "v1"),
    _kind(
        "ReferenceGrant", "referencegrants", ReferenceGrant, "v1", "v1beta1", short=("refgrant",)
    ),
    _kind(
        "BackendTLSPolicy",
        "backendtlspolicies",
        BackendTLSPolicy,
        "v1",
        "v1alpha3",
        short=("btlspolicy",),
    ),
    _kind("ListenerSet", "listenersets", ListenerSet, "v1", short=("lset",)),
    _kind(
        "XListenerSet",
        "xlistenersets",
        ListenerSet,
        "v1alpha1",
        group=EXPERIMENTAL_GROUP,
        short=("xlset",),
    ),
    _kind(
        "XBackendTrafficPolicy",
        "xbackendtrafficpolicies",
        XBackendTrafficPolicy,
        "v1alpha1",
        group=EXPERIMENTAL_GROUP,
        short=("xbtrafficpolicy",),
    ),
    _kind(
        "ServiceImport",
        "serviceimports",
        ServiceImport,
        "v1alpha1",
        "v1beta1",
        group=MULTICLUSTER_GROUP,
        short=("svcim",),
    ),
    _kind(
        "ServiceExport",
        "serviceexports",
        ServiceExport,
        "v1alpha1",
        "v1beta1",
        group=MULTICLUSTER_GROUP,
        short=("svcex",),
    ),
    _kind(
        "InferencePool",
        "inferencepools",
        InferencePool,
        "v1",
        group=INFERENCE_GROUP,
        short=("infpool",),
    ),
    _kind(
        "InferencePool",
        "inferencepools",
        InferencePool,
        "v1alpha2",
        group=INFERENCE_EXPERIMENTAL_GROUP,
        short=("xinfpool",),
    ),
)

VALIDATORS: Mapping[tuple[str, str], Validator] = {
    (GATEWAY_GROUP, "Gateway"): validate_gateway,
    (GATEWAY_GROUP, "HTTPRoute"): validate_http_route,
    (GATEWAY_GROUP, "GRPCRoute"): validate_grpc_route,
    (GATEWAY_GROUP, "TCPRoute"): validate_l4_route,
    (GATEWAY_GROUP, "TLSRoute"): validate_tls_route,
    (GATEWAY_GROUP, "UDPRoute"): validate_l4_route,
    (GATEWAY_GROUP, "BackendTLSPolicy"): validate_backend_tls_policy,
    (GATEWAY_GROUP, "ListenerSet"): validate_listener_set,
    (EXPERIMENTAL_GROUP, "XListenerSet"): validate_listener_set,
    (EXPERIMENTAL_GROUP, "XBackendTrafficPolicy"): validate_backend_traffic_policy,
    (INFERENCE_GROUP, "InferencePool"): validate_inference_pool,
    (INFERENCE_EXPERIMENTAL_GROUP, "InferencePool"): validate_inference_pool,
}

__all__ = [
    "EXPERIMENTAL_GROUP",
    "GATEWAY_GROUP",
    "INFERENCE_EXPERIMENTAL_GROUP",
    "INFERENCE_GROUP",
    "KINDS",
    "MULTICLUSTER_GROUP",
    "VALIDATORS",
    "BackendTLSPolicy",
    "GRPCRoute",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "InferencePool",
    "ListenerSet",
    "ReferenceGrant",
    "ServiceExport",
    "ServiceImport",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
    "XBackendTrafficPolicy",
]
