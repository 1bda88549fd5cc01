"""Request matching: Envoy ``RouteMatch`` and the matchers in it."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.type.matcher.v3 import metadata_pb2, regex_pb2, string_pb2, value_pb2

from lateen.envoy import values
from lateen.ir.route import (
    ClaimMatch,
    HeaderMatch,
    MatchKind,
    PathKind,
    QueryMatch,
    RouteMatch,
    StringMatch,
)

_JWT_FILTER = "envoy.filters.http.jwt_authn"
_JWT_PAYLOAD = "payload"


def regex(pattern: str) -> regex_pb2.RegexMatcher:
    """RE2 on the whole text."""
    return regex_pb2.RegexMatcher(regex=pattern)


def string(source: StringMatch) -> string_pb2.StringMatcher:
    """``StringMatcher``; `MatchKind.PRESENT` is any text."""
    match source.kind:
        case MatchKind.EXACT:
            return string_pb2.StringMatcher(exact=source.value, ignore_case=source.ignore_case)
        case MatchKind.PREFIX:
            return string_pb2.StringMatcher(prefix=source.value, ignore_case=source.ignore_case)
        case MatchKind.SUFFIX:
            return string_pb2.StringMatcher(suffix=source.value, ignore_case=source.ignore_case)
        case MatchKind.REGEX:
            return string_pb2.StringMatcher(safe_regex=regex(_cased(source)))
        case MatchKind.PRESENT:
            return string_pb2.StringMatcher(safe_regex=regex(".*"))


def _cased(source: StringMatch) -> str:
    return f"(?i){source.value}" if source.ignore_case else source.value


def route_match(source: RouteMatch) -> route_pb2.RouteMatch:
    """``RouteMatch``: all conditions must hold."""
    result = route_pb2.RouteMatch(
        headers=[_header(header) for header in source.headers],
        query_parameters=[_query(query) for query in source.query],
        dynamic_metadata=[_claim(claim) for claim in source.claims],
    )
    path = source.path
    if path.kind is PathKind.EXACT:
        result.path = path.value
    elif path.kind is PathKind.REGEX:
        result.safe_regex.CopyFrom(regex(path.value))
    elif path.kind is PathKind.SEGMENT_PREFIX and path.value.rstrip("/"):
        result.path_separated_prefix = path.value.rstrip("/")
    else:
        result.prefix = path.value or "/"
    if path.ignore_case and path.kind is not PathKind.REGEX:
        result.case_sensitive.CopyFrom(values.boolean(False))
    if source.grpc:
        result.grpc.SetInParent()
    return result


def _header(source: HeaderMatch) -> route_pb2.HeaderMatcher:
    result = route_pb2.HeaderMatcher(
        name=source.name,
        invert_match=source.invert,
        treat_missing_header_as_empty=source.missing_as_empty,
    )
    if source.match.kind is MatchKind.PRESENT:
        result.present_match = True
    else:
        result.string_match.CopyFrom(string(source.match))
    return result


def _query(source: QueryMatch) -> route_pb2.QueryParameterMatcher:
    if source.match.kind is MatchKind.PRESENT:
        return route_pb2.QueryParameterMatcher(name=source.name, present_match=True)
    return route_pb2.QueryParameterMatcher(name=source.name, string_match=string(source.match))


def _claim(source: ClaimMatch) -> metadata_pb2.MetadataMatcher:
    # A claim is a text or a list of texts; both spellings of "has this value" must match.
    matcher = value_pb2.ValueMatcher(string_match=string(source.match))
    either = value_pb2.ValueMatcher(
        or_match=value_pb2.OrMatcher(
            value_matchers=[
                value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=matcher)),
                matcher,
            ]
        )
    )
    segment = metadata_pb2.MetadataMatcher.PathSegment
    return metadata_pb2.MetadataMatcher(
        filter=_JWT_FILTER,
        path=[segment(key=key) for key in (_JWT_PAYLOAD, *source.path)],
        value=either,
        invert=source.invert,
    )
