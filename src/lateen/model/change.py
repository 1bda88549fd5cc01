"""Changes to the objects of a mesh, and what a change set touches."""

from __future__ import annotations

from dataclasses import dataclass

from lateen.api.resource import ObjectKey, Resource

ServiceName = tuple[str, str]
"""Host name and namespace of a service."""
Address = tuple[str, str]
"""Namespace and IP address."""


@dataclass(frozen=True, slots=True)
class Change:
    """An object was written (``resource``) or deleted (``resource`` is None)."""

    key: ObjectKey
    resource: Resource | None = None


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What differs between two snapshots."""

    keys: frozenset[ObjectKey] = frozenset()
    """Objects written or deleted (those that really differ)."""
    services: frozenset[ServiceName] = frozenset()
    """Services that came, went, or whose definition changed."""
    endpoints: frozenset[ServiceName] = frozenset()
    """Services whose endpoints changed (their definition may have changed as well)."""
    inline: frozenset[ServiceName] = frozenset()
    """Those of ``endpoints`` whose endpoints are written into clusters and listeners (headless,
    DNS, ServiceEntry NONE), so that new load assignments alone do not do."""
    workloads: frozenset[ObjectKey] = frozenset()
    """Pods and WorkloadEntries whose mesh-relevant facts changed (labels, address, identity)."""
    listed: frozenset[Address] = frozenset()
    """Addresses that an EndpointSlice, Endpoints object or WorkloadEntry in the namespace lists
    in another way than before: the ports of a workload that has one may differ."""
    everything: bool = False
    """The mesh configuration changed: nothing derived from the old snapshot holds."""

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not self.keys and not self.everything

    @property
    def kinds(self) -> frozenset[tuple[str, str]]:
        """Group and kind of the objects in ``keys``."""
        return frozenset((key.group, key.kind) for key in self.keys)

    @property
    def only_endpoints(self) -> bool:
        """Whether only load assignments of `endpoints` differ (the cheapest push).

        Proxies in ``workloads`` may have another scope all the same.
        """
        endpoint_kinds = {"Pod", "EndpointSlice", "Endpoints", "WorkloadEntry", "Node"}
        return (
            not self.everything
            and not self.services
            and not self.inline
            and all(key.kind in endpoint_kinds for key in self.keys)
        )

    def merged(self, later: ChangeSet) -> ChangeSet:
        """This and a later change set as one (used when pushes are debounced)."""
        return ChangeSet(
            keys=self.keys | later.keys,
            services=self.services | later.services,
            endpoints=self.endpoints | later.endpoints,
            inline=self.inline | later.inline,
            workloads=self.workloads | later.workloads,
            listed=self.listed | later.listed,
            everything=self.everything or later.everything,
        )
