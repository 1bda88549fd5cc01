"""Service definitions: Kubernetes Services and the hosts of ServiceEntries as `Service` values."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from lateen.api.core.service import Service as KubernetesService
from lateen.api.core.service import ServicePort as KubernetesPort
from lateen.api.findings import Finding
from lateen.api.networking.service_entry import ServiceEntry
from lateen.api.networking.service_entry import ServicePort as EntryPort
from lateen.api.resource import Resource
from lateen.model import rules
from lateen.model.mesh import MeshFacts
from lateen.model.names import DOMAIN, service_hostname
from lateen.model.protocols import parse_protocol, select_protocol
from lateen.model.service import Registry, Resolution, Service, ServicePort
from lateen.model.visibility import export_to

EXPORT_TO_ANNOTATION = "networking.istio.io/exportTo"
CONNECT_STRATEGY_ANNOTATION = "istio.io/connect-strategy"
RACE = "RACE_FIRST_TCP_CONNECT"
"""Its one value: of all addresses of a name, the first that a connection is made to."""
TRAFFIC_DISTRIBUTION_ANNOTATION = "networking.istio.io/traffic-distribution"
KUBERNETES_ACCOUNTS_ANNOTATION = "alpha.istio.io/kubernetes-serviceaccounts"
CANONICAL_ACCOUNTS_ANNOTATION = "alpha.istio.io/canonical-serviceaccounts"

_RESOLUTIONS = {
    "NONE": Resolution.PASSTHROUGH,
    "STATIC": Resolution.CLIENT_SIDE,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC_DNS,
}
DISTRIBUTIONS = {
    "preferclose": "PreferClose",
    "prefersamezone": "PreferSameZone",
    "prefersamenode": "PreferSameNode",
}
"""Traffic distributions by their names in lower case."""


def kubernetes_hostname(resource: Resource) -> str:
    """Host name of a Kubernetes Service."""
    return service_hostname(resource.key.name, resource.key.namespace, DOMAIN)


def service_selector(resource: Resource) -> Mapping[str, str] | None:
    """Labels that a Service or ServiceEntry selects by; None when it has no selector.

    An empty ``workloadSelector`` of a ServiceEntry selects everything in its namespace, an empty
    selector of a Service is none.
    """
    obj = resource.object
    if isinstance(obj, ServiceEntry):
        selector = obj.spec.workload_selector
        return None if selector is None else selector.labels
    assert isinstance(obj, KubernetesService)
    if obj.spec.type == "ExternalName":
        return None
    return obj.spec.selector or None


def cluster_ips(resource: Resource) -> tuple[str, ...]:
    """The virtual IPs of a Kubernetes Service."""
    obj = resource.object
    assert isinstance(obj, KubernetesService)
    spec = obj.spec
    if spec.type == "ExternalName":
        return ()
    given = tuple(spec.cluster_ips) or ((spec.cluster_ip,) if spec.cluster_ip else ())
    return tuple(dict.fromkeys(one_form(ip) for ip in given if ip and ip != "None"))


def hosts_of(resource: Resource) -> tuple[str, ...]:
    """Host names that a Service or ServiceEntry defines."""
    if isinstance(resource.object, ServiceEntry):
        return tuple(dict.fromkeys(host.lower() for host in resource.object.spec.hosts))
    return (kubernetes_hostname(resource),)


def namespace_distribution(home: Resource | None) -> str:
    """The traffic distribution that a Namespace asks for, by annotation, for its services."""
    if home is None:
        return ""
    return _distribution(home.object.metadata.annotations)


def _distribution(annotations: Mapping[str, str]) -> str:
    return DISTRIBUTIONS.get(annotations.get(TRAFFIC_DISTRIBUTION_ANNOTATION, "").lower(), "")


def from_kubernetes(resource: Resource, mesh: MeshFacts, home: Resource | None = None) -> Service:
    """The service that a Kubernetes Service object defines, in the Namespace ``home``.

    Its traffic distribution is that of the field, of its annotation, or of its Namespace's.
    """
    obj = resource.object
    assert isinstance(obj, KubernetesService)
    meta, spec = obj.metadata, obj.spec
    annotations = meta.annotations
    exported = annotations.get(EXPORT_TO_ANNOTATION, "")
    headless = "None" in (spec.cluster_ip, *spec.cluster_ips)
    if spec.type == "ExternalName":
        resolution = Resolution.ALIAS
    else:
        resolution = Resolution.PASSTHROUGH if headless else Resolution.CLIENT_SIDE
    return Service(
        hostname=kubernetes_hostname(resource),
        namespace=resource.key.namespace,
        name=resource.key.name,
        registry=Registry.KUBERNETES,
        resolution=resolution,
        ports=tuple(_kubernetes_port(port) for port in spec.ports),
        addresses=cluster_ips(resource),
        export_to=export_to(
            [part.strip() for part in exported.split(",") if part.strip()],
            resource.key.namespace,
            mesh.service_export_to,
        ),
        labels=meta.labels,
        annotations=annotations,
        selector=service_selector(resource) or {},
        creation_timestamp=meta.creation_timestamp or "",
        external_name=spec.external_name.lower() if spec.type == "ExternalName" else "",
        session_affinity=spec.session_affinity == "ClientIP",
        publish_not_ready=spec.publish_not_ready_addresses,
        internal_traffic_local=spec.internal_traffic_policy == "Local",
        traffic_distribution=DISTRIBUTIONS.get((spec.traffic_distribution or "").lower())
        or _distribution(annotations)
        or namespace_distribution(home),
        key=resource.key,
        provenance=resource.provenance,
    )


def _kubernetes_port(port: KubernetesPort) -> ServicePort:
    name = port.name
    target = port.target_port
    return ServicePort(
        name=name,
        number=port.port,
        protocol=select_protocol(port.port, name, port.protocol, port.app_protocol or ""),
        target_port=target or None,
        node_port=port.node_port,
    )


def annotated_accounts(service: Service, mesh: MeshFacts) -> set[str]:
    """SPIFFE identities that a Kubernetes Service's annotations add."""
    accounts = set()
    for name in service.annotations.get(KUBERNETES_ACCOUNTS_ANNOTATION, "").split(","):
        if name.strip():
            accounts.add(f"spiffe://{mesh.trust_domain}/ns/{service.namespace}/sa/{name.strip()}")
    for name in service.annotations.get(CANONICAL_ACCOUNTS_ANNOTATION, "").split(","):
        if name.strip():
            accounts.add(name.strip())
    return accounts


