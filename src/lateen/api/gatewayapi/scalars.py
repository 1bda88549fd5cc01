"""Scalar types and references that Gateway API's kinds share (``apis/v1/shared_types.go``)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lateen.api.base import Message

GATEWAY_GROUP = "gateway.networking.k8s.io"
EXPERIMENTAL_GROUP = "gateway.networking.x-k8s.io"

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

Group = Annotated[str, Meta(max_length=253, pattern=rf"^$|^{_SUBDOMAIN}$")]
Kind = Annotated[
    str, Meta(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
]
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
Namespace = Annotated[
    str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
]
SectionName = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^{_SUBDOMAIN}$")]
Hostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^(\*\.)?{_SUBDOMAIN}$")]
PreciseHostname = Annotated[str, Meta(min_length=1, max_length=253, pattern=rf"^{_SUBDOMAIN}$")]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
GatewayDuration = Annotated[str, Meta(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
"""GEP-2257 duration such as ``1h30m`` or ``500ms``; a subset of what Go reads."""
HeaderName = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$")
]
LabelKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^({_SUBDOMAIN}/)?([A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]$",
    ),
]
LabelValue = Annotated[
    str, Meta(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]
AnnotationValue = Annotated[str, Meta(max_length=4096)]
Options = Annotated[dict[LabelKey, AnnotationValue], Meta(max_length=16)]
AbsoluteURI = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\?([^#]*))?(#(.*))?",
    ),
]
HEADER_VALUE = Meta(min_length=1, max_length=4096)


class LocalObjectReference(Message, frozen=True, kw_only=True):
    """An object of the same namespace."""

    group: Group
    kind: Kind
    name: ObjectName


class ObjectReference(Message, frozen=True, kw_only=True):
    """An object; another ``namespace`` needs a ReferenceGrant there."""

    group: Group
    kind: Kind
    name: ObjectName
    namespace: Namespace | None = None


class SecretObjectReference(Message, frozen=True, kw_only=True):
    """A Secret unless ``kind`` says otherwise; another ``namespace`` needs a ReferenceGrant."""

    name: ObjectName
    group: Group = ""
    kind: Kind = "Secret"
    namespace: Namespace | None = None


class ParentReference(Message, frozen=True, kw_only=True):
    """What a route attaches to: a Gateway (listener ``section_name``, ``port``) or a Service."""

    name: ObjectName
    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: Namespace | None = None
    section_name: SectionName | None = None
    port: PortNumber | None = None


class BackendObjectReference(Message, frozen=True, kw_only=True):
    """Where requests go: a Service unless ``kind`` says otherwise; a Service needs ``port``."""

    name: ObjectName
    group: Group = ""
    kind: Kind = "Service"
    namespace: Namespace | None = None
    port: PortNumber | None = None


class BackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A weighted destination; its share is its weight over the sum of weights."""

    weight: Annotated[int, Meta(ge=0, le=1000000)] = 1


class Fraction(Message, frozen=True, kw_only=True):
    """``numerator`` of ``denominator``."""

    numerator: Annotated[int, Meta(ge=0, le=2147483647)]
    denominator: Annotated[int, Meta(ge=1, le=2147483647)] = 100


class LabelSelectorRequirement(Message, frozen=True, kw_only=True):
    """One condition of a Kubernetes label selector."""

    key: str
    operator: str
    values: list[str] = []


class LabelSelector(Message, frozen=True, kw_only=True):
    """Kubernetes ``metav1.LabelSelector``; all conditions must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []
