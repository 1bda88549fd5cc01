"""HTTPRoute, GRPCRoute, TCPRoute, TLSRoute and UDPRoute (``apis/v1``)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from lateen.api.base import JsonObject, Message
from lateen.api.gatewayapi.filters import (
    GRPCRouteFilter,
    HTTPRouteFilter,
    PathText,
    SessionPersistence,
)
from lateen.api.gatewayapi.scalars import (
    HEADER_VALUE,
    BackendRef,
    GatewayDuration,
    HeaderName,
    Hostname,
    ParentReference,
    SectionName,
)
from lateen.api.resource import ApiObject

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
MatchType = Literal["Exact", "RegularExpression"]
"""Regular expressions are RE2 and match the whole value."""

ParentRefs = Annotated[list[ParentReference], Meta(max_length=32)]


class HTTPPathMatch(Message, frozen=True, kw_only=True):
    """A path; PathPrefix matches whole path elements."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: PathText = "/"


class HTTPHeaderMatch(Message, frozen=True, kw_only=True):
    """A header's value."""

    name: HeaderName
    value: Annotated[str, HEADER_VALUE]
    type: MatchType = "Exact"


class HTTPQueryParamMatch(Message, frozen=True, kw_only=True):
    """A query parameter's value."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]
    type: MatchType = "Exact"


class HTTPRouteMatch(Message, frozen=True, kw_only=True):
    """Conditions on a request; all must hold."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[list[HTTPHeaderMatch], Meta(max_length=16)] = []
    query_params: Annotated[list[HTTPQueryParamMatch], Meta(max_length=16)] = []
    method: Method | None = None


EVERY_REQUEST = HTTPRouteMatch()
"""What a rule without matches matches."""


class HTTPBackendRef(BackendRef, frozen=True, kw_only=True):
    """A weighted destination with filters of its own."""

    filters: Annotated[list[HTTPRouteFilter], Meta(max_length=16)] = []


class HTTPRouteTimeouts(Message, frozen=True, kw_only=True):
    """Timeouts of the whole request and of one attempt; ``0s`` is none."""

    request: GatewayDuration | None = None
    backend_request: GatewayDuration | None = None


class HTTPRouteRetry(Message, frozen=True, kw_only=True):
    """When and how often to try again."""

    codes: list[Annotated[int, Meta(ge=400, le=599)]] = []
    attempts: int | None = None
    backoff: GatewayDuration | None = None


class HTTPRouteRule(Message, frozen=True, kw_only=True):
    """Matches if any of ``matches`` does; none given match everything."""

    name: SectionName | None = None
    matches: Annotated[list[HTTPRouteMatch], Meta(max_length=64)] = msgspec.field(
        default_factory=lambda: [EVERY_REQUEST]
    )
    filters: Annotated[list[HTTPRouteFilter], Meta(max_length=16)] = []
    backend_refs: Annotated[list[HTTPBackendRef], Meta(max_length=16)] = []
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class HTTPRouteSpec(Message, frozen=True, kw_only=True):
    """Spec of HTTPRoute."""

    parent_refs: ParentRefs = []
    use_default_gateways: Literal["All", "None"] | None = None
    hostnames: Annotated[list[Hostname], Meta(max_length=16)] = []
    rules: Annotated[list[HTTPRouteRule], Meta(max_length=16)] = msgspec.field(
        default_factory=lambda: [HTTPRouteRule()]
    )


class HTTPRoute(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io HTTPRoute."""

    spec: HTTPRouteSpec
    status: JsonObject = {}


class GRPCMethodMatch(Message, frozen=True, kw_only=True):
    """A gRPC service, method or both."""

    type: MatchType = "Exact"
    service: Annotated[str, Meta(max_length=1024)] | None = None
    method: Annotated[str, Meta(max_length=1024)] | None = None


class GRPCRouteMatch(Message, frozen=True, kw_only=True):
    """Conditions on a call; all must hold."""

    method: GRPCMethodMatch | None = None
    headers: Annotated[list[HTTPHeaderMatch], Meta(max_length=16)] = []


class GRPCBackendRef(BackendRef, frozen=True, kw_only=True):
    """A weighted destination with filters of its own."""

    filters: Annotated[list[GRPCRouteFilter], Meta(max_length=16)] = []


class GRPCRouteRule(Message, frozen=True, kw_only=True):
    """Matches if any of ``matches`` does; none given match everything."""

    name: SectionName | None = None
    matches: Annotated[list[GRPCRouteMatch], Meta(max_length=64)] = []
    filters: Annotated[list[GRPCRouteFilter], Meta(max_length=16)] = []
    backend_refs: Annotated[list[GRPCBackendRef], Meta(max_length=16)] = []
    session_persistence: SessionPersistence | None = None


class GRPCRouteSpec(Message, frozen=True, kw_only=True):
    """Spec of GRPCRoute."""

    parent_refs: ParentRefs = []
    use_default_gateways: Literal["All", "None"] | None = None
    hostnames: Annotated[list[Hostname], Meta(max_length=16)] = []
    rules: Annotated[list[GRPCRouteRule], Meta(max_length=16)] = []


class GRPCRoute(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io GRPCRoute."""

    spec: GRPCRouteSpec
    status: JsonObject = {}


class L4RouteRule(Message, frozen=True, kw_only=True):
    """Where connections go, by weight."""

    backend_refs: Annotated[list[BackendRef], Meta(min_length=1, max_length=16)]
    name: SectionName | None = None


class L4RouteSpec(Message, frozen=True, kw_only=True):
    """Spec of TCPRoute and UDPRoute."""

    rules: Annotated[list[L4RouteRule], Meta(min_length=1, max_length=16)]
    parent_refs: ParentRefs = []
    use_default_gateways: Literal["All", "None"] | None = None


class TCPRoute(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io TCPRoute."""

    spec: L4RouteSpec
    status: JsonObject = {}


class UDPRoute(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io UDPRoute."""

    spec: L4RouteSpec
    status: JsonObject = {}


class TLSRouteSpec(Message, frozen=True, kw_only=True):
    """Spec of TLSRoute: connections by server name."""

    rules: Annotated[list[L4RouteRule], Meta(min_length=1, max_length=16)]
    parent_refs: ParentRefs = []
    use_default_gateways: Literal["All", "None"] | None = None
    hostnames: Annotated[list[Hostname], Meta(max_length=1024)] = []


class TLSRoute(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io TLSRoute."""

    spec: TLSRouteSpec
    status: JsonObject = {}
