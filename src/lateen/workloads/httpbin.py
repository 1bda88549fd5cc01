"""An httpbin: ``python -m lateen.workloads.httpbin [options]``.

Answers with what it was asked, and with whatever status, delay or size the path says. Two styles,
by HTTPBIN_STYLE: ``go`` (go-httpbin: header and argument values are lists) and ``python`` (the
older one: they are strings). The port is PORT, or ``-port N``, or ``-b HOST:PORT`` as gunicorn has
it; 8080 unless given. Other options of those two programs are accepted and have no effect here.
"""

import os
from collections.abc import Sequence

from lateen.workloads.httpbin_paths import service
from lateen.workloads.server import run_http
from lateen.workloads.settings import SettingError, listen_port, main, port_number, request_log

_PORT_OPTIONS = ("-port", "--port", "-p", "-b", "--bind")


def _port(arguments: Sequence[str]) -> int:
    words = iter(arguments)
    for word in words:
        option, separator, value = word.partition("=")
        if option in _PORT_OPTIONS:
            value = value if separator else next(words, "")
            return port_number(value.rpartition(":")[2], option)
        if word.isdigit():
            return port_number(word, "the port argument")
    return listen_port((), 8080)


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    style = os.environ.get("HTTPBIN_STYLE") or "go"
    if style not in ("go", "python"):
        raise SettingError(f"HTTPBIN_STYLE: {style!r} is neither go nor python")
    handler = service(lists=style == "go")
    return run_http("httpbin", _port(arguments), handler, log=request_log())


if __name__ == "__main__":
    main("httpbin", program)
