"""``networking.istio.io`` WorkloadGroup."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lateen.api.base import Int32, JsonObject, Message, UInt32
from lateen.api.networking.workload_entry import WorkloadEntrySpec
from lateen.api.resource import ApiObject


class WorkloadGroupMetadata(Message, frozen=True, kw_only=True):
    """Labels and annotations of the entries that are made."""

    labels: Annotated[dict[str, str], Meta(max_length=256)] = {}
    annotations: Annotated[dict[str, str], Meta(max_length=256)] = {}


class HTTPHeader(Message, frozen=True, kw_only=True):
    """A header of a probe."""

    name: str = ""
    value: str = ""


class HTTPHealthCheckConfig(Message, frozen=True, kw_only=True):
    """Probe by HTTP GET."""

    path: str = ""
    port: UInt32
    host: str = ""
    scheme: str = ""
    http_headers: list[HTTPHeader] = []


class TCPHealthCheckConfig(Message, frozen=True, kw_only=True):
    """Probe by opening a connection."""

    host: str = ""
    port: UInt32


class ExecHealthCheckConfig(Message, frozen=True, kw_only=True):
    """Probe by running a command in the workload."""

    command: list[Annotated[str, Meta(min_length=1)]]


class GrpcHealthCheckConfig(Message, frozen=True, kw_only=True):
    """Probe by the gRPC health protocol."""

    port: UInt32 = 0
    service: str = ""


class ReadinessProbe(Message, frozen=True, kw_only=True):
    """How the agent of a workload checks it; exactly one method."""

    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    http_get: HTTPHealthCheckConfig | None = None
    tcp_socket: TCPHealthCheckConfig | None = None
    exec: ExecHealthCheckConfig | None = None
    grpc: GrpcHealthCheckConfig | None = None


class WorkloadGroupSpec(Message, frozen=True, kw_only=True):
    """Template of the WorkloadEntry objects of machines that register themselves."""

    metadata: WorkloadGroupMetadata | None = None
    template: WorkloadEntrySpec
    probe: ReadinessProbe | None = None


class WorkloadGroup(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1`` WorkloadGroup."""

    spec: WorkloadGroupSpec
    status: JsonObject = {}
