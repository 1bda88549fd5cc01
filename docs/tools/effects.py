"""What a kind does in this version: from `lateen.translate.coverage`, completed for other parts.

`coverage` knows what translation does. Kinds that the runtime, the registry or nobody acts on are
listed here; a test fails when a kind is in neither place.
"""

from __future__ import annotations

import msgspec

from lateen.api.core.pod import PodSpec
from lateen.api.core.validate_pod import _WITHOUT_EFFECT as IGNORED_OF_PODS
from lateen.api.kinds import KindInfo
from lateen.translate import coverage, mesh_settings
from lateen.translate.unused_kinds import NOT_ACTED_ON

EFFECT = "yes"
NONE = "no effect"
PARTLY = "in part"

ACTED_ON: dict[tuple[str, str], str] = {
    ("", "Namespace"): "Injection and visibility follow its labels.",
    ("", "Node"): "Its labels give the locality of the pods on it.",
    ("", "Service"): "Names, virtual addresses, ports and their endpoints.",
    ("", "Endpoints"): "Endpoints of services without a selector.",
    ("discovery.k8s.io", "EndpointSlice"): "Endpoints of services without a selector.",
    ("", "Pod"): "The local runtime runs it.",
    ("apps", "Deployment"): "The local runtime keeps its pods running and replaces them in turn.",
    ("apps", "ReplicaSet"): "The local runtime keeps its pods running.",
    ("apps", "StatefulSet"): "The local runtime runs its pods in order, with stable names.",
    ("apps", "DaemonSet"): "The local runtime runs one pod: there is one machine.",
    ("batch", "Job"): "The local runtime runs its pods to completion.",
    ("", "ServiceAccount"): "The identity of the pods that name it.",
    (
        "",
        "ConfigMap",
    ): "Volumes and environment of pods; `istio-system/istio` holds the MeshConfig.",
    ("", "Secret"): "Volumes and environment of pods; credentials of gateways.",
    ("networking.istio.io", "VirtualService"): "Routing in sidecars and gateways.",
    ("networking.istio.io", "DestinationRule"): "Policies of clients towards a host.",
    ("networking.istio.io", "Gateway"): "Ports, hosts and TLS of gateway proxies.",
    ("networking.istio.io", "ServiceEntry"): "Hosts in the registry, beside Kubernetes Services.",
    ("networking.istio.io", "WorkloadEntry"): "Endpoints beside pods.",
    ("networking.istio.io", "Sidecar"): "What the proxies of a namespace or workload see.",
    ("security.istio.io", "PeerAuthentication"): "Which transport a workload accepts.",
    ("networking.istio.io", "ProxyConfig"): "Settings of proxies that start; restart the pods.",
    ("install.istio.io", "IstioOperator"): "Its `meshConfig` is the mesh configuration.",
}
"""Kinds with an effect, and which."""


def kind_effect(info: KindInfo) -> tuple[str, str]:
    """``(EFFECT | PARTLY | NONE, note)`` of a kind. Raises ``KeyError`` for one nobody knows."""
    key = (info.group, info.kind)
    for table in (coverage.NOT_ENFORCED, coverage.WITHOUT_EFFECT):
        if key in table:
            return NONE, f"{table[key].capitalize()}."
    if key in NOT_ACTED_ON:
        return NONE, f"{NOT_ACTED_ON[key].capitalize()}."
    if info.inert:
        return NONE, "Kept as it is."
    note = ACTED_ON[key]
    return (PARTLY if _has_gaps(info.type) else EFFECT), note


def field_effect(message: type[msgspec.Struct], field: str) -> str:
    """Why a field (by its Python name) has no effect; empty when it has one or none is known."""
    if message is PodSpec and field in IGNORED_OF_PODS:
        return "scheduling has no meaning on one machine"
    setting = mesh_settings.FIELDS.get(message)
    if setting is not None:
        without = setting.without.get(field)
        return without.reason if without is not None else ""
    known = coverage.FIELDS.get(message)
    return dict((*known.without, *known.quiet)).get(field, "") if known is not None else ""


def _has_gaps(root: type[msgspec.Struct]) -> bool:
    from docs.tools.messages import messages_of

    return any(
        field_effect(message, field.name)
        for message in messages_of(root)
        for field in msgspec.structs.fields(message)
    )
