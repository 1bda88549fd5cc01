"""From a node that starts to a mesh that serves: apply the manifests, wait, say what happens."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lateen.api.findings import Severity
from lateen.api.resource import Resource
from lateen.cli.apply import print_result, send
from lateen.cli.columns import pod_phase
from lateen.cli.errors import FINDING, CommandError
from lateen.cli.findings import print_findings, sort_key, summary
from lateen.cli.mesh_findings import print_mesh_finding, warnings_of
from lateen.cli.mesh_state import MeshState
from lateen.cli.output import NOTE, OK, WARN, say, text_and_hint
from lateen.cli.pod_reasons import HOPELESS, reasons
from lateen.cli.published import print_unpublished, published_ports
from lateen.cli.validate import all_findings, effect_findings, objects_without_errors
from lateen.runtime.limits import machine_limits
from lateen.runtime.local import RunningNode, running_pid
from lateen.source.client import ApiUnavailable, Client
from lateen.source.files import read_inputs

POLL_SECONDS = 0.05
_SETTLING = 3.0
"""Seconds that a container which failed must run again before its pod counts as ready."""
_PROVING = 0.5
"""Seconds from the last pod that got ready to the second look: a container without a readiness
probe counts as ready from its first instruction on, also one that ends with its second."""


@dataclass(frozen=True, slots=True)
class Progress:
    """When `up` began, how long it may take, and whether the user wants it to end."""

    began: float
    timeout: float
    stopping: threading.Event

    @property
    def seconds(self) -> float:
        """Since the user pressed Enter (nearly)."""
        return time.monotonic() - self.began


@dataclass(slots=True)
class _Told:
    """What the user was told already: pods that are ready, and the last complaint of each."""

    ready: set[str] = field(default_factory=set)
    complaints: dict[str, str] = field(default_factory=dict)


def bring_up(
    state: MeshState,
    node: RunningNode,
    files: list[str],
    namespace: str,
    recursive: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Validate and apply the files, wait until every pod is ready; returns URLs and what failed.

    Raises `CommandError` when a file has an error (nothing is applied then), a host port is taken,
    or the node ends.
    """
    inputs = read_inputs(files, recursive=recursive, default_namespace=namespace) if files else None
    if inputs is not None:
        findings = sorted(all_findings(inputs), key=sort_key)
        errors, warnings, _ = summary(findings)
        shown = [f for f in findings if f.severity is not Severity.INFO]
        print_findings(shown, inputs.texts.get)
        if errors:
            raise CommandError(
                f"{errors} errors in the manifests; nothing was started",
                "mend them and run the command again; `lateen validate -f` shows all of them",
                FINDING,
            )
        good = objects_without_errors(inputs, findings)
        print_findings(sorted(effect_findings(inputs, good), key=sort_key), inputs.texts.get)
        _warn_of_limits(state, good)
    else:
        good = []
    node.handle.wait_ready(progress.timeout)
    client = Client(state.api_socket)
    say(OK, f"control plane ready  {progress.seconds:.1f} s")
    if good:
        results = [line for line in send(client, good, wait=False) if "result" in line]
        refused = [result for result in results if result["result"] == "refused"]
        for result in refused:
            print_result(result)
        if refused:
            raise CommandError(
                f"{len(refused)} objects were refused; the mesh is stopped again",
                "the lines above say why",
                FINDING,
            )
        say(OK, f"{len(results)} objects applied  {progress.seconds:.1f} s")
    failed = _wait_until_live(state, client, progress)
    for finding in warnings_of(client):
        print_mesh_finding(finding)
    published = published_ports(state)
    if _stops(published):
        print_unpublished(published)
        raise CommandError("a port cannot be published; the mesh is stopped again")
    print_unpublished(published)
    for note in published["notes"]:
        say(NOTE, note["text"])
    return {
        "urls": urls(published["published"]),
        "failed": failed,
        "warnings": bool(warnings if inputs else 0),
    }


def _warn_of_limits(state: MeshState, resources: list[Resource]) -> None:
    """Say which limits of the machine the pods of the manifests will meet."""
    for limit in machine_limits(_pods_of(resources), state.folder):
        if not limit.good:
            say(WARN, limit.message, limit.remedy)


