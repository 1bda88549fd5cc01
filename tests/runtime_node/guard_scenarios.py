"""Scenarios of what containers may ask of the kernel, and what the machine's users see of them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import shutil
from pathlib import Path

from lateen.runtime.node.node import Node
from lateen.runtime.node.spec import ContainerSpec, ExecSpec, Mount
from tests.runtime_node import pods
from tests.runtime_node.scenarios import Facts, done, output, pod, python, run

NOBODY = 65534
MARK = "LATEEN_GUARD_MARK"


def guard(directory: str) -> Facts:
    _add_keys()
    return run(directory, f"{__name__}:guard_node", _look_from_the_machine)


def _add_keys() -> None:
    """Keys of the user who starts Lateen, which no container must find."""
    libc = ctypes.CDLL(None)
    number = 217 if platform.machine() == "aarch64" else 248
    for name, ring in ((b"of-the-session", -3), (b"of-the-user", -4)):
        libc.syscall(
            *(ctypes.c_long(number), b"user", name, b"payload"),
            *(ctypes.c_long(7), ctypes.c_long(ring)),
        )


def _look_from_the_machine(_facts: Facts) -> Facts:
    """As another user who has the number that applications have inside."""
    if os.getuid() != 0:
        return {}
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _marked(entry)]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        seen = []
        for pid in pids:
            for attempt in (
                lambda pid=pid: Path(f"/proc/{pid}/environ").read_bytes().decode(),
                lambda pid=pid: os.listdir(f"/proc/{pid}/root/"),
                lambda pid=pid: os.kill(pid, 0),
            ):
                try:
                    seen.append(repr(attempt()))
                except OSError as error:
                    seen.append(type(error).__name__)
        os.write(writer, json.dumps(seen).encode())
        os._exit(0)
    os.waitpid(child, 0)
    owners = [os.stat(f"/proc/{pid}").st_uid for pid in pids]
    return {"marked": len(pids), "seen by 65534": json.loads(os.read(reader, 65536)), "as": owners}


def _marked(entry: str) -> bool:
    with contextlib.suppress(OSError):
        return f"{MARK}=".encode() in Path(f"/proc/{entry}/environ").read_bytes()
    return False


async def guard_node(node: Node, arguments: Facts) -> None:
    directory = str(arguments["directory"])
    box, other = await pod(node, "web", 10), await pod(node, "other", 11)
    volume = Path(node.scratch_dir, "data")
    volume.mkdir()
    volume.chmod(0o2770)
    if node.can_switch_user:
        os.chown(volume, 0, 4242)
    facts: Facts = {}

    async def result(what: str, sandbox: object = box, **more: object) -> dict[str, object]:
        mounts = (Mount(str(volume), "/data"),)
        groups = (4242,) if node.can_switch_user else ()
        spec = python(pods.CONFINED, what, "/data", mounts=mounts, groups=groups, **more)
        found: dict[str, object] = json.loads(await output(sandbox, spec, directory))  # type: ignore[arg-type]
        return found

    facts["calls"] = await result("calls")
    written = (volume / "file").stat()
    facts["written as"] = [written.st_uid, written.st_gid]
    facts["unconfined"] = await result("calls", confined=False)
    facts["keys"] = [
        await result("keys", confined=False),
        await result("keys", confined=False),
        await result("keys", other, confined=False),
    ]
    running = await box.start(
        python("import time; print(1); time.sleep(600)", env={MARK: "secret"}, confined=True)
    )
    reader, writer = os.pipe()
    argv: tuple[str, ...] = (
        "sh",
        "-c",
        "id -u; grep ^Seccomp: /proc/self/status; cat /proc/1/environ | wc -c",
    )
    inside = await running.execute(ExecSpec(argv), reader, writer, writer)
    facts["exec"] = [await inside.wait(), os.read(reader, 4096).decode().split()]
    facts["programs"] = {}
    for argv in (("node", "-e", "console.log(1+1)"), ("java", "-version"), ("go", "version")):
        if shutil.which(argv[0]):
            log = f"{directory}/{argv[0]}.log"
            path = str(shutil.which(argv[0]))
            spec = ContainerSpec("main", (path, *argv[1:]), env={"HOME": "/tmp"}, log_path=log)
            status = await (await box.start(spec)).wait()
            facts["programs"][argv[0]] = status  # type: ignore[index]
    await done(node, facts)
