"""Controllers: make Pods from Deployments, StatefulSets, DaemonSets, Jobs and ReplicaSets."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from lateen.runtime.cache import ObjectCache
from lateen.runtime.injection import decide, inject
from lateen.runtime.raw import (
    Raw,
    deleting,
    full_name,
    labels_of,
    name_of,
    namespace_of,
    owner_of,
    spec_of,
    status_of,
)
from lateen.runtime.workload_plan import (
    POD_INDEX,
    REVISION_HASH,
    TEMPLATE_HASH,
    NewPod,
    Plan,
    plan_daemon_set,
    plan_deployment,
    plan_job,
    plan_stateful_set,
    readable,
)
from lateen.source.client import ApiError, ApiUnavailable, AsyncClient, path_for

logger = logging.getLogger(__name__)

PLANNERS: dict[str, Callable[[Raw, Sequence[Raw]], Plan]] = {
    "Deployment": plan_deployment,
    "ReplicaSet": plan_deployment,
    "StatefulSet": plan_stateful_set,
    "DaemonSet": plan_daemon_set,
    "Job": plan_job,
}
_APPS = "apps/v1"
_PATHS = {
    "Deployment": (_APPS, "deployments"),
    "ReplicaSet": (_APPS, "replicasets"),
    "StatefulSet": (_APPS, "statefulsets"),
    "DaemonSet": (_APPS, "daemonsets"),
    "Job": ("batch/v1", "jobs"),
}
RETRY_SECONDS = 0.5

_Key = tuple[str, str, str]


class WorkloadControllers:
    """Reconciles each workload when it or one of its pods changes; one at a time per workload."""

    def __init__(self, client: AsyncClient, cache: ObjectCache) -> None:
        self._client = client
        self._cache = cache
        self._queue: asyncio.Queue[_Key] = asyncio.Queue()
        self._queued: set[_Key] = set()
        cache.listen(self._on_change)

    async def run(self) -> None:
        """Reconcile for ever."""
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            try:
                await self._reconcile(key)
            except (ApiError, ApiUnavailable, OSError, TimeoutError) as error:
                logger.warning("%s %s/%s: %s; tried again", *key, error)
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._enqueue, key)
            except Exception:
                # Plans read whatever a manifest says, in ways nobody can list: one workload that
                # cannot be planned must not stop all others.
                logger.exception("%s %s/%s cannot be reconciled", *key)

    def _enqueue(self, key: _Key) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    def _on_change(self, _verb: str, kind: str, raw: Raw) -> None:
        if kind in PLANNERS:
            self._enqueue((kind, namespace_of(raw), name_of(raw)))
        elif kind == "Pod":
            owner_kind, owner = owner_of(raw)
            if owner_kind in PLANNERS:
                self._enqueue((owner_kind, namespace_of(raw), owner))

    async def _reconcile(self, key: _Key) -> None:
        kind, namespace, name = key
        workload = self._cache.find(kind, namespace, name)
        pods = [
            pod
            for pod in self._cache.all("Pod")
            if namespace_of(pod) == namespace and owner_of(pod) == (kind, name)
        ]
        if workload is None or deleting(workload):
            for pod in pods:
                if not deleting(pod):
                    await self._delete_pod(pod)
            return
        plan = PLANNERS[kind](workload, pods)
        for new in plan.create:
            await self._create_pod(workload, kind, new)
        for pod in pods:
            if name_of(pod) in plan.delete:
                await self._delete_pod(pod)
        before = {name: status_of(workload).get(name) for name in plan.status}
        if before != plan.status:
            path = path_for(*_PATHS[kind], namespace, name, "status")
            self._cache.put(await self._client.request("PATCH", path, {"status": plan.status}))

    async def _create_pod(self, workload: Raw, kind: str, new: NewPod) -> None:
        pod = pod_from_template(workload, kind, new)
        # Asked now: the cache may not have heard of a namespace made a moment ago, and a pod that
        # misses its sidecar speaks plaintext.
        namespace = await namespace_labels(self._client, namespace_of(pod))
        decision = decide(namespace, pod)
        if decision.inject:
            pod = inject(pod, decision)
        path = path_for("v1", "pods", namespace_of(pod))
        try:
            self._cache.put(await self._client.request("POST", path, pod))
        except ApiError as error:
            if error.status == 409:
                return
            if error.status == 422:
                logger.error("%s %s: its pods are refused: %s", kind, full_name(workload), error)
                return
            raise

    async def _delete_pod(self, pod: Raw) -> None:
        path = path_for("v1", "pods", namespace_of(pod), name_of(pod))
        try:
            answer = await self._client.request("DELETE", path)
            if deleting(answer):
                self._cache.put(answer)
        except ApiError as error:
            if error.status != 404:
                raise


async def namespace_labels(client: AsyncClient, name: str) -> dict[str, str]:
    """Labels of a namespace as the API has them now; none when it does not exist."""
    try:
        raw: Raw = await client.request("GET", path_for("v1", "namespaces", name=name))
    except ApiError as error:
        if error.status == 404:
            return {}
        raise
    return labels_of(raw)


def pod_from_template(workload: Raw, kind: str, new: NewPod) -> Raw:
    """A Pod object of a workload, named as Kubernetes names it."""
    template = spec_of(workload)["template"]
    metadata = dict(template.get("metadata") or {})
    labels = dict(metadata.get("labels") or {})
    name = name_of(workload)
    if kind == "StatefulSet":
        pod_name = f"{name}-{new.index}"
        labels[REVISION_HASH] = new.template_hash
        labels["statefulset.kubernetes.io/pod-name"] = pod_name
        labels[POD_INDEX] = str(new.index)
    else:
        suffix = readable(secrets.token_bytes(8), 5)
        middle = f"-{new.template_hash}" if kind in ("Deployment", "ReplicaSet") else ""
        pod_name = f"{name}{middle}-{suffix}"
        labels[TEMPLATE_HASH] = new.template_hash
        if kind == "Job":
            labels["job-name"] = labels["batch.kubernetes.io/job-name"] = name
    spec = dict(template.get("spec") or {})
    if kind == "StatefulSet":
        spec.setdefault("hostname", pod_name)
        spec.setdefault("subdomain", str(spec_of(workload).get("serviceName") or ""))
        spec["volumes"] = _with_claims(workload, spec.get("volumes") or [], pod_name)
    owner = {
        "apiVersion": _PATHS[kind][0],
        "kind": kind,
        "name": name,
        "uid": str(workload["metadata"].get("uid") or ""),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name,
            "namespace": namespace_of(workload),
            "labels": labels,
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def _with_claims(workload: Raw, volumes: Sequence[Raw], pod_name: str) -> list[Raw]:
    """The pod's volumes with one for each of the StatefulSet's ``volumeClaimTemplates``."""
    names = [name_of(claim) for claim in spec_of(workload).get("volumeClaimTemplates") or []]
    claims = [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{pod_name}"}}
        for name in names
    ]
    return [*(volume for volume in volumes if volume["name"] not in names), *claims]