def _pods_of(resources: list[Resource]) -> int:
    """How many pods ``resources`` ask for, and one for a gateway that `up` may add."""
    count = 1 if any(resource.key.kind == "Gateway" for resource in resources) else 0
    for resource in resources:
        if resource.key.kind in ("Deployment", "ReplicaSet", "StatefulSet"):
            replicas = getattr(getattr(resource.object, "spec", None), "replicas", None)
            count += 1 if replicas is None else int(replicas)
        else:
            count += resource.key.kind in ("Pod", "DaemonSet", "Job")
    return count


def urls(published: list[dict[str, Any]]) -> list[str]:
    """Addresses to open, http first."""
    found = []
    for entry in published:
        scheme = {80: "http", 443: "https"}.get(entry["port"])
        if scheme:
            found.append(f"{scheme}://{entry['host']}:{entry['hostPort']}")
    return sorted(found, key=lambda url: not url.startswith("http://"))


_WITH_PODS = (
    *(f"/apis/apps/v1/{kind}" for kind in ("deployments", "statefulsets", "daemonsets")),
    "/apis/apps/v1/replicasets",
    "/apis/batch/v1/jobs",
)


def wanted_pods(client: Client) -> dict[str, int]:
    """Workload (``deployments/NS/NAME``) to the number of pods that there must be of it."""
    wanted = {}
    for path in _WITH_PODS:
        plural = path.rpartition("/")[2]
        for raw in client.get(path)["items"]:
            if not raw["metadata"].get("ownerReferences"):
                place = f"{plural}/{raw['metadata']['namespace']}/{raw['metadata']['name']}"
                wanted[place] = _pods_wanted(plural, raw)
    return wanted


def _pods_wanted(plural: str, raw: dict[str, Any]) -> int:
    spec = raw.get("spec") or {}
    if plural == "daemonsets":
        return 1
    if plural == "jobs":
        return 0 if spec.get("suspend") or (raw.get("status") or {}).get("conditions") else 1
    return int(spec.get("replicas", 1))


def _wait_until_live(state: MeshState, client: Client, progress: Progress) -> list[str]:
    """Wait until all pods are ready, stay so, and all proxies know it. Returns pods that fail."""
    told = _Told()
    while not (failed := _wait_for_pods(state, client, progress, told)):
        ready_at = time.monotonic()
        _wait_for_proxies(client, progress)
        time.sleep(max(0.0, ready_at + _PROVING - time.monotonic()))
        if _all_ready(client):
            break
    return failed


def _all_ready(client: Client) -> bool:
    try:
        pods = client.get("/api/v1/pods")["items"]
    except ApiUnavailable:
        return False
    return all(_is_settled(pod) for pod in pods)


def _wait_for_pods(state: MeshState, client: Client, progress: Progress, told: _Told) -> list[str]:
    """Wait for all pods; prints each as it gets ready. Returns those that did not."""
    while True:
        if progress.stopping.is_set():
            raise KeyboardInterrupt
        try:
            pods = client.get("/api/v1/pods")["items"]
            wanted = wanted_pods(client)
        except ApiUnavailable as error:
            # The control plane may be starting again; a node that is gone does not come back.
            if not running_pid(state.folder) or progress.seconds > progress.timeout:
                raise CommandError(
                    f"mesh {state.name} ended while it was starting: {error}",
                    "was it stopped by another command? start it again",
                ) from error
            time.sleep(POLL_SECONDS)
            continue
        missing = []
        for pod in pods:
            name = _name(pod)
            if _is_settled(pod):
                if name not in told.ready:
                    told.ready.add(name)
                    say(OK, f"{name} ready  {progress.seconds:.1f} s")
            else:
                missing.append(name)
                told.ready.discard(name)
                _complain_once(pod, name, told.complaints)
        satisfied = sum(wanted.values()) <= sum(
            1 for pod in pods if pod["metadata"].get("ownerReferences")
        )
        if not missing and satisfied and _gateways_exist(client, pods):
            say(OK, f"all {len(pods)} pods ready after {progress.seconds:.1f} s")
            return []
        hopeless = [name for name in missing if told.complaints.get(name) in HOPELESS]
        rest = [name for name in missing if name not in hopeless]
        if progress.seconds > progress.timeout or (hopeless and not rest and satisfied):
            for pod in pods:
                if _name(pod) in hopeless:
                    continue  # it was said why
                if not _is_ready(pod):
                    if (pod.get("status") or {}).get("message"):
                        continue  # it was said why
                    say(WARN, *_why_unready(pod))
                    for reason in reasons(pod, state.logs):
                        say(NOTE, *text_and_hint(reason))
                elif just_restarted(pod, time.time()):
                    say(WARN, *_why_restarting(pod))
            return missing
        if _stops(published_ports(state)):
            return missing
        time.sleep(POLL_SECONDS)