def from_service_entry(
    resource: Resource,
    hostname: str,
    mesh: MeshFacts,
    home: Resource | None = None,
) -> Service:
    """The service that a ServiceEntry defines for one of its hosts, with all its addresses, in
    the Namespace ``home``."""
    obj = resource.object
    assert isinstance(obj, ServiceEntry)
    meta, spec = obj.metadata, obj.spec
    addresses = one_form_each(spec.addresses)
    allocated: tuple[str, ...] = ()
    if not addresses:
        given = (e.value for e in obj.status.addresses if e.value and e.host in ("", hostname))
        allocated = one_form_each(given)
    return Service(
        hostname=hostname,
        namespace=resource.key.namespace,
        name=resource.key.name,
        registry=Registry.SERVICE_ENTRY,
        resolution=_RESOLUTIONS[spec.resolution],
        ports=tuple(_entry_port(port) for port in spec.ports),
        addresses=addresses or allocated,
        addresses_auto_allocated=bool(allocated),
        mesh_external=spec.location == "MESH_EXTERNAL",
        export_to=mesh.cap(
            export_to(spec.export_to, resource.key.namespace, mesh.service_export_to),
            resource.key.namespace,
            home.labels if home is not None else {},
        ),
        labels=meta.labels,
        annotations=meta.annotations,
        selector=spec.workload_selector.labels if spec.workload_selector is not None else {},
        service_accounts=tuple(dict.fromkeys(spec.subject_alt_names)),
        creation_timestamp=meta.creation_timestamp or "",
        traffic_distribution=_distribution(meta.annotations) or namespace_distribution(home),
        key=resource.key,
        provenance=resource.provenance,
    )


