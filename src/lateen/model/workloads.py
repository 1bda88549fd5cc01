"""Workloads: the mesh's view of Pods and WorkloadEntries, and of who they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lateen.api.core.container import Container
from lateen.api.core.pod import Pod, PodSpec
from lateen.api.networking.workload_entry import WorkloadEntry, WorkloadEntrySpec
from lateen.api.resource import ObjectKey, Resource
from lateen.model.service import Locality, WorkloadIdentity

TLS_MODE_LABEL = "security.istio.io/tlsMode"
NETWORK_LABEL = "topology.istio.io/network"
LOCALITY_LABELS = ("topology.istio.io/locality", "istio-locality")
CANONICAL_NAME_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
CANONICAL_REVISION_LABELS = (
    "service.istio.io/canonical-revision",
    "app.kubernetes.io/version",
    "version",
)
WORKLOAD_NAME_LABEL = "service.istio.io/workload-name"
_HEALTH_CHECKED = "proxy.istio.io/health-checks-enabled"

_REGION = "topology.kubernetes.io/region"
_ZONE = "topology.kubernetes.io/zone"
_SUB_ZONE = "topology.istio.io/subzone"
_OLD_REGION = "failure-domain.beta.kubernetes.io/region"
_OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"
_CRON_JOB = re.compile(r"(?P<name>.+)-\d{8,10}")


@dataclass(frozen=True, slots=True)
class Workload:
    """What services need to know of one Pod or WorkloadEntry.

    Equal values mean that nothing the mesh cares about differs, whatever else was written.
    """

    key: ObjectKey
    address: str
    """IP address, DNS name or ``unix://`` path; empty while a pod has none."""
    labels: Mapping[str, str]
    identity: WorkloadIdentity
    locality: Locality = Locality()
    ready: bool = True
    terminating: bool = False
    mtls: bool = False
    network: str = ""
    node: str = ""
    weight: int = 1
    hostname: str = ""
    subdomain: str = ""
    named_ports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Container ports by name and transport (``TCP``, ``UDP``)."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """``WorkloadEntry.ports``: target ports by service port name."""

    @property
    def usable(self) -> bool:
        """Whether it has an address and is not going away."""
        return bool(self.address) and not self.terminating


def locality_of(text: str) -> Locality:
    """A locality from ``region/zone/subzone`` (labels, which take no slash, use dots)."""
    parts = (text if "/" in text else text.replace(".", "/")).split("/")
    return Locality(*[*parts, "", "", ""][:3])


def first_label(labels: Mapping[str, str], names: tuple[str, ...], default: str = "") -> str:
    """The first non-empty of several labels."""
    for name in names:
        if value := labels.get(name):
            return value
    return default


def node_locality(labels: Mapping[str, str]) -> Locality:
    """Locality of a Node by its topology labels."""
    return Locality(
        labels.get(_REGION) or labels.get(_OLD_REGION, ""),
        labels.get(_ZONE) or labels.get(_OLD_ZONE, ""),
        labels.get(_SUB_ZONE, ""),
    )


def workload_name(pod: Pod) -> str:
    """Name of the controller behind a pod: ``reviews-v1`` for ``reviews-v1-6d8c9f7b5-abcde``.

    A ReplicaSet ``x-HASH`` stands for Deployment ``x``, a Job ``x-TIMESTAMP`` for CronJob ``x``;
    a pod without a controller is its own workload.
    """
    meta = pod.metadata
    owner = next((ref for ref in meta.owner_references if ref.controller), None)
    if owner is None:
        return meta.name or meta.generate_name.rstrip("-")
    if owner.kind == "ReplicaSet":
        template_hash = meta.labels.get("pod-template-hash", "")
        if template_hash and owner.name.endswith(f"-{template_hash}"):
            return owner.name.removesuffix(f"-{template_hash}")
        return owner.name
    if owner.kind == "Job" and (cron_job := _CRON_JOB.fullmatch(owner.name)):
        return cron_job["name"]
    return owner.name


def identity_of(
    namespace: str,
    workload: str,
    service_account: str,
    labels: Mapping[str, str],
    trust_domain: str,
) -> WorkloadIdentity:
    """Telemetry and SPIFFE identity of a workload with these labels."""
    return WorkloadIdentity(
        namespace=namespace,
        workload=workload,
        service_account=service_account or "default",
        app=labels.get("app", ""),
        version=labels.get("version", ""),
        canonical_name=first_label(labels, CANONICAL_NAME_LABELS, workload),
        canonical_revision=first_label(labels, CANONICAL_REVISION_LABELS, "latest"),
        trust_domain=trust_domain,
    )


def pod_is_ready(pod: Pod) -> bool:
    """Whether the pod's ``Ready`` condition is true."""
    return any(
        condition.type == "Ready" and condition.status == "True"
        for condition in pod.status.conditions
    )


