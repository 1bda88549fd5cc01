"""``networking.istio.io``: traffic routing, gateways, external services, sidecars."""

from __future__ import annotations

from lateen.api.kinds import KindInfo
from lateen.api.networking.destination_rule import DestinationRule
from lateen.api.networking.envoy_filter import EnvoyFilter
from lateen.api.networking.gateway import Gateway
from lateen.api.networking.proxy_config import ProxyConfig
from lateen.api.networking.service_entry import ServiceEntry
from lateen.api.networking.sidecar import Sidecar
from lateen.api.networking.validate_destination_rule import validate_destination_rule
from lateen.api.networking.validate_envoy_filter import validate_envoy_filter
from lateen.api.networking.validate_gateway import validate_gateway
from lateen.api.networking.validate_service_entry import validate_service_entry
from lateen.api.networking.validate_sidecar import validate_sidecar
from lateen.api.networking.validate_virtual_service import validate_virtual_service
from lateen.api.networking.validate_workload import (
    validate_proxy_config,
    validate_workload_entry,
    validate_workload_group,
)
from lateen.api.networking.virtual_service import VirtualService
from lateen.api.networking.workload_entry import WorkloadEntry
from lateen.api.networking.workload_group import WorkloadGroup

GROUP = "networking.istio.io"
_ALL = ("v1", "v1beta1", "v1alpha3")

KINDS = (
    KindInfo(GROUP, "VirtualService", "virtualservices", VirtualService, _ALL, short_names=("vs",)),
    KindInfo(
        GROUP, "DestinationRule", "destinationrules", DestinationRule, _ALL, short_names=("dr",)
    ),
    KindInfo(GROUP, "Gateway", "gateways", Gateway, _ALL, short_names=("gw",)),
    KindInfo(GROUP, "ServiceEntry", "serviceentries", ServiceEntry, _ALL, short_names=("se",)),
    KindInfo(GROUP, "WorkloadEntry", "workloadentries", WorkloadEntry, _ALL, short_names=("we",)),
    KindInfo(GROUP, "WorkloadGroup", "workloadgroups", WorkloadGroup, _ALL, short_names=("wg",)),
    KindInfo(GROUP, "Sidecar", "sidecars", Sidecar, _ALL),
    KindInfo(GROUP, "EnvoyFilter", "envoyfilters", EnvoyFilter, ("v1alpha3",)),
    KindInfo(GROUP, "ProxyConfig", "proxyconfigs", ProxyConfig, ("v1beta1",)),
)

VALIDATORS = {
    (GROUP, "VirtualService"): validate_virtual_service,
    (GROUP, "DestinationRule"): validate_destination_rule,
    (GROUP, "Gateway"): validate_gateway,
    (GROUP, "ServiceEntry"): validate_service_entry,
    (GROUP, "WorkloadEntry"): validate_workload_entry,
    (GROUP, "WorkloadGroup"): validate_workload_group,
    (GROUP, "Sidecar"): validate_sidecar,
    (GROUP, "EnvoyFilter"): validate_envoy_filter,
    (GROUP, "ProxyConfig"): validate_proxy_config,
}
