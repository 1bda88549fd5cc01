"""VirtualService."""

from __future__ import annotations

from lateen.api.findings import FieldPath
from lateen.api.networking.checks import check_export_to
from lateen.api.networking.names import (
    gateway_bound_problem,
    host_matches,
    host_subset,
    is_ip,
    subnet_problem,
    wildcard_problem,
)
from lateen.api.networking.rules import GATEWAY_NAME, HOST, MATCH, RISKY, ROUTE
from lateen.api.networking.validate_headers import is_claim
from lateen.api.networking.validate_http_route import (
    check_destinations,
    check_gateway_names,
    check_http_route,
    check_match_source,
)
from lateen.api.networking.validate_unreachable import check_unreachable
from lateen.api.networking.virtual_service import (
    TLSMatchAttributes,
    VirtualService,
    VirtualServiceSpec,
)
from lateen.api.report import Report

MESH = "mesh"
_SEMANTICS = "internal.istio.io/route-semantics"


def validate_virtual_service(obj: VirtualService, report: Report) -> None:
    """Hosts, gateways and every route."""
    spec = obj.spec
    generated = obj.metadata.annotations.get(_SEMANTICS) == "gateway"
    is_delegate = not spec.hosts
    if is_delegate:
        _delegate(spec, report)
    for_gateway = bool(spec.gateways) and MESH not in spec.gateways
    check_gateway_names(spec.gateways, ("spec", "gateways"), generated, report)
    if not for_gateway:
        _claims(spec, report)
    _hosts(spec, for_gateway, report)
    if not (spec.http or spec.tcp or spec.tls):
        report.error(ROUTE, ("spec",), "http, tcp or tls must be provided in virtual service")
    for index, http in enumerate(spec.http):
        check_http_route(http, ("spec", "http", index), is_delegate, generated, report)
    _tls(spec, generated, report)
    _tcp(spec, generated, report)
    check_export_to(spec.export_to, obj.metadata.namespace, report)
    check_unreachable("http", spec.http, report)
    check_unreachable("tcp", spec.tcp, report)
    check_unreachable("tls", spec.tls, report)


def _delegate(spec: VirtualServiceSpec, report: Report) -> None:
    hint = "A VirtualService without hosts is a delegate; add hosts if it is none."
    if spec.gateways:
        message = "delegate virtual service must have no gateways specified"
        report.error(GATEWAY_NAME, ("spec", "gateways"), message, hint)
    for name, routes in (("tls", spec.tls), ("tcp", spec.tcp)):
        if routes:
            message = f"delegate virtual service must have no {name} route specified"
            report.error(ROUTE, ("spec", name), message, hint)


def _claims(spec: VirtualServiceSpec, report: Report) -> None:
    for index, http in enumerate(spec.http):
        for number, match in enumerate(http.match):
            for field, names in (
                ("headers", match.headers),
                ("withoutHeaders", match.without_headers),
            ):
                for name in names:
                    if is_claim(name):
                        report.error(
                            MATCH,
                            ("spec", "http", index, "match", number, field, name),
                            f"JWT claim based routing (key: {name}) is only supported for gateway, "
                            "found no gateways",
                            "Bind the VirtualService to a gateway.",
                        )


def _hosts(spec: VirtualServiceSpec, for_gateway: bool, report: Report) -> None:
    by_sni = any(match.sni_hosts for route in spec.tls for match in route.match)
    good = True
    for index, host in enumerate(spec.hosts):
        path: FieldPath = ("spec", "hosts", index)
        problem = gateway_bound_problem(host, by_sni) if for_gateway else wildcard_problem(host)
        if problem and not is_ip(host):
            report.error(HOST, path, problem)
            good = False
        elif not problem and host == "*" and not for_gateway:
            message = (
                "wildcard host * is not allowed for virtual services bound to the mesh gateway"
            )
            report.error(HOST, path, message, "Name the hosts, or bind it to a gateway.")
            good = False
    if not good:
        return
    for index, host in enumerate(spec.hosts):
        for number in range(index + 1, len(spec.hosts)):
            if host_matches(host, spec.hosts[number]):
                message = f"duplicate hosts in virtual service: {host} & {spec.hosts[number]}"
                report.error(HOST, ("spec", "hosts", number), message)


def _tls(spec: VirtualServiceSpec, generated: bool, report: Report) -> None:
    for index, route in enumerate(spec.tls):
        path: FieldPath = ("spec", "tls", index)
        if not route.match:
            message = "TLS route must have at least one match condition"
            report.error(MATCH, (*path, "match"), message)
        for number, match in enumerate(route.match):
            _tls_match(match, spec, (*path, "match", number), report)
        if not route.route:
            report.error(ROUTE, (*path, "route"), "TLS route is required")
        check_destinations(route.route, (*path, "route"), generated, report)


def _tls_match(
    match: TLSMatchAttributes, spec: VirtualServiceSpec, path: FieldPath, report: Report
) -> None:
    if not match.sni_hosts:
        report.error(MATCH, (*path, "sniHosts"), "TLS match must have at least one SNI host")
    for index, name in enumerate(match.sni_hosts):
        here: FieldPath = (*path, "sniHosts", index)
        in_mesh = MESH in spec.gateways
        problem = wildcard_problem(name) if in_mesh else gateway_bound_problem(name, True)
        if problem and is_ip(name):
            message = f'using an IP address ("{name}") goes against SNI spec'
            report.warn(RISKY, here, f"{message} and most clients do not support this")
        elif problem:
            report.error(HOST, here, problem)
        elif not any(host_subset(name, host) for host in spec.hosts):
            hosts = ", ".join(spec.hosts)
            message = f'SNI host "{name}" is not a compatible subset of any of the hosts: [{hosts}]'
            report.error(HOST, here, message)
    _subnets(match.destination_subnets, path, report)
    check_match_source(
        match.port, match.source_labels, match.gateways, match.source_namespace, path, report
    )


def _tcp(spec: VirtualServiceSpec, generated: bool, report: Report) -> None:
    for index, route in enumerate(spec.tcp):
        path: FieldPath = ("spec", "tcp", index)
        for number, match in enumerate(route.match):
            here: FieldPath = (*path, "match", number)
            _subnets(match.destination_subnets, here, report)
            check_match_source(
                match.port,
                match.source_labels,
                match.gateways,
                match.source_namespace,
                here,
                report,
            )
        if not route.route:
            report.error(ROUTE, (*path, "route"), "TCP route is required")
        check_destinations(route.route, (*path, "route"), generated, report)


def _subnets(subnets: list[str], path: FieldPath, report: Report) -> None:
    for index, subnet in enumerate(subnets):
        problem = subnet_problem(subnet)
        if problem:
            report.error(MATCH, (*path, "destinationSubnets", index), problem)
