"""HTTP messages and the request parser of the built-in workloads (RFC 9110, RFC 9112).

Only what a server needs: :func:`parse_head` turns the bytes before the empty line into a
:class:`Request` and says how its body is framed; :class:`ChunkedBody` decodes chunked bodies.
Anything two parsers could read differently (both Content-Length and Transfer-Encoding, folded
lines, white space before the colon) is refused with :class:`BadRequest`: a sample behind a proxy
must not be a way to smuggle requests.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Most bytes of request line and headers; more is answered with 431."""
MAX_BODY: Final = 10 * 1024 * 1024
"""Most bytes of a request body; more is answered with 413."""
CHUNKED: Final = -1
"""Value of a body length that says the body is chunked."""

REASONS: Final = {
    100: "Continue",
    101: "Switching Protocols",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    418: "I'm a teapot",
    422: "Unprocessable Content",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}(?:[ \t]*;[^\r\n\x00]*)?")
# Header names repeat on every request: checking and lower-casing each once is most of the
# difference between a slow and a fast parser. Bounded, since names come from clients.
_NAMES: dict[str, str] = {}
_MAX_NAMES: Final = 1024


class BadRequest(Exception):
    """The request cannot be served; ``status`` is the code to answer with before closing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Request:
    """One request, body included.

    ``path`` is percent-decoded, ``query`` is not and has no leading ``?``. ``headers`` maps lower
    case names to values, repeated ones joined (RFC 9110 section 5.3); ``pairs`` keeps each.
    ``peer`` is the address the connection came from.
    """

    __slots__ = (
        "body",
        "close",
        "headers",
        "method",
        "pairs",
        "path",
        "peer",
        "query",
        "target",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: str,
        version: str,
        headers: dict[str, str],
        pairs: list[tuple[str, str]],
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.pairs = pairs
        self.body = b""
        self.peer = ""
        self.close = False
        path, _, self.query = target.partition("?")
        self.path = unquote(path) if "%" in path else path


class Response:
    """An answer: a whole ``body``, or a ``stream`` of byte strings sent as they come.

    ``headers`` adds to Content-Type, Content-Length, Date and Connection, which the server writes.
    """

    __slots__ = ("body", "content_type", "headers", "status", "stream")

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        content_type: str = "text/plain; charset=utf-8",
        headers: Sequence[tuple[str, str]] = (),
        stream: AsyncIterator[bytes] | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers = headers
        self.stream = stream


Handler = Callable[[Request], "Response | Awaitable[Response]"]
"""What a workload is: answers at once with a Response, or later with an awaitable of one."""


def text(body: str, status: int = 200) -> Response:
    """A plain text answer."""
    return Response(body.encode(), status)


def html(body: str, status: int = 200) -> Response:
    """An HTML answer."""
    return Response(body.encode(), status, "text/html; charset=utf-8")


def json_response(value: object, status: int = 200, *, indent: int | None = None) -> Response:
    """A JSON answer; ``indent`` as in :func:`json.dumps`, with a final newline when given."""
    import json

    compact = (",", ":") if indent is None else None
    body = json.dumps(value, indent=indent, separators=compact) + ("" if compact else "\n")
    return Response(body.encode(), status, "application/json")


def unquote(value: str) -> str:
    """Percent-decoding as UTF-8, undecodable bytes replaced."""
    # urllib.parse costs several milliseconds at import, and most paths have nothing to decode.
    from urllib.parse import unquote as decode

    return decode(value)


def query_values(query: str) -> dict[str, list[str]]:
    """Form-encoded pairs (a query or a posted form) as lists by name, blank values kept.

    Raises BadRequest with 400 when there are more than 1000.
    """
    if not query:
        return {}
    from urllib.parse import parse_qs

    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise BadRequest(400, "too many form fields") from error


def cookies(request: Request) -> dict[str, str]:
    """The cookies of a request by name (RFC 6265 section 4.2)."""
    found: dict[str, str] = {}
    for part in request.headers.get("cookie", "").split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            found.setdefault(name, value.strip('"'))
    return found


def parse_head(head: bytes) -> tuple[Request, int]:
    """The request and the length of its body in bytes, or CHUNKED.

    ``head`` is everything before the empty line, without it. Raises BadRequest.
    """
    decoded = head.decode("latin-1")
    lines = decoded.split("\r\n")
    ends = len(lines) - 1
    if decoded.count("\r") != ends or decoded.count("\n") != ends or "\0" in decoded:
        raise BadRequest(400, "line ends must be CRLF")
    words = lines[0].split(" ")
    if len(words) != 3:
        raise BadRequest(400, "malformed request line")
    method, target, version = words
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(505 if version.startswith("HTTP/") else 400, "HTTP/1.1 is spoken here")
    if _NAMES.get(method) is None:
        _register(method)
    if not target or not target.isascii() or not target.isprintable():
        raise BadRequest(400, "malformed request target")
    headers: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    for index in range(1, len(lines)):
        name, separator, value = lines[index].partition(":")
        if not separator:
            raise BadRequest(400, "malformed header line")
        key = _NAMES.get(name) or _register(name)
        value = value.strip(" \t")
        pairs.append((key, value))
        if key in headers:
            headers[key] += ("; " if key == "cookie" else ", ") + value
        else:
            headers[key] = value
    if version == "HTTP/1.1" and "host" not in headers:
        raise BadRequest(400, "the Host header is missing")
    request = Request(method, _origin_form(target), version, headers, pairs)
    request.close = _wants_close(version, headers.get("connection"))
    return request, _body_length(version, headers)


def _register(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise BadRequest(400, "malformed method or header name")
    key = name.lower()
    if len(_NAMES) < _MAX_NAMES:
        _NAMES[name] = key
    return key


def _origin_form(target: str) -> str:
    if target[0] == "/" or target == "*":
        return target
    scheme, separator, rest = target.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        slash = rest.find("/")
        return rest[slash:] if slash >= 0 else "/"
    raise BadRequest(400, "malformed request target")


def _wants_close(version: str, connection: str | None) -> bool:
    if connection is None:
        return version == "HTTP/1.0"
    options = {option.strip() for option in connection.lower().split(",")}
    return "close" in options or (version == "HTTP/1.0" and "keep-alive" not in options)


def _body_length(version: str, headers: dict[str, str]) -> int:
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if length is not None or version == "HTTP/1.0":
            raise BadRequest(400, "Transfer-Encoding with Content-Length or HTTP/1.0")
        if coding.lower() != "chunked":
            raise BadRequest(501, "the only known transfer coding is chunked")
        return CHUNKED
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "malformed Content-Length")
    # Digits are counted before int() is asked: thousands of them would cost more than the answer.
    if len(length) > 18 or int(length) > MAX_BODY:
        raise BadRequest(413, f"a body may have {MAX_BODY} bytes at most")
    return int(length)


class ChunkedBody:
    """Decodes one chunked body (RFC 9112 section 7.1) from a growing buffer; drops trailers."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._left = 0
        self._state = self._size

    def feed(self, buffer: bytearray) -> bool:
        """Takes what it can from the front of ``buffer``; True when the body is complete.

        Raises BadRequest for broken framing or a body that is too large.
        """
        while True:
            progress = self._state(buffer)
            if progress is not None:
                return progress

    def _line(self, buffer: bytearray, limit: int) -> bytes | None:
        end = buffer.find(b"\r\n", 0, limit)
        if end < 0:
            if len(buffer) >= limit:
                raise BadRequest(400, "a chunk size or trailer line is too long")
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _size(self, buffer: bytearray) -> bool | None:
        line = self._line(buffer, 1024)
        if line is None:
            return False
        if not _CHUNK_SIZE.fullmatch(line):
            raise BadRequest(400, "malformed chunk size")
        self._left = int(line.partition(b";")[0], 16)
        if len(self.body) + self._left > MAX_BODY:
            raise BadRequest(413, f"a body may have {MAX_BODY} bytes at most")
        self._state = self._data if self._left else self._trailer
        return None

    def _data(self, buffer: bytearray) -> bool | None:
        taken = buffer[: self._left]
        self.body += taken
        self._left -= len(taken)
        del buffer[: len(taken)]
        if self._left or len(buffer) < 2:
            return False
        if buffer[:2] != b"\r\n":
            raise BadRequest(400, "a chunk is longer than its size")
        del buffer[:2]
        self._state = self._size
        return None

    def _trailer(self, buffer: bytearray) -> bool | None:
        line = self._line(buffer, MAX_HEAD)
        if line is None:
            return False
        return None if line else True
