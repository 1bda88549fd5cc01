"""A real control plane process and real Envoys, in a network namespace of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lateen.envoy.binary import envoy_path
from lateen.pki.keys import new_key_and_request
from lateen.pki.sds import write_secrets
from lateen.source.client import Client

XDS_PORT = 15012
METRICS_PORT = 15014
_HOLDER = """
import ctypes, fcntl, os, socket, struct, sys, time
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: no holder outlives the test
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS up, running
print("ready", flush=True)
time.sleep(3600)
"""
_ENVOY = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/lateen/proxy && "
    'mount --bind "$0" /run/lateen/proxy && exec "$@"'
)


@dataclass
class LiveMesh:
    """A control plane over its real process boundary: API socket, xDS port, metrics port."""

    folder: Path
    holder: int
    plane: subprocess.Popen[bytes] | None = None
    envoys: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    """What distinguishes the ports of Envoys by name."""

    @property
    def api(self) -> Client:
        """A client of its API."""
        return Client(self.folder / "state" / "api.sock")

    def enter(self, *command: str) -> list[str]:
        """``command`` inside the mesh's namespaces."""
        return [
            "nsenter", f"--target={self.holder}", "--user", "--net", "--preserve-credentials",
            *command,
        ]  # fmt: skip

    def start_control_plane(self, *options: str) -> None:
        """Start it and wait until the API answers."""
        log = (self.folder / "control-plane.log").open("ab")
        self.plane = subprocess.Popen(
            self.enter(
                sys.executable, "-m", "lateen.serve.main",
                "--state-dir", str(self.folder / "state"),
                "--listen", f"127.0.0.1:{XDS_PORT}", "--metrics", f"127.0.0.1:{METRICS_PORT}",
                *options,
            ),
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        until(lambda: (self.folder / "state" / "api.sock").exists(), "the API socket")

    def stop_control_plane(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; returns its exit status."""
        assert self.plane is not None
        self.plane.send_signal(number)
        status = self.plane.wait(10)
        if number == signal.SIGKILL:
            (self.folder / "state" / "api.sock").unlink(missing_ok=True)
        return status

    def apply(self, text: str, *, wait: bool = True, path: str = "test.yaml") -> dict[str, Any]:
        """Apply YAML and wait for the proxies; returns what the wait found."""
        documents = [
            {"raw": raw, "path": path, "line": index + 1, "document": index}
            for index, raw in enumerate(yaml.safe_load_all(text))
        ]
        lines = list(
            self.api.lines(
                "POST",
                "/lateen/v1/apply",
                {"documents": documents, "wait": wait, "timeout": 20},
            )
        )
        for line in lines:
            if "result" in line:
                assert line["result"] != "refused", line
        return next((line["wait"] for line in lines if "wait" in line), {})

    def add_pod(self, name: str, namespace: str = "default", account: str = "default") -> None:
        """A running pod with a sidecar, as the runtime would write it."""
        raw = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"app": name, "security.istio.io/tlsMode": "istio"},
            },
            "spec": {
                "serviceAccountName": account,
                "containers": [
                    {"name": "app", "image": "app"},
                    {"name": "istio-proxy", "image": "auto"},
                ],
            },
        }
        self.apply(yaml.safe_dump(raw), wait=False)
        self.api.request(
            "PATCH",
            f"/api/v1/namespaces/{namespace}/pods/{name}/status",
            {
                "status": {
                    "phase": "Running",
                    "podIP": "127.0.0.1",
                    "conditions": [{"type": "Ready", "status": "True"}],
                }
            },
        )

    def start_envoy(
        self,
        name: str,
        namespace: str = "default",
        certificate_of: str = "",
        *,
        dialect: str = "DELTA_GRPC",
    ) -> None:
        """Key, certificate, bootstrap, Envoy: what the agent does."""
        made = new_key_and_request()
        owner = {"namespace": namespace, "name": certificate_of or name}
        issued = self.api.request(
            "POST",
            "/lateen/v1/certificates",
            {
                "csr": made.request.decode(),
                "pod": owner,
            },
        )
        secrets = self.folder / f"{name}-secrets"
        write_secrets(secrets, issued["chain"].encode(), made.key, issued["trust_bundle"].encode())
        bootstrap = self.api.request(
            "GET", f"/lateen/v1/bootstrap?namespace={namespace}&pod={name}"
        )
        number = self.numbers.setdefault(name, len(self.numbers))
        text = json.dumps(bootstrap).replace('"DELTA_GRPC"', f'"{dialect}"')
        for port in (15000, 15090, 15021):  # several Envoys share this network namespace
            text = text.replace(f'"port_value": {port}', f'"port_value": {port + 1000 * number}')
        config = self.folder / f"{name}.json"
        config.write_text(text)
        log = (self.folder / f"{name}.log").open("ab")
        self.envoys[name] = subprocess.Popen(
            self.enter(
                "unshare", "--mount", "sh", "-c", _ENVOY, str(secrets),
                str(envoy_path()), "--config-path", str(config), "--disable-hot-restart",
                "--concurrency", "1", "--log-level", "warning",
            ),
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()

    def stop_envoy(self, name: str) -> None:
        """End an Envoy at once."""
        process = self.envoys.pop(name)
        process.kill()
        process.wait(10)

    def admin(self, name: str, path: str) -> str:
        """Ask an Envoy's admin interface."""
        port = 15000 + 1000 * self.numbers[name]
        return self._http(port, path)

    def metrics(self) -> str:
        """The control plane's metrics."""
        return self._http(METRICS_PORT, "/metrics")

    def _http(self, port: int, path: str) -> str:
        script = (
            "import sys, urllib.request;"
            f"sys.stdout.write(urllib.request.urlopen('http://127.0.0.1:{port}{path}').read().decode())"
        )
        done = subprocess.run(
            self.enter(sys.executable, "-c", script),
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The control plane's status."""
        found: dict[str, Any] = self.api.request("GET", "/lateen/v1/status")
        return found

    def proxy(self, name: str) -> dict[str, Any]:
        """One proxy's status; empty while it is not connected."""
        found = [item for item in self.status()["proxies"] if item["name"] == name]
        return found[0] if found else {}

    def wait_connected(self, *names: str) -> None:
        """Until these proxies have acknowledged listeners and all else."""
        for name in names:
            until(
                lambda name=name: (  # type: ignore[misc]
                    (status := self.proxy(name)).get("inSync")
                    and status["types"]["lds"]["state"] == "SYNCED"
                ),
                f"{name} in sync",
                details=lambda name=name: (self.folder / f"{name}.log").read_text()[-2000:],  # type: ignore[misc]
            )


@contextmanager
def live_mesh(folder: Path, *options: str) -> Iterator[LiveMesh]:
    """Namespaces, a control plane with ``options`` in them; everything is gone at the end."""
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", _HOLDER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert holder.stdout is not None
    if b"ready" not in holder.stdout.readline():
        _, error = holder.communicate()
        pytest.skip(f"no user and network namespaces here: {error.decode().strip()}")
    mesh = LiveMesh(folder, holder.pid)
    try:
        (folder / "state").mkdir(mode=0o700)
        mesh.start_control_plane(*options)
        yield mesh
    finally:
        for process in (*mesh.envoys.values(), mesh.plane, holder):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait(10)
        holder.communicate()


def until(
    condition: Callable[[], object],
    what: str,
    timeout: float = 20.0,
    details: Callable[[], str] = lambda: "",
) -> None:
    """Wait until ``condition`` holds; fails the test with ``what`` and ``details``."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout} s\n{details()}")
        time.sleep(0.05)


def private_memory(pid: int) -> int:
    """Private bytes of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = [line.split() for line in text.splitlines() if line.startswith("Private_")]
    return sum(int(line[1]) for line in lines) * 1024
