"""Kinds that are read and checked, and that nothing acts on in this version."""

from __future__ import annotations

from functools import partial

from lateen.api.findings import Finding
from lateen.api.resource import Resource
from lateen.api.rule import Rule
from lateen.model.kinds import GroupKind
from lateen.model.snapshot import Snapshot
from lateen.translate import rules
from lateen.translate.coverage import NOT_ENFORCED, WITHOUT_EFFECT, resource_findings
from lateen.translate.memo import Identity, Memo
from lateen.translate.mesh_settings import setting_findings

_GATEWAY_API = "gateway.networking.k8s.io"
_EXPERIMENTAL = "gateway.networking.x-k8s.io"
_NOT_TRANSLATED = "the Gateway API is checked, and not translated yet"

NOT_ACTED_ON: dict[GroupKind, str] = {
    ("batch", "CronJob"): "nothing is scheduled by the clock",
    ("networking.k8s.io", "NetworkPolicy"): "connections between pods are not filtered",
    ("networking.k8s.io", "Ingress"): "use a Gateway and a VirtualService",
    ("networking.k8s.io", "IngressClass"): "it goes with Ingress",
    ("networking.istio.io", "WorkloadGroup"): "machines do not register themselves yet",
    **{
        (_GATEWAY_API, kind): _NOT_TRANSLATED
        for kind in (
            "GatewayClass",
            "Gateway",
            "HTTPRoute",
            "GRPCRoute",
            "TCPRoute",
            "TLSRoute",
            "UDPRoute",
            "ReferenceGrant",
            "BackendTLSPolicy",
            "ListenerSet",
        )
    },
    (_EXPERIMENTAL, "XListenerSet"): _NOT_TRANSLATED,
    (_EXPERIMENTAL, "XBackendTrafficPolicy"): _NOT_TRANSLATED,
    ("multicluster.x-k8s.io", "ServiceImport"): "there is one cluster",
    ("multicluster.x-k8s.io", "ServiceExport"): "there is one cluster",
    ("inference.networking.k8s.io", "InferencePool"): "it goes with the Gateway API",
    ("inference.networking.x-k8s.io", "InferencePool"): "it goes with the Gateway API",
}
"""Kinds, and why or what to use instead."""


_said: Memo[tuple[Finding, ...]] = Memo()


def snapshot_findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """`effect_findings` of all objects in ``snapshot``; for pods that a workload made its own
    says it."""
    found = [
        _said.get(Identity(resource), partial(effect_findings, resource), family=resource.key)
        for resource in snapshot.resources()
        if not resource.metadata.owner_references
    ]
    return tuple(finding for each in found for finding in each)


def effect_findings(resource: Resource) -> tuple[Finding, ...]:
    """What ``resource`` asks for and does not get, whichever proxies it would be for.

    Said to its author when it is applied: a policy that is not enforced is an error, anything else
    a warning.
    """
    kind = (resource.key.group, resource.key.kind)
    if kind in NOT_ENFORCED:
        return (_finding(resource, rules.NOT_ENFORCED, NOT_ENFORCED[kind], "not enforced"),)
    reason = WITHOUT_EFFECT.get(kind) or NOT_ACTED_ON.get(kind)
    if reason:
        return (_finding(resource, rules.NO_EFFECT_YET, reason, "without effect"),)
    return (*resource_findings(resource), *setting_findings(resource))


def _finding(resource: Resource, rule: Rule, reason: str, what: str) -> Finding:
    return rules.finding(
        rule,
        resource.key,
        resource.provenance,
        (),
        f"{resource.key.kind} is accepted, but {what} in this version: {reason}",
        "Do not rely on it yet.",
    )
