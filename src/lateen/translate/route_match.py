"""VirtualService conditions: those decided here and those that Envoy decides per request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lateen.api.networking.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    StringMatch,
    TLSMatchAttributes,
)
from lateen.ir import route as ir

_CLAIMS = "@request.auth.claims"
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where routes are made for: facts that static conditions look at."""

    gateway: str
    """``mesh`` or ``NAMESPACE/NAME`` of a Gateway."""
    port: int
    """Port of the listener."""
    namespace: str
    labels: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    """The listener terminates TLS."""


def applies_http(match: HTTPMatchRequest, place: Place) -> bool:
    """Whether the static conditions of an HTTP match hold here.

    ``match.gateways`` replaces the other conditions on the source (Istio's ``sourceMatchHTTP``).
    """
    if match.port and match.port != place.port:
        return False
    if match.gateways:
        return place.gateway in match.gateways
    return _source_matches(match.source_labels, match.source_namespace, place)


def concerns(routes: Iterable[HTTPRoute], place: Place) -> bool:
    """Whether any of ``routes`` holds here. A VirtualService of which none does is as good as not
    there: its hosts are another one's, or have the routes of their services."""
    return any(
        not route.match or any(applies_http(match, place) for match in route.match)
        for route in routes
    )


def concerns_all(routes: Iterable[HTTPRoute]) -> bool:
    """Whether `concerns` is true at every place."""
    return any(
        not route.match or not all(_has_static_conditions(match) for match in route.match)
        for route in routes
    )


def _has_static_conditions(match: HTTPMatchRequest) -> bool:
    return bool(match.port or match.gateways or match.source_labels or match.source_namespace)


def applies_l4(match: TLSMatchAttributes | L4MatchAttributes, place: Place) -> bool:
    """Whether all static conditions of a TLS or TCP match hold here."""
    if match.port and match.port != place.port:
        return False
    if match.gateways and place.gateway not in match.gateways:
        return False
    return _source_matches(match.source_labels, match.source_namespace, place)


def _source_matches(labels: Mapping[str, str], namespace: str, place: Place) -> bool:
    own = dict(place.labels)
    if any(own.get(name) != value for name, value in labels.items()):
        return False
    return not namespace or namespace == place.namespace


def route_match(match: HTTPMatchRequest | None) -> ir.RouteMatch:
    """The conditions that Envoy checks; None matches every request."""
    if match is None:
        return ir.RouteMatch()
    return ir.RouteMatch(
        path=_path(match),
        headers=tuple(_headers(match)),
        query=tuple(
            ir.QueryMatch(name, string_match(value))
            for name, value in sorted(match.query_params.items())
        ),
        claims=tuple(_claims(match)),
    )


def is_catch_all(match: ir.RouteMatch) -> bool:
    """Whether every request satisfies ``match``: routes after it are never reached."""
    if match.headers or match.query or match.claims or match.grpc:
        return False
    path = match.path
    if path.kind is ir.PathKind.REGEX:
        return path.value in ("*", ".*")
    return path.kind in (ir.PathKind.PREFIX, ir.PathKind.SEGMENT_PREFIX) and path.value == "/"


def string_match(match: StringMatch) -> ir.StringMatch:
    """An API string match; no alternative set, or the regex ``*``, asks for presence."""
    if match.exact is not None:
        return ir.StringMatch(ir.MatchKind.EXACT, match.exact)
    if match.prefix is not None:
        return ir.StringMatch(ir.MatchKind.PREFIX, match.prefix)
    if match.regex is not None and match.regex != "*":
        return ir.StringMatch(ir.MatchKind.REGEX, match.regex)
    return ir.StringMatch(ir.MatchKind.PRESENT)


def _path(match: HTTPMatchRequest) -> ir.PathMatch:
    uri = match.uri
    ignore_case = match.ignore_uri_case
    if uri is None:
        return ir.PathMatch()
    if uri.exact is not None:
        return ir.PathMatch(ir.PathKind.EXACT, uri.exact, ignore_case)
    if uri.prefix is not None:
        return ir.PathMatch(ir.PathKind.PREFIX, uri.prefix, ignore_case)
    if uri.regex is not None:
        return ir.PathMatch(ir.PathKind.REGEX, uri.regex)
    return ir.PathMatch()


def _headers(match: HTTPMatchRequest) -> Iterator[ir.HeaderMatch]:
    # Sorted by name, so that equal configurations give equal bytes.
    rows = [(name, value, False) for name, value in match.headers.items()]
    rows += [(name, value, True) for name, value in match.without_headers.items()]
    for name, value, invert in sorted(rows, key=lambda row: (row[0], row[2])):
        if name.startswith(_CLAIMS):
            continue
        comparison = string_match(value)
        yield ir.HeaderMatch(
            name,
            comparison,
            invert=invert,
            missing_as_empty=invert and comparison.kind is not ir.MatchKind.PRESENT,
        )
    for name, part in (
        (":method", match.method),
        (":authority", match.authority),
        (":scheme", match.scheme),
    ):
        if part is not None:
            yield ir.HeaderMatch(name, string_match(part))


def _claims(match: HTTPMatchRequest) -> Iterator[ir.ClaimMatch]:
    for headers, invert in ((match.headers, False), (match.without_headers, True)):
        for name, value in sorted(headers.items()):
            if name.startswith(_CLAIMS):
                yield ir.ClaimMatch(claim_path(name), string_match(value), invert)


def claim_path(name: str) -> tuple[str, ...]:
    """``@request.auth.claims.a.b`` or ``@request.auth.claims[a][b]`` as ``("a", "b")``."""
    rest = name[len(_CLAIMS) :]
    if rest.startswith("["):
        return tuple(_BRACKETED.findall(rest))
    return tuple(part for part in rest.split(".") if part)
