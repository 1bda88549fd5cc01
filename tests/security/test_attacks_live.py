"""A running mesh, attacked from inside its pods."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.live.mesh import SAMPLES, Mesh, descendants, eventually, running

pytestmark = [pytest.mark.live, pytest.mark.timeout(80)]

WORKLOADS = """
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: outside, labels: {sidecar.istio.io/inject: "false"}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: plain, image: lateen/sleep:1}]
---
apiVersion: v1
kind: Pod
metadata: {name: sleep, labels: {app: sleep}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: sleep, image: lateen/sleep:1}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: default}
stringData: {value: hunter2-never-seen}
"""
LINK = """
import os, time
if os.path.islink("/whole/part"):
    print("mounted", os.listdir("/part"), flush=True)
    time.sleep(3600)
os.rmdir("/whole/part")
os.symlink("/", "/whole/part")
raise SystemExit(1)
"""
CONNECT = """
import json, socket, sys
found = {}
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 3) as s:
            s.sendall(b"GET /debug/config_dump HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n")
            found[target] = s.recv(12).decode()
    except OSError as error:
        found[target] = type(error).__name__
print(json.dumps(found))
"""
PRIVILEGES = """
import json, os, socket
found = {}
for name, arguments in {"raw": (2, 3, 6), "packet": (17, 3, 0x300)}.items():
    try: found[name] = bool(socket.socket(*arguments))
    except PermissionError: found[name] = False
for name, option in {"mark": (1, 36, 1337), "transparent": (0, 19, 1)}.items():
    try: socket.socket().setsockopt(*option); found[name] = True
    except PermissionError: found[name] = False
found["processes"] = len([p for p in os.listdir("/proc") if p.isdigit()])
found["run"] = os.listdir("/run")
mounts = open("/proc/self/mountinfo").read()
found["proxy"] = "/run/lateen" in mounts
print(json.dumps(found))
"""
CLIENTS = pytest.mark.parametrize(
    ("pod", "namespace"), [("sleep", "default"), ("plain", "outside")], ids=["sidecar", "none"]
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """STRICT everywhere, one client with a sidecar and one without, httpbin."""
    path = tmp_path_factory.mktemp("files") / "workloads.yaml"
    path.write_text(WORKLOADS)
    httpbin = str(SAMPLES / "httpbin" / "httpbin.yaml")
    with running("-f", str(path), "-f", httpbin, name="attack") as found:
        yield found


def python(mesh: Mesh, pod: str, namespace: str, script: str, *arguments: str) -> dict[str, object]:
    """What a script says in a pod, as JSON."""
    result = mesh.exec(pod, sys.executable, "-c", script, *arguments, namespace=namespace)
    answer: dict[str, object] = json.loads(result.out)
    return answer


@CLIENTS
def test_an_application_has_no_privileges(mesh: Mesh, pod: str, namespace: str) -> None:
    """It cannot forge packets or the proxy's mark, and sees neither other processes nor keys."""
    found = python(mesh, pod, namespace, PRIVILEGES)
    for name in ("raw", "packet", "mark", "transparent", "proxy"):
        assert found[name] is False, name
    assert found["processes"] == 2
    assert found["run"] == []


@CLIENTS
def test_the_control_plane_answers_pods_little(mesh: Mesh, pod: str, namespace: str) -> None:
    debug, admin = "10.244.0.1:15014", f"{mesh.pod('httpbin')['status']['podIP']}:15000"
    found = python(mesh, pod, namespace, CONNECT, debug, admin)
    assert str(found[debug]).endswith(" 403")
    assert not str(found[admin]).endswith(" 200")


