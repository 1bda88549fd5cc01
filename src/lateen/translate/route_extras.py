"""Faults, CORS, redirects and direct responses of VirtualService rules."""

from __future__ import annotations

import base64
import binascii

from lateen.api.base import duration_seconds
from lateen.api.networking.grpc_status import GRPC_STATUS
from lateen.api.networking.virtual_service import (
    CorsPolicy,
    FaultAbort,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPRedirect,
    Percent,
)
from lateen.ir import route as ir
from lateen.translate.route_match import Place, string_match

REDIRECT_CODES = (301, 302, 303, 307, 308)
"""Statuses that Envoy redirects with (``RedirectAction.RedirectResponseCode``)."""
_PREFIX_TOKEN = "%PREFIX()%"


def fault(injection: HTTPFaultInjection | None) -> ir.Fault | None:
    """The faults to inject; a fault without a percentage concerns nobody."""
    if injection is None:
        return None
    delay = injection.delay
    seconds = percent = 0.0
    if delay is not None and delay.fixed_delay:
        seconds = duration_seconds(delay.fixed_delay)
        percent = _percent(delay.percentage, delay.percent)
    result = ir.Fault(delay=seconds, delay_percent=percent if seconds else 0.0)
    abort = injection.abort
    if abort is not None:
        http, grpc = _abort_codes(abort)
        result = ir.Fault(
            delay=result.delay,
            delay_percent=result.delay_percent,
            abort_http=http,
            abort_grpc=grpc,
            abort_percent=_percent(abort.percentage, abort.percent),
        )
    return None if result == ir.Fault() else result


def _abort_codes(abort: FaultAbort) -> tuple[int, int | None]:
    if abort.http_status is not None:
        # 600 passes admission, and Envoy would refuse it.
        return abort.http_status if abort.http_status < 600 else 0, None
    if abort.grpc_status is not None:
        return 0, GRPC_STATUS.get(abort.grpc_status.upper())
    return 0, None


def _percent(percentage: Percent | None, deprecated: int) -> float:
    return percentage.value if percentage is not None else float(deprecated)


def cors(policy: CorsPolicy | None) -> ir.Cors | None:
    """The cross-origin policy; ``allowOrigins`` beats the deprecated ``allowOrigin``."""
    if policy is None:
        return None
    if policy.allow_origins:
        origins = tuple(string_match(match) for match in policy.allow_origins)
    else:
        origins = tuple(
            ir.StringMatch(ir.MatchKind.EXACT, origin) for origin in policy.allow_origin
        )
    return ir.Cors(
        allow_origins=origins,
        allow_methods=tuple(policy.allow_methods),
        allow_headers=tuple(policy.allow_headers),
        expose_headers=tuple(policy.expose_headers),
        max_age=None if policy.max_age is None else int(duration_seconds(policy.max_age)),
        allow_credentials=policy.allow_credentials,
        forward_not_matching_preflights=policy.unmatched_preflights != "IGNORE",
    )


def redirect(rule: HTTPRedirect, place: Place) -> ir.Redirect | ir.NoAction:
    """The redirect; codes other than 301, 302, 303, 307 and 308 leave a rule without action."""
    code = rule.redirect_code or 301
    if code not in REDIRECT_CODES:
        return ir.NoAction()
    port = rule.port or 0
    if rule.derive_port == "FROM_REQUEST_PORT":
        port = place.port
    scheme = rule.scheme or ("https" if place.tls else "http")
    if (scheme, port) in (("http", 80), ("https", 443)):
        port = 0
    prefix = rule.uri.startswith(_PREFIX_TOKEN)
    return ir.Redirect(
        code=code,
        host=rule.authority,
        port=port,
        scheme=rule.scheme,
        path="" if prefix else rule.uri,
        prefix_rewrite=rule.uri[len(_PREFIX_TOKEN) :] if prefix else rule.prefix_rewrite,
    )


def direct_response(rule: HTTPDirectResponse) -> ir.DirectResponse | ir.NoAction:
    """The response that the proxy gives itself; a status of 600 leaves a rule without action."""
    if rule.status >= 600:
        return ir.NoAction()
    body = b""
    if rule.body is not None and rule.body.string is not None:
        body = rule.body.string.encode()
    elif rule.body is not None and rule.body.bytes is not None:
        try:
            body = base64.b64decode(rule.body.bytes, validate=True)
        except binascii.Error:
            body = b""
    return ir.DirectResponse(status=rule.status, body=body)
