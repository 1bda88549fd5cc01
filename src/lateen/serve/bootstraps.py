"""Envoy's bootstrap for a pod, from its object: what the agent starts the proxy with."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lateen import __version__
from lateen.api.core.pod import Pod
from lateen.api.meshconfig.proxy_config import ProxyStatsMatcher
from lateen.api.resource import ObjectKey
from lateen.envoy.bootstrap import BootstrapConfig, as_dict
from lateen.model.proxies import INTERCEPTION_ANNOTATION, PROXY_CONTAINER, node_id, proxy_type
from lateen.model.proxy import ProxyType
from lateen.model.proxy_settings import environment_of, proxy_config_of
from lateen.model.service import Locality
from lateen.model.snapshot import Snapshot
from lateen.model.workloads import (
    LOCALITY_LABELS,
    first_label,
    locality_of,
    node_locality,
    pod_identity,
)
from lateen.pki.identity import control_plane_id

_PREFIXES = "sidecar.istio.io/statsInclusionPrefixes"
_SUFFIXES = "sidecar.istio.io/statsInclusionSuffixes"
_EXPRESSIONS = "sidecar.istio.io/statsInclusionRegexps"
_META = "ISTIO_META_"
_BUCKETS = "sidecar.istio.io/statsHistogramBuckets"


def bootstrap_for(
    snapshot: Snapshot,
    pod: Pod,
    control_plane: tuple[str, int],
    *,
    address: str = "",
    mark: bool = False,
) -> dict[str, object]:
    """The bootstrap of the proxy in ``pod`` as JSON data.

    ``control_plane`` is where it finds xDS, ``address`` the pod's IP when its status does not
    say yet, ``mark`` whether the proxy may mark its sockets (needs CAP_NET_ADMIN).
    """
    meta = pod.metadata
    kind = proxy_type(pod)
    identity = pod_identity(pod, snapshot.trust_domain)
    settings = proxy_config_of(snapshot, pod)
    kept = settings.proxy_stats_matcher or ProxyStatsMatcher()
    own = address or (pod.status.pod_ip if pod.status is not None else "") or "127.0.0.1"
    metadata: dict[str, object] = {
        **_node_metadata(environment_of(settings)),
        "NAME": meta.name,
        "NAMESPACE": meta.namespace,
        "SERVICE_ACCOUNT": identity.service_account,
        "WORKLOAD_NAME": identity.workload,
        "LABELS": dict(meta.labels),
        "INSTANCE_IPS": own,
        "CLUSTER_ID": identity.cluster,
        "MESH_ID": identity.trust_domain,
        "INTERCEPTION_MODE": meta.annotations.get(INTERCEPTION_ANNOTATION, "REDIRECT"),
        "ISTIO_VERSION": __version__,
        "APP_CONTAINERS": ",".join(
            container.name for container in pod.spec.containers if container.name != PROXY_CONTAINER
        ),
    }
    config = BootstrapConfig(
        node_id=node_id(kind, own, meta.name, meta.namespace),
        node_cluster=f"{identity.app or identity.canonical_name}.{meta.namespace}",
        control_plane_host=control_plane[0],
        control_plane_port=control_plane[1],
        control_plane_identity=str(control_plane_id(snapshot.trust_domain)),
        metadata=metadata,
        locality=_locality(snapshot, pod),
        gateway=kind is not ProxyType.SIDECAR,
        mark=mark,
        histogram_buckets=_buckets(meta.annotations.get(_BUCKETS, "")),
        stats_prefixes=(*kept.inclusion_prefixes, *_list(meta.annotations.get(_PREFIXES, ""))),
        stats_suffixes=(*kept.inclusion_suffixes, *_list(meta.annotations.get(_SUFFIXES, ""))),
        stats_expressions=(
            *kept.inclusion_regexps,
            *_list(meta.annotations.get(_EXPRESSIONS, "")),
        ),
    )
    data: dict[str, object] = as_dict(config)
    if settings.runtime_values:
        _add_runtime_values(data, settings.runtime_values)
    return data


def _node_metadata(environment: Mapping[str, str]) -> dict[str, object]:
    """Istio's node metadata from variables: ``ISTIO_META_NAME`` is ``NAME``."""
    return {
        name.removeprefix(_META): value
        for name, value in environment.items()
        if name.startswith(_META) and name != _META
    }


def _add_runtime_values(data: dict[str, object], values: Mapping[str, str]) -> None:
    """Put ``ProxyConfig.runtimeValues`` above what the bootstrap sets by itself."""
    runtime = data["layered_runtime"]
    layers = runtime["layers"] if isinstance(runtime, dict) else []
    # Envoy reads numbers and booleans in text as such, and an empty value is not set.
    given = {name: value for name, value in values.items() if value}
    layers.insert(1, {"name": "mesh", "static_layer": given})


def _locality(snapshot: Snapshot, pod: Pod) -> Locality:
    explicit = first_label(pod.metadata.labels, LOCALITY_LABELS)
    if explicit:
        return locality_of(explicit)
    node = snapshot.get(ObjectKey("", "Node", "", pod.spec.node_name or ""))
    return node_locality(node.labels) if node is not None else Locality()


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _buckets(text: str) -> Mapping[str, tuple[float, ...]]:
    """``{"istiocustom": [1, 5, 10]}``; an annotation of another shape changes nothing."""
    try:
        found = json.loads(text) if text else {}
        return {str(name): tuple(float(bound) for bound in found[name]) for name in found}
    except (ValueError, TypeError):
        return {}