@CLIENTS
def test_pods_do_not_reach_the_machines_loopback(mesh: Mesh, pod: str, namespace: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        accepted: list[object] = []
        server.settimeout(6)

        def accept() -> None:
            try:
                accepted.append(server.accept()[1])
            except OSError:
                return

        waiting = threading.Thread(target=accept)
        waiting.start()
        targets = [f"{host}:{port}" for host in ("127.0.0.1", "0.0.0.0", "10.244.0.1")]
        python(mesh, pod, namespace, CONNECT, *targets)
        waiting.join()
        assert not accepted


@CLIENTS
def test_link_local_addresses_are_refused_at_once(mesh: Mesh, pod: str, namespace: str) -> None:
    """Metadata services are there; this address is nobody's, and nothing is sent to it."""
    found = python(mesh, pod, namespace, CONNECT, "169.254.1.1:9")
    assert found["169.254.1.1:9"] in ("", "ConnectionResetError")


def test_nothing_gets_past_a_dead_proxy(mesh: Mesh) -> None:
    """STRICT holds while the proxy is killed and started again."""
    address = mesh.pod("httpbin")["status"]["podIP"]
    proxies = [pid for pid in descendants(mesh.node_pid) if workload(pid) == "httpbin"]
    script = f"""
import json, socket, time
answers, end = [], time.time() + 3
while time.time() < end:
    try:
        with socket.create_connection(("{address}", 8080), 1) as s:
            s.settimeout(1)
            s.sendall(b"GET /get HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            answers.append(s.recv(12).decode())
    except OSError:
        time.sleep(0.005)
print(json.dumps({{"answers": [a for a in answers if a]}}))
"""

    def kill() -> None:
        for pid in proxies:
            os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(0.5, kill)
    timer.start()
    assert python(mesh, "plain", "outside", script) == {"answers": []}
    timer.join()
    assert proxies
    eventually(lambda: mesh.curl("http://httpbin:8000/get", source="sleep").status == 200)


def workload(pid: int) -> str:
    """The workload whose Envoy a process is."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = dict(p.partition(b"=")[::2] for p in file.read().split(b"\0"))
    except OSError:
        return ""
    return found.get(b"LATEEN_WORKLOAD", b"").decode()


def test_a_link_in_a_volume_mounts_nothing_of_the_machine(mesh: Mesh) -> None:
    """A container puts a link to / where its subPath was, and is started again."""
    mounts = [
        {"name": "v", "mountPath": "/whole"},
        {"name": "v", "mountPath": "/part", "subPath": "part"},
    ]
    container = {
        "name": "evil",
        "image": "lateen/sleep:1",
        "command": [sys.executable, "-c", LINK],
        "volumeMounts": mounts,
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "evil", "namespace": "outside"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [container],
        },
    }
    text = json.dumps(pod)
    mesh.run("apply", "--no-wait", "-f", "-", stdin=text, status=None)
    try:
        eventually(lambda: "leaves it through a link" in waiting_message(mesh))
        assert "mounted" not in mesh.logs("evil", namespace="outside")
    finally:
        mesh.delete_text(text)


def waiting_message(mesh: Mesh) -> str:
    """What keeps the container of the pod from starting."""
    status = mesh.pod("evil", "outside")["status"]["containerStatuses"][0]
    return str(status["state"].get("waiting", {}).get("message", ""))


def test_secrets_are_in_no_log_and_no_dump(mesh: Mesh) -> None:
    for path in (mesh.folder / "logs").rglob("*.log"):
        text = path.read_text(errors="replace")
        assert "PRIVATE KEY" not in text, path
        assert "hunter2-never-seen" not in text, path
    dumped = mesh.curl("http://127.0.0.1:15000/config_dump", source="sleep").body
    assert "W3JlZGFjdGVkXQ==" in dumped, "the key is there, as [redacted]"
    for word in ("PRIVATE KEY", "hunter2-never-seen", "LS0tLS1CRUdJTiBQUklW", "LS0tLS1CRUdJTiBFQy"):
        assert word not in dumped


def test_files_of_the_mesh_are_its_owners_only(mesh: Mesh) -> None:
    """Nobody else passes the folder, and the control plane cannot replace what is root's in it."""
    mode = mesh.folder.stat()
    assert mode.st_uid == os.geteuid()
    assert not mode.st_mode & stat.S_IRWXO
    assert not mode.st_mode & stat.S_IWGRP or mode.st_mode & stat.S_ISVTX
    for name in ("api.sock", "agent.sock", "store.db", "ca/ca-key.pem", "node.json"):
        assert stat.S_IMODE((mesh.folder / name).stat().st_mode) == 0o600, name


def test_accounts_of_the_machine_read_no_process_of_the_mesh(mesh: Mesh) -> None:
    """Not even those that have the numbers which programs of a mesh have inside."""
    if os.geteuid() != 0:
        pytest.skip("without root all processes are the user's own")
    processes = descendants(mesh.node_pid)
    assert len(processes) > 5
    for number in (1337, 1338, 65534):
        assert [pid for pid in processes if may_read(number, pid)] == [], number


def may_read(number: int, pid: int) -> bool:
    """Whether an account with this uid and gid reads the environment of a process."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(number, number, number)
            os.setresuid(number, number, number)
            with open(f"/proc/{pid}/environ", "rb") as file:
                file.read()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def test_published_ports_are_the_machines_own(mesh: Mesh) -> None:
    """Nothing of the mesh listens on an address that other machines reach."""
    listening = {f"socket:[{inode}]" for inode in wildcard_listeners()}
    for pid in (mesh.node_pid, *descendants(mesh.node_pid)):
        try:
            files = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in files:
            try:
                assert os.readlink(f"/proc/{pid}/fd/{name}") not in listening
            except OSError:
                continue


def wildcard_listeners() -> set[str]:
    """Inodes of the host's TCP sockets that listen on more than loopback."""
    found = set()
    for table, loopback in (("tcp", "0100007F"), ("tcp6", "0" * 24 + "01000000")):
        with open(f"/proc/net/{table}", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and not fields[1].startswith(loopback):
                    found.add(fields[9])
    return found
