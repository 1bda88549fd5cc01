"""Pods: `ps`, `logs`, `exec`, `restart`, `scale`."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from lateen.cli.columns import pod_phase, pod_ready, pod_restarts
from lateen.cli.completion import pods as offer_pods
from lateen.cli.completion import workloads
from lateen.cli.errors import FINDING, USAGE, CommandError
from lateen.cli.kinds import Reference, resolve
from lateen.cli.mesh_state import connect, mesh_state, not_running
from lateen.cli.options import AllNamespaces, Mesh, Namespace, Output, PodNamespace
from lateen.cli.output import NOTE, OK, age, complain, emit, say, table, text_and_hint
from lateen.cli.pod_reasons import fails_for_good, reasons
from lateen.runtime.agent_client import AgentRefused, AgentUnavailable, RunningCommand
from lateen.source.client import ApiError, Client

Raw = dict[str, Any]
PROXY = "istio-proxy"


def ps(
    mesh: Mesh = "default",
    namespace: PodNamespace = "",
    all_namespaces: AllNamespaces = False,
    output: Output = "text",
) -> None:
    """Pods of all namespaces, or of one: readiness, restarts, and why one is not ready."""
    client = connect(mesh)
    pods = client.get("/api/v1/pods")["items"]
    if namespace and not all_namespaces:
        pods = [pod for pod in pods if pod["metadata"]["namespace"] == namespace]
    if output != "text":
        emit({"apiVersion": "v1", "kind": "List", "items": pods}, output)
        return
    rows = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        phase = pod_phase(pod)
        colour = "green" if phase == "Running" and not _unready(pod) else "yellow"
        started = metadata.get("creationTimestamp")
        born = datetime.fromisoformat(started).timestamp() if started else time.time()
        rows.append(
            (
                metadata["namespace"],
                metadata["name"],
                pod_ready(pod),
                f"[{colour}]{escape(phase)}[/]",
                pod_restarts(pod),
                status.get("podIP") or "-",
                age(time.time() - born),
            )
        )
    table(("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "AGE"), rows)
    if namespace and not pods:
        say(NOTE, f"no pod in namespace {namespace}")
    told: dict[str, list[str]] = {}
    for pod in pods:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for reason in reasons(pod, mesh_state(mesh).logs):
            told.setdefault(reason, []).append(name)
    for reason, names in told.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        complain(*text_and_hint(f"{names[0]}{more}: {reason}"))


def logs(
    target: Annotated[
        str,
        typer.Argument(
            metavar="POD", help="POD, deploy/NAME, KIND/NAME", autocompletion=offer_pods
        ),
    ],
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    container: Annotated[
        str, typer.Option("-c", "--container", help="Which container; istio-proxy is Envoy.")
    ] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
    tail: Annotated[int, typer.Option(help="Only the last lines; -1 for all.")] = -1,
    previous: Annotated[
        bool, typer.Option("-p", "--previous", help="The part before the last rotation.")
    ] = False,
) -> None:
    """Output of a container; `-c istio-proxy` is the access log, `logs agent` the node's own."""
    state = mesh_state(mesh)
    component = state.logs / f"{target}.log"
    if target in ("agent", "control-plane") and component.exists():
        path = component
    else:
        pod = find_pod(connect(mesh), target, namespace)
        name = container or default_container(pod)
        folder = state.logs / pod["metadata"]["namespace"] / pod["metadata"]["name"]
        path = folder / f"{name}.log"
        if not path.exists() or (path.stat().st_size == 0 and _never_started(pod, name)):
            raise _no_log(pod, name, sorted(p.stem for p in folder.glob("*.log")))
    if previous:
        path = Path(f"{path}.1")
        if not path.exists():
            raise CommandError("the log was not rotated yet", "leave out --previous", FINDING)
    for chunk in _read_log(path, tail, follow=follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _no_log(pod: Raw, name: str, known: list[str]) -> CommandError:
    """Why a container has no log: there is no such container, it never started, or is silent."""
    label, status = pod["metadata"]["name"], pod.get("status") or {}
    hint = f"containers with a log: {', '.join(known)}" if known else ""
    states = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    spec = pod.get("spec") or {}
    names = [c["name"] for key in ("initContainers", "containers") for c in spec.get(key) or []]
    names = list(dict.fromkeys([*names, *(str(s["name"]) for s in states)]))
    if name not in names:
        hint = f"its containers: {', '.join(names)}"
        return CommandError(f"pod {label} has no container {name}", hint, FINDING)
    state: Raw = next((s for s in states if s["name"] == name), {})
    waiting = (state.get("state") or {}).get("waiting") or {}
    if waiting or not state or not state.get("state"):
        why = reasons(pod) or [str(waiting.get("reason") or "it waits for the others")]
        text, advice = text_and_hint(f"container {name} of pod {label} never started: {why[0]}")
        return CommandError(text, advice or hint, FINDING)
    return CommandError(f"container {name} of pod {label} has written nothing yet", hint, FINDING)


def exec_(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="POD [--] COMMAND...", help="POD or deploy/NAME", autocompletion=offer_pods
        ),
    ],
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    container: Annotated[str, typer.Option("-c", "--container", help="Which container.")] = "",
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Pass standard input on.")] = False,
    terminal: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")] = False,
) -> None:
    """Run a command in a pod, with its exit status: `exec deploy/sleep -- curl http://reviews:9080/`."""
    target, argv = arguments[0], arguments[1:]
    if "--" in argv:
        # Like kubectl: options may stand between the pod and the dashes.
        place = argv.index("--")
        options, argv = _exec_options(argv[:place]), argv[place + 1 :]
        container = options.container or container
        namespace = options.namespace or namespace
        stdin, terminal = stdin or options.stdin, terminal or options.terminal
    if not argv:
        raise CommandError("no command to run", f"exec {target} -- COMMAND", USAGE)
    state = mesh_state(mesh)
    pod = find_pod(connect(mesh), target, namespace)
    message = {
        "namespace": pod["metadata"]["namespace"],
        "pod": pod["metadata"]["name"],
        "container": container,
        "argv": argv,
        "tty": terminal,
    }
    try:
        run = _run_in_terminal if terminal else _run_plain
        status = run(state.agent_socket, message, stdin)
    except AgentUnavailable as error:
        raise not_running(state) from error
    except AgentRefused as error:
        raise CommandError(str(error), error.hint, error.exit_status) from error
    raise typer.Exit(status)


