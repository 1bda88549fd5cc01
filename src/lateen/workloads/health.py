"""Answers 200 to everything, for trying out probes: ``python -m lateen.workloads.health [PORT]``.

The port is 8001 unless given.
"""

from collections.abc import Sequence

from lateen.workloads.http import Request, Response, text
from lateen.workloads.server import run_http
from lateen.workloads.settings import listen_port, main, request_log


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    healthy = text("healthy\n")

    def handle(_: Request) -> Response:
        return healthy

    return run_http("health", listen_port(arguments, 8001), handle, log=request_log())


if __name__ == "__main__":
    main("health", program)
