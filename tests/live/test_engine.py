"""Images from a real container engine (podman), as root and as an ordinary user.

The image is made here of a few programs of this machine with the libraries that they need, so that
no registry is asked. Podman's storage lies in the test's own folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.mesh import Mesh, eventually, running, short_folder

pytestmark = [pytest.mark.live, pytest.mark.envoy, pytest.mark.timeout(240)]

USER = 54321
IMAGE = "localhost/lateen-test/tool:1"
TOOLS = ("bash", "cat", "chown", "id", "ls", "sleep", "stat", "touch")
SETTINGS = (
    'ENTRYPOINT ["/bin/bash", "-c"]',
    'CMD ["id; pwd; echo $GREETING; exec sleep 1000"]',
    "ENV GREETING=hello",
    "WORKDIR /work",
    "USER app",
)
PASSWD = "root:x:0:0:root:/root:/bin/bash\napp:x:1234:1235:App:/home/app:/bin/bash\n"
GROUP = "root:x:0:\napp:x:1235:\nextra:x:1300:app\n"

MANIFEST = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{key: from-config-map}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec:
  selector: {{app: echo}}
  ports: [{{name: tcp, port: 9000}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: echo, labels: {{app: echo}}}}
spec:
  containers: [{{name: echo, image: lateen/tcp-echo:1}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: tool}}
spec:
  selector: {{matchLabels: {{app: tool}}}}
  template:
    metadata: {{labels: {{app: tool}}}}
    spec:
      containers:
      - name: tool
        image: {IMAGE}
        env: [{{name: FROM_MANIFEST, value: "$(GREETING) there"}}]
        readinessProbe: {{exec: {{command: [cat, /work/file]}}}}
        volumeMounts:
        - {{name: settings, mountPath: /etc/settings}}
        - {{name: data, mountPath: /data}}
      volumes: [{{name: settings, configMap: {{name: settings}}}}, {{name: data, emptyDir: {{}}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: root}}
spec:
  containers:
  - name: root
    image: {IMAGE}
    securityContext: {{runAsUser: 0}}
    args: ["touch /srv/x && chown app /srv/x; stat -c %u /srv/x; exec sleep 1000"]
"""


