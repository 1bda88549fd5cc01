"""ServiceExport and ServiceImport (KEP-1645), and InferencePool."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import JsonObject, Message
from lateen.api.gatewayapi.scalars import Group, Kind, ObjectName, PortNumber
from lateen.api.resource import ApiObject


class ServiceExportSpec(Message, frozen=True, kw_only=True):
    """Spec of ServiceExport."""

    exported_labels: dict[str, str] = {}
    exported_annotations: dict[str, str] = {}


class ServiceExport(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """multicluster.x-k8s.io ServiceExport: offers the Service of this name to other clusters."""

    spec: ServiceExportSpec = ServiceExportSpec()
    status: JsonObject = {}


class ImportedPort(Message, frozen=True, kw_only=True):
    """A port of an imported service."""

    port: PortNumber
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str | None = None


class ServiceImportSpec(Message, frozen=True, kw_only=True):
    """Spec of ServiceImport."""

    ports: list[ImportedPort] = []
    ips: Annotated[list[str], Meta(max_length=2)] = []
    type: Literal["ClusterSetIP", "Headless"] = "ClusterSetIP"
    session_affinity: Literal["", "None", "ClientIP"] = ""
    session_affinity_config: JsonObject | None = None
    ip_families: list[Literal["IPv4", "IPv6"]] = []
    internal_traffic_policy: str | None = None
    traffic_distribution: str | None = None


class ServiceImport(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """multicluster.x-k8s.io ServiceImport: a service under ``clusterset.local``."""

    spec: ServiceImportSpec = ServiceImportSpec()
    status: JsonObject = {}


class TargetPort(Message, frozen=True, kw_only=True):
    """A port of the pool's pods."""

    number: PortNumber


class EndpointPickerRef(Message, frozen=True, kw_only=True):
    """The service that picks a pod for each request."""

    name: ObjectName
    group: Group = ""
    kind: Kind = "Service"
    port: TargetPort | None = None
    port_number: PortNumber | None = None
    failure_mode: Literal["FailClose", "FailOpen"] = "FailClose"


class InferencePoolSpec(Message, frozen=True, kw_only=True):
    """Spec of InferencePool; ``extensionRef`` and ``targetPortNumber`` are of v1alpha2."""

    selector: JsonObject
    target_ports: Annotated[list[TargetPort], Meta(max_length=8)] = []
    app_protocol: str | None = None
    endpoint_picker_ref: EndpointPickerRef | None = None
    target_port_number: PortNumber | None = None
    extension_ref: EndpointPickerRef | None = None

    @property
    def pod_labels(self) -> dict[str, str]:
        """Labels that the pool's pods have; v1alpha2 writes them without ``matchLabels``."""
        labels = self.selector.get("matchLabels", self.selector)
        if not isinstance(labels, dict):
            return {}
        return {str(key): str(value) for key, value in labels.items()}


class InferencePool(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """inference.networking.k8s.io InferencePool: pods behind an endpoint picker."""

    spec: InferencePoolSpec
    status: JsonObject = {}
