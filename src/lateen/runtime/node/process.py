"""What a freshly forked child of the launcher does until it runs a container's program."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import privileges, seccomp, wire
from lateen.runtime.node.rootfs import own_directory_above

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_FREE_FD = 3


def fork(child: Callable[[], None]) -> tuple[int, int]:
    """Forks; the child runs ``child``, which must end in exec.

    Returns the pid and a pipe that reads as empty once the exec has happened, or as the JSON
    object ``{"error": text, "errno": n}`` when the child failed before.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)
        child()
        error: BaseException = RuntimeError("the child returned without exec")
    except BaseException as caught:
        error = caught
    with contextlib.suppress(BaseException):
        report = {"errno": 0, **wire.error_reply(error)}
        os.write(writer, json.dumps(report).encode()[:4096])
    os._exit(127)


def prepare_standard_io(stdin: int, stdout: int, stderr: int, *, tty: bool) -> None:
    """Starts a session of its own, puts the descriptors at 0, 1 and 2."""
    os.setsid()
    # Copies above 2 first: the three may overlap with the places they are going to.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (stdin, stdout, stderr)]
    for place, fd in enumerate(copies):
        os.dup2(fd, place, inheritable=True)
    if tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def give_terminal(fd: int, uid: int) -> None:
    """Makes the terminal writable for the container's user (as far as that is permitted)."""
    with contextlib.suppress(OSError):
        os.fchown(fd, uid, -1)


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ of tty_ioctl(4)."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def reset_signals() -> None:
    """Default actions and an empty mask: what Python set is not the program's business."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def change_directory(path: str, *, create: bool) -> None:
    """Goes to the working directory; Kubernetes makes the one that does not exist."""
    if create and not os.path.isdir(path):
        os.makedirs(path, mode=0o755, exist_ok=True)
    os.chdir(path)


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    uid: int | None,
    gid: int | None,
    capabilities: Sequence[int],
    groups: Sequence[int] = (),
    plain_root: bool = False,
    confined: bool = True,
    user_namespace: int | None = None,
) -> None:
    """Gives up privileges and becomes the program. Never returns; raises `OSError`.

    ``confined``: under `lateen.runtime.node.seccomp`'s filter. ``uid``, ``gid`` and ``groups`` are
    those of ``user_namespace``, where it is given.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.umask(0o022)
    reset_signals()
    seccomp.join_new_session_keyring(required=not confined)
    if user_namespace is not None:
        ns.setns(user_namespace, ns.CLONE_NEWUSER)
    if plain_root:
        privileges.become_plain_root(capabilities, gid=gid or 0, groups=groups)
    else:
        privileges.drop_privileges(capabilities, uid=uid, gid=gid, groups=groups)
    if confined:
        seccomp.confine()
    program = find_program(argv[0], env.get("PATH", DEFAULT_PATH))
    try:
        os.execve(program, list(argv), dict(env))
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise OSError(error.errno, f"{program}: its interpreter does not exist") from error
        raise OSError(error.errno, f"{program}: {error.strerror}") from error


def find_program(name: str, path: str) -> str:
    """The file that ``name`` means, looked up in ``path`` when it has no slash."""
    candidates = [name] if "/" in name else [f"{d}/{name}" for d in path.split(":") if d]
    denied = ""
    for candidate in candidates:
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = candidate
    if denied:
        raise OSError(errno.EACCES, f"{denied}: may not be run by this user")
    try:
        os.stat(candidates[0])
    except PermissionError as error:
        raise OSError(
            errno.EACCES, f"{name}: a directory above it is closed to this user"
        ) from error
    except OSError:
        pass
    own = own_directory_above(os.path.normpath(name)) if name.startswith("/") else ""
    if own:
        raise OSError(
            errno.ENOENT,
            f"{name}: not in this pod, which has a {own} of its own and sees of the machine's only "
            "what --image names",
        )
    where = f" in {os.getcwd()}" if "/" in name and not name.startswith("/") else ""
    raise OSError(errno.ENOENT, f"{name}: no such program{where}")


def write_sysctls(settings: Mapping[str, str]) -> None:
    """Sets ``net.*`` values of the current network namespace. Raises `OSError` naming the key."""
    for key, value in settings.items():
        path = Path("/proc/sys", *key.split("."))
        try:
            path.write_text(value)
        except OSError as error:
            raise OSError(error.errno, f"sysctl {key}: {error.strerror}") from error


def new_network(hostname: str, sysctls: Mapping[str, str]) -> None:
    """Moves into fresh network, UTS and IPC namespaces and sets them up."""
    ns.unshare(ns.CLONE_NEWNET | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC)
    ns.sethostname(hostname[:63])
    write_sysctls(sysctls)


def close_all_but(keep: Sequence[int]) -> None:
    """Closes every descriptor from 3 on that is not in ``keep``."""
    start = _FIRST_FREE_FD
    for fd in sorted(set(keep)):
        if fd >= start:
            os.closerange(start, fd)
            start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX") if start < 4096 else start + 4096)
