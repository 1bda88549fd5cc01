"""Bookinfo's productpage: ``python -m lateen.workloads.productpage [PORT]`` (9080).

A page about one book, put together from the details and reviews services. Each call to a backend
may take 3 s; reviews are tried twice, so a slow reviews service costs the page 6 s. Signing in
(``/login``, any name, no password checked) sends the name to the backends as ``end-user``.
"""

import os
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from lateen.workloads import bookpage
from lateen.workloads.client import FetchError, fetch, forwarded
from lateen.workloads.http import (
    Handler,
    Request,
    Response,
    cookies,
    html,
    json_response,
    query_values,
    text,
    unquote,
)
from lateen.workloads.server import print_line, run_http
from lateen.workloads.settings import backend, listen_port, main, request_log

TIMEOUT: Final = 3.0
"""Seconds one call to a backend may take."""
REVIEW_ATTEMPTS: Final = 2
_SESSION: Final = "session"
_PRODUCT: Final[dict[str, object]] = {
    "id": 0,
    "title": "The Comedy of Errors",
    "descriptionHtml": (
        '<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">The Comedy of Errors</a> is '
        "the shortest of <b>William Shakespeare's</b> plays: two pairs of twins, parted as babies, "
        "come to the same town on the same day."
    ),
}


class ProductPage:
    """The service: where its backends are and how calls to them went."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        names = ("details", "reviews", "ratings")
        self.backends = {name: backend(name, environment) for name in names}
        self.results: dict[tuple[str, int], int] = {}

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """The request handler."""
        path = request.path
        if path == "/productpage":
            return self.front(request)
        if path.startswith("/api/v1/products"):
            return self.api(request, path.split("/")[4:])
        if path == "/login":
            return login(request)
        if path == "/logout":
            return _signed("", "; Max-Age=0")
        if path in ("/", "/index.html"):
            return html(bookpage.index())
        if path == "/health":
            return text("Product page is healthy")
        if path == "/metrics":
            return Response(self.metrics().encode(), 200, "text/plain; version=0.0.4")
        return html(bookpage.not_found(), 404)

    async def front(self, request: Request) -> Response:
        """The page itself: details first, then reviews."""
        headers = _headers(request)
        details = await self.call("details", "/details/0", headers)
        reviews = await self.call("reviews", "/reviews/0", headers, REVIEW_ATTEMPTS)
        return html(bookpage.product(_PRODUCT, details, reviews, headers.get("end-user", "")))

    def api(self, request: Request, words: Sequence[str]) -> Response | Awaitable[Response]:
        """``/api/v1/products``, and below it ``ID``, ``ID/reviews`` and ``ID/ratings``."""
        if not words or words == [""]:
            return json_response([_PRODUCT])
        number, *rest = words
        if not (number.isascii() and number.isdigit() and len(number) < 10) or len(rest) > 1:
            return json_response({"error": "not found"}, 404)
        kind = rest[0] if rest else "details"
        if kind not in ("details", "reviews", "ratings") or rest == ["details"]:
            return json_response({"error": "not found"}, 404)
        return self.relay(kind, f"/{kind}/{number}", _headers(request))

    async def relay(self, name: str, target: str, headers: Mapping[str, str]) -> Response:
        """A backend's JSON and status, or an error object with its status."""
        attempts = REVIEW_ATTEMPTS if name == "reviews" else 1
        status, value = await self.call(name, target, headers, attempts)
        return json_response(value, status)

    async def call(
        self, name: str, target: str, headers: Mapping[str, str], attempts: int = 1
    ) -> tuple[int, object]:
        """Status and JSON value of a backend; 500 stands for no answer at all."""
        import json

        host, port = self.backends[name]
        status = 500
        for _ in range(attempts):
            try:
                status, body = await fetch(host, port, target, headers, TIMEOUT)
                if status == 200:
                    value = json.loads(body)
                    self.count(name, 200)
                    return 200, value
            except (FetchError, ValueError) as error:
                status = 500
                print_line(f"{name} at {host}:{port}: {error}")
        self.count(name, status)
        noun = "product details" if name == "details" else f"product {name}"
        return status, {"error": f"{noun} are currently unavailable for this book"}

    def count(self, name: str, status: int) -> None:
        """Remember one result for /metrics."""
        self.results[name, status] = self.results.get((name, status), 0) + 1

    def metrics(self) -> str:
        """Results of calls in the Prometheus text format."""
        lines = ["# HELP request_result Results of requests", "# TYPE request_result counter"]
        lines += [
            f'request_result_total{{destination_app="{name}",response_code="{status}"}} {count}'
            for (name, status), count in sorted(self.results.items())
        ]
        return "\n".join(lines) + "\n"


def _headers(request: Request) -> dict[str, str]:
    """What to send along to the backends: trace context, and the user who signed in."""
    headers = forwarded(request)
    user = cookies(request).get(_SESSION, "")
    if "%" in user:
        user = unquote(user)
    # The cookie comes from the client: nothing that could end a header line may go on.
    user = "".join(letter for letter in user if letter.isprintable())[:128]
    if user:
        headers["end-user"] = user
    return headers


def login(request: Request) -> Response:
    """Sign in with the posted form's ``username``; no password is asked, so none is checked."""
    if request.method != "POST":
        return Response(b"sign in with POST\n", 405, headers=(("Allow", "POST"),))
    user = query_values(request.body.decode("utf-8", "replace")).get("username", [""])[0]
    from urllib.parse import quote

    return _signed(quote(user[:128], safe=""), "" if user else "; Max-Age=0")


def _signed(user: str, expiry: str) -> Response:
    cookie = f"{_SESSION}={user}; Path=/; HttpOnly; SameSite=Lax{expiry}"
    return Response(status=302, headers=(("Location", "/productpage"), ("Set-Cookie", cookie)))


def service(environment: Mapping[str, str]) -> Handler:
    """The request handler."""
    return ProductPage(environment).handle


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    port = listen_port(arguments, 9080)
    return run_http("productpage", port, service(os.environ), log=request_log())


if __name__ == "__main__":
    main("productpage", program)
