"""All pods of the node: a worker for each Pod object, addresses, and what becomes of the dead."""

from __future__ import annotations

import asyncio
import ipaddress
import logging

from lateen.runtime.controllers import namespace_labels
from lateen.runtime.injection import decide, inject, is_injected
from lateen.runtime.pod import PodWorker
from lateen.runtime.pod_context import PodContext
from lateen.runtime.raw import (
    Raw,
    deleting,
    full_name,
    name_of,
    namespace_of,
    owner_of,
    status_of,
)
from lateen.source.client import ApiError, ApiUnavailable, path_for

logger = logging.getLogger(__name__)

FIRST_POD = 16
"""Pod addresses start here in the range; those before belong to the node."""
REUSE_AFTER = 30.0
"""Seconds an address rests before another pod gets it: clients may still hold it."""


class AddressPool:
    """IPv4 addresses of pods: lowest free first, not reused at once."""

    def __init__(self, cidr: str) -> None:
        self._network = ipaddress.ip_network(cidr)
        self._next = FIRST_POD
        self._used: set[str] = set()

    def take(self) -> str:
        """An address nobody has. Raises `OSError` when the range is used up."""
        for _ in range(self._network.num_addresses):
            self._next += 1
            if self._next >= self._network.num_addresses - 1:
                self._next = FIRST_POD + 1
            address = str(self._network[self._next])
            if address not in self._used:
                self._used.add(address)
                return address
        raise OSError(f"no pod address is free in {self._network}")

    def give_back(self, address: str) -> None:
        """Let another pod have it, some time later."""
        asyncio.get_running_loop().call_later(REUSE_AFTER, self._used.discard, address)


class Kubelet:
    """Runs every Pod of the store on this node."""

    def __init__(self, context: PodContext) -> None:
        self._context = context
        self._addresses = AddressPool(context.node.config.pod_cidr)
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        context.cache.listen(self._on_change)

    async def start(self) -> None:
        """Take up the pods that a previous run of this node left in the store, anew."""
        for pod in self._context.cache.all("Pod"):
            if full_name(pod) in self.workers:
                continue
            if owner_of(pod)[0] or deleting(pod):
                # Its processes died with the previous node; its controller makes another.
                await self._forget(pod)
            else:
                await self._adopt(pod)

    async def stop_all(self, grace: float) -> None:
        """End all pods, applications before proxies; nobody is left to drain for."""
        self._stopping = True
        for worker in self.workers.values():
            worker.stop(grace, drain=0.0)
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace + 10)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod."""
        return self.workers.get(f"{namespace}/{name}")

    def _on_change(self, verb: str, kind: str, pod: Raw) -> None:
        if kind != "Pod" or self._stopping or not self._context.cache.ready.is_set():
            return
        worker = self.workers.get(full_name(pod))
        if worker is None:
            if verb != "DELETED" and not deleting(pod):
                task = asyncio.ensure_future(self._adopt(pod))
                task.add_done_callback(_report)
        elif _uid(worker.pod) != _uid(pod):
            # Another object of the same name: it has to wait for this one's end.
            if verb != "DELETED":
                worker.stop(float(worker.pod["metadata"].get("deletionGracePeriodSeconds") or 0.0))
        elif verb == "DELETED" or deleting(pod):
            grace = pod["metadata"].get("deletionGracePeriodSeconds")
            worker.stop(float(grace if grace is not None else 30.0))
        else:
            worker.pod = {**pod, "status": status_of(worker.pod)}

    async def _adopt(self, pod: Raw) -> None:
        key = full_name(pod)
        if key in self.workers:
            return
        while True:
            try:
                pod = await self._injected(pod)
            except ApiError as error:
                if error.status == 404:
                    return
                logger.warning("pod %s cannot be prepared: %s; tried again", key, error)
            except ApiUnavailable as error:
                logger.warning("pod %s waits for the control plane: %s", key, error)
            else:
                break
            await asyncio.sleep(0.5)
        if key in self.workers or self._stopping:
            return
        worker = PodWorker(self._context, pod, self._addresses.take())
        self.workers[key] = worker
        task = asyncio.create_task(self._run(worker), name=f"pod {key}")
        self._tasks[key] = task
        task.add_done_callback(_report)

    async def _injected(self, pod: Raw) -> Raw:
        """Pods that no controller made are injected here, and the store is told."""
        if is_injected(pod) or owner_of(pod)[0]:
            return pod
        namespace = await namespace_labels(self._context.client, namespace_of(pod))
        decision = decide(namespace, pod)
        if not decision.inject:
            return pod
        path = path_for("v1", "pods", namespace_of(pod), name_of(pod))
        metadata = {
            key: value
            for key, value in inject(pod, decision)["metadata"].items()
            if key in ("labels", "annotations")
        }
        headers = {"Content-Type": "application/merge-patch+json"}
        raw: Raw = await self._context.client.request(
            "PATCH", path, {"metadata": metadata}, headers
        )
        return raw

    async def _run(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            self.workers.pop(worker.key, None)
            self._tasks.pop(worker.key, None)
            self._addresses.give_back(worker.ip)
        if self._stopping:
            return
        await self._forget(worker.pod)
        successor = self._context.cache.find("Pod", namespace_of(worker.pod), name_of(worker.pod))
        if successor is not None and _uid(successor) != _uid(worker.pod):
            await self._adopt(successor)

    async def _forget(self, pod: Raw) -> None:
        path = path_for("v1", "pods", namespace_of(pod), name_of(pod))
        # Only this very object: one of the same name may have been made meanwhile.
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": _uid(pod)}}
        for _attempt in range(50):
            try:
                await self._context.client.request("DELETE", path, options)
            except ApiError as error:
                if error.status >= 500:
                    await asyncio.sleep(0.2)
                    continue
                if error.status not in (404, 409):
                    logger.warning("pod %s cannot be removed: %s", full_name(pod), error)
            except (ApiUnavailable, OSError, TimeoutError):
                await asyncio.sleep(0.2)
                continue
            return


def _uid(pod: Raw) -> str:
    return str(pod["metadata"].get("uid") or "")


def _report(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("a pod's worker failed", exc_info=task.exception())
