"""``extensionProviders`` of the mesh configuration: authorizers, tracers, log and metric sinks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import Duration, JsonObject, Message, UInt32


class RequestBody(Message, frozen=True, kw_only=True):
    """How much of a request's body an authorizer sees, in bytes."""

    max_request_bytes: UInt32 = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class ServiceProvider(Message, frozen=True, kw_only=True):
    """A provider that is a service: ``[NAMESPACE/]HOST`` and a port."""

    service: str = ""
    port: UInt32 = 0


class ExtAuthzGrpc(ServiceProvider, frozen=True, kw_only=True):
    """An authorizer that speaks Envoy's ext_authz over gRPC. The timeout is 600 s by default."""

    timeout: Duration | None = None
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_request_body_in_check: RequestBody | None = None


class ExtAuthzHttp(ExtAuthzGrpc, frozen=True, kw_only=True):
    """An authorizer that answers HTTP requests; header lists take ``x*`` and ``*x``."""

    path_prefix: str = ""
    include_headers_in_check: list[str] = []
    include_request_headers_in_check: list[str] = []
    include_additional_headers_in_check: dict[str, str] = {}
    headers_to_upstream_on_allow: list[str] = []
    headers_to_downstream_on_deny: list[str] = []
    headers_to_downstream_on_allow: list[str] = []

    @property
    def request_headers(self) -> list[str]:
        """Request headers that the authorizer sees, also when listed under the older name."""
        return self.include_request_headers_in_check or self.include_headers_in_check


class HttpHeader(Message, frozen=True, kw_only=True):
    """A header with a value, or the name of an environment variable that holds it."""

    name: str = ""
    value: str | None = None
    env_name: str | None = None


class HttpService(Message, frozen=True, kw_only=True):
    """How a collector is reached over HTTP."""

    path: str = ""
    timeout: Duration | None = None
    headers: list[HttpHeader] = []


class GrpcService(Message, frozen=True, kw_only=True):
    """How a collector is reached over gRPC."""

    timeout: Duration | None = None
    initial_metadata: list[HttpHeader] = []


class ZipkinProvider(ServiceProvider, frozen=True, kw_only=True):
    """A Zipkin collector; the path is ``/api/v2/spans`` by default."""

    max_tag_length: UInt32 = 0
    enable_64bit_trace_id: bool = False
    path: str = ""
    trace_context_option: Literal["USE_B3", "USE_B3_WITH_W3C_PROPAGATION"] = "USE_B3"
    timeout: Duration | None = None
    headers: list[HttpHeader] = []


class LightstepProvider(ServiceProvider, frozen=True, kw_only=True):
    """A Lightstep collector (deprecated by Istio)."""

    access_token: str = ""
    max_tag_length: UInt32 = 0


class DatadogProvider(ServiceProvider, frozen=True, kw_only=True):
    """A Datadog agent."""

    max_tag_length: UInt32 = 0


class SkyWalkingProvider(ServiceProvider, frozen=True, kw_only=True):
    """A SkyWalking receiver."""

    access_token: str = ""


class OpenCensusProvider(ServiceProvider, frozen=True, kw_only=True):
    """An OpenCensus agent (deprecated by Istio)."""

    context: list[str] = []
    max_tag_length: UInt32 = 0


class ResourceDetectors(Message, frozen=True, kw_only=True):
    """What fills OpenTelemetry resource attributes."""

    environment: JsonObject | None = None
    dynatrace: JsonObject | None = None


class DynatraceSampler(Message, frozen=True, kw_only=True):
    """Sampling that Dynatrace steers."""

    tenant: str = ""
    cluster_id: int = 0
    root_spans_per_minute: UInt32 = 0
    http_service: JsonObject | None = None


class OpenTelemetryProvider(ServiceProvider, frozen=True, kw_only=True):
    """An OpenTelemetry collector: gRPC unless ``http`` is given."""

    max_tag_length: UInt32 = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: ResourceDetectors | None = None
    dynatrace_sampler: DynatraceSampler | None = None
    service_attribute_enrichment: Literal["ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS"] | None = (
        None
    )


class LogFormat(Message, frozen=True, kw_only=True):
    """An access log line: ``text`` or JSON ``labels``, with Envoy's command operators."""

    text: str | None = None
    labels: JsonObject | None = None


class FileAccessLogProvider(Message, frozen=True, kw_only=True):
    """Access logs in a file, ``/dev/stdout`` by default."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: bool = False


class TcpAccessLogProvider(ServiceProvider, frozen=True, kw_only=True):
    """Envoy's gRPC access log service for TCP."""

    log_name: str = ""
    filter_state_objects_to_log: list[str] = []


class HttpAccessLogProvider(TcpAccessLogProvider, frozen=True, kw_only=True):
    """Envoy's gRPC access log service for HTTP."""

    additional_request_headers_to_log: list[str] = []
    additional_response_headers_to_log: list[str] = []
    additional_response_trailers_to_log: list[str] = []


class OpenTelemetryLogProvider(ServiceProvider, frozen=True, kw_only=True):
    """OpenTelemetry logs."""

    log_name: str = ""
    log_format: LogFormat | None = None
    filter_state_objects_to_log: list[str] = []


class SecretProvider(ServiceProvider, frozen=True, kw_only=True):
    """A remote secret discovery service, for ``sds://`` credentials."""

    name: str = ""


class ExtensionProvider(Message, frozen=True, kw_only=True):
    """A named provider: exactly one of its kinds is set."""

    name: str = ""
    envoy_ext_authz_http: ExtAuthzHttp | None = None
    envoy_ext_authz_grpc: ExtAuthzGrpc | None = None
    zipkin: ZipkinProvider | None = None
    lightstep: LightstepProvider | None = None
    datadog: DatadogProvider | None = None
    stackdriver: JsonObject | None = None
    opencensus: OpenCensusProvider | None = None
    skywalking: SkyWalkingProvider | None = None
    opentelemetry: OpenTelemetryProvider | None = None
    prometheus: JsonObject | None = None
    envoy_file_access_log: FileAccessLogProvider | None = None
    envoy_http_als: HttpAccessLogProvider | None = None
    envoy_tcp_als: TcpAccessLogProvider | None = None
    envoy_otel_als: OpenTelemetryLogProvider | None = None
    sds: SecretProvider | None = None

    @property
    def kinds(self) -> list[str]:
        """Fields that are set, besides the name; one if the provider is well-formed."""
        return [
            field
            for field in self.__struct_fields__
            if field != "name" and getattr(self, field) is not None
        ]


BUILT_IN_PROVIDERS = (
    ExtensionProvider(name="prometheus", prometheus={}),
    ExtensionProvider(name="stackdriver", stackdriver={}),
    ExtensionProvider(
        name="envoy", envoy_file_access_log=FileAccessLogProvider(path="/dev/stdout")
    ),
)
"""Providers that exist in every mesh unless it defines others of these names."""


class DefaultProviders(Message, frozen=True, kw_only=True):
    """Names of the providers used where a Telemetry names none."""

    tracing: list[str] = []
    metrics: list[str] = []
    access_logging: list[str] = []


ProviderList = Annotated[list[ExtensionProvider], Meta(max_length=1024)]
