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


Content = bytes | tuple[bytes, ...]
"""A serialised message, whole or in pieces that follow each other. Pieces may be shared:
most filter chains of a workload's inbound listener are those of other workloads' too."""


class DiscoveryResource(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """One xDS resource, serialised once.

    ``version`` is `version_of` ``content``; ``content`` is the serialised Envoy
    message (the value of the ``Any``); ``origins`` are the objects that shaped it, which is how
    a rejection is traced to its author.
    """

    type_url: str
    name: str
    version: str
    content: Content
    origins: tuple[ObjectKey, ...] = ()

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The serialised message in pieces; none when it is not known."""
        content = self.content
        if isinstance(content, tuple):
            return content
        return (content,) if content else ()

    @property
    def body(self) -> bytes:
        """The serialised message; empty when it is not known."""
        content = self.content
        return content if isinstance(content, bytes) else b"".join(content)

    @property
    def size(self) -> int:
        """Bytes of the serialised message."""
        content = self.content
        return len(content) if isinstance(content, bytes) else sum(map(len, content))


def version_of(content: Content) -> str:
    """Names what a resource holds: 96 bits of the xxh3-128 hash in 16 characters.

    Proxies that come back name the versions of all that they hold, thousands of them, so what is
    longer costs both sides time.
    """
    if isinstance(content, bytes):
        return urlsafe_b64encode(xxhash.xxh3_128_digest(content)[:12]).decode()
    digest = xxhash.xxh3_128()
    for piece in content:
        digest.update(piece)
    return urlsafe_b64encode(digest.digest()[:12]).decode()


ResourceSet = Mapping[str, Mapping[str, DiscoveryResource]]
"""Type URL to name to resource: all a scope's proxies shall have."""
