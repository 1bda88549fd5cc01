"""The scope of a proxy: all that translation reads of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lateen.api.findings import Finding
from lateen.api.resource import ObjectKey, Resource
from lateen.model import kinds, rules
from lateen.model.endpoints import target_port
from lateen.model.instances import own_addresses
from lateen.model.names import is_ip
from lateen.model.nodes import node_of
from lateen.model.proxies import proxy_of
from lateen.model.proxy import InboundPort, Proxy, ProxyType, Scope
from lateen.model.proxy_settings import own_topology
from lateen.model.registry import service_order
from lateen.model.selection import tested_labels
from lateen.model.service import Protocol, Registry, Resolution, Service, ServicePort
from lateen.model.snapshot import Snapshot
from lateen.model.workloads import Workload

NO_PORT_TRANSLATION_LABEL = "experimental.istio.io/disable-gateway-port-translation"


def scope_of(snapshot: Snapshot, proxy: Proxy) -> Scope:
    """The scope of ``proxy``. Proxies with equal scopes get equal configuration."""
    router = proxy.type is not ProxyType.SIDECAR
    tested = tested_labels(snapshot).for_proxy(
        proxy.namespace, snapshot.root_namespace, router=router
    )
    labels = tuple(sorted((name, value) for name, value in proxy.labels.items() if name in tested))
    return Scope(
        type=proxy.type,
        namespace=proxy.namespace,
        labels=labels,
        locality=proxy.locality,
        network=proxy.network,
        cluster=proxy.identity.cluster,
        inbound=gateway_ports(snapshot, proxy) if router else inbound_ports(snapshot, proxy),
        interception=str(proxy.metadata.get("INTERCEPTION_MODE") or "REDIRECT"),
        dns_capture=str(proxy.metadata.get("DNS_CAPTURE", "")).lower() == "true",
        ipv6=_is_ipv6(proxy.addresses),
        addresses=() if router else own_addresses(snapshot, proxy),
        topology=own_topology(snapshot, proxy) if router else None,
        node=node_of(snapshot, proxy),
    )


def scope_of_pod(snapshot: Snapshot, pod: Resource) -> Scope:
    """The scope of the proxy in a Pod."""
    return scope_of(snapshot, proxy_of(snapshot, pod))


def _is_ipv6(addresses: Iterable[str]) -> bool:
    """Whether the proxy has no IPv4 address."""
    known = [address for address in addresses if is_ip(address)]
    return bool(known) and all(":" in address for address in known)


def inbound_ports(snapshot: Snapshot, proxy: Proxy) -> tuple[InboundPort, ...]:
    """Ports on which a workload gets traffic of services, by port; the oldest service wins."""
    return tuple(
        replace(taken.port, other_hostnames=taken.others) if taken.others else taken.port
        for taken in _inbound(snapshot, proxy).values()
    )


def gateway_ports(snapshot: Snapshot, proxy: Proxy) -> tuple[InboundPort, ...]:
    """Ports of the services in front of a gateway: how a Gateway's port number (that of the
    service) becomes the port that the proxy listens on. One per service port, oldest first."""
    ports: dict[int, InboundPort] = {}
    for service, port in _service_ports(snapshot, proxy):
        if service.labels.get(NO_PORT_TRANSLATION_LABEL) != "true":
            ports.setdefault(port.service_port, port)
    return tuple(ports[number] for number in sorted(ports))


@dataclass(slots=True)
class _Taken:
    port: InboundPort
    service: Service
    others: tuple[str, ...] = ()
    """Host names of the services that share the port."""
    losers: tuple[tuple[Service, InboundPort], ...] = ()
    """Those of them that say another protocol."""


def _inbound(snapshot: Snapshot, proxy: Proxy) -> Mapping[int, _Taken]:
    taken: dict[int, _Taken] = {}
    for service, port in _service_ports(snapshot, proxy):
        first = taken.get(port.target_port)
        if first is None:
            taken[port.target_port] = _Taken(port, service)
            continue
        if service.hostname not in (first.service.hostname, *first.others):
            first.others += (service.hostname,)
        if first.port.protocol != port.protocol:
            first.losers += ((service, port),)
    return dict(sorted(taken.items()))


def _service_ports(snapshot: Snapshot, proxy: Proxy) -> Iterable[tuple[Service, InboundPort]]:
    """Every port of every service that sends to the proxy's workload, oldest service first."""
    pod = ObjectKey(*kinds.POD, proxy.namespace, proxy.name)
    found = list(_selecting_ports(snapshot, proxy, pod))
    listing = snapshot.services.listing(pod, proxy.addresses)
    if listing:
        selected = any(service.registry is Registry.KUBERNETES for service, _, _ in found)
        found += _listing_ports(snapshot, proxy, listing, selected=selected)
        found.sort(key=lambda entry: service_order(entry[0]))
    for service, port, number in found:
        if port.protocol is not Protocol.UDP and number:
            yield (
                service,
                InboundPort(
                    hostname=service.hostname,
                    service_port=port.number,
                    service_port_name=port.name,
                    target_port=number,
                    protocol=port.protocol.value,
                ),
            )


_TargetedPort = tuple[Service, ServicePort, int | None]
"""A service, one of its ports, and the port of the workload behind that."""


def _selecting_ports(snapshot: Snapshot, proxy: Proxy, pod: ObjectKey) -> Iterable[_TargetedPort]:
    """The ports of services whose selector picks the proxy's workload, which may be ``pod``."""
    registry = snapshot.services
    workload = registry.workload(pod)
    if workload is None:
        entry = ObjectKey(*kinds.WORKLOAD_ENTRY, proxy.namespace, proxy.name)
        workload = registry.workload(entry)
    if workload is not None:
        services = registry.services_of(workload.key)
    else:
        services = registry.selecting(proxy.namespace, proxy.labels)
        address = proxy.addresses[0] if proxy.addresses else ""
        workload = Workload(pod, address, proxy.labels, proxy.identity)
    for service in services:
        if service.resolution is not Resolution.ALIAS:
            for port in service.ports:
                yield service, port, target_port(port, workload)


def _listing_ports(
    snapshot: Snapshot,
    proxy: Proxy,
    listing: Iterable[tuple[Service, ObjectKey]],
    *,
    selected: bool,
) -> Iterable[_TargetedPort]:
    """The ports of services in ``listing`` that have an endpoint with an address of the proxy.

    As in Istio (``GetProxyServiceTargets`` of its registries), EndpointSlices count for workloads
    only that no Kubernetes Service selects.
    """
    for service, source in listing:
        if selected and source.kind in ("EndpointSlice", "Endpoints"):
            continue
        for endpoint in snapshot.services.endpoints(service):
            port = service.port_named(endpoint.service_port)
            if port is not None and endpoint.address in proxy.addresses:
                yield service, port, endpoint.port


def inbound_findings(snapshot: Snapshot, proxy: Proxy) -> tuple[Finding, ...]:
    """Services that differ from an older one on what a port of the workload speaks."""
    findings = []
    for number, taken in _inbound(snapshot, proxy).items():
        for service, port in taken.losers:
            resource = snapshot.get(service.key) if service.key is not None else None
            if resource is not None:
                findings.append(
                    rules.finding(
                        rules.INBOUND_PORT_TAKEN,
                        resource,
                        ("spec", "ports"),
                        f"port {port.service_port} is {port.protocol}, but {taken.service.key} "
                        f"is older and says {taken.port.protocol} for workload port {number}",
                        "Give both services the same protocol for this port.",
                    )
                )
    return tuple(findings)