def one_form(address: str) -> str:
    """The one form of an IP address or CIDR that can be written in several (RFC 5952, RFC 4632).

    A CIDR of one address is that address, and bits behind the prefix are zero: Envoy refuses a
    listener that has one address or range twice, in whatever form.
    """
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return address
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address if single else network)


def one_form_each(addresses: Iterable[str]) -> tuple[str, ...]:
    """Addresses and CIDRs in their one form, each once."""
    return tuple(dict.fromkeys(map(one_form, addresses)))


def _entry_port(port: EntryPort) -> ServicePort:
    protocol = (
        parse_protocol(port.protocol) if port.protocol else select_protocol(port.number, port.name)
    )
    return ServicePort(port.name, port.number, protocol, port.target_port or None)


def define(
    hostname: str,
    sources: Sequence[Resource],
    mesh: MeshFacts,
    home: Resource | None = None,
) -> tuple[Service | None, tuple[Resource, ...], tuple[Finding, ...]]:
    """The service of a host in a namespace, from all objects there that define it, oldest first.

    A Kubernetes Service wins over ServiceEntries, the oldest ServiceEntry over younger ones;
    those that differ only in ports and endpoints are merged. Returns the service, the objects
    that contribute endpoints, and findings about those left out.
    """
    kubernetes = [r for r in sources if not isinstance(r.object, ServiceEntry)]
    if kubernetes:
        winner = kubernetes[0]
        service = from_kubernetes(winner, mesh, home)
        losers = [r for r in sources if r is not winner]
        return service, (winner,), tuple(_host_taken(r, hostname, winner) for r in losers)
    if not sources:
        return None, (), ()
    winner, *others = sources
    service = from_service_entry(winner, hostname, mesh, home)
    used, findings = [winner], []
    ports = list(service.ports)
    addresses = list(service.addresses)
    sans = list(service.service_accounts)
    for other in others:
        candidate = from_service_entry(other, hostname, mesh, home)
        if not _mergeable(service, candidate):
            findings.append(_host_taken(other, hostname, winner))
            continue
        used.append(other)
        numbers = {port.number for port in ports}
        ports += [port for port in candidate.ports if port.number not in numbers]
        if candidate.addresses_auto_allocated == service.addresses_auto_allocated:
            addresses += [a for a in candidate.addresses if a not in addresses]
        sans += [san for san in candidate.service_accounts if san not in sans]
    if len(used) > 1:
        service = replace(
            service,
            ports=tuple(ports),
            addresses=tuple(addresses),
            service_accounts=tuple(sans),
        )
    return service, tuple(used), tuple(findings)


def _mergeable(left: Service, right: Service) -> bool:
    return (
        left.resolution is right.resolution
        and left.mesh_external == right.mesh_external
        and left.export_to == right.export_to
        and left.labels == right.labels
    )


def _host_taken(resource: Resource, hostname: str, winner: Resource) -> Finding:
    return rules.finding(
        rules.HOST_TAKEN,
        resource,
        ("spec", "hosts"),
        f'host "{hostname}" is already defined by {winner.key} ({winner.provenance})',
        "Remove the host from one of them, or give both the same resolution, location, exportTo "
        "and labels so that they are merged.",
    )


_FIELDS = Service.__struct_fields__


def same_service(left: Service, right: Service) -> bool:
    """Whether two services are equal by value."""
    return all(getattr(left, name) == getattr(right, name) for name in _FIELDS)
