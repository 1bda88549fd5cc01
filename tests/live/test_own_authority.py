"""A mesh with its user's own certificate authority, made as docs/security.md says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.mesh import ROOT, Mesh, short_folder

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
POD = """
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: lateen/sleep:1}]
"""


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """A mesh that is not up yet, with a manifest beside its state directory."""
    home = short_folder()
    found = Mesh(f"authority-{os.getpid()}", home)
    (home / "pod.yaml").write_text(POD)
    try:
        yield found
    finally:
        found.down()
        shutil.rmtree(home, ignore_errors=True)


def make_authority(folder: Path) -> Path:
    """Type the commands of the page."""
    page = (ROOT / "docs" / "security.md").read_text()
    commands = re.search(r"```bash\n(mkdir -p my-ca.*?)```", page, re.DOTALL)
    assert commands is not None
    subprocess.run(
        ["bash", "-euc", commands[1]], cwd=folder, check=True, capture_output=True, timeout=30
    )
    return folder / "my-ca"


def test_workloads_are_signed_by_it(mesh: Mesh, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    # Nor need the control plane be able to enter the folder of the mesh configuration.
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "mesh.yaml").write_text("accessLogFile: /dev/stdout\n")
    settings = ("--ca", str(authority), "--mesh-config", str(private / "mesh.yaml"))
    mesh.up("-f", str(mesh.state_home / "pod.yaml"), *settings)
    # Envoy would not have connected to a control plane whose certificate it cannot verify.
    assert mesh.run("status").status == 0
    kept = (mesh.folder / "ca" / "root-cert.pem").read_text()
    assert kept == (authority / "root-cert.pem").read_text()
    assert (mesh.folder / "ca" / "ca-key.pem").stat().st_mode & 0o077 == 0
    mesh.down()
    assert (authority / "ca-key.pem").exists()


def test_files_that_do_not_fit_start_nothing(mesh: Mesh, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    (authority / "ca-key.pem").write_bytes((authority / "root-key.pem").read_bytes())
    pod = str(mesh.state_home / "pod.yaml")
    result = mesh.up("-f", pod, "--ca", str(authority), status=2)
    assert "is not the key of" in result.err
    assert "nothing was started" in result.err
    assert not mesh.folder.exists()
