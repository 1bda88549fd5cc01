"""Why a pod is not fully ready: read from its status, and from the last words of its containers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Raw = dict[str, Any]

PROXY = "istio-proxy"
_ON_THEIR_WAY = frozenset({"ContainerCreating", "PodInitializing", ""})
_APPLICATIONS = ("container", "containerStatuses")
_TAIL_BYTES = 4096
_LONGEST_WORDS = 200
HOPELESS = frozenset({"InvalidImageName", "Volume", "InvalidAnnotation"})
"""Reasons for which waiting longer changes nothing."""
FAILING = frozenset({"CrashLoopBackOff", "RunContainerError"})
_ATTEMPTS = 3
"""Restarts after which a container that fails is taken to fail again."""


def is_ready(pod: Raw) -> bool:
    """Whether a pod serves, or has done its work."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return True
    return any(
        c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []
    )


def reasons(pod: Raw, logs: Path | None = None) -> list[str]:
    """What keeps the pod from being ready, a line each; empty for one that is.

    ``logs`` is the mesh's folder of logs: the last line of a container that ended is added. The
    first line of a reason may be followed by one that says what to do.
    """
    if is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
        return []
    status = pod.get("status") or {}
    if status.get("message"):
        return [f"{status.get('reason') or 'Pending'}: {status['message']}"]
    folder = logs / pod["metadata"]["namespace"] / pod["metadata"]["name"] if logs else None
    found = []
    probes = _probe_messages(status)
    for kind, key in (
        ("init container", "initContainerStatuses"),
        ("container", "containerStatuses"),
    ):
        for container in status.get(key) or []:
            text = _container_reason(container, folder, probes, init=kind != "container")
            if text:
                found.append(f"{kind} {container['name']}: {text}")
    return found


def _container_reason(
    container: Raw, folder: Path | None, probes: dict[str, str], *, init: bool
) -> str:
    state, name = container.get("state") or {}, str(container["name"])
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting:
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in _ON_THEIR_WAY:
            return "is being created" if name == PROXY else ""
        words = last_words(folder, name) if reason == "CrashLoopBackOff" else ""
        return f"{reason}: {message}{words}"
    if ended:
        if ended.get("exitCode"):
            why = f" ({ended['message']})" if ended.get("message") else ""
            return f"exited with {ended['exitCode']}{why}{last_words(folder, name)}"
        return "" if init else "has ended"
    if init:
        return "is running; the other containers wait for it" if state.get("running") else ""
    if container.get("ready"):
        return ""
    if name in probes:
        return f"is not ready: {probes[name]}"
    before = (container.get("lastState") or {}).get("terminated") or {}
    if before.get("message"):
        return f"was restarted: {before['message']}"
    if name == PROXY:
        return "is not ready; `lateen status` shows what it was sent"
    return "is not ready"


def _probe_messages(status: Raw) -> dict[str, str]:
    """By container, from the condition ``ContainersReady``: a line for each (`NAME: TEXT`)."""
    found = {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "ContainersReady":
            for line in str(condition.get("message") or "").splitlines():
                name, _, text = line.partition(": ")
                found[name] = text
    return found


def last_words(folder: Path | None, container: str) -> str:
    """``; its last words: TEXT`` from the end of a container's log, empty when it has none."""
    if folder is None:
        return ""
    try:
        with (folder / f"{container}.log").open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; its last words: {words[:_LONGEST_WORDS]}" if words else ""


def fails_for_good(pods: Iterable[Raw]) -> list[Raw]:
    """The pods among these for which waiting longer is of no use."""
    found = []
    for pod in pods:
        status = pod.get("status") or {}
        states = [
            *(status.get("containerStatuses") or []),
            *(status.get("initContainerStatuses") or []),
        ]
        failing = any(
            ((s.get("state") or {}).get("waiting") or {}).get("reason") in FAILING
            and int(s.get("restartCount") or 0) >= _ATTEMPTS
            for s in states
        )
        if not is_ready(pod) and (status.get("reason") in HOPELESS or failing):
            found.append(pod)
    return found
