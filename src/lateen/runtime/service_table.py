"""Services as the kernel table of the node: for pods without a sidecar and for published ports."""

from __future__ import annotations

from collections.abc import Iterable

from lateen.runtime.node.services import ServicePort, ServiceTable, service_table
from lateen.runtime.raw import (
    Raw,
    finished,
    is_ready,
    labels_of,
    name_of,
    namespace_of,
    selects,
    spec_of,
    status_of,
)


def build(services: Iterable[Raw], pods: Iterable[Raw], slices: Iterable[Raw]) -> ServiceTable:
    """The table of all Services that have an address."""
    return service_table(service_ports(services, pods, slices))


def service_ports(
    services: Iterable[Raw], pods: Iterable[Raw], slices: Iterable[Raw]
) -> list[ServicePort]:
    """Each port of each Service that has an address, with its endpoints.

    A Service that has EndpointSlices gets its endpoints from them alone.
    """
    by_namespace: dict[str, list[Raw]] = {}
    for pod in pods:
        if status_of(pod).get("podIP") and not finished(pod):
            by_namespace.setdefault(namespace_of(pod), []).append(pod)
    sliced: dict[tuple[str, str], list[Raw]] = {}
    for item in slices:
        owner = labels_of(item).get("kubernetes.io/service-name", "")
        sliced.setdefault((namespace_of(item), owner), []).append(item)
    ports: list[ServicePort] = []
    for service in services:
        spec = spec_of(service)
        address = spec.get("clusterIP")
        if not address or address == "None" or ":" in address:
            continue
        candidates = by_namespace.get(namespace_of(service), [])
        own_slices = sliced.get((namespace_of(service), name_of(service)), [])
        affinity = spec.get("sessionAffinity") == "ClientIP"
        for port in spec.get("ports") or []:
            protocol = str(port.get("protocol") or "TCP").lower()
            if protocol not in ("tcp", "udp"):
                continue
            endpoints = (
                _from_slices(own_slices, port)
                if own_slices
                else _from_pods(service, port, candidates)
            )
            ports.append(
                ServicePort(
                    address,
                    int(port["port"]),
                    protocol,
                    tuple(endpoints),
                    affinity,
                    int(port.get("nodePort") or 0),
                )
            )
    return ports


def target_port(port: Raw, pod: Raw) -> int:
    """The port number in a pod that a service port leads to; 0 when a name is not found."""
    target = port.get("targetPort")
    if target is None or target == 0:
        return int(port["port"])
    if isinstance(target, int):
        return target
    for container in spec_of(pod).get("containers") or []:
        for declared in container.get("ports") or []:
            same = declared.get("protocol", "TCP") == port.get("protocol", "TCP")
            if declared.get("name") == target and same:
                return int(declared["containerPort"])
    return int(target) if str(target).isdigit() else 0


def _from_pods(service: Raw, port: Raw, pods: Iterable[Raw]) -> list[tuple[str, int]]:
    spec = spec_of(service)
    selector = spec.get("selector") or {}
    unready = bool(spec.get("publishNotReadyAddresses"))
    found = []
    for pod in pods:
        if selects(selector, labels_of(pod)) and (unready or is_ready(pod)):
            number = target_port(port, pod)
            if number:
                found.append((str(status_of(pod)["podIP"]), number))
    return sorted(found)


def _from_slices(slices: Iterable[Raw], port: Raw) -> list[tuple[str, int]]:
    found = []
    for item in slices:
        number = next(
            (
                p.get("port")
                for p in item.get("ports") or []
                if (p.get("name") or "") == (port.get("name") or "")
                and (p.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
            ),
            None,
        )
        if number is None or item.get("addressType") not in (None, "IPv4"):
            continue
        for endpoint in item.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                found += [(address, int(number)) for address in endpoint.get("addresses") or []]
    return sorted(found)
