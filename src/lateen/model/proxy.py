"""What the control plane knows of a connected proxy, and the part of it that translation reads."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from lateen.api.meshconfig.proxy_config import Topology
from lateen.model.service import Locality, WorkloadIdentity


class ProxyType(enum.StrEnum):
    """The first part of an Envoy node id (``sidecar~IP~POD.NS~NS.svc.DOMAIN``)."""

    SIDECAR = "sidecar"
    ROUTER = "router"
    WAYPOINT = "waypoint"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One connected Envoy. Its identity is proved by its certificate, never by what it claims."""

    id: str
    """Node id, unique per proxy."""
    type: ProxyType
    name: str
    """Pod (or virtual machine) name."""
    namespace: str
    identity: WorkloadIdentity
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    locality: Locality = Locality()
    network: str = ""
    node: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """The rest of Envoy's node metadata (``INTERCEPTION_MODE``, ``DNS_CAPTURE`` ...)."""


@dataclass(frozen=True, slots=True)
class InboundPort:
    """A port on which a workload receives traffic of a service."""

    hostname: str
    """Host name of the service (the oldest one when several share the port)."""
    service_port: int
    service_port_name: str
    target_port: int
    protocol: str
    other_hostnames: tuple[str, ...] = ()
    """Host names of the other services whose port this is, oldest first; of services with equal
    age by name. All are services of the workload's own namespace."""


@dataclass(frozen=True, slots=True)
class Scope:
    """All facts of a proxy that translation reads. Proxies with equal scopes share one result.

    ``labels`` holds only the labels that some selector of the snapshot tests (VirtualService
    sourceLabels, Sidecar, DestinationRule, PeerAuthentication, AuthorizationPolicy, EnvoyFilter,
    Telemetry, Gateway selectors ...). Own telemetry labels are not part of it: the proxy fills
    them in from its environment (``%ENVIRONMENT(...)%``).
    """

    type: ProxyType
    namespace: str
    labels: tuple[tuple[str, str], ...] = ()
    locality: Locality = Locality()
    network: str = ""
    cluster: str = "Kubernetes"
    inbound: tuple[InboundPort, ...] = ()
    interception: str = "REDIRECT"
    """``REDIRECT``, ``TPROXY`` or ``NONE`` (``sidecar.istio.io/interceptionMode``)."""
    dns_capture: bool = False
    ipv6: bool = False
    addresses: tuple[str, ...] = ()
    """IP addresses of the workload; empty unless a Sidecar names them (`lateen.model.instances`).
    """
    topology: Topology | None = None
    """What is in front of a gateway, where its pod says it; None is the mesh's."""
    node: str = ""
    """The machine that the proxy runs on; empty unless something that its namespace sees compares
    it with those of endpoints (`lateen.model.nodes`), so that proxies elsewhere share their scope.
    """

    @property
    def label_map(self) -> dict[str, str]:
        """``labels`` as a dict."""
        return dict(self.labels)
