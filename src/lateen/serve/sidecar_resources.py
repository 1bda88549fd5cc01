"""What a sidecar's scope is made of: an outbound side that many share, and its own workload's."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    VIRTUAL_HOST,
    DiscoveryResource,
)
from lateen.model.proxy import Scope
from lateen.model.snapshot import Snapshot
from lateen.serve.sharing import Shared, layered

if TYPE_CHECKING:
    from lateen.translate.routes import Known


class Routes(NamedTuple):
    """Route configurations, their virtual hosts, and the latter as they were made."""

    routes: Shared
    virtual_hosts: Shared
    known_hosts: Known


class Outbound:
    """Everything towards other services that sidecars with the same view of the mesh share."""

    __slots__ = (
        "clusters",
        "endpoints",
        "extensions",
        "known_hosts",
        "listeners",
        "routes",
        "scope",
        "snapshot",
        "virtual_hosts",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        scope: Scope,
        clusters: Shared,
        endpoints: Shared,
        listeners: Shared,
        routes: Shared,
        virtual_hosts: Shared,
        known_hosts: Known,
        extensions: Shared,
    ) -> None:
        self.snapshot = snapshot
        self.scope = scope
        self.clusters = clusters
        self.endpoints = endpoints
        self.listeners = listeners
        self.routes = routes
        self.virtual_hosts = virtual_hosts
        self.extensions = extensions
        self.known_hosts = known_hosts
        """Virtual hosts as they were made last, until more than VirtualServices changes."""

    def same_as(self, other: Outbound) -> bool:
        """Whether all resources are the very same."""
        return (
            self.clusters is other.clusters
            and self.endpoints is other.endpoints
            and self.listeners is other.listeners
            and self.routes is other.routes
            and self.virtual_hosts is other.virtual_hosts
        )


class SidecarResources(Mapping[str, Mapping[str, DiscoveryResource]]):
    """A `ResourceSet` of a sidecar's scope: the shared outbound part and the scope's own."""

    __slots__ = ("_maps", "outbound", "own_clusters", "own_listeners")

    def __init__(
        self,
        outbound: Outbound,
        own_clusters: tuple[DiscoveryResource, ...],
        own_listeners: tuple[DiscoveryResource, ...],
        previous: SidecarResources | None = None,
    ) -> None:
        """Maps of ``previous`` are taken over where they are the same."""
        self.outbound = outbound
        self.own_clusters = own_clusters
        self.own_listeners = own_listeners
        clusters = listeners = None
        if previous is not None:
            before = previous.outbound
            if own_clusters == previous.own_clusters and outbound.clusters is before.clusters:
                clusters = previous[CLUSTER]
            if own_listeners == previous.own_listeners and outbound.listeners is before.listeners:
                listeners = previous[LISTENER]
        self._maps: dict[str, Mapping[str, DiscoveryResource]] = {
            CLUSTER: layered(outbound.clusters, own_clusters) if clusters is None else clusters,
            ENDPOINT: outbound.endpoints,
            LISTENER: layered(outbound.listeners, own_listeners)
            if listeners is None
            else listeners,
            ROUTE: outbound.routes,
            VIRTUAL_HOST: outbound.virtual_hosts,
            EXTENSION: outbound.extensions,
        }

    def followed_by(
        self,
        outbound: Outbound,
        own_clusters: tuple[DiscoveryResource, ...],
        own_listeners: tuple[DiscoveryResource, ...],
    ) -> SidecarResources:
        """These after a change; itself when nothing differs, with the newer outbound side."""
        made = SidecarResources(outbound, own_clusters, own_listeners, self)
        mine = self._maps
        if all(items is mine[type_url] for type_url, items in made._maps.items()):
            self.outbound = outbound
            return self
        return made

    def __getitem__(self, type_url: str) -> Mapping[str, DiscoveryResource]:
        return self._maps[type_url]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def items(self) -> ItemsView[str, Mapping[str, DiscoveryResource]]:
        """See ``Mapping.items``: a thousand scopes are gone through for each change."""
        return self._maps.items()

    def __len__(self) -> int:
        return len(self._maps)
