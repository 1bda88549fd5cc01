"""Networks of a mesh and the gateways between them (Istio ``mesh/v1alpha1/network.proto``)."""

from __future__ import annotations

from lateen.api.base import Message, UInt32


class NetworkEndpoints(Message, frozen=True, kw_only=True):
    """Endpoints of a network: by address range, or all of one cluster (registry)."""

    from_cidr: str | None = None
    from_registry: str | None = None


class NetworkGateway(Message, frozen=True, kw_only=True):
    """How a network is entered: an address or a service, and a port."""

    registry_service_name: str | None = None
    address: str | None = None
    port: UInt32 = 0
    locality: str = ""


class Network(Message, frozen=True, kw_only=True):
    """One network."""

    endpoints: list[NetworkEndpoints] = []
    gateways: list[NetworkGateway] = []


class MeshNetworks(Message, frozen=True, kw_only=True):
    """Networks by name."""

    networks: dict[str, Network] = {}
