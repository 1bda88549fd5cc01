"""An external authorizer for trying out CUSTOM policies: ``python -m lateen.workloads.ext_authz``.

Allows a request with the header ``x-ext-authz: allow`` and denies any other with 403. HTTP checks
come to port 8000 (any path), gRPC checks (envoy.service.auth.v3.Authorization) to port 9000;
``-http PORT`` and ``-grpc PORT`` choose others, ``-grpc off`` leaves gRPC out.
"""

from collections.abc import Sequence
from typing import Final

from lateen.workloads.http import Request, Response
from lateen.workloads.server import print_line, run_http
from lateen.workloads.settings import SettingError, main, port_number

HEADER: Final = "x-ext-authz"
_RESULT: Final = "x-ext-authz-check-result"
_RECEIVED: Final = "x-ext-authz-check-received"
_OVERRIDE: Final = "x-ext-authz-additional-header-override"
DENIAL: Final = f"denied by ext_authz: the request has no header `{HEADER}: allow`"


def check(request: Request) -> Response:
    """The verdict on one HTTP check request."""
    received = f"{request.method} {request.headers.get('host', '')}{request.target}"
    received = received.encode("ascii", "replace").decode()[:1024]
    override = request.headers.get(_OVERRIDE, "")
    extra = ((_RECEIVED, received), (_OVERRIDE, override))
    if request.headers.get(HEADER) == "allow":
        print_line(f"[HTTP][allowed]: {received}")
        return Response(headers=((_RESULT, "allowed"), *extra))
    print_line(f"[HTTP][denied]: {received}")
    return Response(DENIAL.encode(), 403, headers=((_RESULT, "denied"), *extra))


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    ports = {"http": "8000", "grpc": "9000"}
    words = iter(arguments)
    for word in words:
        option, separator, value = word.lstrip("-").partition("=")
        if option not in ports:
            raise SettingError(f"unknown option {word}; known are -http and -grpc")
        ports[option] = value if separator else next(words, "")
    http = port_number(ports["http"], "-http")

    async def grpc_server() -> None:
        from lateen.workloads.ext_authz_grpc import serve

        await serve(port_number(ports["grpc"], "-grpc"), HEADER, DENIAL)

    background = None if ports["grpc"] == "off" else grpc_server
    return run_http("ext-authz", http, check, log=None, background=background)


if __name__ == "__main__":
    main("ext_authz", program)
