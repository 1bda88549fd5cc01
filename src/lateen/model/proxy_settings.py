"""Settings of one proxy, from everywhere they can be given (Istio ``ProxyConfig``)."""

from __future__ import annotations

import functools

import msgspec

from lateen.api.core.pod import Pod
from lateen.api.meshconfig import ProxyConfig as Settings
from lateen.api.meshconfig import overlay_proxy_config
from lateen.api.meshconfig.proxy_config import Topology
from lateen.api.meshconfig.reading import PROXY_CONFIG_ANNOTATION
from lateen.api.networking.proxy_config import ProxyConfig
from lateen.api.resource import ObjectKey
from lateen.model import kinds
from lateen.model.ordering import age_key
from lateen.model.proxy import Proxy
from lateen.model.selection import selects, workload_selector
from lateen.model.snapshot import Snapshot

RESERVED = ("LATEEN_", "LD_")
"""Prefixes of variables that a proxy's environment does not take from its settings: its labels in
telemetry, and code that the loader would put into it."""


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that ``settings`` give the proxy."""
    metadata = settings.proxy_metadata
    return {name: value for name, value in metadata.items() if not name.startswith(RESERVED)}


def proxy_config_of(snapshot: Snapshot, pod: Pod) -> Settings:
    """The settings of the proxy in ``pod``; what nobody sets has the message's default.

    In rising order of precedence, as in Istio: ``MeshConfig.defaultConfig``, ProxyConfig objects
    of the root namespace, those of the pod's namespace, the annotation ``proxy.istio.io/config``,
    ProxyConfig objects that select the pod. Maps are merged by key. An annotation with an error
    changes nothing.
    """
    namespace, root = pod.metadata.namespace, snapshot.root_namespace
    settings = snapshot.mesh.default_config
    for space in dict.fromkeys((root, namespace)):
        settings = _with_objects(settings, snapshot, space, pod, selecting=False)
    text = pod.metadata.annotations.get(PROXY_CONFIG_ANNOTATION, "")
    if text:
        settings, _ = overlay_proxy_config(text, settings)
    return _with_objects(settings, snapshot, namespace, pod, selecting=True)


def own_topology(snapshot: Snapshot, proxy: Proxy) -> Topology | None:
    """``gatewayTopology`` of the annotation of a gateway's pod. As in Istio it takes the place of
    the mesh's as a whole; None where the pod has none, or one with an error."""
    resource = snapshot.get(ObjectKey(*kinds.POD, proxy.namespace, proxy.name))
    if resource is None:
        return None
    text = resource.object.metadata.annotations.get(PROXY_CONFIG_ANNOTATION, "")
    return _topology_in(text) if text else None


@functools.lru_cache(maxsize=256)
def _topology_in(text: str) -> Topology | None:
    unset = Topology()
    settings, _ = overlay_proxy_config(text, Settings(gateway_topology=unset))
    return None if settings.gateway_topology is unset else settings.gateway_topology


def _with_objects(
    settings: Settings, snapshot: Snapshot, namespace: str, pod: Pod, *, selecting: bool
) -> Settings:
    labels = pod.metadata.labels
    found = snapshot.in_namespace(*kinds.PROXY_CONFIG, namespace).values()
    for resource in sorted(found, key=age_key):
        selector = workload_selector(resource.object)
        if (selector is not None) != selecting or not selects(selector or {}, labels):
            continue
        if isinstance(resource.object, ProxyConfig):
            # One object speaks for a level: the oldest, as everywhere in Istio.
            return _with_object(settings, resource.object)
    return settings


def _with_object(settings: Settings, given: ProxyConfig) -> Settings:
    spec = given.spec
    return msgspec.structs.replace(
        settings,
        concurrency=settings.concurrency if spec.concurrency is None else spec.concurrency,
        proxy_metadata={**settings.proxy_metadata, **spec.environment_variables},
        image=spec.image or settings.image,
    )
