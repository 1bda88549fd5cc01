"""What is wrong with a route by itself."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from lateen.api.base import duration_nanoseconds
from lateen.api.findings import FieldPath
from lateen.api.gatewayapi import rules
from lateen.api.gatewayapi.filter_validation import (
    check_filters,
    check_session,
    replaces_prefix,
)
from lateen.api.gatewayapi.reference_validation import (
    check_backend,
    check_parents,
    check_regex,
    check_unique,
)
from lateen.api.gatewayapi.routes import (
    GRPCBackendRef,
    GRPCMethodMatch,
    GRPCRoute,
    GRPCRouteMatch,
    GRPCRouteRule,
    HTTPBackendRef,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPQueryParamMatch,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteTimeouts,
    L4RouteRule,
    TCPRoute,
    TLSRoute,
    UDPRoute,
)
from lateen.api.report import Report

MAX_MATCHES = 128

_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
_SERVICE = re.compile(r"\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*", re.IGNORECASE)
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def validate_http_route(route: HTTPRoute, report: Report) -> None:
    """Check parents, and per rule its matches, filters, backends and timeouts."""
    spec = route.spec
    check_parents(spec.parent_refs, report)
    path = ("spec", "rules")
    check_unique((rule.name for rule in spec.rules), path, "name", "rule name", report)
    _check_count([len(rule.matches) for rule in spec.rules], report)
    for index, rule in enumerate(spec.rules):
        where = (*path, index)
        for position, match in enumerate(rule.matches):
            _check_http_match(match, (*where, "matches", position), report)
        _check_targets(rule, where, report)
        _check_together(rule, where, report)
        if rule.timeouts is not None:
            _check_timeouts(rule.timeouts, (*where, "timeouts"), report)
        check_session(rule.session_persistence, (*where, "sessionPersistence"), report)


def _check_count(counts: Sequence[int], report: Report) -> None:
    if sum(counts) > MAX_MATCHES:
        report.error(
            rules.TOO_MANY_MATCHES,
            ("spec", "rules"),
            f"{sum(counts)} matches in all rules together, at most {MAX_MATCHES} are allowed",
            "Split the route in two.",
        )


def _check_http_match(match: HTTPRouteMatch, path: FieldPath, report: Report) -> None:
    problem = _path_problem(match.path)
    if problem:
        report.error(rules.BAD_PATH, (*path, "path", "value"), problem)
    if match.path.type == "RegularExpression":
        check_regex(match.path.value, (*path, "path", "value"), report)
    headers: Sequence[HTTPHeaderMatch | HTTPQueryParamMatch] = match.headers
    parameters: Sequence[HTTPHeaderMatch | HTTPQueryParamMatch] = match.query_params
    for name, conditions in (("headers", headers), ("queryParams", parameters)):
        check_unique((each.name for each in conditions), (*path, name), "name", name[:-1], report)
        for index, condition in enumerate(conditions):
            if condition.type == "RegularExpression":
                check_regex(condition.value, (*path, name, index, "value"), report)


def _path_problem(match: HTTPPathMatch) -> str:
    if match.type == "RegularExpression":
        return ""
    value = match.value
    if not value.startswith("/"):
        return f'"{value}" must be an absolute path and start with /'
    for part in ("//", "/./", "/../", "%2f", "%2F", "#"):
        if part in value:
            return f'"{value}" must not contain {part}'
    for end in ("/..", "/."):
        if value.endswith(end):
            return f'"{value}" must not end with {end}'
    if not _PATH.fullmatch(value):
        return f'"{value}" must only contain valid characters of a path; escape others with %XX'
    return ""


def _check_together(rule: HTTPRouteRule, path: FieldPath, report: Report) -> None:
    if rule.backend_refs and any(entry.type == "RequestRedirect" for entry in rule.filters):
        report.error(
            rules.FILTER_COMBINATION,
            (*path, "backendRefs"),
            "RequestRedirect filter must not be used together with backendRefs",
        )
    one_prefix = len(rule.matches) == 1 and rule.matches[0].path.type == "PathPrefix"
    if one_prefix:
        return
    hint = "Split the rule so that each has one prefix."
    message = "replacePrefixMatch needs exactly one PathPrefix match in the rule"
    if replaces_prefix(rule.filters):
        report.error(rules.PATH_MODIFIER, (*path, "filters"), message, hint)
    for index, backend in enumerate(rule.backend_refs):
        if replaces_prefix(backend.filters):
            report.error(
                rules.PATH_MODIFIER, (*path, "backendRefs", index, "filters"), message, hint
            )


def _check_timeouts(timeouts: HTTPRouteTimeouts, path: FieldPath, report: Report) -> None:
    if timeouts.request is None or timeouts.backend_request is None:
        return
    whole = duration_nanoseconds(timeouts.request)
    if whole and duration_nanoseconds(timeouts.backend_request) > whole:
        report.error(
            rules.BAD_TIMEOUT,
            (*path, "backendRequest"),
            f"backendRequest timeout {timeouts.backend_request} cannot be longer than "
            f"request timeout {timeouts.request}",
        )


def _check_targets(rule: HTTPRouteRule | GRPCRouteRule, path: FieldPath, report: Report) -> None:
    """The filters of a rule, and its backends with theirs."""
    check_filters(rule.filters, (*path, "filters"), report)
    backends: Sequence[HTTPBackendRef | GRPCBackendRef] = rule.backend_refs
    for position, backend in enumerate(backends):
        place = (*path, "backendRefs", position)
        check_backend(backend, place, report)
        check_filters(backend.filters, (*place, "filters"), report)


def validate_grpc_route(route: GRPCRoute, report: Report) -> None:
    """Check parents, and per rule its matches, filters and backends."""
    spec = route.spec
    check_parents(spec.parent_refs, report)
    path = ("spec", "rules")
    check_unique((rule.name for rule in spec.rules), path, "name", "rule name", report)
    _check_count([len(rule.matches) for rule in spec.rules], report)
    for index, rule in enumerate(spec.rules):
        where = (*path, index)
        for position, match in enumerate(rule.matches):
            _check_grpc_match(match, (*where, "matches", position), report)
        _check_targets(rule, where, report)
        check_session(rule.session_persistence, (*where, "sessionPersistence"), report)


def _check_grpc_match(match: GRPCRouteMatch, path: FieldPath, report: Report) -> None:
    names = (header.name for header in match.headers)
    check_unique(names, (*path, "headers"), "name", "header", report)
    for index, header in enumerate(match.headers):
        if header.type == "RegularExpression":
            check_regex(header.value, (*path, "headers", index, "value"), report)
    if match.method is not None:
        _check_grpc_method(match.method, (*path, "method"), report)


def _check_grpc_method(match: GRPCMethodMatch, path: FieldPath, report: Report) -> None:
    if match.service is None and match.method is None:
        report.error(
            rules.BAD_METHOD_MATCH, path, "one or both of service or method must be specified"
        )
    for name, value, pattern in (
        ("service", match.service, _SERVICE),
        ("method", match.method, _METHOD),
    ):
        if value is None:
            continue
        if match.type == "RegularExpression":
            check_regex(value, (*path, name), report)
        elif value and not pattern.fullmatch(value):
            report.error(
                rules.BAD_METHOD_MATCH,
                (*path, name),
                f'"{value}" is not a gRPC {name} name',
                "For patterns set type: RegularExpression.",
            )


def validate_l4_route(route: TCPRoute | UDPRoute, report: Report) -> None:
    """Check parents and backends."""
    check_parents(route.spec.parent_refs, report)
    _check_l4_rules(route.spec.rules, report)


def validate_tls_route(route: TLSRoute, report: Report) -> None:
    """Check parents, host names and backends; v1 has one rule and needs host names."""
    spec = route.spec
    check_parents(spec.parent_refs, report)
    _check_l4_rules(spec.rules, report)
    path = ("spec", "hostnames")
    if route.api_version.endswith("/v1"):
        if not spec.hostnames:
            report.error(rules.ROUTE_HOSTNAMES, path, "v1 TLSRoute needs at least one host name")
        if len(spec.rules) > 1:
            report.error(
                rules.ROUTE_HOSTNAMES,
                ("spec", "rules"),
                f"v1 TLSRoute has one rule, here are {len(spec.rules)}",
            )
    for index, hostname in enumerate(spec.hostnames):
        if _is_address(hostname):
            report.error(
                rules.ROUTE_HOSTNAMES,
                (*path, index),
                f"{hostname} is an IP address; server names are host names (RFC 6066)",
            )


def _check_l4_rules(entries: Sequence[L4RouteRule], report: Report) -> None:
    path = ("spec", "rules")
    check_unique((rule.name for rule in entries), path, "name", "rule name", report)
    for index, rule in enumerate(entries):
        for position, backend in enumerate(rule.backend_refs):
            check_backend(backend, (*path, index, "backendRefs", position), report)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
