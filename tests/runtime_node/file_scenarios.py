"""Scenarios about the files that containers see; see `tests.runtime_node.scenarios`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lateen.runtime.node.errors import SandboxError
from lateen.runtime.node.node import Node
from lateen.runtime.node.spec import ContainerSpec, ExecSpec, Mount
from tests.runtime_node.host import ROOT
from tests.runtime_node.scenarios import PROGRAMS, Facts, done, output, pod, python, run

# Volumes over the folders that programs lie in


def covering(directory: str) -> Facts:
    programs = Path(directory, PROGRAMS)
    programs.mkdir(mode=0o755)
    (programs / "hello.py").write_text("print('hello from below /tmp')")
    facts = run(directory, f"{__name__}:covering_node")
    return facts | {"left in the checkout": [str(path) for path in ROOT.glob("from-*")]}


async def covering_node(node: Node, arguments: Facts) -> None:
    directory = str(arguments["directory"])
    box = await pod(node, "web", 10)
    facts: Facts = {}
    checkout = ROOT if str(ROOT.parent) == "/" else ROOT.parent
    for name, target in (("tmp", "/tmp"), ("checkout", str(checkout))):
        volume = Path(node.scratch_dir, name)
        volume.mkdir()
        volume.chmod(0o777)
        mounts = (Mount(str(volume), target),)
        script = f"{directory}/{PROGRAMS}/hello.py"
        own = ContainerSpec("main", (sys.executable, "-B", script), mounts=mounts)
        write = f"open('{target}/from-inside', 'w').close()"
        mesh = python(
            f"{write}; import lateen.runtime.raw as raw; print('Lateen at', raw.__file__)",
            env={"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
            mounts=mounts,
        )
        frozen = ContainerSpec("main", ("true",), mounts=(Mount(str(volume), target, True),))
        facts[name] = {
            "script": await output(box, own, directory),
            "package": await output(box, mesh, directory),
            "written": (volume / "from-inside").exists(),
            "read-only": await (await box.start(frozen)).wait(),
        }
    await done(node, facts)


# Images: the root is another directory, and it may be hostile


def image(directory: str) -> Facts:
    victim = Path(directory, "victim")
    victim.mkdir()
    for name in ("good", "hostile", "no etc"):
        image_tree(Path(directory, name))
    hostile = Path(directory, "hostile")
    for name in ("proc", "dev", "tmp"):
        (hostile / name).symlink_to(victim)
    (hostile / "sys").write_text("a file")
    Path(directory, "no etc", "etc").symlink_to(victim)
    null = os.stat("/dev/null")
    facts = run(directory, f"{__name__}:image_node")
    return facts | {
        "victim": os.listdir(victim),
        "trees": {name: sorted(os.listdir(Path(directory, name))) for name in ("good", "hostile")},
        "null": os.stat("/dev/null").st_mode == null.st_mode,
    }


def image_tree(tree: Path) -> None:
    """A root directory with programs of this machine and the libraries that they need."""
    for tool in ("bash", "cat", "chmod", "ls"):
        found = str(shutil.which(tool))
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
        wanted = {f"bin/{tool}": found}
        wanted |= {word.lstrip("/"): word for word in listed.split() if word.startswith("/")}
        for name, source in wanted.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tree / name)


async def image_node(node: Node, arguments: Facts) -> None:
    directory = str(arguments["directory"])
    box = await pod(node, "web", 10)
    user = 0 if node.can_switch_user else None

    def bash(tree: str, script: str, **more: object) -> ContainerSpec:
        root = {"image": f"{directory}/{tree}", "uid": user, "gid": user}
        return ContainerSpec("main", ("/bin/bash", "-c", script), **root, **more)  # type: ignore[arg-type]

    look = "ls -a / /dev; cat /proc/self/comm /proc/1/comm; echo x > /tmp/x; ls /tmp; ls /sys/class"
    facts: Facts = {
        tree: await output(box, bash(tree, look), directory) for tree in ("good", "hostile")
    }
    spoil = "chmod 600 /dev/null || echo refused; echo y > /dev/null && echo open; : > /new && ls /"
    facts["spoil"] = await output(box, bash("good", spoil), directory)
    facts["frozen"] = await output(
        box, bash("good", ": > /new || echo refused", read_only_root=True), directory
    )
    given = (0, 1) if node.can_switch_user else ()
    facts["process"] = await output(
        box, bash("good", "cat /proc/self/status", capabilities=given), directory
    )
    try:
        await box.start(bash("no etc", "true"))
    except SandboxError as error:
        facts["no etc"] = str(error)
    running = await box.start(bash("good", "while :; do read -t 1 < /dev/zero; done"))
    reader, writer = os.pipe()
    inside = await running.execute(ExecSpec(("/bin/bash", "-c", "ls /bin")), reader, writer, writer)
    facts["exec status"] = await inside.wait()
    facts["exec"] = os.read(reader, 4096).decode().split()
    await running.stop(1)
    await done(node, facts)
