"""A mesh for tests: its own name, state directory and host ports, and nothing left afterwards."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.runtime_node.host import reachable_python, skip_unless_reachable

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
LOAD_SCRIPT = Path(__file__).with_name("load.py")
PROGRAM = str(Path(sys.executable).with_name("lateen"))


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both outputs, for searching and for the message of a failed assertion."""
        return self.out + self.err

    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; status 0 when there was none."""

    status: int
    body: str
    headers: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Load:
    """What `load.py` counted: answers by status, by the pod that answered, and failures."""

    statuses: Counter[str]
    pods: Counter[str]
    failures: list[str]
    total: int

    def share(self, prefix: str) -> float:
        """Share of all answers that pods with this name prefix gave."""
        return sum(n for pod, n in self.pods.items() if pod.startswith(prefix)) / self.total


class Mesh:
    """Runs `lateen` for one mesh name and talks to its gateway."""

    def __init__(self, name: str, state_home: Path) -> None:
        self.name = name
        self.state_home = state_home
        self.http_port, self.https_port = free_port(), free_port()
        self.client = "deploy/sleep"
        """The pod that `curl` and `load` send from."""
        self.program: tuple[str, ...] = (PROGRAM,)
        self.python = sys.executable
        self.user: int | None = None
        """Uid and gid that run the commands; None for those of the tests."""

    @property
    def folder(self) -> Path:
        """The mesh's state directory."""
        return self.state_home / "lateen" / self.name

    @property
    def node_pid(self) -> int:
        """Process id of the node's host side."""
        return int(json.loads((self.folder / "node.json").read_text())["pid"])

    def environment(self) -> dict[str, str]:
        """Environment of every command: this mesh is the default one."""
        return {
            **os.environ,
            "XDG_STATE_HOME": str(self.state_home),
            "LATEEN_MESH": self.name,
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), sysconfig.get_paths()["purelib"])),
            "COLUMNS": "200",
        }

    def run(
        self, *words: str, status: int | None = 0, stdin: str = "", timeout: float = 60
    ) -> Result:
        """`lateen WORDS`; fails the test when it ends with another status (None: any)."""
        done = subprocess.run(
            [*self.program, *words],
            env=self.environment(),
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        if status is not None:
            assert result.status == status, f"lateen {' '.join(words)}: {result}"
        return result

    def up(self, *words: str, status: int | None = 0, timeout: float = 90) -> Result:
        """`lateen up --detach` with free host ports."""
        ports = ("--publish", f"80:{self.http_port}", "--publish", f"443:{self.https_port}")
        return self.run("up", "--detach", *ports, *words, status=status, timeout=timeout)

    def down(self) -> None:
        """End the mesh, whatever state it is in."""
        self.run("down", status=None, timeout=60)

    def apply(self, *paths: Path | str, status: int | None = 0) -> Result:
        """`lateen apply -f`, waiting for all acknowledgements."""
        words = [word for path in paths for word in ("-f", str(path))]
        return self.run("apply", *words, status=status)

    def apply_text(self, text: str, status: int | None = 0) -> Result:
        """`lateen apply -f -`."""
        return self.run("apply", "-f", "-", stdin=text, status=status)

    def delete_text(self, text: str) -> None:
        """`lateen delete -f -`; what does not exist is no error."""
        self.run("delete", "--ignore-not-found", "-f", "-", stdin=text)

    @contextmanager
    def applied(self, text: str) -> Iterator[Result]:
        """Objects that exist within the block only."""
        try:
            yield self.apply_text(text)
        finally:
            self.delete_text(text)

    def exec(
        self, target: str, *argv: str, namespace: str = "default", status: int | None = 0
    ) -> Result:
        """`lateen exec TARGET -- ARGV`."""
        return self.run("exec", "-n", namespace, target, "--", *argv, status=status)

    def curl(self, url: str, *options: str, source: str = "", **more: str) -> Answer:
        """Request ``url`` from inside a pod."""
        form = "\n%{http_code} %{time_total}"
        argv = ("curl", "-s", "-m", "20", "-w", form, *options, url)
        result = self.exec(source or self.client, *argv, status=None, **more)
        body, _, line = result.out.rpartition("\n")
        code, _, seconds = line.partition(" ")
        return Answer(int(code or 0), body, {}, float(seconds or 0))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Request a path through the gateway, from the host."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", headers=dict(headers or {})
        )
        began = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                body = answer.read().decode()
                found = dict(answer.headers.items())
                return Answer(answer.status, body, found, time.monotonic() - began)
        except urllib.error.HTTPError as error:
            with error:
                body = error.read().decode()
            return Answer(error.code, body, dict(error.headers), time.monotonic() - began)
        except OSError as error:
            return Answer(0, str(error), {}, time.monotonic() - began)

    def login(self, user: str) -> dict[str, str]:
        """Headers of a browser in which ``user`` has signed in on the page."""
        script = [
            *("curl", "-s", "-o", os.devnull, "-c", "-", "-d", f"username={user}&passwd=x"),
            f"http://127.0.0.1:{self.http_port}/login",
        ]
        jar = subprocess.run(script, capture_output=True, text=True, check=True).stdout
        rows = [line.split("\t") for line in jar.splitlines() if "\t" in line]
        return {"Cookie": "; ".join(f"{row[5]}={row[6]}" for row in rows)}

    def load(
        self, url: str, count: int, headers: Mapping[str, str] | None = None, clients: int = 8
    ) -> Load:
        """``count`` requests from the client pod, over ``clients`` keep-alive connections."""
        script = LOAD_SCRIPT.read_text()
        lines = [f"{key}:{value}" for key, value in (headers or {}).items()]
        argv = (self.python, "-c", script, url, str(count), str(clients), *lines)
        return read_load(self.exec(self.client, *argv).out)

    def pods(self, namespace: str = "default") -> list[dict[str, Any]]:
        """Pod objects of a namespace."""
        items: list[dict[str, Any]] = self.run("get", "pods", "-n", namespace, "-o", "json").json()[
            "items"
        ]
        return items

    def pod(self, prefix: str, namespace: str = "default") -> dict[str, Any]:
        """The one pod whose name starts so."""
        found = [p for p in self.pods(namespace) if p["metadata"]["name"].startswith(prefix)]
        live = [p for p in found if not p["metadata"].get("deletionTimestamp")]
        assert len(live) == 1, f"{prefix}: {[p['metadata']['name'] for p in found]}"
        return live[0]

    def logs(self, target: str, *options: str, namespace: str = "default") -> str:
        """`lateen logs`; empty when nothing was written yet."""
        return self.run("logs", "-n", namespace, target, *options, status=None).out

    def node_network_pid(self) -> int:
        """A process in the node's network namespace (where the bridge is): the control plane."""
        return self.process_with("lateen.serve.main")

    def process_with(self, *words: str) -> int:
        """Process id below the node whose command line has these words."""
        for pid in descendants(self.node_pid):
            line = command_line(pid)
            if all(word in line for word in words):
                return pid
        raise LookupError(f"no process of the mesh runs {words}")


