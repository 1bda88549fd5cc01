"""Puts one service together: its definition, its endpoints, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from lateen.api.findings import Finding
from lateen.api.resource import ObjectKey, Resource
from lateen.model import endpoints as collect
from lateen.model import rules
from lateen.model.definitions import annotated_accounts, cluster_ips, define
from lateen.model.mesh import MeshFacts
from lateen.model.service import Endpoint, Registry, Resolution, Service
from lateen.model.workloads import Workload


@dataclass(frozen=True, slots=True)
class Built:
    """One service, or None when no object that defines it can be used."""

    service: Service | None
    endpoints: tuple[Endpoint, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Assembly:
    """Builds services from objects and from what is known of workloads around them."""

    mesh: MeshFacts
    owner_of: Callable[[str], Resource | None]
    """Cluster IP to the Service that it belongs to."""
    workload: Callable[[ObjectKey], Workload | None]
    workloads_of: Callable[[ObjectKey], list[Workload]]
    """Service or ServiceEntry to the workloads it selects."""
    slices_of: Callable[[str, str], list[Resource]]
    """Namespace and name of a service to its EndpointSlices or Endpoints."""

    def build(self, host: str, sources: Sequence[Resource], home: Resource | None) -> Built:
        """The service of ``host`` that ``sources``, oldest first, define in one namespace, whose
        Namespace object is ``home``."""
        findings: list[Finding] = []
        usable = []
        for resource in sources:
            problem = self.lost_claim(resource)
            if problem is None:
                usable.append(resource)
            else:
                findings.append(problem)
        service, used, left_out = define(host, usable, self.mesh, home)
        findings += left_out
        if service is None:
            return Built(None, (), tuple(findings))
        service, endpoints, more = self.with_endpoints(service, used)
        return Built(service, endpoints, (*findings, *more))

    def lost_claim(self, resource: Resource) -> Finding | None:
        """The finding about a Service whose cluster IP belongs to an older Service."""
        if resource.key.kind != "Service":
            return None
        for ip in cluster_ips(resource):
            winner = self.owner_of(ip)
            if winner is not None and winner.key != resource.key:
                return rules.finding(
                    rules.CLUSTER_IP_TAKEN,
                    resource,
                    ("spec", "clusterIP"),
                    f"clusterIP {ip} already belongs to {winner.key} ({winner.provenance})",
                    "Remove spec.clusterIP from one of the two.",
                )
        return None

    def with_endpoints(
        self, service: Service, used: tuple[Resource, ...]
    ) -> tuple[Service, tuple[Endpoint, ...], list[Finding]]:
        """The service with the identities behind it, its endpoints, and findings about them."""
        if service.resolution is Resolution.ALIAS:
            return service, (), []
        if service.registry is Registry.KUBERNETES:
            return self.kubernetes_endpoints(service, used[0])
        endpoints: list[Endpoint] = []
        accounts: set[str] = set()
        for resource in used:
            found = collect.from_service_entry(
                service, resource, self.workloads_of(resource.key), self.mesh
            )
            endpoints += found.endpoints
            accounts |= found.accounts
        if service.resolution is Resolution.DNS_ROUND_ROBIN:
            first: dict[str, Endpoint] = {}
            for endpoint in endpoints:
                first.setdefault(endpoint.service_port, endpoint)
            endpoints = list(first.values())
        sans = (*service.service_accounts, *sorted(accounts - {*service.service_accounts}))
        return replace(service, service_accounts=sans), tuple(endpoints), []

    def kubernetes_endpoints(
        self, service: Service, resource: Resource
    ) -> tuple[Service, tuple[Endpoint, ...], list[Finding]]:
        findings: list[Finding] = []
        members = self.workloads_of(resource.key)
        listing = self.slices_of(service.namespace, service.name)
        if listing:
            found = collect.from_slices(service, listing, self.workload)
            entries = [w for w in members if w.key.kind == "WorkloadEntry"]
            extra = collect.from_workloads(service, entries)
            found.endpoints += extra.endpoints
            found.accounts |= extra.accounts
        else:
            found = collect.from_workloads(service, members)
            if service.selector and not members:
                findings.append(_selects_nothing(resource, service))
        for name in dict.fromkeys(name for name, _ in found.missing_ports):
            pod = next(key for port, key in found.missing_ports if port == name)
            findings.append(_missing_port(resource, service, name, pod))
        accounts = found.accounts | annotated_accounts(service, self.mesh)
        return (
            replace(service, service_accounts=tuple(sorted(accounts))),
            tuple(found.endpoints),
            findings,
        )


def _selects_nothing(resource: Resource, service: Service) -> Finding:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(service.selector.items()))
    return rules.finding(
        rules.SELECTS_NOTHING,
        resource,
        ("spec", "selector"),
        f"no Pod or WorkloadEntry in namespace {service.namespace} has the labels {labels}",
        "Compare spec.selector with the labels of the pods (template.metadata.labels).",
    )


def _missing_port(resource: Resource, service: Service, name: str, pod: ObjectKey) -> Finding:
    port = service.port_named(name) or service.port(int(name) if name.isdigit() else 0)
    target = port.target_port if port is not None else ""
    return rules.finding(
        rules.NO_SUCH_CONTAINER_PORT,
        resource,
        ("spec", "ports"),
        f'port {name} asks for a container port named "{target}", which {pod} does not have',
        "Name the container port so, or give targetPort as a number.",
    )
