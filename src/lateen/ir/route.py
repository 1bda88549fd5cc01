"""Route configurations: virtual hosts, routes, their matches and actions."""

from __future__ import annotations

import enum

import msgspec

from lateen.ir.origin import Origin


class MatchKind(enum.StrEnum):
    """How a text is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    """RE2, whole text."""
    PRESENT = "present"
    SUFFIX = "suffix"


class StringMatch(msgspec.Struct, frozen=True):
    """One comparison of a text."""

    kind: MatchKind
    value: str = ""
    ignore_case: bool = False


class PathKind(enum.StrEnum):
    """How a path is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    SEGMENT_PREFIX = "segment-prefix"
    """``/a`` matches ``/a`` and ``/a/b`` but not ``/ab`` (Gateway API, Ingress)."""
    REGEX = "regex"


class PathMatch(msgspec.Struct, frozen=True):
    """Comparison of the request's path."""

    kind: PathKind = PathKind.PREFIX
    value: str = "/"
    ignore_case: bool = False


class HeaderMatch(msgspec.Struct, frozen=True):
    """Comparison of one header (or pseudo-header such as ``:method``)."""

    name: str
    match: StringMatch
    invert: bool = False
    missing_as_empty: bool = False


class ClaimMatch(msgspec.Struct, frozen=True):
    """Comparison of a verified JWT claim: ``path`` from the token's payload downwards."""

    path: tuple[str, ...]
    match: StringMatch
    invert: bool = False


class QueryMatch(msgspec.Struct, frozen=True):
    """Comparison of one query parameter."""

    name: str
    match: StringMatch


class RouteMatch(msgspec.Struct, frozen=True):
    """Everything a request must satisfy (AND)."""

    path: PathMatch = PathMatch()
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    claims: tuple[ClaimMatch, ...] = ()
    grpc: bool = False


class HeaderValue(msgspec.Struct, frozen=True):
    """A header to write."""

    name: str
    value: str


class HeaderOperations(msgspec.Struct, frozen=True):
    """Changes of headers, in Istio's order: set, add, remove."""

    request_set: tuple[HeaderValue, ...] = ()
    request_add: tuple[HeaderValue, ...] = ()
    request_remove: tuple[str, ...] = ()
    response_set: tuple[HeaderValue, ...] = ()
    response_add: tuple[HeaderValue, ...] = ()
    response_remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to change."""
        return bool(
            self.request_set
            or self.request_add
            or self.request_remove
            or self.response_set
            or self.response_add
            or self.response_remove
        )


class WeightedCluster(msgspec.Struct, frozen=True):
    """One destination of a route. ``host_rewrite`` replaces the Host header for it."""

    cluster: str
    weight: int = 1
    headers: HeaderOperations = HeaderOperations()
    host_rewrite: str = ""


class RetryPolicy(msgspec.Struct, frozen=True):
    """Envoy ``RetryPolicy``; seconds."""

    attempts: int = 2
    retry_on: str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    status_codes: tuple[int, ...] = ()
    per_try_timeout: float | None = None
    base_interval: float | None = None
    host_selection_attempts: int = 5
    previous_hosts: bool = True
    previous_priorities: bool = False


class Mirror(msgspec.Struct, frozen=True):
    """A copy of requests to another cluster; ``percent`` from 0 to 100."""

    cluster: str
    percent: float = 100.0


class HashPolicy(msgspec.Struct, frozen=True):
    """What consistent hashing looks at: exactly one field is set. ``cookie_ttl`` in seconds."""

    header: str = ""
    cookie: str = ""
    cookie_path: str = ""
    cookie_ttl: float | None = None
    cookie_attributes: tuple[tuple[str, str], ...] = ()
    source_ip: bool = False
    query_parameter: str = ""


class Fault(msgspec.Struct, frozen=True):
    """Injected delay (seconds) and abort (HTTP or gRPC status), each with its percentage."""

    delay: float = 0.0
    delay_percent: float = 0.0
    abort_http: int = 0
    abort_grpc: int | None = None
    abort_percent: float = 0.0


class Cors(msgspec.Struct, frozen=True):
    """Cross-origin policy; ``max_age`` in seconds."""

    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int | None = None
    allow_credentials: bool | None = None
    forward_not_matching_preflights: bool = True


class Forward(msgspec.Struct, frozen=True):
    """Send the request on. ``timeout`` in seconds, 0 disables it."""

    clusters: tuple[WeightedCluster, ...]
    timeout: float = 0.0
    retry: RetryPolicy | None = RetryPolicy()
    prefix_rewrite: str = ""
    regex_rewrite: tuple[str, str] | None = None
    """Pattern and substitution (RE2)."""
    host_rewrite: str = ""
    auto_host_rewrite: bool = False
    append_forwarded_host: bool = False
    mirrors: tuple[Mirror, ...] = ()
    hash_policies: tuple[HashPolicy, ...] = ()
    cluster_not_found_code: int = 503
    websocket: bool = True


class Redirect(msgspec.Struct, frozen=True):
    """Answer with a redirect."""

    code: int = 301
    host: str = ""
    port: int = 0
    scheme: str = ""
    path: str = ""
    prefix_rewrite: str = ""


class DirectResponse(msgspec.Struct, frozen=True):
    """Answer without an upstream."""

    status: int
    body: bytes = b""


class NoAction(msgspec.Struct, frozen=True):
    """A match without a valid action: Envoy answers 404-like; kept so that order stays right."""


Action = Forward | Redirect | DirectResponse | NoAction


class Route(msgspec.Struct, frozen=True):
    """One entry of a virtual host."""

    name: str
    match: RouteMatch
    action: Action
    headers: HeaderOperations = HeaderOperations()
    fault: Fault | None = None
    cors: Cors | None = None
    stat_prefix: str = ""
    operation: str = ""
    """Decorator operation of traces, ``host:port/path``."""
    origins: tuple[Origin, ...] = ()


class VirtualHost(msgspec.Struct, frozen=True, weakref=True):
    """Routes of a set of host names."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...] = ()
    require_tls: bool = False
    """Redirect clear-text requests to https (``httpsRedirect``)."""
    origins: tuple[Origin, ...] = ()
    count_attempts: bool = True
    """Write ``x-envoy-attempt-count``; before an application it would hide the client's count."""


class RouteConfiguration(msgspec.Struct, frozen=True, weakref=True):
    """Envoy ``RouteConfiguration``."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...] = ()
    ignore_port_in_host: bool = True
    origins: tuple[Origin, ...] = ()
    discover_hosts: bool = False
    """Virtual hosts are resources of their own (``RouteConfiguration.vhds``), so that a change of
    one does not send all again."""
