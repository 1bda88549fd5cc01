"""Mistakes and mishaps: what the user is told, the exit status, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.mesh import (
    PROGRAM,
    ROOT,
    SAMPLES,
    Mesh,
    assert_gone,
    command_line,
    descendants,
    eventually,
    host_traces,
    short_folder,
)
from tests.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


@pytest.fixture
def empty() -> Iterator[Mesh]:
    """A mesh that is not up yet; whatever a test does with it, nothing stays."""
    home = short_folder()
    mesh = Mesh(f"error-{os.getpid()}", home)
    before = host_traces()
    try:
        yield mesh
    finally:
        try:
            mesh.down()
            assert_gone(mesh, before)
        finally:
            shutil.rmtree(home, ignore_errors=True)


def workload(name: str, container: str, more: str = "") -> str:
    """A Deployment with one container."""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, {container}}}]
{more}"""


def write(tmp_path: Path, text: str) -> str:
    """A manifest in a file."""
    path = tmp_path / "app.yaml"
    path.write_text(text)
    return str(path)


SLEEP = workload("sleep", "image: lateen/sleep:1")


def test_a_host_port_that_is_taken(empty: Mesh) -> None:
    """Who wants it, that it is taken, what to write instead; and the mesh is gone again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        empty.http_port = port
        result = empty.up("-f", str(SAMPLES / "bookinfo"), status=3)
        assert str(port) in result.text
        assert "--publish" in result.text
        assert not empty.folder.exists()
        # The port is the other program's; it must stay so until the fixture has looked.
        empty.http_port = free_port()


SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: LoadBalancer, selector: {{app: sleep}}, ports: [{{port: {port}, targetPort: 80}}]}}
"""


def test_services_with_one_port_and_a_port_that_is_taken_later(empty: Mesh, tmp_path: Path) -> None:
    """Both services start; a port that is taken after `up` is said, and published once free."""
    both, later = tmp_path / "both.yaml", tmp_path / "later.yaml"
    both.write_text("".join(SERVICE.format(name=name, port=80) for name in ("one", "two")))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        later.write_text(SERVICE.format(name="three", port=port))
        result = empty.up("-f", str(both), "--publish", f"{port}:{port}")
        assert "port 80 of service default/two is published on 127.0.0.1:" in result.text
        assert f"instead of {empty.http_port}: that is published for default/one" in result.text
        applied = empty.run("apply", "-f", str(later))
        said = f"port {port} of service default/three is not published"
        assert said in applied.text
        assert "is taken by" in applied.text
        assert said in empty.run("status", status=None).text
        assert said in empty.run("check", status=None).text
    eventually(lambda: said not in empty.run("status", status=None).text, timeout=15)
    # Nothing is behind the service, so that the published port ends connections at once.
    with contextlib.suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", port)):
        pass


def test_programs_in_folders_that_pods_have_of_their_own(empty: Mesh, tmp_path: Path) -> None:
    """A program at a relative path below /tmp runs, and its folder is read in the pod."""
    (tmp_path / "words").write_text("from the machine")
    (tmp_path / "run").write_text("#!/bin/sh\ncat words; exec sleep 1000\n")
    (tmp_path / "run").chmod(0o755)
    tmp_path.chmod(0o755)
    mapping = tmp_path / "images.txt"
    mapping.write_text("team/api=./run\n")
    path = write(tmp_path, workload("api", "image: 'example.com/team/api:1.2'"))
    empty.up("-f", path, "--image-file", str(mapping))
    eventually(lambda: "from the machine" in empty.run("logs", "deploy/api").text, timeout=10)


def test_the_reasons_of_pods_that_are_not_ready(empty: Mesh, tmp_path: Path) -> None:
    """`ps`, `logs` and `restart` say why; `ps -n` shows one namespace only."""
    crash = workload("crash", "image: busybox, command: [sh, -c, 'echo no database; exit 3']")
    probe = workload(
        "probe", "image: lateen/sleep:1, readinessProbe: {tcpSocket: {port: 7}, periodSeconds: 1}"
    )
    missing = workload("missing", "image: busybox, command: [/no/such/program]")
    path = write(tmp_path, "---".join((SLEEP, crash, probe, missing)))
    empty.up("-f", path, "--timeout", "8", status=1)
    shown = empty.run("ps", status=None).text
    assert "exited with 3" in shown
    assert "its last words: no database" in shown
    assert "readiness probe failed: port 7" in shown
    assert "/no/such/program: no such program" in shown
    assert "crash" not in empty.run("ps", "-n", "istio-system").text
    assert "never started" in empty.run("logs", "deploy/missing", status=None).text
    assert "no container x" in empty.run("logs", "deploy/sleep", "-c", "x", status=None).text
    failed = empty.run("restart", "deploy/crash", "--timeout", "30", status=1)
    assert "Deployment crash fails" in failed.text
    assert "no database" in failed.text
    deleted = empty.run("delete", "deploy", "probe", "missing", "crash")
    assert "live: acknowledged by" in deleted.text


