"""Service, Endpoints, EndpointSlice."""

from __future__ import annotations

import ipaddress

from lateen.api.core.rules import BAD_ADDRESS, BAD_PORT, BAD_SERVICE
from lateen.api.core.service import Endpoints, EndpointSlice, Service, ServicePort
from lateen.api.findings import FieldPath
from lateen.api.metadata import DNS_LABEL, DNS_SUBDOMAIN
from lateen.api.report import Report


def validate_service(obj: Service, report: Report) -> None:
    """Ports, addresses and type fit together."""
    spec = obj.spec
    if spec.type == "ExternalName":
        if not spec.external_name:
            report.error(BAD_SERVICE, ("spec", "externalName"), "needed for type ExternalName")
        elif not DNS_SUBDOMAIN.fullmatch(spec.external_name.rstrip(".")):
            report.error(BAD_SERVICE, ("spec", "externalName"), "must be a lower-case DNS name")
        if spec.cluster_ip not in ("", "None"):
            report.error(BAD_SERVICE, ("spec", "clusterIP"), "not used by type ExternalName")
    elif spec.cluster_ip != "None" and not spec.ports:
        report.error(BAD_PORT, ("spec", "ports"), "Required value", "Give at least one port.")
    if spec.cluster_ip == "None" and spec.type in ("NodePort", "LoadBalancer"):
        message = f"a service of type {spec.type} cannot be headless"
        report.error(BAD_SERVICE, ("spec", "clusterIP"), message)
    for index, address in enumerate((spec.cluster_ip, *spec.cluster_ips, *spec.external_ips)):
        if address not in ("", "None") and not is_ip(address):
            field = "clusterIP" if index == 0 else "clusterIPs"
            if index > len(spec.cluster_ips):
                field = "externalIPs"
            report.error(BAD_ADDRESS, ("spec", field), f'"{address}" is not an IP address')
    _ports(spec.ports, report)


def _ports(ports: list[ServicePort], report: Report) -> None:
    names: set[str] = set()
    numbers: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        path: FieldPath = ("spec", "ports", index)
        if not port.name and len(ports) > 1:
            report.error(BAD_PORT, (*path, "name"), "a service with several ports must name each")
        elif port.name and not DNS_LABEL.fullmatch(port.name):
            report.error(BAD_PORT, (*path, "name"), f'"{port.name}" is not a DNS label')
        if port.name and port.name in names:
            report.error(BAD_PORT, (*path, "name"), f'the name "{port.name}" is used twice')
        names.add(port.name)
        if (port.port, port.protocol) in numbers:
            report.error(
                BAD_PORT, (*path, "port"), f"port {port.port}/{port.protocol} is given twice"
            )
        numbers.add((port.port, port.protocol))
        target = port.target_port
        if isinstance(target, int) and not 1 <= target <= 65535:
            report.error(BAD_PORT, (*path, "targetPort"), f"{target} is not in 1..65535")
        if isinstance(target, str) and target and not _is_port_name(target):
            hint = "A number is written without quotes." if target.isdigit() else ""
            report.error(
                BAD_PORT, (*path, "targetPort"), f'"{target}" is not the name of a port', hint
            )


def _is_port_name(name: str) -> bool:
    return (
        len(name) <= 15 and DNS_LABEL.fullmatch(name) is not None and any(c.isalpha() for c in name)
    )


def validate_endpoints(obj: Endpoints, report: Report) -> None:
    """Addresses are addresses, ports are ports."""
    for index, subset in enumerate(obj.subsets):
        for name, addresses in (
            ("addresses", subset.addresses),
            ("notReadyAddresses", subset.not_ready_addresses),
        ):
            for number, address in enumerate(addresses):
                if not is_ip(address.ip):
                    path: FieldPath = ("subsets", index, name, number, "ip")
                    report.error(BAD_ADDRESS, path, f'"{address.ip}" is not an IP address')
        for number, port in enumerate(subset.ports):
            if port.port is None or not 1 <= port.port <= 65535:
                report.error(
                    BAD_PORT, ("subsets", index, "ports", number, "port"), "must be in 1..65535"
                )


def validate_endpoint_slice(obj: EndpointSlice, report: Report) -> None:
    """Addresses are of the slice's family."""
    versions = {"IPv4": 4, "IPv6": 6}
    wanted = versions.get(obj.address_type)
    for index, endpoint in enumerate(obj.endpoints):
        for number, address in enumerate(endpoint.addresses):
            path: FieldPath = ("endpoints", index, "addresses", number)
            if wanted is None:
                if not DNS_SUBDOMAIN.fullmatch(address):
                    report.error(BAD_ADDRESS, path, f'"{address}" is not a DNS name')
            elif not is_ip(address) or ipaddress.ip_address(address).version != wanted:
                report.error(BAD_ADDRESS, path, f'"{address}" is not an {obj.address_type} address')
    for index, port in enumerate(obj.ports):
        if port.port is not None and not 1 <= port.port <= 65535:
            report.error(BAD_PORT, ("ports", index, "port"), "must be in 1..65535")


def is_ip(text: str) -> bool:
    """Whether ``text`` is an IPv4 or IPv6 address without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
