"""The service registry: every service with its endpoints, kept up to date at the cost of change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from lateen.api.findings import Finding
from lateen.api.resource import ObjectKey
from lateen.model.label_selectors import selects
from lateen.model.layers import Layers
from lateen.model.service import Endpoint, Registry, Service
from lateen.model.visibility import is_public, is_visible
from lateen.model.workloads import Workload

Pair = tuple[str, str]
_REGISTRIES = {"Service": Registry.KUBERNETES, "ServiceEntry": Registry.SERVICE_ENTRY}
T = TypeVar("T")


def service_order(service: Service) -> tuple[str, str, str]:
    """The order in which services are listed everywhere: oldest first, then by host."""
    return (service.creation_timestamp, service.hostname, service.namespace)


class ServiceIndex:
    """All service definitions, by host and by who sees them. Immutable; views are made once."""

    __slots__ = ("_by_host", "_ordered", "_restricted", "_services", "_visible", "_without")

    def __init__(self, services: Layers[str, Service]) -> None:
        self._services = services
        self._by_host: dict[str, tuple[Service, ...]] | None = None
        self._ordered: tuple[Service, ...] | None = None
        self._visible: dict[str, tuple[Service, ...]] = {}
        self._restricted: tuple[Service, ...] | None = None
        """Those that not everybody sees."""
        self._without: dict[frozenset[int], tuple[Service, ...]] = {}
        """All services but some, by the identities of these."""

    @property
    def layers(self) -> Layers[str, Service]:
        """Namespace to host name to service."""
        return self._services

    def all(self) -> tuple[Service, ...]:
        """Every service, oldest first."""
        if self._ordered is None:
            everything = (s for layer in self._services.values() for s in layer.values())
            self._ordered = tuple(sorted(everything, key=service_order))
        return self._ordered

    def by_host(self, hostname: str) -> tuple[Service, ...]:
        """Services with this host name in any namespace, oldest first."""
        if self._by_host is None:
            index: dict[str, list[Service]] = {}
            for service in self.all():
                index.setdefault(service.hostname, []).append(service)
            self._by_host = {host: tuple(found) for host, found in index.items()}
        return self._by_host.get(hostname, ())

    def visible_to(self, namespace: str) -> tuple[Service, ...]:
        """Services that ``namespace`` sees (exportTo), oldest first: the very same tuple for
        namespaces that see the same."""
        found = self._visible.get(namespace)
        if found is None:
            if self._restricted is None:
                self._restricted = tuple(s for s in self.all() if not is_public(s.export_to))
            hidden = frozenset(
                id(service)
                for service in self._restricted
                if not is_visible(service.export_to, namespace)
            )
            found = self._without.get(hidden)
            if found is None:
                found = tuple(service for service in self.all() if id(service) not in hidden)
                self._without[hidden] = found
            self._visible[namespace] = found
        return found


@dataclass(frozen=True, slots=True)
class RegistryState:
    """The maps the registry is made of, all by namespace and shared until they change."""

    workloads: Layers[ObjectKey, Workload] = field(default_factory=dict)
    """Pods and WorkloadEntries."""
    selectors: Layers[Pair | None, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """One label of each selector (None for the empty one) to the objects that select by it."""
    selecting: Layers[ObjectKey, Mapping[str, str]] = field(default_factory=dict)
    """Services and ServiceEntries with a selector, to that selector."""
    members: Layers[ObjectKey, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """Those to the workloads they select."""
    owners: Layers[ObjectKey, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """Workloads to the objects that select them."""
    sources: Layers[str, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """Host names to the objects that define them, oldest first."""
    hosts: Layers[ObjectKey, tuple[str, ...]] = field(default_factory=dict)
    """Those objects to their host names."""
    claims: Layers[str, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """Cluster IPs (under the empty namespace) to the Services that claim them, oldest first."""
    slices: Layers[str, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """Service names to their EndpointSlices and Endpoints."""
    slice_of: Layers[ObjectKey, str] = field(default_factory=dict)
    """EndpointSlices and Endpoints to the names of their services."""
    referrers: Layers[ObjectKey, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """Pods to the EndpointSlices and Endpoints that list them."""
    addressed: Layers[str, tuple[ObjectKey, ...]] = field(default_factory=dict)
    """Addresses to the objects that send to them without naming a Pod: ServiceEntries with
    endpoints of their own, WorkloadEntries, EndpointSlices and Endpoints."""
    services: Layers[str, Service] = field(default_factory=dict)
    endpoints: Layers[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    findings: Layers[str, tuple[Finding, ...]] = field(default_factory=dict)


class ServiceRegistry:
    """Services and endpoints of a snapshot. Immutable; unchanged parts keep their identity."""

    __slots__ = ("index", "state")

    def __init__(self, state: RegistryState, index: ServiceIndex | None = None) -> None:
        self.state = state
        self.index = index if index is not None else ServiceIndex(state.services)

    def get(self, hostname: str, namespace: str | None = None) -> Service | None:
        """The service with this host name.

        With ``namespace`` the one of that namespace; else a Kubernetes Service before a
        ServiceEntry, the oldest first.
        """
        if namespace is not None:
            return self.state.services.get(namespace, {}).get(hostname)
        return preferred(self.index.by_host(hostname))

    def by_host(self, hostname: str) -> tuple[Service, ...]:
        """All services with this host name, oldest first (one per namespace)."""
        return self.index.by_host(hostname)

    def resolve(self, hostname: str, namespace: str) -> Service | None:
        """The service that clients in ``namespace`` mean by this host name: their own
        namespace's, else a Kubernetes Service, else the oldest that they see."""
        seen = [s for s in self.by_host(hostname) if is_visible(s.export_to, namespace)]
        return preferred(seen, namespace)

    def all(self) -> tuple[Service, ...]:
        """Every service, oldest first."""
        return self.index.all()

    def visible_to(self, namespace: str) -> tuple[Service, ...]:
        """Services exported to ``namespace``, oldest first; one host may occur per namespace."""
        return self.index.visible_to(namespace)

    def endpoints(self, service: Service) -> tuple[Endpoint, ...]:
        """Endpoints of a service, port by port, in a stable order."""
        return self.state.endpoints.get(service.namespace, {}).get(service.hostname, ())

    def workload(self, key: ObjectKey) -> Workload | None:
        """The workload that a Pod or WorkloadEntry is."""
        return self.state.workloads.get(key.namespace, {}).get(key)

    def workloads(self, namespace: str) -> tuple[Workload, ...]:
        """All workloads of a namespace."""
        return tuple(self.state.workloads.get(namespace, {}).values())

    def members(self, service: Service) -> tuple[Workload, ...]:
        """Workloads that the service's selector picks, whether ready or not."""
        if service.key is None:
            return ()
        keys = self.state.members.get(service.namespace, {}).get(service.key, ())
        return tuple(w for key in keys if (w := self.workload(key)) is not None)

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> tuple[Service, ...]:
        """Services whose selector picks a workload with these labels, oldest first."""
        keys = selectors_of(self.state.selectors, self.state.selecting, namespace, labels)
        return self._services_of(namespace, keys)

    def services_of(self, workload: ObjectKey) -> tuple[Service, ...]:
        """Services whose selector picks a workload, oldest first."""
        namespace = workload.namespace
        owners = self.state.owners.get(namespace, {}).get(workload, ())
        return self._services_of(namespace, owners)

    def listing(
        self, workload: ObjectKey, addresses: Iterable[str]
    ) -> tuple[tuple[Service, ObjectKey], ...]:
        """Services of the workload's namespace that send to it because an object lists it or one
        of its addresses, each with that object: a ServiceEntry with endpoints of its own, a
        WorkloadEntry that the service selects, an EndpointSlice, an Endpoints object."""
        namespace = workload.namespace
        keys = set(self.state.referrers.get(namespace, {}).get(workload, ()))
        by_address = self.state.addressed.get(namespace)
        if by_address:
            keys.update(*(by_address.get(address, ()) for address in addresses))
        if not keys:
            return ()
        return tuple(
            (service, key) for key in sorted(keys) for service in self._services_behind(key)
        )

    def _services_behind(self, key: ObjectKey) -> tuple[Service, ...]:
        """The services that get endpoints from an object that lists addresses."""
        namespace = key.namespace
        if key.kind == "ServiceEntry":
            return self._services_of(namespace, (key,))
        if key.kind == "WorkloadEntry":
            return self.services_of(key)
        name = self.state.slice_of.get(namespace, {}).get(key, "")
        return self._services_of(namespace, (ObjectKey("", "Service", namespace, name),))

    def _services_of(self, namespace: str, keys: Iterable[ObjectKey]) -> tuple[Service, ...]:
        hosts = self.state.hosts.get(namespace, {})
        services = self.state.services.get(namespace, {})
        found: dict[str, Service] = {}
        for key in keys:
            for host in hosts.get(key, ()):
                service = services.get(host)
                # A Kubernetes Service takes its host from a ServiceEntry that has it too.
                if service is not None and service.registry is _REGISTRIES[key.kind]:
                    found[host] = service
        return tuple(sorted(found.values(), key=service_order))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Objects that could not be used, and services that select nothing."""
        return tuple(
            finding
            for _, layer in sorted(self.state.findings.items())
            for _, findings in sorted(layer.items())
            for finding in findings
        )


def preferred(services: Iterable[Service], namespace: str | None = None) -> Service | None:
    """Of services with one host: the own namespace's, else Kubernetes', else the first."""
    first: Service | None = None
    kubernetes: Service | None = None
    for service in services:
        if namespace is not None and service.namespace == namespace:
            return service
        if kubernetes is None and service.registry is Registry.KUBERNETES:
            kubernetes = service
        if first is None:
            first = service
    return kubernetes or first


def selectors_of(
    selectors: Layers[Pair | None, tuple[ObjectKey, ...]],
    selecting: Layers[ObjectKey, Mapping[str, str]],
    namespace: str,
    labels: Mapping[str, str],
) -> tuple[ObjectKey, ...]:
    """The objects of ``namespace`` whose selector picks ``labels``, in a stable order."""
    by_pair = selectors.get(namespace)
    if not by_pair:
        return ()
    specs = selecting[namespace]
    found = list(by_pair.get(None, ()))
    for pair in labels.items():
        found.extend(key for key in by_pair.get(pair, ()) if selects(specs[key], labels))
    return tuple(sorted(found))
