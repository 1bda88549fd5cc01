"""What pushes take and give: options, rejections, acknowledgement."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from lateen.api.resource import ObjectKey, Resource
from lateen.model.discovery import DiscoveryResource
from lateen.model.proxy import Proxy
from lateen.model.snapshot import Snapshot
from lateen.serve.connection import Connection
from lateen.serve.metrics import short_name


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Times in seconds."""

    debounce: float = 0.1
    """A push starts after this long without a further change."""
    debounce_max: float = 10.0
    """A push starts at the latest this long after the first change."""
    debounce_urgent: float = 1.0
    """The same for endpoints, secrets and security policies, whatever else keeps changing."""
    overload_after: float = 2.0
    """A change that waits this long for the push before it means overload: others than endpoints,
    secrets and security policies are deferred."""
    defer_max: float = 15.0
    """Deferred changes wait at most so long, and for a push that is being made then."""
    connecting: int = 20
    """Proxies that get their first configuration at once; others wait their turn."""
    connecting_limit: float = 15.0
    """A proxy gives its turn away after this long, complete or not."""
    first_request: float = 10.0
    """A stream must say who it is within this time."""
    write_timeout: float = 30.0
    """A proxy that does not read for so long is reported as slow."""
    workload_wait: float = 5.0
    """How long a proxy may be ahead of its own workload's object."""
    streams_per_proxy: int = 5
    """Streams of one pod's proxy at once: some may be dead and not known to be."""


class Objects(Protocol):
    """Objects by key, for instance a snapshot."""

    def get(self, key: ObjectKey) -> Resource | None:
        """The object with this key."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A proxy refused resources: what quarantine needs to find the cause."""

    proxy: Proxy
    type_url: str
    words: str
    resources: tuple[DiscoveryResource, ...]
    good: Objects | None
    """Objects of the newest snapshot that a proxy of the scope has acknowledged in full."""
    snapshot: Snapshot
    """The snapshot the refused resources were made from."""


@dataclass(frozen=True, slots=True)
class Laggard:
    """A proxy that has not acknowledged yet, and why."""

    proxy: str
    """``NAME.NAMESPACE``."""
    types: tuple[str, ...]
    rejection: str = ""
    """What it refused, in its words, or why it cannot be asked."""
    unsettled: float = 0.0
    """Seconds for which it has acknowledged nothing of one of them."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Result of waiting for a version. ``proxies`` counts those connected."""

    acknowledged: bool
    proxies: int
    laggards: tuple[Laggard, ...] = ()


def laggard(connection: Connection) -> Laggard:
    """Why a proxy is behind."""
    session = connection.session
    waiting = []
    rejection = ""
    for type_url, subscription in session.subscriptions.items():
        if subscription.rejection is not None:
            rejection = subscription.rejection.message
        if subscription.in_flight or subscription.rejection is not None:
            waiting.append(short_name(type_url))
    proxy = connection.proxy
    since = session.unsettled_since()
    unsettled = round(time.monotonic() - since, 1) if since is not None else 0.0
    return Laggard(f"{proxy.name}.{proxy.namespace}", tuple(waiting), rejection, unsettled)
