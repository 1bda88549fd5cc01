"""What the built-in workloads read from their environment and command line."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lateen.workloads.server import print_line

_MAX_LOG: Final = 10 * 1024 * 1024


class SettingError(Exception):
    """A value of the command line or environment cannot be used; the message says which."""


def port_number(value: str, source: str) -> int:
    """A TCP port, 0 for any free one. Raises SettingError naming ``source``."""
    if not value.isascii() or not value.isdigit() or int(value[:6]) > 65535:
        raise SettingError(f"{source}: {value!r} is not a port (0 to 65535)")
    return int(value)


def listen_port(
    arguments: Sequence[str], default: int, environment: Mapping[str, str] = os.environ
) -> int:
    """The port to listen on: the first argument, else PORT, else ``default``."""
    if arguments:
        return port_number(arguments[0], "argument 1")
    if environment.get("PORT"):
        return port_number(environment["PORT"], "PORT")
    return default


def backend(name: str, environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Host and port of another Bookinfo service, e.g. ``backend("ratings")``.

    NAME_HOSTNAME and NAME_SERVICE_PORT override the name and 9080; SERVICES_DOMAIN is appended.
    """
    upper = name.upper()
    domain = environment.get("SERVICES_DOMAIN", "")
    host = environment.get(f"{upper}_HOSTNAME") or name
    port = environment.get(f"{upper}_SERVICE_PORT") or "9080"
    if domain:
        host = f"{host}.{domain}"
    return host, port_number(port, f"{upper}_SERVICE_PORT")


def pod_name(environment: Mapping[str, str] = os.environ) -> str:
    """The pod's host name."""
    return environment.get("HOSTNAME") or os.uname().nodename


def request_log(environment: Mapping[str, str] = os.environ) -> Callable[[str], None]:
    """Writes request lines, health checks left out, to standard output.

    With LOG_DIR they go to LOG_DIR/messages.log too, which starts again at 10 MiB.
    """
    path = _log_file(environment.get("LOG_DIR", ""))

    def write(line: str) -> None:
        if '"GET /health HTTP' in line:
            return
        print_line(line)
        if path:
            _append(path, line)

    return write


def _log_file(folder: str) -> str:
    if not folder:
        return ""
    path = os.path.join(folder, "messages.log")
    try:
        os.makedirs(folder, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640))
    except OSError as error:
        sys.stderr.write(f"LOG_DIR: {path}: {error.strerror}; logging to standard output only\n")
        return ""
    return path


def _append(path: str, line: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    except OSError:
        return
    try:
        if os.fstat(file).st_size > _MAX_LOG:
            os.ftruncate(file, 0)
        os.write(file, line.encode("utf-8", "replace") + b"\n")
    except OSError:
        # A full disk must not stop the sample; standard output still has the line.
        pass
    finally:
        os.close(file)


def main(name: str, program: Callable[[Sequence[str]], int]) -> None:
    """Run ``program`` with the command line's arguments and exit with what it returns."""
    try:
        status = program(sys.argv[1:])
    except SettingError as error:
        sys.stderr.write(f"{name}: {error}\n")
        status = 2
    sys.stdout.flush()
    # Nothing is left to clean up, and the interpreter's own tear-down is a tenth of a small run.
    os._exit(status)
