"""``networking.istio.io`` Sidecar."""

from __future__ import annotations

from typing import Literal

from lateen.api.base import JsonObject, Message, UInt32
from lateen.api.networking.common import LabelsSelector
from lateen.api.networking.destination_rule import ConnectionPoolSettings
from lateen.api.networking.gateway import ServerTLSSettings
from lateen.api.networking.virtual_service import Destination
from lateen.api.resource import ApiObject

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class SidecarPort(Message, frozen=True, kw_only=True):
    """A port of a sidecar listener."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class IstioIngressListener(Message, frozen=True, kw_only=True):
    """An inbound listener."""

    port: SidecarPort
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class IstioEgressListener(Message, frozen=True, kw_only=True):
    """An outbound listener and the hosts (``NAMESPACE/HOST``) that it reaches."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    hosts: list[str]


class OutboundTrafficPolicy(Message, frozen=True, kw_only=True):
    """What happens to traffic for hosts that are not in the registry."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None


class SidecarSpec(Message, frozen=True, kw_only=True):
    """What the sidecars of a namespace, or of some workloads, accept and reach."""

    workload_selector: LabelsSelector | None = None
    ingress: list[IstioIngressListener] = []
    egress: list[IstioEgressListener] = []
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


class Sidecar(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1`` Sidecar."""

    spec: SidecarSpec = SidecarSpec()
    status: JsonObject = {}
