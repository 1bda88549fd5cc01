"""``networking.istio.io``: traffic routing, gateways, external services, sidecars."""

from __future__ import annotations

from lateen.api.kinds import KindInfo
from lateen.api.networking.destination_rule import DestinationRule
from lateen.api.networking.envoy_filter import EnvoyFilter
from lateen.api.networking.gateway import Gateway
from lateen.api.networking.proxy_config import ProxyConfig
from lateen.api.networking.service_entry import ServiceEntry
from lateen.api.networking.sidecar import Sidecar
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
