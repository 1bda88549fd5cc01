"""How a policy says which workloads it is for: a selector, or references to the targets.

Istio ``type/v1beta1/selector.proto``; shared by the security, telemetry and extension groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Protocol

from msgspec import Meta

from lateen.api.base import Message, UInt32
from lateen.api.findings import FieldPath
from lateen.api.report import Report
from lateen.api.security.rules import (
    BAD_TARGET,
    EMPTY_SELECTOR,
    SEVERAL_ATTACHMENTS,
    WILDCARD_SELECTOR,
)

DRY_RUN_ANNOTATION = "istio.io/dry-run"
"""``true`` on an AuthorizationPolicy: evaluate and report, do not enforce."""

GATEWAY_GROUP = "gateway.networking.k8s.io"

_GROUP_PATTERN = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_KIND_PATTERN = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"

_TARGETS = {
    ("", "Service"): "Service",
    ("networking.istio.io", "ServiceEntry"): "ServiceEntry.networking.istio.io",
    (GATEWAY_GROUP, "Gateway"): f"Gateway.{GATEWAY_GROUP}",
    (GATEWAY_GROUP, "GatewayClass"): f"GatewayClass.{GATEWAY_GROUP}",
}


WorkloadMode = Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"]
"""The side of a request that a workload is on; a gateway counts as the client."""


class WorkloadSelector(Message, frozen=True, kw_only=True):
    """Selects workloads whose labels hold all of ``match_labels``; none given selects all."""

    match_labels: Annotated[
        dict[
            Annotated[str, Meta(max_length=317)],
            Annotated[str, Meta(max_length=63)],
        ],
        Meta(max_length=4096),
    ] = {}


class PortSelector(Message, frozen=True, kw_only=True):
    """A port, by number (1-65535)."""

    number: UInt32 = 0


class PolicyTargetReference(Message, frozen=True, kw_only=True):
    """Names the Gateway, GatewayClass, Service or ServiceEntry that a policy is for.

    ``group`` may be ``""`` or ``core`` for a Service. ``namespace`` must stay empty.
    """

    kind: Annotated[str, Meta(min_length=1, max_length=63, pattern=_KIND_PATTERN)]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    group: Annotated[str, Meta(max_length=253, pattern=_GROUP_PATTERN)] = ""
    namespace: str = ""

    @property
    def api_group(self) -> str:
        """``group`` with Kubernetes' core group as an empty string."""
        return "" if self.group == "core" else self.group


TargetReferences = Annotated[list[PolicyTargetReference], Meta(max_length=16)]


class AttachedSpec(Protocol):
    """A spec that carries the attachment fields of a policy."""

    @property
    def selector(self) -> WorkloadSelector | None: ...
    @property
    def target_ref(self) -> PolicyTargetReference | None: ...
    @property
    def target_refs(self) -> Sequence[PolicyTargetReference]: ...


def targets(spec: AttachedSpec) -> tuple[PolicyTargetReference, ...]:
    """All references of a policy, whether written as ``targetRef`` or as ``targetRefs``."""
    single = (spec.target_ref,) if spec.target_ref is not None else ()
    return (*single, *spec.target_refs)


def validate_attachment(spec: AttachedSpec, report: Report) -> None:
    """Check the selector and the target references, and that only one way is used."""
    validate_selector(spec.selector, report)
    used = [
        name
        for name, given in (
            ("selector", spec.selector is not None),
            ("targetRef", spec.target_ref is not None),
            ("targetRefs", bool(spec.target_refs)),
        )
        if given
    ]
    if len(used) > 1:
        report.error(
            SEVERAL_ATTACHMENTS,
            ("spec", used[1]),
            f"{' and '.join(used)} are set, only one of them may be",
            "Keep targetRefs for gateways and waypoints, selector for sidecars.",
        )
    if spec.target_ref is not None:
        _validate_target(spec.target_ref, ("spec", "targetRef"), report)
    for index, reference in enumerate(spec.target_refs):
        _validate_target(reference, ("spec", "targetRefs", index), report)


def validate_selector(
    selector: WorkloadSelector | None,
    report: Report,
    path: FieldPath = ("spec", "selector"),
) -> None:
    """Check a workload selector: no wildcards, no empty keys, and a warning when it is empty."""
    if selector is None:
        return
    labels: Mapping[str, str] = selector.match_labels
    if not labels:
        report.warn(
            EMPTY_SELECTOR,
            path,
            "the selector has no labels, so it selects every workload of the namespace",
            "Name labels under matchLabels or leave the selector out.",
        )
    for key, value in labels.items():
        where = (*path, "matchLabels", key)
        if not key:
            report.error(WILDCARD_SELECTOR, where, "a selector's label key may not be empty")
        if "*" in key or "*" in value:
            report.error(
                WILDCARD_SELECTOR,
                where,
                f'"{key}: {value}" has a wildcard, but selectors match labels exactly',
            )


def _validate_target(reference: PolicyTargetReference, path: FieldPath, report: Report) -> None:
    if reference.namespace:
        report.error(
            BAD_TARGET,
            (*path, "namespace"),
            f"namespace {reference.namespace} is given: targetRef namespace must not be set, "
            "a policy's targets are in its own namespace",
            "Remove namespace and put the policy beside its target.",
        )
    if (reference.api_group, reference.kind) not in _TARGETS:
        given = f"{reference.kind}.{reference.group}" if reference.group else reference.kind
        report.error(
            BAD_TARGET,
            path,
            f"a policy cannot target {given}",
            f"It can target {', '.join(_TARGETS.values())}.",
        )
