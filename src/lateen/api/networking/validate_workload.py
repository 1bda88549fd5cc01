"""WorkloadEntry, WorkloadGroup, ProxyConfig."""

from __future__ import annotations

import re

from lateen.api.findings import FieldPath
from lateen.api.networking.checks import check_one_of, check_selector
from lateen.api.networking.names import (
    fqdn_problem,
    is_ip,
    is_label,
    labels_problem,
    port_problem,
    unix_address_problem,
)
from lateen.api.networking.proxy_config import ProxyConfig
from lateen.api.networking.rules import ENDPOINT, PROBE, RISKY, SELECTOR
from lateen.api.networking.workload_entry import WorkloadEntry, WorkloadEntrySpec
from lateen.api.networking.workload_group import ReadinessProbe, WorkloadGroup
from lateen.api.report import Report

UNIX = "unix://"
_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+")  # as in probes of Kubernetes


def validate_workload_entry(obj: WorkloadEntry, report: Report) -> None:
    """Address, ports and labels."""
    check_endpoint(obj.spec, ("spec",), None, True, report)


def check_endpoint(
    entry: WorkloadEntrySpec,
    path: FieldPath,
    service_ports: set[str] | None,
    allow_names: bool,
    report: Report,
) -> None:
    """An endpoint; ``service_ports`` are the names its ports may have, if known."""
    address = entry.address
    if not address:
        if not entry.network:
            report.error(ENDPOINT, (*path, "address"), "address is required")
            return
        report.warn(RISKY, path, f'address is unset with network "{entry.network}"')
    if address.startswith(UNIX):
        _check_socket(entry, path, report)
        if service_ports is not None and len(service_ports) != 1:
            message = "exactly 1 service port required for unix endpoints"
            report.error(ENDPOINT, (*path, "address"), message)
    elif address and not is_ip(address):
        if not allow_names:
            message = f'endpoint address "{address}" is not a valid IP address'
            hint = "Use resolution DNS for names."
            report.error(ENDPOINT, (*path, "address"), message, hint)
        elif fqdn_problem(address):
            message = f'endpoint address "{address}" is not a valid FQDN or an IP address'
            report.error(ENDPOINT, (*path, "address"), message)
    check_endpoint_ports(entry, path, service_ports, report)


def _check_socket(entry: WorkloadEntrySpec, path: FieldPath, report: Report) -> None:
    name = entry.address.removeprefix(UNIX)
    problem = unix_address_problem(name)
    if name.endswith("/"):
        problem = f"{entry.address}: UDS may not be a dir"
    if problem:
        report.error(ENDPOINT, (*path, "address"), problem)
    if entry.ports:
        message = f"unix endpoint {entry.address} must not include ports"
        report.error(ENDPOINT, (*path, "ports"), message)


def check_endpoint_ports(
    entry: WorkloadEntrySpec, path: FieldPath, service_ports: set[str] | None, report: Report
) -> None:
    """Port names are those of the service, numbers are ports, labels are labels."""
    for name, number in entry.ports.items():
        here: FieldPath = (*path, "ports", name)
        if service_ports is not None and name not in service_ports:
            message = f'endpoint port "{name}" is not defined by the service entry'
            hint = f"Its ports are {', '.join(sorted(service_ports)) or 'none'}."
            report.error(ENDPOINT, here, message, hint)
        if not is_label(name):
            report.error(ENDPOINT, here, f"invalid port name: {name}")
        problem = port_problem(number)
        if problem:
            report.error(ENDPOINT, here, f"port must be between 1-65535: {problem}")
    problem = labels_problem(entry.labels)
    if problem:
        report.error(ENDPOINT, (*path, "labels"), problem)


def validate_workload_group(obj: WorkloadGroup, report: Report) -> None:
    """Labels and probe; the template's address is filled in later."""
    spec = obj.spec
    if spec.metadata is not None:
        problem = labels_problem(spec.metadata.labels)
        if problem:
            report.error(SELECTOR, ("spec", "metadata", "labels"), problem)
    if spec.template.address.startswith(UNIX):
        _check_socket(spec.template, ("spec", "template"), report)
    check_endpoint_ports(spec.template, ("spec", "template"), None, report)
    if spec.probe is not None:
        _probe(spec.probe, ("spec", "probe"), report)


def _probe(probe: ReadinessProbe, path: FieldPath, report: Report) -> None:
    for name, value in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if value < 0:
            report.error(PROBE, (*path, name), f"{name} must be non-negative")
    methods = {
        "httpGet": probe.http_get is not None,
        "tcpSocket": probe.tcp_socket is not None,
        "exec": probe.exec is not None,
        "grpc": probe.grpc is not None,
    }
    if check_one_of(methods, path, report) == 0:
        report.error(PROBE, path, f"unknown health check method: set one of {', '.join(methods)}")
    ports = {
        "httpGet": probe.http_get.port if probe.http_get else None,
        "tcpSocket": probe.tcp_socket.port if probe.tcp_socket else None,
        "grpc": probe.grpc.port if probe.grpc else None,
    }
    for name, number in ports.items():
        problem = "" if number is None else port_problem(number)
        if problem:
            report.error(PROBE, (*path, name, "port"), problem)
    if probe.http_get is not None:
        if probe.http_get.scheme not in ("", "HTTP", "HTTPS"):
            message = 'httpGet.scheme must be one of "HTTPS", "HTTP"'
            report.error(PROBE, (*path, "httpGet", "scheme"), message)
        for index, header in enumerate(probe.http_get.http_headers):
            if not _HEADER_NAME.fullmatch(header.name):
                message = f'header name "{header.name}" is not a valid header name'
                report.error(PROBE, (*path, "httpGet", "httpHeaders", index, "name"), message)
    if probe.exec is not None and not probe.exec.command:
        report.error(PROBE, (*path, "exec", "command"), "exec.command is required")


def validate_proxy_config(obj: ProxyConfig, report: Report) -> None:
    """The selector; numbers are checked by type."""
    selector = obj.spec.selector
    labels = None if selector is None else selector.match_labels
    check_selector(labels, ("spec", "selector", "matchLabels"), "proxy config", report)