@dataclass(frozen=True)
class Podman:
    """Podman with storage of its own, run by some user."""

    folder: Path
    user: int | None

    @property
    def variables(self) -> dict[str, str]:
        """What makes podman, also Lateen's, use this storage."""
        return {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`podman WORDS`, whatever comes of it."""
        return subprocess.run(
            ["podman", *words],
            env={"PATH": os.environ["PATH"], **self.variables},
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def import_image(self, archive: Path) -> None:
        """Makes the test's image; skips the tests where podman cannot."""
        changes = [word for setting in SETTINGS for word in ("--change", setting)]
        done = self.run("import", *changes, str(archive), IMAGE)
        if done.returncode:
            pytest.skip(f"podman does not work for this user: {done.stderr.strip()[-300:]}")


def image_archive(path: Path) -> None:
    """A tar of `TOOLS` with the libraries that they need, and a few files."""
    files: dict[str, str] = {}
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"no {tool} on this machine to make an image of")
        files[f"bin/{tool}"] = found
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for word in listed.split():
            if word.startswith("/"):
                files[word.lstrip("/")] = word
    with tarfile.open(path, "w") as archive:
        for name, source in sorted(files.items()):
            info = archive.gettarinfo(os.path.realpath(source), name)
            with open(source, "rb") as stream:
                archive.addfile(info, stream)
        texts = {"etc/passwd": PASSWD, "etc/group": GROUP, "work/file": "from the image\n"}
        for name, text in texts.items():
            path_of_text = path.with_name("text")
            path_of_text.write_text(text)
            path_of_text.chmod(0o644)
            archive.add(path_of_text, name)
        for name in ("root", "home/app", "srv", "tmp"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(info)


@pytest.fixture(scope="module", params=["root", "ordinary user"])
def podman(request: pytest.FixtureRequest) -> Iterator[Podman]:
    """Podman with the test's image."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed (apt-get install podman crun)")
    ordinary = request.param == "ordinary user"
    if os.geteuid() != 0 and not ordinary:
        pytest.skip("the tests do not run as root")
    user = USER if ordinary and os.geteuid() == 0 else None
    folder = short_folder()
    try:
        image_archive(folder / "image.tar")
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run/c"\n'
            f'rootless_storage_path = "{folder}/store"\n'
            '[storage.options.vfs]\nignore_chown_errors = "true"\n'
        )
        for name in ("home", "run", "cache", "store"):
            (folder / name).mkdir(mode=0o700)
        for path in (folder, *folder.iterdir()):
            os.chown(path, user or os.getuid(), user or os.getgid())
        found = Podman(folder, user)
        found.import_image(folder / "image.tar")
        yield found
        if ordinary:
            # Ends the process that keeps podman's own user namespace.
            found.run("system", "migrate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def mesh(podman: Podman) -> Iterator[Mesh]:
    """A mesh whose images come from that podman."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in podman.variables.items():
            patch.setenv(name, value)
        manifest = podman.folder / "manifest.yaml"
        manifest.write_text(MANIFEST)
        manifest.chmod(0o644)
        words = ("-f", str(manifest), "--engine", "podman")
        with running(*words, name="engine", user=podman.user) as found:
            yield found


def shell(mesh: Mesh, script: str, target: str = "deploy/tool") -> str:
    return mesh.exec(target, "/bin/bash", "-c", script).out


def test_the_image_s_own_program_runs_as_it_says(mesh: Mesh) -> None:
    lines = eventually(lambda: mesh.logs("deploy/tool")).splitlines()
    if mesh.user is None and os.geteuid() == 0:
        assert lines[0] == "uid=1234(app) gid=1235(app) groups=1235(app),1300(extra)"
    else:
        assert lines[0].startswith(f"uid={mesh.user or os.getuid()} ")
    assert lines[1:] == ["/work", "hello"]


def test_nothing_of_the_machine_is_in_its_root(mesh: Mesh) -> None:
    found = set(shell(mesh, "ls -a /").split()) - {".", ".."}
    libraries = {name for name in found if name.startswith("lib")}
    usual = {"bin", "data", "dev", "etc", "home", "proc", "root", "srv", "sys", "tmp", "work"}
    assert found - libraries - {"usr"} == usual
    assert shell(mesh, "ls /etc").split() == [
        *("group", "hostname", "hosts", "passwd", "resolv.conf", "settings")
    ]
    assert shell(mesh, "ls /bin").split() == sorted(TOOLS)


def test_volumes_environment_and_generated_files(mesh: Mesh) -> None:
    assert shell(mesh, "cat /etc/settings/key; touch /data/x; ls /data") == "from-config-mapx\n"
    assert shell(mesh, "echo $FROM_MANIFEST") == "hello there\n"
    assert "nameserver 10.96.0.10" in shell(mesh, "cat /etc/resolv.conf")
    assert "127.0.0.1" in shell(mesh, "cat /etc/hosts")


def test_it_is_a_member_of_the_mesh(mesh: Mesh) -> None:
    """Cluster DNS with the image's own libc, and mutual TLS by its sidecar."""
    script = "exec 3<>/dev/tcp/echo/9000; echo mesh >&3; read -r line <&3; echo $line"
    assert shell(mesh, script) == "hello mesh\n"
    assert "istio-proxy" in [c["name"] for c in mesh.pod("tool")["status"]["containerStatuses"]]


def test_root_of_an_image_may_change_owners_and_nothing_of_the_network(mesh: Mesh) -> None:
    if mesh.user is not None or os.geteuid() != 0:
        # Without root everything is the user's, whatever the manifest says.
        assert f"uid={mesh.user or os.getuid()} " in shell(mesh, "id", "root")
        return
    eventually(lambda: mesh.logs("root") == "1234\n")
    status = shell(mesh, "cat /proc/self/status", "root")
    fields = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Cap"))
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID
    assert fields["CapBnd"] == fields["CapEff"] == f"{0xFB:016x}"


def test_what_one_container_writes_is_in_no_other(mesh: Mesh) -> None:
    shell(mesh, "echo changed > /tmp/file")
    assert shell(mesh, "ls /tmp", "root") == ""
    assert shell(mesh, "cat /work/file", "root") == "from the image\n"


def status_of(mesh: Mesh, name: str, image: str, **container: Any) -> dict[str, Any]:
    """The status of a pod with this image, once it says why it waits."""
    policy = "".join(f", {key}: {value}" for key, value in container.items())
    mesh.apply_text(
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n"
        f"  containers: [{{name: app, image: '{image}'{policy}}}]\n"
    )
    try:
        found: list[dict[str, Any]] = eventually(
            lambda: [
                pod["status"]
                for pod in mesh.pods()
                if pod["metadata"]["name"] == name and (pod.get("status") or {}).get("message")
            ]
        )
        return found[0]
    finally:
        mesh.run("delete", "pod", name)


def test_an_image_that_cannot_be_pulled_says_so_and_stops_nobody(mesh: Mesh) -> None:
    status = status_of(mesh, "absent", "localhost:1/nobody/has:1")
    assert status["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert "podman pull localhost:1/nobody/has:1: Error: " in status["message"]
    assert "connection refused" in status["message"]
    waiting = status["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert mesh.pod("tool")["status"]["phase"] == "Running"


def test_never_pull(mesh: Mesh) -> None:
    status = status_of(mesh, "never", "localhost:1/a/b:1", imagePullPolicy="Never")
    assert status["reason"] == "ErrImageNeverPull"


def test_a_name_that_is_none_never_reaches_the_engine(mesh: Mesh) -> None:
    status = status_of(mesh, "odd", "oci-archive:/etc/passwd")
    assert status["reason"] == "InvalidImageName"


def test_podman_has_nothing_left_of_it(mesh: Mesh, podman: Podman) -> None:
    assert mesh.pod("tool")["status"]["phase"] == "Running"
    assert podman.run("ps", "--all", "--quiet").stdout == ""
