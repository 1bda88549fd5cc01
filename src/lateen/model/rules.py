"""Rules about objects that are valid by themselves but cannot be used beside others."""

from __future__ import annotations

from lateen.api.findings import FieldPath, Finding, Severity
from lateen.api.resource import Resource
from lateen.api.rule import Rule

CLUSTER_IP_TAKEN = Rule(
    "LT1001",
    "ClusterIP of another Service",
    "Two Services have one clusterIP; the older one keeps it and this one is left out. Remove "
    "spec.clusterIP, so that a free one is chosen.",
)
HOST_TAKEN = Rule(
    "LT1002",
    "Host of another object",
    "A Kubernetes Service or an older ServiceEntry of the same namespace already defines this "
    "host differently; this definition of the host is left out.",
)
SELECTS_NOTHING = Rule(
    "LT1003",
    "Service selects nothing",
    "No Pod or WorkloadEntry of the namespace has the labels of the selector, so requests to the "
    "service fail.",
    Severity.WARNING,
)
NO_SUCH_CONTAINER_PORT = Rule(
    "LT1004",
    "Named target port missing",
    "A selected Pod has no container port with the name that targetPort asks for; the Pod gets no "
    "traffic on this port.",
    Severity.WARNING,
)
DELEGATE_MISSING = Rule(
    "LT1005",
    "Delegate cannot be used",
    "The VirtualService that a route delegates to does not exist, has hosts of its own, delegates "
    "again or is not exported here; the route is left out.",
)
DELEGATE_CONFLICT = Rule(
    "LT1006",
    "Delegate route never matches",
    "No match of the delegate's route is compatible with a match of the route that delegates to "
    "it; the delegate's route is left out.",
    Severity.WARNING,
)
SUBSET_TAKEN = Rule(
    "LT1007",
    "Subset defined twice",
    "An older DestinationRule for the same host already defines a subset of this name; this one "
    "is left out.",
    Severity.WARNING,
)
POLICY_SHADOWED = Rule(
    "LT1008",
    "Older object of the same scope wins",
    "Only one such object applies per scope; the oldest does and this one has no effect.",
    Severity.WARNING,
)
INBOUND_PORT_TAKEN = Rule(
    "LT1009",
    "Workload port of an older Service",
    "Two Services with different protocols send to one port of a workload; the older one decides "
    "the protocol.",
    Severity.WARNING,
)
NO_SUCH_WORKLOAD_PORT = Rule(
    "LT1010",
    "Workload port unknown",
    "No container and no Service of the selected workloads has the port of portLevelMtls. It is "
    "the port of the workload, not that of the Service.",
    Severity.WARNING,
)

RULES = (
    CLUSTER_IP_TAKEN,
    HOST_TAKEN,
    SELECTS_NOTHING,
    NO_SUCH_CONTAINER_PORT,
    DELEGATE_MISSING,
    DELEGATE_CONFLICT,
    SUBSET_TAKEN,
    POLICY_SHADOWED,
    INBOUND_PORT_TAKEN,
    NO_SUCH_WORKLOAD_PORT,
)


def finding(rule: Rule, resource: Resource, path: FieldPath, message: str, hint: str) -> Finding:
    """A finding of ``rule`` about ``resource``."""
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        message=message,
        hint=hint,
        key=resource.key,
        path=path,
        provenance=resource.provenance,
    )