@dataclass(slots=True)
class ExecOptions:
    """Options of `exec` that stand behind the pod's name."""

    container: str = ""
    namespace: str = ""
    stdin: bool = False
    terminal: bool = False


def _exec_options(words: list[str]) -> ExecOptions:
    found = ExecOptions()
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in ("-c", "--container", "-n", "--namespace"):
            text = value if equals else next(rest, "")
            if name in ("-c", "--container"):
                found.container = text
            else:
                found.namespace = text
        elif name in ("-i", "--stdin", "-t", "--tty", "-it", "-ti"):
            found.stdin |= "i" in name and name != "--tty"
            found.terminal |= "t" in name and name != "--stdin"
        else:
            raise CommandError(
                f"exec does not know {word!r}", "what follows -- is run as it is", USAGE
            )
    return found


def restart(
    targets: Annotated[list[str], typer.Argument(metavar="KIND/NAME...", autocompletion=workloads)],
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until all are ready.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 120.0,
) -> None:
    """Replace the pods of a workload one by one; no request is lost."""
    client = connect(mesh)
    for text in targets:
        target = Reference.parse(text, "deployment")
        stamp = {"kubectl.kubernetes.io/restartedAt": datetime.now(UTC).isoformat()}
        patch = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        _patch(client, target, namespace, patch)
        if wait:
            _wait_rollout(client, target, namespace, timeout, mesh_state(mesh).logs, stamp)
        say(OK, f"{target.kind.kind} {target.name} restarted")


