"""``networking.istio.io`` VirtualService."""

from __future__ import annotations

from typing import Literal

from lateen.api.base import Duration, Int32, JsonObject, Message, UInt32
from lateen.api.resource import ApiObject


class StringMatch(Message, frozen=True, kw_only=True):
    """Exactly one of the three; RE2 syntax for ``regex``. None set matches presence."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class Percent(Message, frozen=True, kw_only=True):
    """A percentage from 0 to 100, fractions allowed."""

    value: float = 0.0


class PortSelector(Message, frozen=True, kw_only=True):
    """A port by number."""

    number: UInt32 = 0


class Destination(Message, frozen=True, kw_only=True):
    """Where traffic goes: a service of the registry, its subset and port."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Message, frozen=True, kw_only=True):
    """Headers to set (overwrite), add (append) and remove."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: list[str] = []


class Headers(Message, frozen=True, kw_only=True):
    """Header changes on the way in and on the way back."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HTTPMatchRequest(Message, frozen=True, kw_only=True):
    """Conditions on a request; all must hold."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: list[str] = []
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    without_headers: dict[str, StringMatch] = {}
    source_namespace: str = ""
    stat_prefix: str = ""


class HTTPRouteDestination(Message, frozen=True, kw_only=True):
    """One weighted destination of an HTTP route."""

    destination: Destination
    weight: Int32 = 0
    headers: Headers | None = None


class RouteDestination(Message, frozen=True, kw_only=True):
    """One weighted destination of a TCP or TLS route."""

    destination: Destination
    weight: Int32 = 0


class HTTPRedirect(Message, frozen=True, kw_only=True):
    """A redirect. ``port`` excludes ``derivePort``, ``uri`` excludes ``prefixRewrite``."""

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0


class HTTPBody(Message, frozen=True, kw_only=True):
    """The body of a direct response: text, or base64 bytes."""

    string: str | None = None
    bytes: str | None = None


class HTTPDirectResponse(Message, frozen=True, kw_only=True):
    """Answer from the proxy itself."""

    status: UInt32
    body: HTTPBody | None = None


class RegexRewrite(Message, frozen=True, kw_only=True):
    """Rewrite the path by an RE2 expression; ``rewrite`` may refer to groups as ``\\1``."""

    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Message, frozen=True, kw_only=True):
    """Change path or authority before forwarding."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HTTPRetry(Message, frozen=True, kw_only=True):
    """Retry policy. Zero attempts switch retries off."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class CorsPolicy(Message, frozen=True, kw_only=True):
    """Cross-origin resource sharing."""

    allow_origin: list[str] = []
    allow_origins: list[StringMatch] = []
    allow_methods: list[str] = []
    allow_headers: list[str] = []
    expose_headers: list[str] = []
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class FaultDelay(Message, frozen=True, kw_only=True):
    """Delay a share of requests."""

    percent: Int32 = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


class FaultAbort(Message, frozen=True, kw_only=True):
    """Answer a share of requests with an error."""

    percent: Int32 = 0
    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HTTPFaultInjection(Message, frozen=True, kw_only=True):
    """Faults to inject for tests of resilience."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HTTPMirrorPolicy(Message, frozen=True, kw_only=True):
    """Send a copy of a share of requests to ``destination``, whose answers are dropped."""

    destination: Destination
    percentage: Percent | None = None


class Delegate(Message, frozen=True, kw_only=True):
    """Another VirtualService that has the routes."""

    name: str = ""
    namespace: str = ""


class HTTPRoute(Message, frozen=True, kw_only=True):
    """One rule for HTTP, HTTP/2 and gRPC traffic. Rules are tried in order."""

    name: str = ""
    match: list[HTTPMatchRequest] = []
    route: list[HTTPRouteDestination] = []
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: list[HTTPMirrorPolicy] = []
    mirror_percent: UInt32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None
    websocket_upgrade: bool | None = None
    """Removed from Istio; objects of old still have it. WebSockets work without."""


class TLSMatchAttributes(Message, frozen=True, kw_only=True):
    """Conditions on a TLS connection that is not terminated."""

    sni_hosts: list[str]
    destination_subnets: list[str] = []
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: list[str] = []
    source_namespace: str = ""


class TLSRoute(Message, frozen=True, kw_only=True):
    """One rule for TLS traffic by SNI."""

    match: list[TLSMatchAttributes]
    route: list[RouteDestination] = []


class L4MatchAttributes(Message, frozen=True, kw_only=True):
    """Conditions on a TCP connection."""

    destination_subnets: list[str] = []
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: dict[str, str] = {}
    gateways: list[str] = []
    source_namespace: str = ""


class TCPRoute(Message, frozen=True, kw_only=True):
    """One rule for opaque TCP traffic."""

    match: list[L4MatchAttributes] = []
    route: list[RouteDestination] = []


class VirtualServiceSpec(Message, frozen=True, kw_only=True):
    """Routing rules for hosts. No hosts: a delegate that others refer to."""

    hosts: list[str] = []
    gateways: list[str] = []
    http: list[HTTPRoute] = []
    tls: list[TLSRoute] = []
    tcp: list[TCPRoute] = []
    export_to: list[str] = []


class VirtualService(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1`` VirtualService."""

    spec: VirtualServiceSpec = VirtualServiceSpec()
    status: JsonObject = {}
