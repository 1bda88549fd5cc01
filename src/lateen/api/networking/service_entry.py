"""``networking.istio.io`` ServiceEntry."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import JsonObject, Message, UInt32
from lateen.api.networking.common import LabelsSelector
from lateen.api.networking.workload_entry import WorkloadEntrySpec
from lateen.api.resource import ApiObject


class ServicePort(Message, frozen=True, kw_only=True):
    """A port of the service; ``targetPort`` is the endpoints' port when it differs."""

    number: UInt32
    protocol: Annotated[str, Meta(max_length=256)] = ""
    name: Annotated[str, Meta(max_length=256)]
    target_port: Annotated[int, Meta(ge=1, le=4294967295)] = 0


class ServiceEntrySpec(Message, frozen=True, kw_only=True):
    """A service that is added to the registry."""

    hosts: Annotated[list[str], Meta(min_length=1, max_length=256)]
    addresses: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=256)] = []
    ports: Annotated[list[ServicePort], Meta(max_length=256)] = []
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: Annotated[list[WorkloadEntrySpec], Meta(max_length=4096)] = []
    workload_selector: LabelsSelector | None = None
    export_to: list[str] = []
    subject_alt_names: list[str] = []


class ServiceEntryAddress(Message, frozen=True, kw_only=True):
    """An address that was allocated for a host."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(Message, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Conditions and the allocated addresses."""

    conditions: list[JsonObject] = []
    validation_messages: list[JsonObject] = []
    observed_generation: int | str = 0
    addresses: list[ServiceEntryAddress] = []


class ServiceEntry(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1`` ServiceEntry."""

    spec: ServiceEntrySpec
    status: ServiceEntryStatus = ServiceEntryStatus()