def read_load(text: str) -> Load:
    """The output of `load.py`."""
    data = json.loads(text.splitlines()[-1])
    return Load(
        Counter(data["statuses"]), Counter(data["pods"]), data["failures"], int(data["total"])
    )


def eventually(
    check: Callable[[], Any], *, timeout: float = 60, message: str = "", every: float = 0.1
) -> Any:
    """Call ``check`` until it returns something true; fails the test after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = check()
            problem: object = found
        except (AssertionError, LookupError) as error:
            found, problem = None, error
        if found:
            return found
        assert time.monotonic() < deadline, f"{message or check} after {timeout} s: {problem}"
        time.sleep(every)


def short_folder() -> Path:
    """A private temporary directory with a short path: Unix sockets go into it."""
    return Path(tempfile.mkdtemp(prefix="lt", dir="/tmp"))


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def command_line(pid: int) -> str:
    """A process's arguments joined with spaces; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def processes_with(text: str) -> list[int]:
    """Processes whose command line or environment has this text."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in seen:
            found.append(int(entry.name))
    return found


def host_traces() -> dict[str, list[str]]:
    """What a mesh might leave on the machine outside its own namespaces and folder."""
    return {
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "mounts": sorted(
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ),
        "named namespaces": sorted(os.listdir("/run/netns")) if Path("/run/netns").is_dir() else [],
    }


@contextmanager
def running(*words: str, name: str = "test", user: int | None = None) -> Iterator[Mesh]:
    """A mesh that is up within the block, and of which nothing is left after it.

    ``user`` is a uid (and gid) to run it as. With LATEEN_TEST_LOGS=FOLDER in the environment its
    logs are copied there first.
    """
    if user is not None:
        skip_unless_reachable(user)
    home = short_folder()
    mesh = Mesh(f"{name}-{os.getpid()}", home)
    if user is not None:
        os.chown(home, user, user)
        mesh.user = user
        start = "from lateen.cli.main import run; run()"
        mesh.python = environment_for(user, home)
        mesh.program = (mesh.python, "-c", start)
    before = host_traces()
    processes: list[int] = []
    try:
        mesh.up(*words)
        yield mesh
    finally:
        try:
            if os.environ.get("LATEEN_TEST_LOGS"):
                kept = Path(os.environ["LATEEN_TEST_LOGS"], mesh.name)
                shutil.copytree(mesh.folder / "logs", kept, dirs_exist_ok=True)
            if (mesh.folder / "node.json").exists():
                processes = [mesh.node_pid, *descendants(mesh.node_pid)]
            mesh.down()
            assert_gone(mesh, before, processes)
        finally:
            shutil.rmtree(home, ignore_errors=True)


def environment_for(user: int, folder: Path) -> str:
    """The Python of a virtual environment that a user can read, with the packages of this one."""
    place = folder / "venv"
    command = [reachable_python(user), "-m", "venv", "--without-pip", str(place)]
    subprocess.run(command, check=True, user=user, group=user, extra_groups=[])
    packages = place / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    (packages / "these.pth").write_text(f"{ROOT / 'src'}\n{sysconfig.get_paths()['purelib']}\n")
    return str(place / "bin" / "python")


def assert_gone(
    mesh: Mesh, before: Mapping[str, Sequence[str]], processes: Sequence[int] = ()
) -> None:
    """No process, interface, mount or file of the mesh is there any more."""
    eventually(
        lambda: not any(command_line(p) for p in processes) and not processes_with(mesh.name),
        message="processes are left",
    )
    assert not mesh.folder.exists()
    after = host_traces()
    new = {key: sorted(set(after[key]) - set(before[key])) for key in after}
    # Other meshes on this machine live in namespaces of their own: none may show here either.
    assert not any(new.values()), f"left on the machine: {new}"
    for port in (mesh.http_port, mesh.https_port):
        socket.create_server(("127.0.0.1", port)).close()
