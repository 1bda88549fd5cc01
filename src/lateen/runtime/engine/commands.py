"""A container engine by its command line: which one there is, and what is asked of it.

Nothing here goes through a shell, every command has a time limit and bounded output, and image
names are those that `lateen.runtime.engine.reference` accepts: none can be taken for an option.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lateen.runtime.engine.config import ImageConfig, InvalidConfig, from_inspect
from lateen.runtime.engine.reference import Reference
from lateen.runtime.engine.unpack import HostileArchive
from lateen.runtime.node import privileges

ENGINES = ("docker", "podman", "nerdctl")
"""In the order in which they are tried."""
CHOICES = ("auto", *ENGINES, "none")

_PROBES: Mapping[str, tuple[str, ...]] = {
    # Each of these fails when the command is there but what it talks to is not.
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("info", "--format", "{{.Version.Version}}"),
    "nerdctl": ("info", "--format", "{{.ServerVersion}}"),
}
_PROBE_SECONDS, _QUICK_SECONDS, _CREATE_SECONDS = 20.0, 60.0, 300.0
_PULL_SECONDS = _EXPORT_SECONDS = 1800.0
_MAX_OUTPUT = 4 * 1024 * 1024
_MAX_WORDS = 600
_ABSENT = re.compile(r"no such (image|object)|image not known|not found", re.IGNORECASE)
_REPEATED = re.compile(r"level=(?:warning|info|debug)")
_LABEL = "dev.lateen.export"
_CONTAINER = re.compile(r"[0-9a-f]{12,64}")
_PASSED = re.compile(
    r"HOME|PATH|USER|LOGNAME|LANG|TMPDIR|REGISTRY_AUTH_FILE|DBUS_SESSION_BUS_ADDRESS|"
    r"(?:https?|no|all)_proxy|HTTPS?_PROXY|NO_PROXY|ALL_PROXY|SSL_CERT_(?:FILE|DIR)|"
    r"(?:XDG|DOCKER|CONTAINERS?|CONTAINERD|NERDCTL|STORAGE|BUILDAH)_\w+"
)


class EngineError(Exception):
    """An engine's command failed; the message has the engine's own words."""


class NoEngine(Exception):
    """No engine works on this machine; the message says what was tried and what each said."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers. ``path`` is its command, ``environment`` what commands get."""

    name: str
    path: str
    environment: Mapping[str, str]

    def inspect(self, name: str) -> ImageConfig | None:
        """What it knows of an image by its name or id; None when it does not have it.

        Raises `EngineError`.
        """
        status, out, err = self._run(("image", "inspect", name), _QUICK_SECONDS)
        if status:
            if _ABSENT.search(err):
                return None
            raise EngineError(f"{self.name} image inspect: {words(err)}")
        try:
            found = json.loads(out)
            return from_inspect(found[0]) if found else None
        except (ValueError, LookupError, TypeError, InvalidConfig) as error:
            raise EngineError(f"{self.name} image inspect {name}: {error}") from error

    def find(self, reference: Reference) -> ImageConfig | None:
        """The image that it has for a reference. Raises `EngineError`."""
        found = self.inspect(reference.name)
        if found is None and reference.local_name and self.name == "podman":
            found = self.inspect(reference.local_name)
        return found

    def pull(self, name: str) -> None:
        """Fetches an image from its registry. Raises `EngineError`."""
        status, _, err = self._run(("pull", "--quiet", name), _PULL_SECONDS)
        if status:
            raise EngineError(f"{self.name} pull {name}: {words(err)}")

    def export(self, image: str, take: Callable[[int], int]) -> int:
        """Gives the archive of an image's files (by its id) to ``take`` as a descriptor.

        Returns what ``take`` returned. Raises `EngineError`, and what ``take`` raises.
        """
        label = f"{_LABEL}={image}"
        self._remove_left_over(label)
        # Never started: it is the only way to get one archive of all layers from every engine. The
        # command is for images that have none.
        create = ("create", "--label", label, "--network", "none", image, "/lateen")
        status, out, err = self._run(create, _CREATE_SECONDS)
        container = out.decode(errors="replace").strip().rpartition("\n")[2]
        if status or not _CONTAINER.fullmatch(container):
            raise EngineError(f"{self.name} create: {words(err)}")
        try:
            return self._export(container, take)
        finally:
            self._run(("rm", "--force", container), _QUICK_SECONDS)

    def _export(self, container: str, take: Callable[[int], int]) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        process = self._start(("export", container), writer)
        os.close(writer)
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        signal.signal(signal.SIGALRM, lambda *_: process.kill())
        signal.alarm(int(_EXPORT_SECONDS))
        try:
            result = take(reader)
            os.close(reader)
            reader = -1
            status = process.wait(_QUICK_SECONDS)
            if status:
                raise EngineError(f"{self.name} export: {words(_rest(process.stderr.fileno()))}")
            return result
        except HostileArchive as error:
            # An export that failed is an archive that ends too early.
            said = _rest(process.stderr.fileno()).strip()
            if not said:
                raise
            raise EngineError(f"{self.name} export: {error}; {words(said)}") from error
        finally:
            signal.alarm(0)
            if reader >= 0:
                os.close(reader)
            process.kill()
            process.wait()
            process.stderr.close()

    def _remove_left_over(self, label: str) -> None:
        """Containers of an export that was interrupted; nobody else exports this image now."""
        listed = self._run(("ps", "--all", "--quiet", "--filter", f"label={label}"), _QUICK_SECONDS)
        for container in listed[1].decode(errors="replace").split() if not listed[0] else ():
            if _CONTAINER.fullmatch(container):
                self._run(("rm", "--force", container), _QUICK_SECONDS)

    def _run(self, words: Sequence[str], seconds: float) -> tuple[int, bytes, str]:
        """Exit status, output, and the last of the error output of one command."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            process = self._start(words, writer)
        finally:
            os.close(writer)
        try:
            return _collect(process, reader, time.monotonic() + seconds)
        finally:
            os.close(reader)
            process.kill()
            process.wait()

    def _start(self, words: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [self.path, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                cwd="/",
                env=dict(self.environment),
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise EngineError(f"{self.path}: {error.strerror}") from error


def installed(environment: Mapping[str, str], choice: str = "auto") -> dict[str, str]:
    """Name to path of the engines' commands that are there. Relative parts of PATH do not count."""
    found = {}
    for name in ENGINES if choice == "auto" else (choice,):
        for folder in environment.get("PATH", os.defpath).split(":"):
            path = f"{folder}/{name}"
            if folder.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
                found[name] = path
                break
    return found


