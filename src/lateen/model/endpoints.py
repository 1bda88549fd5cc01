"""Endpoints of a service: from selected workloads, from EndpointSlices, from ServiceEntries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lateen.api.core.selectors import ObjectReference
from lateen.api.core.service import Endpoints, EndpointSlice
from lateen.api.networking.service_entry import ServiceEntry
from lateen.api.resource import ObjectKey, Resource
from lateen.model.mesh import MeshFacts
from lateen.model.names import is_ip
from lateen.model.service import Endpoint, Health, Locality, Resolution, Service, ServicePort
from lateen.model.workloads import Workload, workload_of_inline_endpoint

UNIX_PREFIX = "unix://"

WorkloadLookup = Callable[[ObjectKey], Workload | None]


@dataclass(slots=True)
class Found:
    """Endpoints of one service as they are collected."""

    endpoints: list[Endpoint] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)
    """SPIFFE identities of everything behind the service, ready or not."""
    missing_ports: list[tuple[str, ObjectKey]] = field(default_factory=list)
    """Named target ports that a pod does not have."""


def from_workloads(service: Service, workloads: Sequence[Workload]) -> Found:
    """Endpoints of the workloads that a selector picks, port by port.

    A terminating workload or one without an address is no endpoint; one that is not ready is an
    unhealthy endpoint unless the service publishes not-ready addresses.
    """
    found = Found()
    found.accounts.update(
        workload.identity.spiffe_id for workload in workloads if _has_identity(workload)
    )
    usable = [workload for workload in workloads if workload.usable]
    for port in service.ports:
        for workload in usable:
            number = target_port(port, workload)
            if number is None:
                found.missing_ports.append((port.name or str(port.number), workload.key))
                continue
            found.endpoints.append(_endpoint(service, port, workload, number))
    return found


def target_port(port: ServicePort, workload: Workload) -> int | None:
    """The port of ``workload`` behind a service port; None when a named one is missing.

    A ``unix://`` path has none (0); a WorkloadEntry's own mapping beats ``targetPort``, which
    beats the service port's number.
    """
    if workload.address.startswith(UNIX_PREFIX):
        return 0
    if port.name in workload.ports:
        return workload.ports[port.name]
    target = port.target_port
    if isinstance(target, str):
        if target.isdigit():
            return int(target)
        if target in workload.ports:
            return workload.ports[target]
        transport = "UDP" if port.protocol.value == "UDP" else "TCP"
        return workload.named_ports.get((target, transport))
    return target or port.number


def _has_identity(workload: Workload) -> bool:
    """Pods always run as a service account; other workloads only if they say so."""
    return workload.key.kind == "Pod" or workload.mtls


def _endpoint(
    service: Service,
    port: ServicePort,
    workload: Workload,
    number: int,
    health: Health | None = None,
    hostname: str | None = None,
) -> Endpoint:
    if health is None:
        ready = workload.ready or service.publish_not_ready
        health = Health.HEALTHY if ready else Health.UNHEALTHY
    if hostname is None:
        hostname = workload.hostname if workload.subdomain == service.name else ""
    return Endpoint(
        address=workload.address,
        port=number,
        service_port=port.name,
        labels=workload.labels,
        locality=workload.locality,
        weight=workload.weight,
        health=health,
        mtls=workload.mtls,
        identity=workload.identity,
        network=workload.network,
        node=workload.node,
        hostname=hostname,
        workload=workload.key,
    )


def from_slices(service: Service, slices: Iterable[Resource], lookup: WorkloadLookup) -> Found:
    """Endpoints that EndpointSlices (or an Endpoints object) of the service list."""
    found = Found()
    seen: set[tuple[str, int, str]] = set()
    for row in _rows(slices):
        workload = lookup(row.target) if row.target is not None else None
        if workload is not None and _has_identity(workload):
            found.accounts.add(workload.identity.spiffe_id)
        port = service.port_named(row.port_name)
        if port is None or row.health is None:
            continue
        identity = (row.address, row.port, port.name)
        if identity in seen:
            continue
        seen.add(identity)
        if workload is not None:
            endpoint = _endpoint(service, port, workload, row.port, row.health, row.hostname)
            if endpoint.address != row.address:
                continue
        else:
            endpoint = Endpoint(
                address=row.address,
                port=row.port,
                service_port=port.name,
                locality=Locality(zone=row.zone),
                health=row.health,
                node=row.node,
                hostname=row.hostname,
            )
        found.endpoints.append(endpoint)
    order = {port.name: index for index, port in enumerate(service.ports)}
    found.endpoints.sort(key=lambda e: (order[e.service_port], e.address, e.port))
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    address: str
    port: int
    port_name: str
    health: Health | None
    """None: it is terminating, and no traffic goes there."""
    hostname: str = ""
    node: str = ""
    zone: str = ""
    target: ObjectKey | None = None


def _rows(slices: Iterable[Resource]) -> Iterator[_Row]:
    for resource in slices:
        obj = resource.object
        if isinstance(obj, EndpointSlice):
            yield from _slice_rows(obj)
        elif isinstance(obj, Endpoints):
            yield from _endpoints_rows(obj)


def _slice_rows(obj: EndpointSlice) -> Iterator[_Row]:
    if obj.address_type == "FQDN":
        return
    for entry in obj.endpoints:
        conditions = entry.conditions
        ready = conditions.ready is not False
        terminating = bool(conditions.terminating)
        health = Health.HEALTHY if ready else None if terminating else Health.UNHEALTHY
        target = _target(entry.target_ref, obj.metadata.namespace)
        for port in obj.ports:
            if not port.port:
                continue
            for address in entry.addresses:
                yield _Row(
                    address,
                    port.port,
                    port.name,
                    health,
                    entry.hostname or "",
                    entry.node_name or "",
                    entry.zone or "",
                    target,
                )


def _endpoints_rows(obj: Endpoints) -> Iterator[_Row]:
    for subset in obj.subsets:
        groups = (
            (subset.addresses, Health.HEALTHY),
            (subset.not_ready_addresses, Health.UNHEALTHY),
        )
        for addresses, health in groups:
            for entry in addresses:
                target = _target(entry.target_ref, obj.metadata.namespace)
                for port in subset.ports:
                    if not port.port:
                        continue
                    yield _Row(
                        entry.ip,
                        port.port,
                        port.name,
                        health,
                        entry.hostname or "",
                        entry.node_name or "",
                        "",
                        target,
                    )


def _target(reference: ObjectReference | None, namespace: str) -> ObjectKey | None:
    if reference is None or reference.kind != "Pod":
        return None
    return ObjectKey("", "Pod", reference.namespace or namespace, reference.name)


def slice_targets(resource: Resource) -> set[ObjectKey]:
    """The pods that an EndpointSlice or Endpoints object refers to."""
    return {row.target for row in _rows((resource,)) if row.target is not None}


def slice_addresses(resource: Resource) -> set[str]:
    """The addresses that an EndpointSlice or Endpoints object lists without naming a pod."""
    return {row.address for row in _rows((resource,)) if row.target is None}


def slice_ports(resource: Resource | None) -> set[tuple[str, str, int]]:
    """Port name, address and port of all that an EndpointSlice or Endpoints object lists."""
    rows = _rows((resource,)) if resource is not None else ()
    return {(row.port_name, row.address, row.port) for row in rows}


def entry_addresses(resource: Resource) -> set[str]:
    """The IP addresses among ``ServiceEntry.endpoints``."""
    entry = resource.object
    assert isinstance(entry, ServiceEntry)
    return {endpoint.address for endpoint in entry.spec.endpoints if is_ip(endpoint.address)}


def slice_service(resource: Resource) -> str:
    """Name of the service that an EndpointSlice or Endpoints object belongs to, or empty."""
    if resource.key.kind == "EndpointSlice":
        return resource.labels.get("kubernetes.io/service-name", "")
    return resource.key.name


def from_service_entry(
    service: Service, resource: Resource, selected: Sequence[Workload], mesh: MeshFacts
) -> Found:
    """Endpoints that one ServiceEntry contributes: listed, selected, or the host itself (DNS)."""
    entry = resource.object
    assert isinstance(entry, ServiceEntry)
    spec = entry.spec
    if spec.workload_selector is not None and not spec.endpoints:
        workloads: Sequence[Workload] = selected
    elif spec.endpoints:
        workloads = [
            workload_of_inline_endpoint(resource.key, endpoint, mesh.trust_domain)
            for endpoint in spec.endpoints
        ]
    elif service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
        return _host_itself(service, resource)
    else:
        return Found()
    if service.resolution in (Resolution.CLIENT_SIDE, Resolution.PASSTHROUGH):
        workloads = [
            workload
            for workload in workloads
            if is_ip(workload.address) or workload.address.startswith(UNIX_PREFIX)
        ]
    names = {port.name for port in spec.ports}
    found = from_workloads(service, workloads)
    found.endpoints = [e for e in found.endpoints if e.service_port in names]
    return found


def _host_itself(service: Service, resource: Resource) -> Found:
    found = Found()
    entry = resource.object
    assert isinstance(entry, ServiceEntry)
    for port in entry.spec.ports:
        found.endpoints.append(
            Endpoint(
                address=service.hostname,
                port=port.target_port or port.number,
                service_port=port.name,
                labels=resource.labels,
                workload=resource.key,
            )
        )
    return found
