"""The namespaces of pods, as PID 1 of the node holds them: made empty, kept open, let go."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import process

POD_SYSCTLS = {
    # Containers may bind ports below 1024 without any capability, as in Docker and containerd.
    "net.ipv4.ip_unprivileged_port_start": "0",
    # The node routes service addresses back to their own pod; sources there look "martian".
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    # A redirect may send packets of another interface to a listener on loopback.
    "net.ipv4.conf.all.route_localnet": "1",
}


@dataclass(slots=True)
class PodNamespaces:
    """The namespaces of a pod, held open, and where its generated files are."""

    net: int
    uts: int
    ipc: int
    directory: str
    containers: set[int] = field(default_factory=set)

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """All of them, for setns(2)."""
        return self.net, self.uts, self.ipc


class PodTable:
    """All pods of the node by name. ``directory`` is where their generated files go."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pods: dict[str, PodNamespaces] = {}

    def find(self, name: str) -> PodNamespaces | None:
        """The pod of this name, if there is one."""
        return self._pods.get(name)

    def get(self, name: str) -> PodNamespaces:
        """The pod of this name. Raises `OSError` when there is none."""
        pod = self._pods.get(name)
        if pod is None:
            raise OSError(errno.ENOENT, f"there is no sandbox named {name}")
        return pod

    def create(
        self, name: str, hostname: str, sysctls: Mapping[str, str], files: Mapping[str, str]
    ) -> PodNamespaces:
        """Makes namespaces and writes the generated files of /etc. Raises `OSError`."""
        if name in self._pods:
            raise OSError(errno.EEXIST, f"a sandbox named {name} exists already")
        net, uts, ipc = _new_namespaces(hostname, POD_SYSCTLS | dict(sysctls))
        directory = f"{self._directory}/{name.replace('/', '_')}"
        os.makedirs(directory, exist_ok=True)
        for file, content in files.items():
            path = Path(directory, file)
            path.write_text(content if content.endswith("\n") or not content else content + "\n")
            path.chmod(0o644)
        pod = self._pods[name] = PodNamespaces(net, uts, ipc, directory)
        return pod

    def remove(self, name: str) -> None:
        """Kills what runs in a pod and lets go of it; nothing happens when there is none."""
        pod = self._pods.pop(name, None)
        if pod is None:
            return
        for pid in pod.containers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for fd in pod.descriptors:
            os.close(fd)
        for file in os.listdir(pod.directory):
            os.unlink(f"{pod.directory}/{file}")
        os.rmdir(pod.directory)


def _new_namespaces(hostname: str, sysctls: Mapping[str, str]) -> tuple[int, int, int]:
    """Network, UTS and IPC namespace of a child that is gone again afterwards."""
    hold, release = os.pipe2(os.O_CLOEXEC)

    def child() -> None:
        os.close(release)
        process.new_network(hostname, sysctls)
        os.write(ready, b"1")
        os.read(hold, 1)  # until the parent holds the namespaces
        os._exit(0)

    done, ready = os.pipe2(os.O_CLOEXEC)
    try:
        pid, failure = process.fork(child)
        os.close(ready)
        try:
            if os.read(done, 1) != b"1":
                raise _failure(failure)
            net, uts, ipc = (ns.namespace_fd(pid, kind) for kind in ("net", "uts", "ipc"))
        finally:
            os.close(failure)
    finally:
        for fd in (done, hold, release):
            os.close(fd)
    return net, uts, ipc


def _failure(pipe: int) -> OSError:
    report = json.loads(os.read(pipe, 8192) or b'{"error": "the child ended", "errno": 0}')
    return OSError(report["errno"], report["error"])
