"""``networking.istio.io`` EnvoyFilter."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import Int32, JsonObject, Message, UInt32
from lateen.api.networking.common import LabelsSelector, PolicyTargetReference
from lateen.api.resource import ApiObject

ApplyTo = Literal[
    "INVALID",
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
PatchContext = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"]
Operation = Literal[
    "INVALID",
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]


class ProxyMatch(Message, frozen=True, kw_only=True):
    """Proxies by version (a regular expression) and node metadata."""

    proxy_version: Annotated[str, Meta(max_length=1024)] = ""
    metadata: dict[str, str] = {}


class ClusterMatch(Message, frozen=True, kw_only=True):
    """Clusters by service, subset and port, or by exact name."""

    port_number: UInt32 = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class RouteMatch(Message, frozen=True, kw_only=True):
    """A route by name or action."""

    name: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"


class VirtualHostMatch(Message, frozen=True, kw_only=True):
    """A virtual host by name or domain."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Message, frozen=True, kw_only=True):
    """Route configurations by name, port, or the gateway they belong to."""

    port_number: UInt32 = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class SubFilterMatch(Message, frozen=True, kw_only=True):
    """A filter inside a network filter, for instance an HTTP filter."""

    name: str = ""


class FilterMatch(Message, frozen=True, kw_only=True):
    """A network filter by name."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Message, frozen=True, kw_only=True):
    """A filter chain of a listener."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: UInt32 = 0


class ListenerMatch(Message, frozen=True, kw_only=True):
    """Listeners by port or name."""

    port_number: UInt32 = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class WaypointMatch(Message, frozen=True, kw_only=True):
    """Where a patch goes in a waypoint."""

    port_number: Annotated[int, Meta(ge=1, le=4294967295)] = 0
    filter: FilterMatch | None = None
    route: RouteMatch | None = None


class ConfigObjectMatch(Message, frozen=True, kw_only=True):
    """What a patch applies to; at most one of listener, routeConfiguration, cluster, waypoint."""

    context: PatchContext = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


class Patch(Message, frozen=True, kw_only=True):
    """The change; ``value`` is Envoy configuration as JSON."""

    operation: Operation = "INVALID"
    value: JsonObject | None = None
    filter_class: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED"


class ConfigPatch(Message, frozen=True, kw_only=True):
    """One patch."""

    apply_to: ApplyTo = "INVALID"
    match: ConfigObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilterSpec(Message, frozen=True, kw_only=True):
    """Patches of the generated Envoy configuration. Lower ``priority`` goes first."""

    workload_selector: LabelsSelector | None = None
    target_refs: Annotated[list[PolicyTargetReference], Meta(max_length=16)] = []
    config_patches: list[ConfigPatch] = []
    priority: Int32 = 0


class EnvoyFilter(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1alpha3`` EnvoyFilter."""

    spec: EnvoyFilterSpec = EnvoyFilterSpec()
    status: JsonObject = {}
