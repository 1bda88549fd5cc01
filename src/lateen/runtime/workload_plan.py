"""What a workload's controller does next: pure functions from (workload, its pods) to a plan."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lateen.runtime.raw import Raw, deleting, finished, is_ready, labels_of, name_of, spec_of

TEMPLATE_HASH = "pod-template-hash"
REVISION_HASH = "controller-revision-hash"
POD_INDEX = "apps.kubernetes.io/pod-index"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' alphabet for generated name parts: no vowels, so no words."""


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod to create; ``index`` is the ordinal of a StatefulSet's pod."""

    template_hash: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Pods to create and names of pods to delete now; more may follow when pods change."""

    create: tuple[NewPod, ...] = ()
    delete: tuple[str, ...] = ()
    status: Raw = field(default_factory=dict)


def template_hash(template: Raw) -> str:
    """A short name for a pod template's content: equal templates, equal hash."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return readable(hashlib.sha256(text.encode()).digest()[:8], 9)


def readable(data: bytes, length: int) -> str:
    """Bytes as name part of ``length`` letters."""
    number = int.from_bytes(data, "big")
    letters = []
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def plan_deployment(workload: Raw, pods: Sequence[Raw]) -> Plan:
    """Rolling update (or Recreate) by the Deployment's strategy; also for ReplicaSets.

    New pods come up to ``maxSurge`` above the wanted number; old ready ones go only while at least
    ``replicas - maxUnavailable`` stay ready.
    """
    spec = spec_of(workload)
    wanted = int(spec.get("replicas", 1))
    current = template_hash(spec["template"])
    live = [pod for pod in pods if not deleting(pod) and not finished(pod)]
    new = [pod for pod in live if labels_of(pod).get(TEMPLATE_HASH) == current]
    old = [pod for pod in live if labels_of(pod).get(TEMPLATE_HASH) != current]
    ready = [pod for pod in live if is_ready(pod)]
    status = _replica_status(workload, live, new, ready)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        # Old and new never run together, not even while the old ones end.
        ending = [
            pod for pod in pods if deleting(pod) and labels_of(pod).get(TEMPLATE_HASH) != current
        ]
        if old or ending:
            return Plan(delete=tuple(name_of(pod) for pod in old), status=status)
        surge, unavailable = 0, wanted
    else:
        rolling = strategy.get("rollingUpdate") or {}
        surge = _share(rolling.get("maxSurge", "25%"), wanted, up=True)
        unavailable = _share(rolling.get("maxUnavailable", "25%"), wanted, up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1
    create = max(0, min(wanted - len(new), wanted + surge - len(live)))
    delete = [name_of(pod) for pod in old if not is_ready(pod)]
    spare = max(0, len(ready) - (wanted - unavailable))
    delete += sorted(name_of(pod) for pod in old if is_ready(pod))[:spare]
    surplus = len(new) - wanted
    if surplus > 0:
        # Not ready ones first: removing them takes nothing from anybody.
        by_worth = sorted(new, key=lambda pod: (is_ready(pod), name_of(pod)))
        delete += [name_of(pod) for pod in by_worth[:surplus]]
    return Plan((NewPod(current),) * create, tuple(delete), status)


def plan_daemon_set(workload: Raw, pods: Sequence[Raw]) -> Plan:
    """One pod on the one node."""
    spec = {**spec_of(workload), "replicas": 1}
    update = (spec_of(workload).get("updateStrategy") or {}).get("rollingUpdate") or {}
    strategy = {"maxSurge": update.get("maxSurge", 0), "maxUnavailable": 1}
    as_deployment = {**spec, "strategy": {"rollingUpdate": strategy}}
    plan = plan_deployment({**workload, "spec": as_deployment}, pods)
    given = plan.status
    status = {
        "observedGeneration": given["observedGeneration"],
        "desiredNumberScheduled": 1,
        "currentNumberScheduled": given["replicas"],
        "updatedNumberScheduled": given["updatedReplicas"],
        "numberReady": given["readyReplicas"],
        "numberAvailable": given["availableReplicas"],
    }
    return Plan(plan.create, plan.delete, status)


def plan_stateful_set(workload: Raw, pods: Sequence[Raw]) -> Plan:
    """Pods with ordinals: in order and one by one, unless ``podManagementPolicy: Parallel``."""
    spec = spec_of(workload)
    wanted = int(spec.get("replicas", 1))
    current = template_hash(spec["template"])
    parallel = spec.get("podManagementPolicy") == "Parallel"
    by_index = {_index(pod): pod for pod in pods}
    live = [pod for pod in pods if not deleting(pod)]
    ready = [pod for pod in live if is_ready(pod)]
    new = [pod for pod in live if labels_of(pod).get(REVISION_HASH) == current]
    status = _replica_status(workload, live, new, ready)
    over = [pod for pod in live if finished(pod)]
    if over:
        # Its name is taken until it is gone; then it is made again.
        return Plan(delete=tuple(name_of(pod) for pod in over), status=status)
    create: list[NewPod] = []
    for index in range(wanted):
        pod = by_index.get(index)
        if pod is None:
            create.append(NewPod(current, index))
        if not parallel and (pod is None or not is_ready(pod)):
            break
    if create:
        return Plan(tuple(create), status=status)
    beyond = sorted((i for i in by_index if i >= wanted), reverse=True)
    if beyond:
        gone = beyond if parallel else beyond[:1]
        names = [name_of(by_index[i]) for i in gone if not deleting(by_index[i])]
        return Plan(delete=tuple(names), status=status)
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return Plan(status=status)
    first = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    outdated = [
        by_index[index]
        for index in range(wanted - 1, first - 1, -1)
        if index in by_index and labels_of(by_index[index]).get(REVISION_HASH) != current
    ]
    if any(deleting(pod) for pod in by_index.values()):
        return Plan(status=status)
    # One that does not work goes first: a good template must be able to replace a bad one.
    broken = [pod for pod in outdated if not is_ready(pod)]
    if broken:
        return Plan(delete=(name_of(broken[0]),), status=status)
    if outdated and len(ready) >= wanted:
        return Plan(delete=(name_of(outdated[0]),), status=status)
    return Plan(status=status)


def plan_job(workload: Raw, pods: Sequence[Raw]) -> Plan:
    """Run pods until ``completions`` of them succeeded, or ``backoffLimit`` failed."""
    spec = spec_of(workload)
    completions = int(spec.get("completions") or 1)
    parallelism = int(spec.get("parallelism") or 1)
    limit = int(spec["backoffLimit"]) if spec.get("backoffLimit") is not None else 6
    ended = _ended(workload)
    if ended:
        return Plan(status=ended)
    phases = [(pod.get("status") or {}).get("phase") for pod in pods]
    succeeded, failed = phases.count("Succeeded"), phases.count("Failed")
    active = [pod for pod in pods if not finished(pod) and not deleting(pod)]
    # With `OnFailure` a pod fails by restarting its containers.
    failed += sum(_restarts(pod) for pod in active)
    status: Raw = {"active": len(active), "succeeded": succeeded, "failed": failed}
    if succeeded >= completions:
        status["conditions"] = [{"type": "Complete", "status": "True"}]
        return Plan(status=status)
    if failed > limit:
        reason = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
        status["conditions"] = [reason]
        return Plan(delete=tuple(name_of(pod) for pod in active), status=status)
    if spec.get("suspend"):
        return Plan(delete=tuple(name_of(pod) for pod in active), status=status)
    missing = min(parallelism, completions - succeeded) - len(active)
    current = template_hash(spec["template"])
    return Plan((NewPod(current),) * max(0, missing), status=status)


def _replica_status(
    workload: Raw, live: Sequence[Raw], new: Sequence[Raw], ready: Sequence[Raw]
) -> Raw:
    return {
        "observedGeneration": _generation(workload),
        "replicas": len(live),
        "updatedReplicas": len(new),
        "readyReplicas": len(ready),
        "availableReplicas": len(ready),
    }


def _generation(workload: Raw) -> int:
    return int(workload["metadata"].get("generation") or 0)


def _share(value: Any, total: int, *, up: bool) -> int:  # noqa: ANN401 - Kubernetes IntOrString
    """An ``IntOrString`` as a number of pods; percentages round up or down."""
    if isinstance(value, str) and value.endswith("%"):
        exact = total * float(value[:-1]) / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(value)


def _ended(job: Raw) -> Raw:
    """A Job's status when it is over for good; its pods may be gone by now."""
    status = job.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            known = ("active", "succeeded", "failed", "conditions")
            return {name: status[name] for name in known if name in status}
    return {}


def _restarts(pod: Raw) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(s.get("restartCount") or 0) for s in statuses if s.get("name") != "istio-proxy")


def _index(pod: Raw) -> int:
    suffix = name_of(pod).rpartition("-")[2]
    return int(suffix) if suffix.isdigit() else -1
