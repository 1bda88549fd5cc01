"""Messages that several networking kinds share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lateen.api.base import Message

SelectorLabels = Annotated[
    dict[str, Annotated[str, Meta(max_length=63)]],
    Meta(max_length=4096),
]


class LabelsSelector(Message, frozen=True, kw_only=True):
    """``networking.istio.io`` WorkloadSelector: workloads of the namespace by labels."""

    labels: SelectorLabels = {}


class MatchLabelsSelector(Message, frozen=True, kw_only=True):
    """``type.istio.io`` WorkloadSelector: workloads of the namespace by labels."""

    match_labels: SelectorLabels = {}


class PolicyTargetReference(Message, frozen=True, kw_only=True):
    """``type.istio.io`` PolicyTargetReference: what a policy attaches to."""

    group: str = ""
    kind: Annotated[
        str, Meta(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    namespace: str = ""
