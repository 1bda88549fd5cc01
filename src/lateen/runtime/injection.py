"""Which pods get a sidecar, and what it changes in them: Istio's rules, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lateen.runtime.raw import Raw, annotations_of, labels_of, name_of, owner_of, spec_of

PROXY_CONTAINER = "istio-proxy"
INJECT = "sidecar.istio.io/inject"
TEMPLATES = "inject.istio.io/templates"
TLS_MODE = "security.istio.io/tlsMode"
CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"
STATUS = "sidecar.istio.io/status"
NEVER_INJECTED = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a proxy is added, which kind, and why."""

    inject: bool
    gateway: bool = False
    reason: str = ""


def decide(namespace_labels: Mapping[str, str], pod: Raw, *, default: bool = False) -> Decision:
    """Istio's order of precedence.

    Pods on the host's network never; the system namespaces never. Who is asked at all: the
    namespace's ``istio-injection`` label, else its revision label, else the pod's revision label,
    else the pod's label ``sidecar.istio.io/inject: "true"``, else ``default``
    (``enableNamespacesByDefault``). Of those, a pod leaves with ``sidecar.istio.io/inject:
    "false"`` as label or annotation. So ``istio-injection: disabled`` cannot be overridden by a
    pod, and an annotation cannot opt in.
    """
    namespace = str(pod["metadata"].get("namespace") or "default")
    gateway = "gateway" in _templates(pod)
    if spec_of(pod).get("hostNetwork"):
        return Decision(False, reason="the pod uses the host's network")
    if namespace in NEVER_INJECTED:
        return Decision(False, reason=f"namespace {namespace} is never injected")
    label = labels_of(pod).get(INJECT)
    space = namespace_labels.get("istio-injection")
    if space is not None:
        selected, reason = space == "enabled", f"namespace label istio-injection={space}"
    elif "istio.io/rev" in namespace_labels:
        selected, reason = True, "namespace label istio.io/rev"
    elif "istio.io/rev" in labels_of(pod):
        selected, reason = True, "the pod's label istio.io/rev"
    elif label == "true":
        selected, reason = True, f"the pod's label {INJECT}=true"
    else:
        selected, reason = default, "the mesh's default"
    if not selected:
        return Decision(False, reason=reason)
    # The label decides over the annotation; a value that is neither true nor false says nothing.
    if (label if label is not None else annotations_of(pod).get(INJECT)) == "false":
        return Decision(False, reason=f"the pod's {INJECT}=false")
    return Decision(True, gateway, reason)


def inject(pod: Raw, decision: Decision) -> Raw:
    """The pod with its proxy: labels that others read, and the container ``istio-proxy``.

    A gateway keeps its own container ``istio-proxy`` (image ``auto``), which the proxy takes over;
    its other containers stay.
    """
    metadata = dict(pod["metadata"])
    labels = dict(labels_of(pod))
    if not decision.gateway:
        # A gateway's listeners speak what its Gateways say; clients must not assume mesh mTLS.
        labels.setdefault(TLS_MODE, "istio")
    labels.setdefault(CANONICAL_NAME, canonical_name(pod))
    labels.setdefault(CANONICAL_REVISION, canonical_revision(pod))
    annotations = dict(annotations_of(pod))
    kind = "gateway" if decision.gateway else "sidecar"
    annotations[STATUS] = f'{{"containers":["{PROXY_CONTAINER}"],"template":"{kind}"}}'
    annotations.setdefault("kubectl.kubernetes.io/default-container", _main_container(pod))
    metadata["labels"] = labels
    metadata["annotations"] = annotations
    return {**pod, "metadata": metadata}


def is_injected(pod: Raw) -> bool:
    """Whether a pod has a proxy."""
    return STATUS in annotations_of(pod)


def is_gateway(pod: Raw) -> bool:
    """Whether a pod's proxy is a gateway rather than a sidecar."""
    return '"template":"gateway"' in annotations_of(pod).get(STATUS, "")


def canonical_name(pod: Raw) -> str:
    """Istio's canonical service: labels in this order, else the workload's name."""
    labels = labels_of(pod)
    for label in (CANONICAL_NAME, "app.kubernetes.io/name", "app"):
        if labels.get(label):
            return labels[label]
    return workload_name(pod)


def canonical_revision(pod: Raw) -> str:
    """Istio's canonical revision: labels in this order, else ``latest``."""
    labels = labels_of(pod)
    for label in (CANONICAL_REVISION, "app.kubernetes.io/version", "version"):
        if labels.get(label):
            return labels[label]
    return "latest"


def workload_name(pod: Raw) -> str:
    """Name of the Deployment, StatefulSet ... that made the pod, else the pod's own."""
    kind, name = owner_of(pod)
    if kind == "ReplicaSet" and labels_of(pod).get("pod-template-hash"):
        return name.removesuffix("-" + labels_of(pod)["pod-template-hash"])
    return name or name_of(pod)


def application_containers(pod: Raw) -> list[Raw]:
    """Containers that run the user's programs: all but the proxy."""
    return [
        container
        for container in spec_of(pod).get("containers") or []
        if not (is_injected(pod) and container.get("name") == PROXY_CONTAINER)
    ]


def _templates(pod: Raw) -> list[str]:
    text = annotations_of(pod).get(TEMPLATES, "")
    return [part.strip() for part in text.split(",") if part.strip()]


def _main_container(pod: Raw) -> str:
    containers: list[dict[str, Any]] = spec_of(pod).get("containers") or [{}]
    return str(containers[0].get("name", ""))
