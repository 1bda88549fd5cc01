"""The helloworld sample: ``python -m lateen.workloads.helloworld [PORT]`` (5000).

``/hello`` says which version, SERVICE_VERSION, and which instance answers; ``/health`` is alive.
"""

import os
from collections.abc import Mapping, Sequence

from lateen.workloads.http import Handler, Request, Response, text
from lateen.workloads.server import run_http
from lateen.workloads.settings import listen_port, main, pod_name, request_log


def service(environment: Mapping[str, str]) -> Handler:
    """The request handler."""
    version = environment.get("SERVICE_VERSION") or "v1"
    hello = text(f"Hello version: {version}, instance: {pod_name(environment)}\n")
    healthy = text("Helloworld is healthy\n")
    unknown = text("not found: ask for /hello\n", 404)

    def handle(request: Request) -> Response:
        if request.path == "/hello":
            return hello
        return healthy if request.path == "/health" else unknown

    return handle


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    port = listen_port(arguments, 5000)
    return run_http("helloworld", port, service(os.environ), log=request_log())


if __name__ == "__main__":
    main("helloworld", program)