def test_a_mesh_that_runs_already(bookinfo: Mesh) -> None:
    mode = bookinfo.folder.stat().st_mode
    result = bookinfo.up("-f", str(SAMPLES / "httpbin"), status=3)
    assert f"mesh {bookinfo.name} is running already" in result.err
    assert "lateen down --mesh" in result.err
    assert "--mesh NAME" in result.err
    assert bookinfo.get("/productpage").status == 200
    # The control plane runs as another user and reaches its keys through this folder.
    assert bookinfo.folder.stat().st_mode == mode


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("kind: Service\napiVersion: v1\nmetadata: {name: [\n", "app.yaml:", "expected"),
        (SLEEP.replace("selector:", "selectr:"), "app.yaml:6", "selector"),
        ("a: 1\n", "app.yaml:1", "kind"),
    ],
    ids=["not YAML", "unknown field", "no object"],
)
def test_a_manifest_that_does_not_parse(
    empty: Mesh, tmp_path: Path, text: str, where: str, what: str
) -> None:
    result = empty.up("-f", write(tmp_path, text), status=1)
    assert where in result.text
    assert what in result.text
    assert "nothing was started" in result.err
    assert not empty.folder.exists()


def test_no_such_file(empty: Mesh) -> None:
    result = empty.up("-f", "/no/such/file.yaml", status=2)
    assert "/no/such/file.yaml" in result.err
    assert not empty.folder.exists()


def test_a_service_that_selects_nothing(empty: Mesh, tmp_path: Path) -> None:
    text = (
        SLEEP
        + """---
apiVersion: v1
kind: Service
metadata: {name: lonely}
spec: {selector: {app: slep}, ports: [{port: 80}]}
"""
    )
    path = write(tmp_path, text)
    result = empty.up("-f", path)
    line = text.splitlines().index("spec: {selector: {app: slep}, ports: [{port: 80}]}") + 1
    for told in (result.text, empty.run("status", "-v").text):
        assert f"{path}:{line}:8: Service default/lonely: no Pod" in told
        assert "app=slep" in told
        assert "Compare spec.selector with the labels of the pods" in told


def test_two_services_with_one_address(empty: Mesh, tmp_path: Path) -> None:
    service = """---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {clusterIP: 10.96.7.7, selector: {app: sleep}, ports: [{port: 80}]}
"""
    text = SLEEP + service.replace("NAME", "one") + service.replace("NAME", "two")
    result = empty.up("-f", write(tmp_path, text), status=1)
    assert "10.96.7.7" in result.text
    assert "one" in result.text
    assert "two" in result.text
    assert not empty.folder.exists()


def test_an_image_without_a_command(empty: Mesh, tmp_path: Path) -> None:
    """Which pod, which image, and the ways to give it one; the other pods run."""
    text = workload("strange", "image: example.com/strange:1") + "---" + SLEEP
    result = empty.up("-f", write(tmp_path, text), "--engine", "none", status=1)
    assert "example.com/strange:1" in result.text
    assert "strange-" in result.text
    assert "default/strange-" in result.text
    assert "no command is known for image" in result.text
    for way in ("--image", "--image-file", "a command in the manifest", "--engine none"):
        assert way in result.text
    pods = {p["metadata"]["labels"]["app"]: p for p in empty.pods()}
    assert pods["sleep"]["status"]["phase"] == "Running"


def test_a_container_engine_that_is_not_there(empty: Mesh, tmp_path: Path) -> None:
    file = write(tmp_path, SLEEP)
    assert "one of auto, docker" in empty.up("-f", file, "--engine", "rkt", status=2).text
    missing = [name for name in ("nerdctl", "podman", "docker") if shutil.which(name) is None]
    for name in missing[:1]:
        result = empty.up("-f", file, "--engine", name, status=3)
        assert f"{name} is not installed" in result.text
    assert not empty.folder.exists()


def test_an_application_that_exits(empty: Mesh, tmp_path: Path) -> None:
    """It runs for a moment, and is ready for that long, as it has no readiness probe."""
    command = "[sh, -c, 'echo no config; sleep 0.2; exit 4']"
    text = workload("brief", f"image: busybox, command: {command}")
    result = empty.up("-f", write(tmp_path, text), "--timeout", "10", status=1)
    assert "brief-" in result.text
    assert "exited with 4" in result.text
    assert "lateen logs" in result.text