def _wait_for_proxies(client: Client, progress: Progress) -> None:
    """Wait until every proxy knows of the pods that got ready last; requests fail until then."""
    remaining = max(1.0, progress.timeout - progress.seconds)
    body = {"timeout": min(remaining, 30.0)}
    result = client.request("POST", "/lateen/v1/wait", body, timeout=remaining + 5.0)
    if result["acknowledged"]:
        say(OK, f"live: {result['proxies']} proxies have all of it  {progress.seconds:.1f} s")
    else:
        behind = ", ".join(laggard["proxy"] for laggard in result["laggards"])
        say(WARN, f"proxies without the whole configuration: {behind}", "`lateen status` says why")


def _gateways_exist(client: Client, pods: list[dict[str, Any]]) -> bool:
    """Whether a Gateway for the standard ingress gateway has its pod (made by the node)."""
    gateways = client.get("/apis/networking.istio.io/v1/gateways")["items"]
    selectors = [(g.get("spec") or {}).get("selector") or {} for g in gateways]
    if not any(selector == {"istio": "ingressgateway"} for selector in selectors):
        return True
    return any(
        (pod["metadata"].get("labels") or {}).get("istio") == "ingressgateway" for pod in pods
    )


def _why_unready(pod: dict[str, Any]) -> tuple[str, str]:
    """Which part of a pod is not ready, and the command that shows its log."""
    place, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    states = (pod.get("status") or {}).get("containerStatuses") or []
    unready = [str(state["name"]) for state in states if not state.get("ready")]
    # Applications wait for the proxy: when it is not ready, it is what to look at.
    if "istio-proxy" in unready:
        return (
            f"{place}/{name} is not ready: its proxy is not",
            f"`lateen logs {name} -n {place} -c istio-proxy`; "
            "`lateen status` shows what it was sent",
        )
    which = f": container {', '.join(unready)}" if unready else ""
    return f"{place}/{name} is not ready{which}", f"`lateen logs {name} -n {place}`"


def _is_ready(pod: dict[str, Any]) -> bool:
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return True
    conditions = status.get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _is_settled(pod: dict[str, Any]) -> bool:
    return _is_ready(pod) and not just_restarted(pod, time.time())


def just_restarted(pod: dict[str, Any], now: float) -> bool:
    """Whether a container of the pod failed and runs again since less than `_SETTLING` seconds
    (``now`` in seconds of the epoch): it counts as ready then, and may end at any moment."""
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        ended = (container.get("lastState") or {}).get("terminated") or {}
        begun = ((container.get("state") or {}).get("running") or {}).get("startedAt")
        if not begun or not ended.get("exitCode"):
            continue
        if now - datetime.fromisoformat(begun).timestamp() < _SETTLING:
            return True
    return False


def _name(pod: dict[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _why_restarting(pod: dict[str, Any]) -> tuple[str, str]:
    place, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    return (
        f"{place}/{name} failed and was started again just now",
        f"`lateen logs {name} -n {place}`",
    )


def _complain_once(pod: dict[str, Any], name: str, complained: dict[str, str]) -> None:
    status = pod.get("status") or {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or {}
        if waiting.get("reason") in ("CrashLoopBackOff", "RunContainerError"):
            reason = waiting["reason"]
            message = f"container {container['name']}: {waiting.get('message', '')}"
        elif ended.get("exitCode"):
            reason = "Error"
            message = f"container {container['name']} exited with {ended['exitCode']}"
    if reason == "ImagePullBackOff":
        reason = "ErrImagePull"  # the same failure between two attempts
    if not reason or not message or complained.get(name) == reason:
        return
    complained[name] = reason
    if reason == "InvalidImageName":
        # Many pods may have one image: it is said once, with the first of them.
        if complained.setdefault(message, name) == name:
            say(WARN, *text_and_hint(f"{name}: {message}"))
        return
    say(WARN, f"{name} {pod_phase(pod)}: {message}")


def _stops(published: dict[str, Any]) -> bool:
    """Whether a port of the machine that the user asked for cannot be had."""
    return any(problem["asked"] for problem in published["problems"])
