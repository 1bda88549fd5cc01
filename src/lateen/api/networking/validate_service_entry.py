"""ServiceEntry."""

from __future__ import annotations

from lateen.api.findings import FieldPath
from lateen.api.networking.checks import check_export_to, check_selector
from lateen.api.networking.names import (
    HTTP_PROTOCOLS,
    PROTOCOLS,
    TCP_PROTOCOLS,
    TLS_PROTOCOLS,
    fqdn_problem,
    is_ip,
    is_label,
    partial_wildcard_problem,
    port_problem,
    subnet_problem,
    wildcard_problem,
)
from lateen.api.networking.rules import ENDPOINT, HOST, ONE_OF, PORT, RISKY
from lateen.api.networking.service_entry import ServiceEntry, ServiceEntrySpec
from lateen.api.networking.validate_workload import check_endpoint, check_endpoint_ports
from lateen.api.report import Report

_AUTO_ALLOCATE = "networking.istio.io/enable-autoallocate-ip"
_USE_WAYPOINT = "istio.io/use-waypoint"
_DYNAMIC_PROTOCOLS = HTTP_PROTOCOLS | TLS_PROTOCOLS


def validate_service_entry(obj: ServiceEntry, report: Report) -> None:
    """Hosts, addresses, ports and endpoints fit the resolution."""
    spec = obj.spec
    selector = spec.workload_selector
    labels = None if selector is None else selector.labels
    check_selector(labels, ("spec", "workloadSelector", "labels"), "service entry", report)
    if selector is not None and spec.endpoints:
        message = "only one of WorkloadSelector or Endpoints is allowed in Service Entry"
        report.error(ONE_OF, ("spec", "endpoints"), message)
    _hosts(spec, report)
    _addresses(spec, report)
    allocated = (
        not spec.addresses
        and spec.resolution != "NONE"
        and obj.metadata.labels.get(_AUTO_ALLOCATE, "").lower() != "false"
    )
    names = _ports(spec, allocated, report)
    _endpoints(spec, names, report)
    if selector is not None and spec.resolution != "STATIC":
        message = f"workloadSelector should not be set when resolution mode is {spec.resolution}"
        report.warn(RISKY, ("spec", "workloadSelector"), message, "Use resolution STATIC.")
    if spec.resolution == "DYNAMIC_DNS":
        _dynamic(spec, report)
        waypoint = obj.metadata.labels.get(_USE_WAYPOINT, "")
        if spec.location == "MESH_INTERNAL" and waypoint not in ("", "none"):
            message = "DYNAMIC_DNS mode of a host inside the mesh cannot use a waypoint"
            hint = f"Set location MESH_EXTERNAL or remove the label {_USE_WAYPOINT}."
            report.error(ENDPOINT, ("spec", "location"), message, hint)
    _several_hosts(spec, report)
    check_export_to(spec.export_to, obj.metadata.namespace, report, allow_none=True)


def _hosts(spec: ServiceEntrySpec, report: Report) -> None:
    for index, host in enumerate(spec.hosts):
        path: FieldPath = ("spec", "hosts", index)
        problem = f"invalid host {host}" if host == "*" else wildcard_problem(host)
        if problem:
            report.error(HOST, path, problem)
        elif partial_wildcard_problem(host):
            report.warn(RISKY, path, partial_wildcard_problem(host))


def _addresses(spec: ServiceEntrySpec, report: Report) -> None:
    for index, address in enumerate(spec.addresses):
        problem = subnet_problem(address)
        if problem:
            report.error(ENDPOINT, ("spec", "addresses", index), problem)
    ranges = any("/" in address for address in spec.addresses)
    if ranges and spec.resolution not in ("NONE", "STATIC"):
        message = "CIDR addresses are allowed only for NONE/STATIC resolution types"
        report.error(ENDPOINT, ("spec", "addresses"), message)


