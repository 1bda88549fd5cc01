"""Telemetry: metrics, tracing and access logs (Istio ``telemetry/v1/telemetry.proto``)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import Duration, JsonObject, Message
from lateen.api.resource import ApiObject
from lateen.api.security.attachment import (
    PolicyTargetReference,
    TargetReferences,
    WorkloadSelector,
)

Text = Annotated[str, Meta(min_length=1)]

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
"""The side of the traffic: CLIENT is outbound and gateways, SERVER is inbound."""

Metric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]
"""Istio's standard metrics."""


class ProviderRef(Message, frozen=True, kw_only=True):
    """Names an ``extensionProviders`` entry of the mesh configuration."""

    name: Text


class LiteralTag(Message, frozen=True, kw_only=True):
    """A fixed tag value."""

    value: Text


class Environment(Message, frozen=True, kw_only=True):
    """A tag value from an environment variable of the proxy."""

    name: Text
    default_value: str = ""


class RequestHeader(Message, frozen=True, kw_only=True):
    """A tag value from a request header."""

    name: Text
    default_value: str = ""


class Formatter(Message, frozen=True, kw_only=True):
    """A tag value from Envoy's access log command operators, such as ``%REQ(x)%``."""

    value: Text


class CustomTag(Message, frozen=True, kw_only=True):
    """Where a span tag's value comes from: exactly one of the four."""

    literal: LiteralTag | None = None
    environment: Environment | None = None
    header: RequestHeader | None = None
    formatter: Formatter | None = None


class ModeSelector(Message, frozen=True, kw_only=True):
    """Restricts a setting to one side of the traffic."""

    mode: Mode = "CLIENT_AND_SERVER"


class Tracing(Message, frozen=True, kw_only=True):
    """Tracing of the selected workloads; absent fields come from the wider scope."""

    match: ModeSelector | None = None
    providers: list[ProviderRef] = []
    random_sampling_percentage: Annotated[float, Meta(ge=0, le=100)] | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = {}
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None


class MetricSelector(Message, frozen=True, kw_only=True):
    """Which metrics an override is for: a standard one, a custom one, or all."""

    metric: Metric | None = None
    custom_metric: Text | None = None
    mode: Mode = "CLIENT_AND_SERVER"


class TagOverride(Message, frozen=True, kw_only=True):
    """Sets a label to the value of a CEL expression, or removes it."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricsOverrides(Message, frozen=True, kw_only=True):
    """Changes of the matched metrics."""

    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = {}


class Metrics(Message, frozen=True, kw_only=True):
    """Metrics of the selected workloads."""

    providers: list[ProviderRef] = []
    overrides: list[MetricsOverrides] = []
    reporting_interval: Duration | None = None


class Filter(Message, frozen=True, kw_only=True):
    """A CEL expression over Envoy's attributes; entries for which it is true are logged."""

    expression: str = ""


class AccessLogging(Message, frozen=True, kw_only=True):
    """Access logs of the selected workloads."""

    match: ModeSelector | None = None
    providers: list[ProviderRef] = []
    disabled: bool | None = None
    filter: Filter | None = None


class TelemetrySpec(Message, frozen=True, kw_only=True):
    """Spec of Telemetry."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: TargetReferences = []
    tracing: list[Tracing] = []
    metrics: list[Metrics] = []
    access_logging: list[AccessLogging] = []


class Telemetry(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """telemetry.istio.io Telemetry."""

    spec: TelemetrySpec = TelemetrySpec()
    status: JsonObject = {}
