"""Group and kind of the objects that the model reads."""

from __future__ import annotations

from typing import Final

GroupKind = tuple[str, str]

SERVICE: Final[GroupKind] = ("", "Service")
ENDPOINTS: Final[GroupKind] = ("", "Endpoints")
ENDPOINT_SLICE: Final[GroupKind] = ("discovery.k8s.io", "EndpointSlice")
POD: Final[GroupKind] = ("", "Pod")
NODE: Final[GroupKind] = ("", "Node")
NAMESPACE: Final[GroupKind] = ("", "Namespace")
CONFIG_MAP: Final[GroupKind] = ("", "ConfigMap")
SECRET: Final[GroupKind] = ("", "Secret")

_NETWORKING = "networking.istio.io"
SERVICE_ENTRY: Final[GroupKind] = (_NETWORKING, "ServiceEntry")
WORKLOAD_ENTRY: Final[GroupKind] = (_NETWORKING, "WorkloadEntry")
VIRTUAL_SERVICE: Final[GroupKind] = (_NETWORKING, "VirtualService")
DESTINATION_RULE: Final[GroupKind] = (_NETWORKING, "DestinationRule")
GATEWAY: Final[GroupKind] = (_NETWORKING, "Gateway")
SIDECAR: Final[GroupKind] = (_NETWORKING, "Sidecar")
ENVOY_FILTER: Final[GroupKind] = (_NETWORKING, "EnvoyFilter")
PROXY_CONFIG: Final[GroupKind] = (_NETWORKING, "ProxyConfig")

_SECURITY = "security.istio.io"
PEER_AUTHENTICATION: Final[GroupKind] = (_SECURITY, "PeerAuthentication")
REQUEST_AUTHENTICATION: Final[GroupKind] = (_SECURITY, "RequestAuthentication")
AUTHORIZATION_POLICY: Final[GroupKind] = (_SECURITY, "AuthorizationPolicy")
TELEMETRY: Final[GroupKind] = ("telemetry.istio.io", "Telemetry")
WASM_PLUGIN: Final[GroupKind] = ("extensions.istio.io", "WasmPlugin")
TRAFFIC_EXTENSION: Final[GroupKind] = ("extensions.istio.io", "TrafficExtension")
