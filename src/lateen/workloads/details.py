"""Bookinfo's details service: ``python -m lateen.workloads.details [PORT]`` (9080).

``/details/ID`` has the facts about a book, ``/health`` says it is alive. With
ENABLE_EXTERNAL_BOOK_SERVICE=true the facts come from the Google Books API over HTTPS, or over
plain HTTP with DO_NOT_ENCRYPT=true (for a mesh that originates TLS).
"""

import os
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from lateen.workloads.client import FetchError, fetch, forwarded
from lateen.workloads.http import Handler, Request, Response, json_response
from lateen.workloads.server import run_http
from lateen.workloads.settings import listen_port, main, request_log

_ISBN: Final = "0486424618"
_API: Final = "www.googleapis.com"


def service(environment: Mapping[str, str]) -> Handler:
    """The request handler."""
    external = environment.get("ENABLE_EXTERNAL_BOOK_SERVICE") == "true"
    encrypt = environment.get("DO_NOT_ENCRYPT") != "true"

    def handle(request: Request) -> Response:
        if request.path == "/health":
            return json_response({"status": "Details is healthy"})
        if request.path != "/details" and not request.path.startswith("/details/"):
            return json_response({"error": "not found"}, 404)
        number = request.path.rpartition("/")[2]
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            return json_response({"error": "please provide numeric product id"}, 400)
        return json_response(_local_details(int(number)))

    async def fetch_external(request: Request, number: int) -> Response:
        headers = forwarded(request)
        for private in ("cookie", "authorization", "jwt", "end-user"):
            headers.pop(private, None)  # not for a service outside the mesh
        target = f"/books/v1/volumes?q=isbn:{_ISBN}"
        try:
            status, body = await fetch(
                _API, 443 if encrypt else 80, target, headers, 5.0, tls=encrypt
            )
            return json_response(_external_details(number, status, body))
        except (FetchError, ValueError, LookupError, TypeError) as error:
            return json_response({"error": f"{_API}: {error}"}, 400)

    def handle_external(request: Request) -> Response | Awaitable[Response]:
        answer = handle(request)
        if answer.status != 200 or request.path == "/health":
            return answer
        return fetch_external(request, int(request.path.rpartition("/")[2]))

    return handle_external if external else handle


def _local_details(number: int) -> dict[str, object]:
    return {
        "id": number,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    }


def _external_details(number: int, status: int, body: bytes) -> dict[str, object]:
    import json

    if status != 200:
        raise ValueError(f"answered {status}")
    book = json.loads(body)["items"][0]["volumeInfo"]
    isbn = {each["type"]: each["identifier"] for each in book["industryIdentifiers"]}
    return {
        "id": number,
        "author": book["authors"][0],
        "year": book["publishedDate"],
        "type": "paperback" if book["printType"] == "BOOK" else "unknown",
        "pages": book["pageCount"],
        "publisher": book["publisher"],
        "language": "English" if book["language"] == "en" else "unknown",
        "ISBN-10": isbn.get("ISBN_10"),
        "ISBN-13": isbn.get("ISBN_13"),
    }


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    port = listen_port(arguments, 9080)
    return run_http("details", port, service(os.environ), log=request_log())


if __name__ == "__main__":
    main("details", program)