def pod_identity(pod: Pod, trust_domain: str) -> WorkloadIdentity:
    """Identity of a pod."""
    meta = pod.metadata
    return identity_of(
        meta.namespace,
        workload_name(pod),
        pod.spec.service_account_name or pod.spec.service_account,
        meta.labels,
        trust_domain,
    )


def workload_of_pod(resource: Resource, node: Resource | None, trust_domain: str) -> Workload:
    """The workload that a Pod is, on ``node`` (None when the Node object is unknown)."""
    pod = resource.object
    assert isinstance(pod, Pod)
    labels = pod.metadata.labels
    spec, status = pod.spec, pod.status
    ended = status.phase in ("Succeeded", "Failed")
    explicit = first_label(labels, LOCALITY_LABELS)
    if explicit:
        locality = locality_of(explicit)
    else:
        locality = node_locality(node.labels) if node is not None else Locality()
    named: dict[tuple[str, str], int] = {}
    for container in _containers(spec):
        for port in container.ports:
            if port.name:
                named.setdefault((port.name, port.protocol), port.container_port)
    return Workload(
        key=resource.key,
        address="" if ended else status.pod_ip,
        labels=labels,
        identity=pod_identity(pod, trust_domain),
        locality=locality,
        ready=pod_is_ready(pod),
        terminating=pod.metadata.deletion_timestamp is not None,
        mtls=labels.get(TLS_MODE_LABEL) == "istio",
        network=labels.get(NETWORK_LABEL, ""),
        node=spec.node_name,
        hostname=spec.hostname,
        subdomain=spec.subdomain,
        named_ports=named,
    )


def _containers(spec: PodSpec) -> tuple[Container, ...]:
    long_lived = (c for c in spec.init_containers if c.restart_policy == "Always")
    return (*spec.containers, *long_lived)


def workload_of_entry(resource: Resource, trust_domain: str) -> Workload:
    """The workload that a WorkloadEntry is."""
    entry = resource.object
    assert isinstance(entry, WorkloadEntry)
    return _entry_workload(
        resource.key,
        entry.spec,
        {**entry.spec.labels, **entry.metadata.labels},
        ready=_entry_is_healthy(entry),
        trust_domain=trust_domain,
    )


def workload_of_inline_endpoint(
    source: ObjectKey, spec: WorkloadEntrySpec, trust_domain: str
) -> Workload:
    """The workload that one of ``ServiceEntry.endpoints`` is; its key is the ServiceEntry's."""
    return _entry_workload(source, spec, spec.labels, ready=True, trust_domain=trust_domain)


def _entry_workload(
    key: ObjectKey,
    spec: WorkloadEntrySpec,
    labels: Mapping[str, str],
    *,
    ready: bool,
    trust_domain: str,
) -> Workload:
    account = spec.service_account
    mode = labels.get(TLS_MODE_LABEL, "")
    locality = spec.locality or first_label(labels, LOCALITY_LABELS)
    return Workload(
        key=key,
        address=spec.address,
        labels=labels,
        identity=identity_of(
            key.namespace,
            labels.get(WORKLOAD_NAME_LABEL) or key.name,
            account,
            labels,
            trust_domain,
        ),
        locality=locality_of(locality) if locality else Locality(),
        ready=ready,
        mtls=mode == "istio" if mode else bool(account),
        network=spec.network or labels.get(NETWORK_LABEL, ""),
        weight=spec.weight or 1,
        ports=spec.ports,
    )


def _entry_is_healthy(entry: WorkloadEntry) -> bool:
    """A WorkloadEntry whose health is checked stays unhealthy until the first success."""
    conditions = entry.status.get("conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        if isinstance(condition, dict) and condition.get("type") == "Healthy":
            return condition.get("status") == "True"
    return entry.metadata.annotations.get(_HEALTH_CHECKED) != "true"
