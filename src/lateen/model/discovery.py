"""What the serving layer sends: named bytes with a content-derived version."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping

import msgspec
import xxhash

from lateen.api.resource import ObjectKey

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

TYPES_IN_PUSH_ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST, SECRET, EXTENSION)
"""Make before break: clusters and endpoints before the listeners and routes that use them, route
configurations before their virtual hosts, which Envoy takes only for those it has."""


class DiscoveryResource(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """One xDS resource, serialised once.

    ``version`` is `version_of` ``body``; ``body`` is the serialised Envoy
    message (the value of the ``Any``); ``origins`` are the objects that shaped it, which is how
    a rejection is traced to its author.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    origins: tuple[ObjectKey, ...] = ()


def version_of(body: bytes) -> str:
    """Names the content of a resource: 96 bits of its xxh3-128 hash in 16 characters.

    Proxies that come back name the versions of all that they hold, thousands of them, so what is
    longer costs both sides time.
    """
    return urlsafe_b64encode(xxhash.xxh3_128_digest(body)[:12]).decode()


ResourceSet = Mapping[str, Mapping[str, DiscoveryResource]]
"""Type URL to name to resource: all a scope's proxies shall have."""