def scale(
    targets: Annotated[list[str], typer.Argument(metavar="KIND/NAME...", autocompletion=workloads)],
    replicas: Annotated[int, typer.Option("--replicas", min=0, help="How many pods.")],
    mesh: Mesh = "default",
    namespace: Namespace = "default",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until all are ready.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 120.0,
) -> None:
    """Set how many pods a workload has."""
    client = connect(mesh)
    for text in targets:
        target = Reference.parse(text, "deployment")
        _patch(client, target, namespace, {"spec": {"replicas": replicas}})
        if wait:
            _wait_rollout(client, target, namespace, timeout, mesh_state(mesh).logs)
        say(OK, f"{target.kind.kind} {target.name} scaled to {replicas}")


def find_pod(client: Client, target: str, namespace: str) -> Raw:
    """The pod that ``POD`` or ``KIND/NAME`` means; of several the first ready one.

    Raises `CommandError`.
    """
    pods = client.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    if "/" not in target or target.startswith(("pod/", "po/", "pods/")):
        name = target.rpartition("/")[2]
        found = [pod for pod in pods if pod["metadata"]["name"] == name]
        if not found:
            near = [p["metadata"]["name"] for p in pods if p["metadata"]["name"].startswith(name)]
            hint = f"did you mean {near[0]}?" if near else "`lateen ps` lists the pods"
            raise CommandError(f"no pod {name} in namespace {namespace}", hint, FINDING)
        return dict(found[0])
    reference = Reference.parse(target)
    try:
        raw = client.get(reference.kind.path(namespace, reference.name))
    except ApiError as error:
        raise CommandError(
            str(error), f"look in namespace {namespace}? -n NAMESPACE", FINDING
        ) from None
    if reference.kind.kind == "Service":
        wanted = (raw.get("spec") or {}).get("selector") or {}
        found = [p for p in pods if wanted and _has_labels(p, wanted)]
    else:
        kind = resolve(reference.kind.kind).kind
        found = [p for p in pods if _owned(p, kind, reference.name)]
    if not found:
        raise CommandError(f"{target} has no pod", "`lateen ps` lists the pods", FINDING)
    found.sort(key=lambda pod: (_unready(pod), pod["metadata"]["name"]))
    return dict(found[0])


def default_container(pod: Raw) -> str:
    """The container that `logs` and `exec` mean when none is named."""
    annotations = pod["metadata"].get("annotations") or {}
    named = annotations.get("kubectl.kubernetes.io/default-container")
    if named:
        return str(named)
    return str(pod["spec"]["containers"][0]["name"])


def _run_plain(path: Path, message: Raw, stdin: bool) -> int:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        command = RunningCommand(path, message, (0 if stdin else null, 1, 2))
        return _await(command)
    finally:
        os.close(null)