def _ports(spec: ServiceEntrySpec, allocated: bool, report: Report) -> set[str]:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(spec.ports):
        path: FieldPath = ("spec", "ports", index)
        if port.name in names:
            message = f'Duplicate value: service entry port name "{port.name}" already defined'
            report.error(PORT, (*path, "name"), message)
        if port.number in numbers:
            message = f"service entry port {port.number} already defined: "
            message += "port number cannot be duplicated"
            report.error(PORT, (*path, "number"), message)
        names.add(port.name)
        numbers.add(port.number)
        if port.target_port:
            problem = port_problem(port.target_port)
            if problem:
                report.error(PORT, (*path, "targetPort"), problem)
        if not spec.addresses and not allocated and port.protocol in ("", "TCP"):
            report.warn(
                RISKY,
                (*path, "protocol"),
                "addresses are required for ports serving TCP (or unset) protocol "
                "unless addresses are allocated automatically",
                "Without an address all TCP traffic to this port number matches.",
            )
        if not is_label(port.name):
            report.error(PORT, (*path, "name"), f"invalid port name: {port.name}")
        if port.protocol and port.protocol.lower() not in PROTOCOLS:
            report.error(PORT, (*path, "protocol"), f"unsupported protocol: {port.protocol}")
        problem = port_problem(port.number)
        if problem:
            report.error(PORT, (*path, "number"), f"port must be between 1-65535: {problem}")
    return names


def _endpoints(spec: ServiceEntrySpec, names: set[str], report: Report) -> None:
    path: FieldPath = ("spec", "endpoints")
    if spec.resolution == "NONE":
        if spec.endpoints:
            message = "no endpoints should be provided for resolution type none: "
            report.error(ENDPOINT, path, message + "NONE mode cannot set endpoints")
    elif spec.resolution == "STATIC":
        for index, endpoint in enumerate(spec.endpoints):
            check_endpoint(endpoint, (*path, index), names, False, report)
    elif spec.resolution in ("DNS", "DNS_ROUND_ROBIN"):
        _dns_endpoints(spec, names, report)


def _dns_endpoints(spec: ServiceEntrySpec, names: set[str], report: Report) -> None:
    path: FieldPath = ("spec", "endpoints")
    if not spec.endpoints:
        for index, host in enumerate(spec.hosts):
            if fqdn_problem(host):
                message = "hosts must be FQDN if no endpoints are provided for resolution mode "
                report.error(HOST, ("spec", "hosts", index), message + spec.resolution)
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        report.error(ENDPOINT, path, "DNS_ROUND_ROBIN mode cannot have multiple endpoints")
    for index, endpoint in enumerate(spec.endpoints):
        here: FieldPath = (*path, index)
        if not is_ip(endpoint.address) and fqdn_problem(endpoint.address):
            message = f'endpoint address "{endpoint.address}" is not a valid FQDN or an IP address'
            report.error(ENDPOINT, (*here, "address"), message)
        check_endpoint_ports(endpoint, here, names, report)
    plain = any(port.protocol.lower() in TCP_PROTOCOLS for port in spec.ports)
    if spec.addresses and plain and len(spec.hosts) > 1:
        report.warn(
            RISKY,
            ("spec", "hosts"),
            "service entry can not have more than one host specified "
            "simultaneously with address and tcp port",
        )


def _dynamic(spec: ServiceEntrySpec, report: Report) -> None:
    for index, host in enumerate(spec.hosts):
        if not host.startswith("*."):
            message = "DYNAMIC_DNS resolution needs wildcard hosts"
            hint = "Use resolution DNS for a single name."
            report.error(HOST, ("spec", "hosts", index), message, hint)
    if spec.addresses:
        report.error(ENDPOINT, ("spec", "addresses"), "DYNAMIC_DNS mode cannot set addresses")
    if spec.endpoints:
        report.error(ENDPOINT, ("spec", "endpoints"), "DYNAMIC_DNS mode cannot set endpoints")
    for index, port in enumerate(spec.ports):
        if port.protocol.lower() not in _DYNAMIC_PROTOCOLS:
            message = "DYNAMIC_DNS mode supports HTTP and TLS protocols only: the name must be seen"
            report.error(PORT, ("spec", "ports", index, "protocol"), message)


def _several_hosts(spec: ServiceEntrySpec, report: Report) -> None:
    if spec.resolution == "NONE" or len(spec.hosts) < 2:
        return
    for index, port in enumerate(spec.ports):
        if port.protocol.lower() not in HTTP_PROTOCOLS | TLS_PROTOCOLS:
            message = "multiple hosts provided with non-HTTP, non-TLS ports"
            hint = "Plain TCP carries no name: give each host its own ServiceEntry."
            report.error(PORT, ("spec", "ports", index, "protocol"), message, hint)
            return
