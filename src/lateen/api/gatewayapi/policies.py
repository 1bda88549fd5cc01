"""ReferenceGrant, BackendTLSPolicy and XBackendTrafficPolicy."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from lateen.api.base import JsonObject, Message
from lateen.api.gatewayapi.filters import SessionPersistence
from lateen.api.gatewayapi.scalars import (
    AbsoluteURI,
    GatewayDuration,
    Group,
    Hostname,
    Kind,
    LocalObjectReference,
    Namespace,
    ObjectName,
    Options,
    PreciseHostname,
    SectionName,
)
from lateen.api.resource import ApiObject


class ReferenceGrantFrom(Message, frozen=True, kw_only=True):
    """Objects that may refer."""

    group: Group
    kind: Kind
    namespace: Namespace


class ReferenceGrantTo(Message, frozen=True, kw_only=True):
    """Objects that may be referred to; all of the kind if no name is given."""

    group: Group
    kind: Kind
    name: ObjectName | None = None


class ReferenceGrantSpec(Message, frozen=True, kw_only=True):
    """Spec of ReferenceGrant."""

    from_: Annotated[list[ReferenceGrantFrom], Meta(min_length=1, max_length=16)]
    to: Annotated[list[ReferenceGrantTo], Meta(min_length=1, max_length=16)]


class ReferenceGrant(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io ReferenceGrant."""

    spec: ReferenceGrantSpec


class LocalPolicyTargetReference(Message, frozen=True, kw_only=True):
    """An object of the same namespace that a policy is for."""

    group: Group
    kind: Kind
    name: ObjectName


class LocalPolicyTargetReferenceWithSectionName(
    LocalPolicyTargetReference, frozen=True, kw_only=True
):
    """A part (such as a service port by name) of an object that a policy is for."""

    section_name: SectionName | None = None


class SubjectAltName(Message, frozen=True, kw_only=True):
    """A name that the backend's certificate may have."""

    type: Literal["Hostname", "URI"]
    hostname: Hostname | None = None
    uri: AbsoluteURI | None = None


class BackendTLSPolicyValidation(Message, frozen=True, kw_only=True):
    """How a backend's certificate is verified: ``hostname`` is the server name and,
    without ``subject_alt_names``, the name that the certificate must have."""

    hostname: PreciseHostname
    ca_certificate_refs: Annotated[list[LocalObjectReference], Meta(max_length=8)] = []
    well_known_ca_certificates: Literal["System", ""] = msgspec.field(
        name="wellKnownCACertificates", default=""
    )
    subject_alt_names: Annotated[list[SubjectAltName], Meta(max_length=5)] = []


class BackendTLSPolicySpec(Message, frozen=True, kw_only=True):
    """Spec of BackendTLSPolicy."""

    target_refs: Annotated[
        list[LocalPolicyTargetReferenceWithSectionName], Meta(min_length=1, max_length=16)
    ]
    validation: BackendTLSPolicyValidation
    options: Options = {}


class BackendTLSPolicy(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.k8s.io BackendTLSPolicy."""

    spec: BackendTLSPolicySpec
    status: JsonObject = {}


class BudgetDetails(Message, frozen=True, kw_only=True):
    """How much of the traffic of an interval may be retries."""

    percent: Annotated[int, Meta(ge=0, le=100)] = 20
    interval: GatewayDuration = "10s"


class RequestRate(Message, frozen=True, kw_only=True):
    """``count`` requests per ``interval``."""

    count: Annotated[int, Meta(ge=1, le=1000000)] | None = None
    interval: GatewayDuration | None = None


class RetryConstraint(Message, frozen=True, kw_only=True):
    """Limits retries to a share of the traffic, with a minimum rate."""

    budget: BudgetDetails = BudgetDetails()
    min_retry_rate: RequestRate = RequestRate(count=10, interval="1s")


class BackendTrafficPolicySpec(Message, frozen=True, kw_only=True):
    """Spec of XBackendTrafficPolicy."""

    target_refs: Annotated[list[LocalPolicyTargetReference], Meta(min_length=1, max_length=16)]
    retry_constraint: RetryConstraint | None = None
    session_persistence: SessionPersistence | None = None


class XBackendTrafficPolicy(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """gateway.networking.x-k8s.io XBackendTrafficPolicy."""

    spec: BackendTrafficPolicySpec
    status: JsonObject = {}
