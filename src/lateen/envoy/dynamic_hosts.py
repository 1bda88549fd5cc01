"""Hosts that are looked up when they are asked for (Envoy ``dynamic_forward_proxy``).

The filter that looks a host up and the cluster that connects to it meet in a DNS cache, which they
find by name. Envoy refuses two settings for one name, so there is one cache for each family of
addresses, with settings that nothing changes.
"""

from __future__ import annotations

import functools
from typing import Any

from lateen.envoy import protos
from lateen.envoy.protos import TYPE_PREFIX

_CLUSTER = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"
_HTTP = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"
_SNI = "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig"
_MAX_HOSTS = 1024
"""Hosts that a proxy knows at a time, as Istio has it; requests for more get 503."""


def _cache(family: str) -> dict[str, Any]:
    return {
        "name": f"lateen_dns_cache_{family.lower()}",
        "dns_lookup_family": family,
        "max_hosts": _MAX_HOSTS,
    }


@functools.cache
def cluster_type(family: str) -> bytes:
    """The serialised ``Cluster.cluster_type`` within a ``Cluster``.

    SNI and names to verify come from TLS settings as in other clusters, so Envoy's own demand for
    them is turned off.
    """
    config = {
        "@type": TYPE_PREFIX + _CLUSTER,
        "dns_cache_config": _cache(family),
        "allow_insecure_cluster_options": True,
    }
    name = "envoy.clusters.dynamic_forward_proxy"
    return protos.from_dict(
        "envoy.config.cluster.v3.Cluster",
        {"cluster_type": {"name": name, "typed_config": config}},
    )


def http_filter(family: str) -> dict[str, Any]:
    """The ``HttpFilter`` that looks up the host of requests to such clusters."""
    return {
        "name": "envoy.filters.http.dynamic_forward_proxy",
        "typed_config": {"@type": TYPE_PREFIX + _HTTP, "dns_cache_config": _cache(family)},
    }


@functools.lru_cache(maxsize=256)
def sni_filter(family: str, port: int) -> bytes:
    """The serialised network ``Filter`` that looks up the SNI of a connection."""
    config = {
        "@type": TYPE_PREFIX + _SNI,
        "dns_cache_config": _cache(family),
        "port_value": port,
    }
    return protos.from_dict(
        "envoy.config.listener.v3.Filter",
        {"name": "envoy.filters.network.sni_dynamic_forward_proxy", "typed_config": config},
    )
