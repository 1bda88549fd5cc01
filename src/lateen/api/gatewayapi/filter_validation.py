"""Checks of route filters and session persistence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lateen.api.findings import FieldPath
from lateen.api.gatewayapi import rules
from lateen.api.gatewayapi.filters import (
    GRPCRouteFilter,
    HTTPCORSFilter,
    HTTPExternalAuthFilter,
    HTTPHeaderFilter,
    HTTPPathModifier,
    HTTPRequestMirrorFilter,
    HTTPRouteFilter,
    SessionPersistence,
)
from lateen.api.gatewayapi.reference_validation import check_backend, check_unique
from lateen.api.report import Report

_SETTINGS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "RequestMirror": "request_mirror",
    "RequestRedirect": "request_redirect",
    "URLRewrite": "url_rewrite",
    "ExtensionRef": "extension_ref",
    "CORS": "cors",
    "ExternalAuth": "external_auth",
}
_FIELDS = {
    "request_header_modifier": "requestHeaderModifier",
    "response_header_modifier": "responseHeaderModifier",
    "request_mirror": "requestMirror",
    "request_redirect": "requestRedirect",
    "url_rewrite": "urlRewrite",
    "extension_ref": "extensionRef",
    "cors": "cors",
    "external_auth": "externalAuth",
}
_ONCE = (
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
    "ExternalAuth",
)

Filters = Sequence[HTTPRouteFilter | GRPCRouteFilter]


def check_filters(filters: Filters, path: FieldPath, report: Report) -> None:
    """Each filter by itself, and that they go together."""
    counts: Counter[str] = Counter(entry.type for entry in filters)
    for kind in _ONCE:
        if counts[kind] > 1:
            report.error(
                rules.FILTER_COMBINATION, path, f"{kind} filter cannot be repeated in one rule"
            )
    if counts["RequestRedirect"] and counts["URLRewrite"]:
        report.error(
            rules.FILTER_COMBINATION,
            path,
            "RequestRedirect and URLRewrite cannot be used in one rule",
            "A redirect has hostname and path of its own.",
        )
    for index, entry in enumerate(filters):
        _check_filter(entry, (*path, index), report)


def replaces_prefix(filters: Filters) -> bool:
    """Whether a redirect or rewrite replaces the prefix that matched."""
    for entry in filters:
        if isinstance(entry, HTTPRouteFilter):
            for change in (entry.request_redirect, entry.url_rewrite):
                path = change.path if change is not None else None
                if path is not None and path.type == "ReplacePrefixMatch":
                    return True
    return False


def _check_filter(
    entry: HTTPRouteFilter | GRPCRouteFilter, path: FieldPath, report: Report
) -> None:
    expected = _SETTINGS[entry.type]
    for name in entry.__struct_fields__:
        if name == "type":
            continue
        given = getattr(entry, name) is not None
        if given and name != expected:
            report.error(
                rules.FILTER_SETTINGS,
                (*path, _FIELDS[name]),
                f"{_FIELDS[name]} must be left out if the filter's type is {entry.type}",
            )
        elif not given and name == expected:
            report.error(
                rules.FILTER_SETTINGS,
                (*path, _FIELDS[name]),
                f"{_FIELDS[name]} must be specified for a filter of type {entry.type}",
            )
    for name in ("request_header_modifier", "response_header_modifier"):
        change = getattr(entry, name)
        if change is not None:
            _check_headers(change, (*path, _FIELDS[name]), report)
    if entry.request_mirror is not None:
        _check_mirror(entry.request_mirror, (*path, "requestMirror"), report)
    if isinstance(entry, HTTPRouteFilter):
        _check_http_filter(entry, path, report)


def _check_http_filter(entry: HTTPRouteFilter, path: FieldPath, report: Report) -> None:
    if entry.request_redirect is not None and entry.request_redirect.path is not None:
        _check_path(entry.request_redirect.path, (*path, "requestRedirect", "path"), report)
    if entry.url_rewrite is not None and entry.url_rewrite.path is not None:
        _check_path(entry.url_rewrite.path, (*path, "urlRewrite", "path"), report)
    if entry.cors is not None:
        _check_cors(entry.cors, (*path, "cors"), report)
    if entry.external_auth is not None:
        _check_external_auth(entry.external_auth, (*path, "externalAuth"), report)


def _check_headers(change: HTTPHeaderFilter, path: FieldPath, report: Report) -> None:
    for name, headers in (("set", change.set), ("add", change.add)):
        check_unique((header.name for header in headers), (*path, name), "name", "header", report)
    check_unique(change.remove, (*path, "remove"), "", "header", report)


def _check_mirror(mirror: HTTPRequestMirrorFilter, path: FieldPath, report: Report) -> None:
    check_backend(mirror.backend_ref, (*path, "backendRef"), report)
    if mirror.percent is not None and mirror.fraction is not None:
        report.error(rules.MIRROR_SHARE, path, "only one of percent or fraction may be specified")
    fraction = mirror.fraction
    if fraction is not None and fraction.numerator > fraction.denominator:
        report.error(
            rules.MIRROR_SHARE,
            (*path, "fraction"),
            f"{fraction.numerator} of {fraction.denominator} is more than all: "
            "numerator must be less than or equal to denominator",
        )


def _check_path(change: HTTPPathModifier, path: FieldPath, report: Report) -> None:
    values = {
        "ReplaceFullPath": ("replaceFullPath", change.replace_full_path),
        "ReplacePrefixMatch": ("replacePrefixMatch", change.replace_prefix_match),
    }
    for kind, (name, value) in values.items():
        if kind == change.type and value is None:
            report.error(
                rules.PATH_MODIFIER,
                (*path, name),
                f"{name} must be specified when type is {kind}",
            )
        elif kind != change.type and value is not None:
            report.error(
                rules.PATH_MODIFIER, (*path, name), f"type must be {kind} when {name} is set"
            )


def _check_cors(cors: HTTPCORSFilter, path: FieldPath, report: Report) -> None:
    for name, values in (
        ("allowOrigins", cors.allow_origins),
        ("allowMethods", cors.allow_methods),
        ("allowHeaders", cors.allow_headers),
        ("exposeHeaders", cors.expose_headers),
    ):
        if "*" in values and len(values) > 1:
            report.error(
                rules.ORIGIN_WILDCARD,
                (*path, name),
                f"{name} cannot contain * alongside other values",
            )
        check_unique([str(value) for value in values], (*path, name), "", "value", report)


def _check_external_auth(auth: HTTPExternalAuthFilter, path: FieldPath, report: Report) -> None:
    check_backend(auth.backend_ref, (*path, "backendRef"), report)
    for name, protocol, settings in (("grpc", "GRPC", auth.grpc), ("http", "HTTP", auth.http)):
        if auth.protocol == protocol and settings is None:
            report.error(
                rules.EXTERNAL_AUTH,
                (*path, name),
                f"{name} must be specified when protocol is {protocol}",
            )
        elif auth.protocol != protocol and settings is not None:
            report.error(
                rules.EXTERNAL_AUTH,
                (*path, name),
                f"protocol must be {protocol} when {name} is set",
            )


def check_session(session: SessionPersistence | None, path: FieldPath, report: Report) -> None:
    """Cookie settings fit the type and the timeouts."""
    if session is None:
        return
    cookie = session.cookie_config
    if cookie is None:
        return
    if session.type != "Cookie":
        report.error(
            rules.BAD_SESSION,
            (*path, "cookieConfig"),
            f"cookieConfig is for type Cookie, the type is {session.type}",
        )
    if cookie.lifetime_type == "Permanent" and session.absolute_timeout is None:
        report.error(
            rules.BAD_SESSION,
            (*path, "absoluteTimeout"),
            "absoluteTimeout must be specified when the cookie's lifetimeType is Permanent",
        )
