"""Filters and session persistence of Gateway API routes (``apis/v1/httproute_types.go``)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import Message
from lateen.api.gatewayapi.scalars import (
    HEADER_VALUE,
    BackendObjectReference,
    Fraction,
    GatewayDuration,
    HeaderName,
    LocalObjectReference,
    PortNumber,
    PreciseHostname,
)

PathText = Annotated[str, Meta(max_length=1024)]
Origin = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"(^\*$)|(^([a-zA-Z][a-zA-Z0-9+\-.]+):\/\/([^:/?#]+)(:([0-9]{1,5}))?$)",
    ),
]


class HTTPHeader(Message, frozen=True, kw_only=True):
    """A header with its value."""

    name: HeaderName
    value: Annotated[str, HEADER_VALUE]


class HTTPHeaderFilter(Message, frozen=True, kw_only=True):
    """Header changes: overwrite, append, remove."""

    set: Annotated[list[HTTPHeader], Meta(max_length=16)] = []
    add: Annotated[list[HTTPHeader], Meta(max_length=16)] = []
    remove: Annotated[list[str], Meta(max_length=16)] = []


class HTTPPathModifier(Message, frozen=True, kw_only=True):
    """A new path, or a new prefix for the prefix that matched."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: PathText | None = None
    replace_prefix_match: PathText | None = None


class HTTPRequestRedirectFilter(Message, frozen=True, kw_only=True):
    """Answers with a redirect; absent parts are those of the request."""

    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class HTTPURLRewriteFilter(Message, frozen=True, kw_only=True):
    """Changes host name and path on the way to the backend."""

    hostname: PreciseHostname | None = None
    path: HTTPPathModifier | None = None


class HTTPRequestMirrorFilter(Message, frozen=True, kw_only=True):
    """Sends a copy of requests (all, a percentage or a fraction) and ignores the answers."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


class HTTPCORSFilter(Message, frozen=True, kw_only=True):
    """Cross-origin resource sharing; ``max_age`` in seconds."""

    allow_origins: Annotated[list[Origin], Meta(max_length=64)] = []
    allow_credentials: bool | None = None
    allow_methods: Annotated[
        list[
            Literal[
                "GET",
                "HEAD",
                "POST",
                "PUT",
                "DELETE",
                "CONNECT",
                "OPTIONS",
                "TRACE",
                "PATCH",
                "*",
            ]
        ],
        Meta(max_length=9),
    ] = []
    allow_headers: Annotated[list[HeaderName], Meta(max_length=64)] = []
    expose_headers: Annotated[list[HeaderName], Meta(max_length=64)] = []
    max_age: Annotated[int, Meta(ge=1, le=2147483647)] = 5


class GRPCAuthConfig(Message, frozen=True, kw_only=True):
    """Settings of an authorizer that speaks Envoy's ext_authz over gRPC."""

    allowed_headers: Annotated[list[str], Meta(max_length=64)] = []


class HTTPAuthConfig(Message, frozen=True, kw_only=True):
    """Settings of an authorizer that speaks HTTP."""

    path: Annotated[
        str,
        Meta(
            max_length=1024,
            pattern=r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$",
        ),
    ] = "/"
    allowed_headers: Annotated[list[str], Meta(max_length=64)] = []
    allowed_response_headers: Annotated[list[str], Meta(max_length=64)] = []


class ForwardBodyConfig(Message, frozen=True, kw_only=True):
    """How many bytes of the body the authorizer sees; 0 none."""

    max_size: Annotated[int, Meta(ge=0, le=65535)] = 0


class HTTPExternalAuthFilter(Message, frozen=True, kw_only=True):
    """Asks an external authorizer."""

    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectReference
    grpc: GRPCAuthConfig | None = None
    http: HTTPAuthConfig | None = None
    forward_body: ForwardBodyConfig | None = None


FilterType = Literal[
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "ExtensionRef",
    "CORS",
    "ExternalAuth",
]


class HTTPRouteFilter(Message, frozen=True, kw_only=True):
    """One processing step; the field that ``type`` names holds its settings."""

    type: FilterType
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


class GRPCRouteFilter(Message, frozen=True, kw_only=True):
    """One processing step of a GRPCRoute."""

    type: Literal[
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"
    ]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None


class CookieConfig(Message, frozen=True, kw_only=True):
    """How long a session cookie lives."""

    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(Message, frozen=True, kw_only=True):
    """Keeps a client's requests on one backend."""

    session_name: Annotated[str, Meta(max_length=128)] | None = None
    absolute_timeout: GatewayDuration | None = None
    idle_timeout: GatewayDuration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None