def detect(choice: str, environment: Mapping[str, str]) -> Engine:
    """The first engine that answers, or the chosen one. Raises `NoEngine`."""
    if choice == "none":
        raise NoEngine("the container engine is switched off (--engine none)")
    passed = {name: value for name, value in environment.items() if _PASSED.fullmatch(name)}
    commands = installed(environment, choice)
    if not commands:
        wanted = " or ".join((", ".join(ENGINES[:-1]), ENGINES[-1])) if choice == "auto" else choice
        raise NoEngine(f"this machine has no container engine ({wanted})")
    complaints = []
    for name, path in commands.items():
        engine = Engine(name, path, passed)
        try:
            status, out, err = engine._run(_PROBES[name], _PROBE_SECONDS)
        except EngineError as error:
            complaints.append(str(error))
            continue
        if status == 0 and out.strip():
            return engine
        complaints.append(f"{name} is installed, but no engine answers it: {words(err)}")
    raise NoEngine("; ".join(complaints))


def words(text: str) -> str:
    """An engine's complaint on one line of bounded length: its last lines, without colours."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines()]
    # Warnings of attempts that were repeated say the same as the error in the end.
    lines = [line for line in lines if not _REPEATED.search(line)] or lines
    text = "".join(c if c.isprintable() else " " for c in " ".join(lines))
    plain = " ".join(text.split())
    if not plain:
        return "it says nothing"
    return plain if len(plain) <= _MAX_WORDS else f"...{plain[-_MAX_WORDS:]}"


def _collect(
    process: subprocess.Popen[bytes], reader: int, deadline: float
) -> tuple[int, bytes, str]:
    assert process.stderr is not None
    out, err = bytearray(), bytearray()
    sinks = {reader: out, process.stderr.fileno(): err}
    with selectors.DefaultSelector() as selector, process.stderr:
        for fd in sinks:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return 124, b"", f"no answer in time; {err.decode(errors='replace')}"
            for key, _ in selector.select(remaining):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fd)
                sinks[key.fd].extend(data)
                del err[:-8192]
                if len(out) > _MAX_OUTPUT:
                    return 125, b"", "it says more than anybody could want to know"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
    status = process.returncode
    return 124 if status is None else status, bytes(out), err.decode(errors="replace")


def _rest(fd: int) -> str:
    with contextlib.suppress(OSError):
        return os.read(fd, 8192).decode(errors="replace")
    return ""


def _die_with_parent() -> None:
    privileges.die_with_parent(signal.SIGTERM)
