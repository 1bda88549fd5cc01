"""HTTP routes of VirtualService."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from http import HTTPStatus

from lateen.api.base import duration_nanoseconds
from lateen.api.findings import FieldPath
from lateen.api.networking.checks import check_duration, check_one_of, check_regex
from lateen.api.networking.grpc_status import GRPC_STATUS
from lateen.api.networking.names import (
    fqdn_problem,
    is_label,
    labels_problem,
    port_problem,
    wildcard_problem,
)
from lateen.api.networking.rules import (
    DEPRECATED,
    GATEWAY_NAME,
    HEADER,
    HOST,
    MATCH,
    PERCENTAGE,
    PORT,
    RISKY,
    ROUTE,
    WEIGHT,
)
from lateen.api.networking.validate_headers import (
    check_headers,
    cors_header_name_problem,
    is_authority,
    match_name_problem,
)
from lateen.api.networking.virtual_service import (
    CorsPolicy,
    Destination,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    HTTPRouteDestination,
    Percent,
    RouteDestination,
    StringMatch,
)
from lateen.api.report import Report

_CORS_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")
)
_RETRY_ON = frozenset(
    (
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    )
)
_LARGE_BODY = 100 * 1024
_MAX_BODY = 1024 * 1024
_SMALLEST_PERCENTAGE = 0.0001
_TOLERATED_STATUS = 600


def check_http_route(
    route: HTTPRoute, path: FieldPath, is_delegate: bool, generated: bool, report: Report
) -> None:
    """One HTTP route: one action, valid matches and options."""
    _actions(route, path, is_delegate, report)
    for index, match in enumerate(route.match):
        _match(match, (*path, "match", index), report)
    check_headers(route.headers, (*path, "headers"), report)
    if route.cors_policy is not None:
        _cors(route.cors_policy, (*path, "corsPolicy"), report)
    if route.fault is not None:
        _fault(route.fault, (*path, "fault"), report)
    _mirror(route, path, report)
    if route.redirect is not None:
        _redirect(route.redirect, route, (*path, "redirect"), report)
    if route.direct_response is not None:
        _direct_response(route.direct_response, (*path, "directResponse"), report)
    if route.retries is not None:
        _retries(route.retries, (*path, "retries"), report)
    if route.rewrite is not None:
        _rewrite(route.rewrite, (*path, "rewrite"), report)
    _authority(route, path, report)
    for index, destination in enumerate(route.route):
        check_headers(destination.headers, (*path, "route", index, "headers"), report)
    check_destinations(route.route, (*path, "route"), generated, report)
    check_duration(route.timeout, (*path, "timeout"), report)
    if route.websocket_upgrade is not None:
        report.warn(
            DEPRECATED,
            (*path, "websocketUpgrade"),
            "websocketUpgrade has been removed: WebSockets work without it",
            "Remove the field.",
        )


def _actions(route: HTTPRoute, path: FieldPath, is_delegate: bool, report: Report) -> None:
    if route.delegate is not None and not is_delegate:
        if route.redirect is not None:
            report.error(ROUTE, (*path, "redirect"), "root HTTP route must not specify redirect")
        if route.route:
            report.error(ROUTE, (*path, "route"), "root HTTP route must not specify route")
        return
    if route.delegate is not None:
        report.error(ROUTE, (*path, "delegate"), "delegate HTTP route cannot contain delegate")
    action = ""
    if route.redirect is not None:
        action = "redirect"
    elif route.direct_response is not None:
        action = "directResponse"
    elif not route.route:
        message = "HTTP route, redirect or directResponse is required"
        report.error(ROUTE, path, message, "Say where requests go.")
    if action:
        others = {
            "route": bool(route.route),
            "fault": route.fault is not None,
            "rewrite": route.rewrite is not None,
            "directResponse": route.direct_response is not None and action != "directResponse",
        }
        for name, present in others.items():
            if present:
                message = f"HTTP route cannot contain both {name} and {action}"
                report.error(ROUTE, (*path, name), message)
    if route.mirror is not None and route.mirrors:
        report.error(ROUTE, (*path, "mirrors"), "HTTP route cannot contain both mirror and mirrors")


def check_string_match(
    match: StringMatch | None, path: FieldPath, report: Report, empty_prefix: bool = False
) -> None:
    """One kind of match, with a value; ``empty_prefix`` allows ``prefix: ""``."""
    if match is None:
        return
    fields = {
        "exact": match.exact is not None,
        "prefix": match.prefix is not None,
        "regex": match.regex is not None,
    }
    check_one_of(fields, path, report)
    if match.prefix == "" and not empty_prefix:
        report.error(MATCH, (*path, "prefix"), "prefix string match should not be empty")
    if match.regex is not None:
        check_regex(match.regex, (*path, "regex"), report)


def _match(match: HTTPMatchRequest, path: FieldPath, report: Report) -> None:
    for name, value in match.headers.items():
        here: FieldPath = (*path, "headers", name)
        problem = match_name_problem(name)
        if problem:
            report.error(HEADER, here, problem)
        check_string_match(value, here, report)
    for name, value in match.without_headers.items():
        here = (*path, "withoutHeaders", name)
        problem = match_name_problem(name)
        if problem:
            report.error(HEADER, here, problem)
        # A lone * is how people ask for absence; it is not an expression.
        if value.regex != "*":
            check_string_match(value, here, report)
    check_string_match(match.uri, (*path, "uri"), report, empty_prefix=True)
    check_string_match(match.scheme, (*path, "scheme"), report)
    check_string_match(match.method, (*path, "method"), report)
    check_string_match(match.authority, (*path, "authority"), report)
    for name, value in match.query_params.items():
        check_string_match(value, (*path, "queryParams", name), report)
    check_match_source(
        match.port, match.source_labels, match.gateways, match.source_namespace, path, report
    )


def check_match_source(
    port: int,
    labels: dict[str, str],
    gateways: list[str],
    namespace: str,
    path: FieldPath,
    report: Report,
) -> None:
    """The conditions that HTTP, TLS and TCP matches share."""
    if port and port_problem(port):
        report.error(PORT, (*path, "port"), port_problem(port))
    problem = labels_problem(labels)
    if problem:
        report.error(MATCH, (*path, "sourceLabels"), problem)
    check_gateway_names(gateways, (*path, "gateways"), False, report)
    if namespace and not is_label(namespace):
        report.error(MATCH, (*path, "sourceNamespace"), f"sourceNamespace {namespace} is invalid")


def check_gateway_names(names: list[str], path: FieldPath, generated: bool, report: Report) -> None:
    """``mesh``, ``NAME``, ``NAMESPACE/NAME``, or the old ``NAME.NAMESPACE``."""
    for index, name in enumerate(names):
        here: FieldPath = (*path, index)
        namespace, slash, gateway = name.partition("/")
        if not slash:
            if "." in name:
                first, second = name.split(".")[:2]
                message = f'using legacy gatewayName format "{name}"; prefer "{second}/{first}"'
                report.warn(DEPRECATED, here, message)
            if fqdn_problem(name):
                report.error(GATEWAY_NAME, here, fqdn_problem(name))
        elif not namespace or not gateway:
            message = "config namespace and gateway name cannot be empty"
            report.error(GATEWAY_NAME, here, message)
        elif namespace != "." and not is_label(namespace):
            report.error(GATEWAY_NAME, here, f'invalid value for namespace: "{namespace}"')
        elif not is_label(gateway) and not generated:
            report.error(GATEWAY_NAME, here, f'invalid value for gateway name: "{gateway}"')


def check_destination(destination: Destination | None, path: FieldPath, report: Report) -> None:
    """Host, subset and port."""
    if destination is None:
        return
    host = destination.host
    problem = f"invalid destination host {host}" if host == "*" else wildcard_problem(host)
    if problem:
        report.error(HOST, (*path, "host"), problem)
    if destination.subset and not is_label(destination.subset):
        report.error(ROUTE, (*path, "subset"), f"subset name is invalid: {destination.subset}")
    if destination.port is not None:
        problem = port_problem(destination.port.number)
        if problem:
            report.error(PORT, (*path, "port", "number"), problem)


def check_destinations(
    destinations: Sequence[HTTPRouteDestination | RouteDestination],
    path: FieldPath,
    generated: bool,
    report: Report,
) -> None:
    """Weighted destinations."""
    for index, item in enumerate(destinations):
        if not generated:
            check_destination(item.destination, (*path, index, "destination"), report)
        if item.weight < 0:
            report.error(WEIGHT, (*path, index, "weight"), f"weight {item.weight} < 0")
    if len(destinations) > 1 and sum(item.weight for item in destinations) == 0:
        report.error(
            WEIGHT, path, "total destination weight = 0", "Give weights, such as 90 and 10."
        )


def _cors(policy: CorsPolicy, path: FieldPath, report: Report) -> None:
    for index, origin in enumerate(policy.allow_origins):
        here: FieldPath = (*path, "allowOrigins", index)
        if not (origin.exact or origin.prefix or origin.regex):
            report.error(MATCH, here, "is not a valid match type for CORS allow origins")
        else:
            check_string_match(origin, here, report)
    for index, method in enumerate(policy.allow_methods):
        if method not in _CORS_METHODS:
            message = f'"{method}" is not a supported HTTP method'
            report.error(ROUTE, (*path, "allowMethods", index), message)
    for field, names in (
        ("allowHeaders", policy.allow_headers),
        ("exposeHeaders", policy.expose_headers),
    ):
        for index, name in enumerate(names):
            problem = cors_header_name_problem(name)
            if problem:
                report.error(HEADER, (*path, field, index), problem)
    before = len(report.findings)
    check_duration(policy.max_age, (*path, "maxAge"), report)
    is_good = policy.max_age is not None and len(report.findings) == before
    if is_good and duration_nanoseconds(policy.max_age or "0") % 1_000_000_000:
        message = "max_age duration is accurate only to seconds precision"
        report.error(ROUTE, (*path, "maxAge"), message)
    if policy.allow_origin:
        message = "allowOrigin is deprecated, use allowOrigins"
        report.info(DEPRECATED, (*path, "allowOrigin"), message)


def _percentage(value: Percent | None, path: FieldPath, report: Report) -> None:
    if value is None:
        return
    number = value.value
    if not (number == 0 or _SMALLEST_PERCENTAGE <= number <= 100):
        message = f"percentage {number} is neither 0.0, nor in range [0.0001, 100.0]"
        report.error(PERCENTAGE, (*path, "percentage", "value"), message)


def _fault(fault: HTTPFaultInjection, path: FieldPath, report: Report) -> None:
    if fault.abort is None and fault.delay is None:
        report.error(ROUTE, path, "HTTP fault injection must have an abort and/or a delay")
    abort, delay = fault.abort, fault.delay
    if abort is not None:
        here: FieldPath = (*path, "abort")
        _percentage(abort.percentage, here, report)
        kinds = {
            "httpStatus": abort.http_status is not None,
            "grpcStatus": abort.grpc_status is not None,
            "http2Error": abort.http2_error is not None,
        }
        if check_one_of(kinds, here, report) == 0:
            report.warn(RISKY, here, "abort configured, but error type not set")
        if abort.http2_error is not None:
            message = "HTTP/2 abort fault injection not supported yet"
            report.error(ROUTE, (*here, "http2Error"), message)
        if abort.http_status is not None:
            _status(abort.http_status, (*here, "httpStatus"), "nothing is aborted", report)
        if abort.grpc_status is not None and abort.grpc_status not in GRPC_STATUS:
            message = f'gRPC status "{abort.grpc_status}" is not supported'
            hint = f"Use one of {', '.join(sorted(GRPC_STATUS))}."
            report.error(ROUTE, (*here, "grpcStatus"), message, hint)
    if delay is not None:
        here = (*path, "delay")
        _percentage(delay.percentage, here, report)
        if not 0 <= delay.percent <= 100:
            message = f"percentage {delay.percent} is not in range 0..100"
            report.error(PERCENTAGE, (*here, "percent"), message)
        kinds = {
            "fixedDelay": delay.fixed_delay is not None,
            "exponentialDelay": delay.exponential_delay is not None,
        }
        check_one_of(kinds, here, report)
        check_duration(delay.fixed_delay, (*here, "fixedDelay"), report)
        if delay.exponential_delay is not None:
            message = "exponentialDelay not supported yet"
            report.error(ROUTE, (*here, "exponentialDelay"), message)


def _status(status: int, path: FieldPath, effect: str, report: Report) -> None:
    # Istio's admission takes 600, which Envoy refuses.
    if status == _TOLERATED_STATUS:
        message = f"HTTP status {status} is none that a proxy can answer with: {effect}"
        report.warn(RISKY, path, message, "Use a status of 200 to 599.")
    elif not 200 <= status <= 599:
        report.error(ROUTE, path, f"HTTP status {status} is not in range 200-599")


def _mirror(route: HTTPRoute, path: FieldPath, report: Report) -> None:
    if route.mirror_percent is not None:
        here: FieldPath = (*path, "mirrorPercent")
        if route.mirror_percent > 100:
            message = f"must have a max value of 100 (it has {route.mirror_percent})"
            report.error(PERCENTAGE, here, message)
        message = 'using deprecated setting "mirrorPercent", use "mirrorPercentage" instead'
        report.warn(DEPRECATED, here, message)
    _mirror_percentage(route.mirror_percentage, (*path, "mirrorPercentage"), report)
    check_destination(route.mirror, (*path, "mirror"), report)
    for index, mirror in enumerate(route.mirrors):
        here = (*path, "mirrors", index)
        check_destination(mirror.destination, (*here, "destination"), report)
        _mirror_percentage(mirror.percentage, (*here, "percentage"), report)


def _mirror_percentage(value: Percent | None, path: FieldPath, report: Report) -> None:
    if value is not None and not 0 <= value.value <= 100:
        message = f"must have a min value of 0 and a max value of 100 (it has {value.value})"
        report.error(PERCENTAGE, (*path, "value"), message)


def _redirect(redirect: HTTPRedirect, route: HTTPRoute, path: FieldPath, report: Report) -> None:
    ports = {
        "port": redirect.port is not None,
        "derivePort": redirect.derive_port is not None,
    }
    count = check_one_of(ports, path, report)
    if not (
        redirect.uri or redirect.prefix_rewrite or redirect.authority or redirect.scheme or count
    ):
        report.error(ROUTE, path, "redirect must specify URI, authority, scheme, or port")
    if redirect.uri and redirect.prefix_rewrite:
        message = "redirect may only contain one of uri or prefixRewrite"
        report.error(ROUTE, (*path, "prefixRewrite"), message)
    if redirect.prefix_rewrite and any(
        match.uri is not None and match.uri.prefix is None for match in route.match
    ):
        message = "prefixRewrite requires that all uri matches are prefix matches"
        report.error(ROUTE, (*path, "prefixRewrite"), message)
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        message = f"{redirect.redirect_code} is not a valid redirect code, must be 3xx"
        report.error(ROUTE, (*path, "redirectCode"), message)
    if redirect.scheme not in ("", "http", "https"):
        message = 'invalid redirect scheme, must be "http" or "https"'
        report.error(ROUTE, (*path, "scheme"), message)
    if redirect.port and port_problem(redirect.port):
        report.error(PORT, (*path, "port"), port_problem(redirect.port))


def _direct_response(response: HTTPDirectResponse, path: FieldPath, report: Report) -> None:
    _status(response.status, (*path, "status"), "requests get 404", report)
    body = response.body
    if body is None:
        return
    here: FieldPath = (*path, "body")
    kinds = {"string": body.string is not None, "bytes": body.bytes is not None}
    check_one_of(kinds, here, report)
    size = 0
    if body.string is not None:
        size = len(body.string.encode())
    elif body.bytes is not None:
        try:
            size = len(base64.b64decode(body.bytes, validate=True))
        except (binascii.Error, ValueError):
            report.error(ROUTE, (*here, "bytes"), "not base64")
    if size > _MAX_BODY:
        message = "large direct_responses may impact control plane performance"
        report.error(ROUTE, here, f"{message}, must be less than 1MB")
    elif size > _LARGE_BODY:
        report.warn(RISKY, here, "large direct_responses may impact control plane performance")


def _retries(retries: HTTPRetry, path: FieldPath, report: Report) -> None:
    if retries.attempts < 0:
        report.error(ROUTE, (*path, "attempts"), "attempts cannot be negative")
    configured = (
        retries.per_try_timeout is not None
        or retries.retry_on
        or retries.retry_remote_localities is not None
    )
    if retries.attempts == 0 and configured:
        message = "http retry policy configured when attempts are set to 0 (disabled)"
        report.error(ROUTE, path, message, "Set attempts, or remove the other fields.")
    check_duration(retries.per_try_timeout, (*path, "perTryTimeout"), report)
    check_duration(retries.backoff, (*path, "backoff"), report)
    for policy in retries.retry_on.split(",") if retries.retry_on else ():
        if policy not in _RETRY_ON and not _is_status(policy):
            message = f'"{policy}" is not a valid retryOn policy'
            hint = f"Use a status code or {', '.join(sorted(_RETRY_ON))}."
            report.error(ROUTE, (*path, "retryOn"), message, hint)


def _is_status(text: str) -> bool:
    return text.isdigit() and int(text) in HTTPStatus._value2member_map_


def _rewrite(rewrite: HTTPRewrite, path: FieldPath, report: Report) -> None:
    expression = rewrite.uri_regex_rewrite
    if rewrite.uri and expression is not None:
        report.error(ROUTE, path, "rewrite may only contain one of URI or UriRegexRewrite")
    if not rewrite.uri and expression is None and not rewrite.authority:
        message = "rewrite must specify at least one of URI, UriRegexRewrite, or authority"
        report.error(ROUTE, path, message)
    if expression is not None:
        here: FieldPath = (*path, "uriRegexRewrite")
        if not expression.match or not expression.rewrite:
            message = "UriRegexRewrite requires both Rewrite and Match fields to be specified"
            report.error(ROUTE, here, message)
        else:
            check_regex(expression.match, (*here, "match"), report)


def _authority(route: HTTPRoute, path: FieldPath, report: Report) -> None:
    current = route.rewrite.authority if route.rewrite is not None else ""
    request = route.headers.request if route.headers is not None else None
    if request is None:
        return
    for kind, operations in (("set", request.set), ("add", request.add)):
        for name, value in operations.items():
            if not is_authority(name):
                continue
            if current:
                message = f'authority header cannot be set multiple times: have "{current}"'
                report.error(HEADER, (*path, "headers", "request", kind, name), message)
                return
            current = value
