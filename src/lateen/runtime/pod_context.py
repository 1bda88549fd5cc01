"""What all pods of one node share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lateen.runtime.cache import ObjectCache
from lateen.runtime.image_puller import ImagePuller
from lateen.runtime.images import ImageCatalog
from lateen.runtime.node.node import Node
from lateen.source.client import AsyncClient

DNS_ADDRESS = "10.96.0.10"
"""Cluster DNS for applications behind a proxy: knows the mesh's own hosts too."""
PLAIN_DNS_ADDRESS = "10.96.0.11"
"""Cluster DNS without them: for proxies, which must find the real addresses of such hosts, and for
pods without a proxy, for which the mesh's own addresses lead nowhere."""


@dataclass(frozen=True, slots=True)
class PodContext:
    """What every pod of the node shares."""

    node: Node
    client: AsyncClient
    cache: ObjectCache
    images: ImageCatalog
    puller: ImagePuller
    state_dir: Path
    node_name: str
    domain: str
    proxy_concurrency: int
