"""``networking.istio.io`` WorkloadEntry."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lateen.api.base import JsonObject, Message, UInt32
from lateen.api.resource import ApiObject


class WorkloadEntrySpec(Message, frozen=True, kw_only=True):
    """One workload outside of Kubernetes, or an endpoint of a ServiceEntry.

    ``address`` is an IP address, a DNS name or ``unix://`` path; ``ports`` maps service port names
    to the numbers the workload listens on.
    """

    address: Annotated[str, Meta(max_length=256)] = ""
    ports: Annotated[dict[str, UInt32], Meta(max_length=128)] = {}
    labels: Annotated[dict[str, str], Meta(max_length=256)] = {}
    network: Annotated[str, Meta(max_length=2048)] = ""
    locality: Annotated[str, Meta(max_length=2048)] = ""
    weight: UInt32 = 0
    service_account: Annotated[str, Meta(max_length=253)] = ""


class WorkloadEntry(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1`` WorkloadEntry."""

    spec: WorkloadEntrySpec
    status: JsonObject = {}