def test_a_proxy_that_never_gets_ready(empty: Mesh, tmp_path: Path) -> None:
    """A proxy that hangs while it starts: the pod is named, and that it is its proxy."""
    path = write(tmp_path, workload("stuck", "image: lateen/sleep:1"))
    argv = [*empty.program, "up", "-d", "--timeout", "10", "-f", path]
    process = subprocess.Popen(
        argv,
        env=empty.environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.kill(eventually(lambda: first_envoy(empty), every=0.005), signal.SIGSTOP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    assert "stuck-" in out
    assert "not ready" in out
    assert "its proxy is not" in out
    assert "-c istio-proxy" in out
    assert "0/2" in empty.run("ps").out


def first_envoy(mesh: Mesh) -> int:
    """Process id of any Envoy of the mesh, 0 when there is none yet."""
    if not (mesh.folder / "node.json").exists():
        return 0
    for pid in descendants(mesh.node_pid):
        try:
            if "envoy" in os.readlink(f"/proc/{pid}/exe"):
                return pid
        except OSError:
            continue
    return 0


def test_a_control_plane_that_does_not_answer(empty: Mesh, tmp_path: Path) -> None:
    """Commands say where its log is; `down` works."""
    empty.up("-f", write(tmp_path, SLEEP))
    node = empty.node_pid
    os.kill(empty.process_with("lateen.serve.main"), signal.SIGSTOP)
    result = empty.run("ps", status=3, timeout=30)
    assert "does not answer" in result.err
    assert "control-plane.log" in result.err
    empty.down()
    assert not command_line(node)


def test_a_crash_of_everything_is_cleaned_up(empty: Mesh, tmp_path: Path) -> None:
    """After kill -9 of the node the kernel has ended all; `up` works again, `down` cleans up."""
    path = write(tmp_path, SLEEP)
    empty.up("-f", path)
    os.kill(empty.node_pid, signal.SIGKILL)
    result = eventually(lambda: empty.up("-f", path), timeout=30)
    assert "1 pods ready" in result.out or "all 1" in result.out
    os.kill(empty.node_pid, signal.SIGKILL)
    assert "is gone" in empty.run("down").out
    assert not empty.folder.exists()


def test_ctrl_c_ends_everything(empty: Mesh, tmp_path: Path) -> None:
    """`up` in the foreground removes all it made when it is interrupted."""
    ports = ("--publish", f"80:{empty.http_port}", "--publish", f"443:{empty.https_port}")
    argv = [PROGRAM, "up", *ports, "-f", write(tmp_path, SLEEP)]
    process = subprocess.Popen(
        argv, env=empty.environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "pods ready" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(30) == 0
    assert "nothing is left" in rest
    assert not empty.folder.exists()


def test_ctrl_c_again_and_again_leaves_nothing(empty: Mesh, tmp_path: Path) -> None:
    """Also while what was started is being ended; the fixture looks for what is left."""
    argv = [PROGRAM, "up", "-f", write(tmp_path, SLEEP)]
    process = subprocess.Popen(
        argv, env=empty.environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "objects applied" in line:
            break
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    process.stdout.read()
    # The last ones may meet an interpreter that is ending, with nothing left to do.
    assert process.wait(30) in (0, 130, -signal.SIGINT)
    assert not empty.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_for_logs(empty: Mesh, tmp_path: Path) -> None:
    """Applications go on when their log cannot grow, and the mesh stays usable."""
    empty.state_home.chmod(0o755)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(empty.state_home)], check=True
    )
    try:
        text = workload(
            "loud", "image: busybox, command: [sh, -c, 'yes | head -c 40000000; sleep 999']"
        )
        empty.up("-f", write(tmp_path, text))
        assert empty.exec("deploy/loud", "echo", "alive").out == "alive\n"
        eventually(lambda: shutil.disk_usage(empty.state_home).free < 2 << 20 or log_size(empty))
        assert empty.exec("deploy/loud", "echo", "alive").out == "alive\n"
        assert empty.run("ps").status == 0
        empty.down()
    finally:
        subprocess.run(["umount", "-l", str(empty.state_home)], check=True)


def log_size(mesh: Mesh) -> int:
    """Bytes in all logs of the pods; what a container may write is bounded."""
    files = [f for f in (mesh.folder / "logs").rglob("main.log*") if f.is_file()]
    return sum(f.stat().st_size for f in files)


FORBIDDEN = """
import os, sys
from lateen.runtime.node import namespaces as ns
# A user namespace in which no more may be made: what a hardened kernel does to everybody.
uid, gid = os.getuid(), os.getgid()
ns.unshare(ns.CLONE_NEWUSER)
ns.map_single_user(uid, gid)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
open("/proc/sys/user/max_net_namespaces", "w").write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_namespaces_that_are_forbidden(empty: Mesh, tmp_path: Path) -> None:
    """The message says what is missing and how an administrator allows it."""
    import sys

    argv = [sys.executable, "-c", FORBIDDEN, PROGRAM, "up", "-d", "-f", write(tmp_path, SLEEP)]
    done = subprocess.run(
        argv, env=empty.environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "Permission denied" in done.stderr and "Traceback" in done.stderr:
        pytest.skip("limits of a user namespace cannot be set on this machine")
    assert done.returncode == 3, done
    assert "namespace" in done.stderr
    assert "→" in done.stderr
    assert "Traceback" not in done.stderr
    assert not empty.folder.exists()


def test_validate_and_apply_agree(empty: Mesh, tmp_path: Path) -> None:
    """The offline check of a file finds what `up` refuses, as data."""
    path = write(tmp_path, SLEEP.replace("selector:", "selectr:"))
    result = empty.run("validate", "-f", path, "-o", "json", status=1)
    findings = json.loads(result.out)["findings"]
    assert ("error", 6) in [(finding["severity"], finding["line"]) for finding in findings]
