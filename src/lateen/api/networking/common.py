"""Messages that several networking kinds share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lateen.api.base import Message

_LabelValue = Annotated[str, Meta(max_length=63)]
_GROUP = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class LabelsSelector(Message, frozen=True, kw_only=True):
    """``networking.istio.io`` WorkloadSelector: workloads of the namespace by labels."""

    labels: Annotated[dict[str, _LabelValue], Meta(max_length=256)] = {}


class MatchLabelsSelector(Message, frozen=True, kw_only=True):
    """``type.istio.io`` WorkloadSelector: workloads of the namespace by labels."""

    match_labels: Annotated[dict[str, _LabelValue], Meta(max_length=4096)] = {}


class PolicyTargetReference(Message, frozen=True, kw_only=True):
    """``type.istio.io`` PolicyTargetReference: what a policy attaches to."""

    group: Annotated[str, Meta(max_length=253, pattern=_GROUP)] = ""
    kind: Annotated[
        str, Meta(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    namespace: str = ""