def _run_in_terminal(path: Path, message: Raw, _stdin: bool) -> int:
    """The command gets a terminal of its own; ours is made transparent for it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, _window_size())
    command = RunningCommand(path, message, (theirs, theirs, theirs))
    os.close(theirs)
    saved = termios.tcgetattr(0) if os.isatty(0) else None
    if saved is not None:
        tty.setraw(0)
    signal.signal(signal.SIGWINCH, lambda *_: fcntl.ioctl(ours, termios.TIOCSWINSZ, _window_size()))
    try:
        _copy(ours)
        return command.wait()
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)


def _copy(terminal: int) -> None:
    sources = [terminal, 0]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if terminal in ready:
            try:
                data = os.read(terminal, 65_536)
            except OSError:
                return
            if not data:
                return
            os.write(1, data)
        if 0 in ready:
            data = os.read(0, 65_536)
            if data:
                os.write(terminal, data)
            else:
                sources.remove(0)
                os.write(terminal, b"\x04")


def _window_size() -> bytes:
    size = os.get_terminal_size(1) if os.isatty(1) else os.terminal_size((80, 24))
    return struct.pack("HHHH", size.lines, size.columns, 0, 0)


def _await(command: RunningCommand) -> int:
    def forward(number: int, _frame: object) -> None:
        command.signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    return command.wait()


def _read_log(path: Path, tail: int, *, follow: bool) -> Iterator[bytes]:
    stream = path.open("rb")
    content = stream.read()
    if tail >= 0:
        content = b"".join(content.splitlines(keepends=True)[-tail:] if tail else [])
    yield content
    while follow:
        more = stream.read()
        if more:
            yield more
        elif not path.exists():
            return
        elif path.stat().st_ino != os.fstat(stream.fileno()).st_ino:
            # Rotated: what follows is in the new file of the same name.
            stream.close()
            stream = path.open("rb")
        else:
            time.sleep(0.1)


def _patch(client: Client, target: Reference, namespace: str, patch: Raw) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    client.request("PATCH", target.kind.path(namespace, target.name), patch, headers)


_COUNTS = ("replicas", "updatedReplicas", "readyReplicas")
_DAEMON_COUNTS = ("currentNumberScheduled", "updatedNumberScheduled", "numberReady")
"""Of the status, equal when a rollout is complete: all pods, new ones, ready ones."""


def _wait_rollout(
    client: Client,
    target: Reference,
    namespace: str,
    timeout: float,
    logs: Path,
    annotations: dict[str, str] | None = None,
) -> None:
    """Until all pods are the new ones, which have ``annotations``, and ready.

    Raises `CommandError` at the timeout, or when a pod fails in a way that waiting does not mend.
    """
    deadline = time.monotonic() + timeout
    while True:
        raw = client.get(target.kind.path(namespace, target.name))
        status = raw.get("status") or {}
        wanted = int((raw.get("spec") or {}).get("replicas", 1))
        wanted = int(status.get("desiredNumberScheduled", wanted))
        current = status.get("observedGeneration") == raw["metadata"].get("generation")
        of_daemons = target.kind.kind == "DaemonSet"
        counts = [status.get(k, 0) for k in (_DAEMON_COUNTS if of_daemons else _COUNTS)]
        if current and counts == [wanted] * 3:
            return
        pods = [
            pod
            for pod in client.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
            if _owned(pod, target.kind.kind, target.name)
            # An old pod that fails may be why its workload is restarted.
            and (annotations or {}).items() <= (pod["metadata"].get("annotations") or {}).items()
            and not pod["metadata"].get("deletionTimestamp")
        ]
        failed = fails_for_good(pods) if current else []
        late = time.monotonic() > deadline
        if failed or late:
            when = f"is not complete after {timeout:g} s" if late else "fails"
            why = [
                f"{p['metadata']['name']}: {r}" for p in failed or pods for r in reasons(p, logs)
            ]
            text = f"{target.kind.kind} {target.name} {when}: {counts[2]} of {wanted} pods ready"
            raise CommandError(
                "; ".join([text, *(line.partition("\n")[0] for line in why[:3])]),
                f"`lateen ps -n {namespace}` shows the pods; those that were ready before serve on",
                FINDING,
            )
        time.sleep(0.1)


def _name(pod: Raw) -> str:
    return str(pod["metadata"]["name"])


def _never_started(pod: Raw, container: str) -> bool:
    """Whether a container waits for its first start."""
    for state in (pod.get("status") or {}).get("containerStatuses") or []:
        if state["name"] == container:
            return bool((state.get("state") or {}).get("waiting")) and not state.get("lastState")
    return False


def _unready(pod: Raw) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _has_labels(pod: Raw, wanted: dict[str, str]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(k) == v for k, v in wanted.items())


def _owned(pod: Raw, kind: str, name: str) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner["kind"] == kind and owner["name"] == name for owner in owners)
