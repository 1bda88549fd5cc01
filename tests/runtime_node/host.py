"""A machine of its own for each test: a network namespace with one address, and a user.

`Account.run` starts ``scenarios.py`` in it, as root or as an ordinary user; the scenario launches a
node and prints what it saw as JSON. The real machine's network is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node.boot import interface_up

ROOT = Path(__file__).resolve().parents[2]
HOST_ADDRESS = "192.0.2.10"
_ORDINARY = 54321


@dataclass(frozen=True)
class Account:
    """Who runs a scenario, and with which Python."""

    uid: int
    gid: int
    python: str

    @functools.lru_cache  # noqa: B019 - accounts are few; a scenario serves several tests
    def run(self, scenario: str, timeout: float = 60) -> dict[str, Any]:
        """Runs a scenario to its end in a fresh network namespace; returns what it printed."""
        directory = tempfile.mkdtemp(prefix="lateen-test-")
        os.chmod(directory, 0o755)
        private = Path(directory, "private")
        private.mkdir(mode=0o700)
        os.chown(private, self.uid, self.gid)
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), sysconfig.get_paths()["purelib"]])
        try:
            result = subprocess.run(
                [self.python, "-m", "tests.runtime_node.scenarios", scenario, str(private)],
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": path,
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                capture_output=True,
                text=True,
                timeout=timeout,
                preexec_fn=self._enter_own_machine,
            )
        finally:
            shutil.rmtree(directory)
        assert result.returncode == 0, result.stdout + result.stderr
        answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return answer

    def _enter_own_machine(self) -> None:
        """Runs in the child before exec: a network with loopback and one more address, the user."""
        if os.getuid() != 0:
            uid, gid = os.getuid(), os.getgid()
            ns.unshare(ns.CLONE_NEWUSER | ns.CLONE_NEWNET)
            ns.map_single_user(uid, gid)
        else:
            ns.unshare(ns.CLONE_NEWNET)
        interface_up("lo")
        add_address(HOST_ADDRESS)
        if self.uid != os.getuid():
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)


def add_address(address: str) -> None:
    """Gives loopback a second address (SIOCSIFADDR of netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH2x4s8x", b"lo:1", socket.AF_INET, socket.inet_aton(address))
        fcntl.ioctl(sock, 0x8916, request)


def ordinary_account() -> Account:
    """The current user; as root a uid that has no account and needs none."""
    if os.getuid() != 0:
        return Account(os.getuid(), os.getgid(), sys.executable)
    skip_unless_reachable(_ORDINARY)
    return Account(_ORDINARY, _ORDINARY, reachable_python(_ORDINARY))


def skip_unless_reachable(uid: int) -> None:
    """Skips the test when that user cannot read the checkout and its packages, as below /root."""
    for path in (ROOT / "src", Path(sysconfig.get_paths()["purelib"])):
        tried = subprocess.run(
            ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)],
            user=uid, group=uid, extra_groups=[], cwd="/", check=False,
        )  # fmt: skip
        if tried.returncode:
            pytest.skip(f"{path} cannot be read by an ordinary user: clone to where others may go")


def reachable_python(uid: int) -> str:
    """A Python 3.11+ that another user can run; root's own one often lies in a closed directory."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [candidate, "-c", _VERSION], user=uid, group=uid, extra_groups=[], check=False
            )
            if tried.returncode == 0:
                return candidate
    raise RuntimeError("no Python of this version that an ordinary user can run")


_VERSION = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
