"""The paths of :mod:`lateen.workloads.httpbin`, one small function each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from lateen.workloads.http import (
    BadRequest,
    Handler,
    Request,
    Response,
    cookies,
    html,
    json_response,
    query_values,
    text,
)

MAX_BYTES: Final = 100 * 1024
"""Most bytes /bytes, /stream-bytes and /drip send."""
MAX_LINES: Final = 100
"""Most lines /stream sends."""
MAX_DELAY: Final = 10.0
"""Most seconds /delay and /drip wait."""

Answer = Response | Awaitable[Response]
_Path = Callable[[Request, Sequence[str]], Answer]


class _Paths:
    """Answers by the first segment of the path; ``lists`` is go-httpbin's shape of values."""

    def __init__(self, *, lists: bool) -> None:
        self.lists = lists
        self.by_name: dict[str, _Path] = {
            "": lambda request, rest: html(_INDEX),
            "absolute-redirect": self.redirect,
            "anything": self.anything,
            "base64": decode_base64,
            "basic-auth": basic_auth,
            "bearer": bearer,
            "bytes": random_bytes,
            "cookies": cookies_of,
            "delay": self.delay,
            "deny": lambda request, rest: text("You are not welcome here.\n"),
            "drip": drip,
            "encoding": lambda request, rest: html("<p>Grüße, 世界, ⛵</p>\n"),
            "gzip": self.gzip,
            "deflate": self.deflate,
            "headers": lambda request, rest: json_response(
                {"headers": self.headers(request)}, indent=2
            ),
            "hidden-basic-auth": hidden_basic_auth,
            "hostname": hostname,
            "html": lambda request, rest: html(_STORY),
            "ip": lambda request, rest: json_response({"origin": origin(request)}, indent=2),
            "json": lambda request, rest: json_response(_SLIDES, indent=2),
            "redirect": self.redirect,
            "redirect-to": redirect_to,
            "relative-redirect": self.redirect,
            "response-headers": self.response_headers,
            "robots.txt": lambda request, rest: text("User-agent: *\nDisallow: /deny\n"),
            "status": status_code,
            "stream": self.stream,
            "stream-bytes": random_bytes,
            "unstable": unstable,
            "user-agent": lambda request, rest: json_response(
                {"user-agent": request.headers.get("user-agent", "")}, indent=2
            ),
            "uuid": random_uuid,
            "xml": lambda request, rest: Response(_XML, 200, "application/xml"),
        }
        for method in ("get", "head", "post", "put", "patch", "delete"):
            self.by_name[method] = self.only(method.upper())

    def handle(self, request: Request) -> Answer:
        """The request handler."""
        name, *rest = request.path[1:].split("/")
        found = self.by_name.get(name)
        if found is None:
            return json_response(
                {"status_code": 404, "error": "Not Found", "detail": f"no path /{name}"}, 404
            )
        return found(request, rest)

    # --- what was asked ---------------------------------------------------------------------

    def headers(self, request: Request) -> dict[str, object]:
        """The request's headers with their usual capitals."""
        values: dict[str, list[str]] = {}
        for name, value in request.pairs:
            values.setdefault(name.title(), []).append(value)
        return self.shape(values)

    def shape(self, values: dict[str, list[str]]) -> dict[str, object]:
        """Lists in the go style; a string in the older one unless there are several values."""
        if self.lists:
            return dict(values)
        return {name: each if len(each) > 1 else each[0] for name, each in values.items()}

    def seen(self, request: Request) -> dict[str, object]:
        """What every request has."""
        return {
            "args": self.shape(query_values(request.query)),
            "headers": self.headers(request),
            "origin": origin(request),
            "url": url(request),
        }

    def seen_with_body(self, request: Request) -> dict[str, object]:
        """What a request with a body has."""
        import json

        kind = request.headers.get("content-type", "")
        data = request.body.decode("utf-8", "replace")
        form: dict[str, object] = {}
        value: object = None
        if kind.startswith("application/x-www-form-urlencoded"):
            form = self.shape(query_values(data))
            data = "" if not self.lists else data
        elif data:
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                value = None
        return self.seen(request) | {"data": data, "files": {}, "form": form, "json": value}

    def only(self, method: str) -> _Path:
        """/get, /post and so on: answers that method alone."""
        allowed = (method, "HEAD") if method == "GET" else (method,)
        bodiless = method in ("GET", "HEAD")

        def answer(request: Request, rest: Sequence[str]) -> Response:
            if request.method not in allowed:
                refusal = {"status_code": 405, "error": "Method Not Allowed"}
                response = json_response(refusal, 405)
                response.headers = (("Allow", ", ".join(allowed)),)
                return response
            seen = self.seen(request) if bodiless else self.seen_with_body(request)
            if self.lists:
                seen["method"] = request.method
            return json_response(seen, indent=2)

        return answer

    def anything(self, request: Request, rest: Sequence[str]) -> Response:
        """Any method, any path below."""
        return json_response(self.seen_with_body(request) | {"method": request.method}, indent=2)

    def response_headers(self, request: Request, rest: Sequence[str]) -> Response:
        """The query's pairs as response headers and as JSON."""
        values = query_values(request.query)
        for name, each in values.items():
            _check_header(name, "")
            for value in each:
                _check_header(name, value)
        response = json_response(self.shape(values), indent=2)
        response.headers = [(name, value) for name, each in values.items() for value in each]
        return response

    # --- time, streams, encodings -----------------------------------------------------------

    def delay(self, request: Request, rest: Sequence[str]) -> Awaitable[Response]:
        """/delay/SECONDS, at most MAX_DELAY; a Go duration such as 250ms is known too."""
        wait = _seconds(rest[0] if rest else "0")
        seen = self.seen_with_body(request)

        async def later() -> Response:
            await asyncio.sleep(wait)
            return json_response(seen, indent=2)

        return later()

    def stream(self, request: Request, rest: Sequence[str]) -> Response:
        """/stream/N: N lines of JSON, chunked."""
        import json

        seen = self.seen(request)
        count = min(_number(rest, 0, "the number of lines"), MAX_LINES)

        async def lines() -> AsyncIterator[bytes]:
            for index in range(count):
                yield json.dumps({"id": index} | seen).encode() + b"\n"

        return Response(content_type="application/json", stream=lines())

    def gzip(self, request: Request, rest: Sequence[str]) -> Response:
        """JSON, compressed with gzip."""
        import gzip

        answer = json_response(self.seen(request) | {"gzipped": True}, indent=2)
        answer.body = gzip.compress(answer.body, mtime=0)
        answer.headers = (("Content-Encoding", "gzip"),)
        return answer

    def deflate(self, request: Request, rest: Sequence[str]) -> Response:
        """JSON, compressed with zlib."""
        import zlib

        answer = json_response(self.seen(request) | {"deflated": True}, indent=2)
        answer.body = zlib.compress(answer.body)
        answer.headers = (("Content-Encoding", "deflate"),)
        return answer

    def redirect(self, request: Request, rest: Sequence[str]) -> Response:
        """/redirect/N, /relative-redirect/N, /absolute-redirect/N: N redirects, then /get."""
        count = _number(rest, 0, "the number of redirects")
        if not 1 <= count <= 100:
            raise BadRequest(400, "the number of redirects must be 1 to 100")
        name = request.path.split("/")[1]
        name = "relative-redirect" if name == "redirect" else name
        target = f"/{name}/{count - 1}" if count > 1 else "/get"
        if name == "absolute-redirect":
            target = _base(request) + target
        return Response(status=302, headers=(("Location", target),))


# --- one path each ------------------------------------------------------------------------------


def status_code(request: Request, rest: Sequence[str]) -> Answer:
    """/status/CODE, or one at random of CODE,CODE or CODE:WEIGHT,CODE:WEIGHT."""
    import random

    codes: list[int] = []
    weights: list[float] = []
    for each in (rest[0] if rest else "").split(","):
        word, separator, weight = each.partition(":")
        try:
            codes.append(int(word))
            weights.append(float(weight) if separator else 1.0)
        except ValueError as error:
            raise BadRequest(400, f"not a status code: {each}") from error
        if not 200 <= codes[-1] <= 599 or not 0 <= weights[-1] < 1e9:
            raise BadRequest(400, f"not a status code from 200 to 599: {each}")
    code = random.choices(codes, weights)[0] if sum(weights) else codes[0]
    headers: dict[int, tuple[str, str]] = {
        401: ("WWW-Authenticate", 'Basic realm="Fake Realm"'),
        407: ("Proxy-Authenticate", 'Basic realm="Fake Realm"'),
    }
    for redirected in (301, 302, 303, 307, 308):
        headers[redirected] = ("Location", "/redirect/1")
    body = b"I am a teapot.\n" if code == 418 else b""
    return Response(body, code, headers=(headers[code],) if code in headers else ())


def random_bytes(request: Request, rest: Sequence[str]) -> Response:
    """/bytes/N whole, /stream-bytes/N in chunks; ``seed`` makes them repeatable."""
    import random

    size = min(_number(rest, 0, "the number of bytes"), MAX_BYTES)
    seed = query_values(request.query).get("seed", [None])[0]
    data = random.Random(seed).randbytes(size)
    kind = "application/octet-stream"
    if request.path.startswith("/bytes"):
        return Response(data, 200, kind)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 10 * 1024):
            yield data[start : start + 10 * 1024]

    return Response(content_type=kind, stream=chunks())


def drip(request: Request, rest: Sequence[str]) -> Response:
    """/drip?numbytes=N&duration=S&delay=S&code=C: bytes spread over a time."""
    values = query_values(request.query)
    size = min(_number(values.get("numbytes", ["10"]), 0, "numbytes"), MAX_BYTES)
    duration = _seconds(values.get("duration", ["2"])[0])
    delay = _seconds(values.get("delay", ["0"])[0])
    status = _number(values.get("code", ["200"]), 0, "code")
    if not 200 <= status <= 599:
        raise BadRequest(400, "code must be 200 to 599")

    async def drops() -> AsyncIterator[bytes]:
        await asyncio.sleep(delay)
        for _ in range(size):
            yield b"*"
            await asyncio.sleep(duration / size)

    return Response(status=status, content_type="application/octet-stream", stream=drops())


def cookies_of(request: Request, rest: Sequence[str]) -> Response:
    """/cookies shows them; /cookies/set?NAME=VALUE and /cookies/delete?NAME change them."""
    if rest[:1] == ["set"]:
        pairs = [(name, each[0]) for name, each in query_values(request.query).items()]
        if len(rest) == 3:
            pairs.append((rest[1], rest[2]))
        suffix = "; Path=/"
    elif rest[:1] == ["delete"]:
        pairs = [(name, "") for name in query_values(request.query)]
        suffix = "; Path=/; Max-Age=0"
    else:
        return json_response({"cookies": cookies(request)}, indent=2)
    for name, value in pairs:
        _check_header(name, value)
    headers = [("Set-Cookie", f"{name}={value}{suffix}") for name, value in pairs]
    return Response(status=302, headers=[("Location", "/cookies"), *headers])


def basic_auth(request: Request, rest: Sequence[str]) -> Response:
    """/basic-auth/USER/PASSWORD: 200 for those credentials, otherwise 401."""
    user, allowed = _credentials(request, rest)
    response = json_response({"authenticated": allowed, "authorized": allowed, "user": user})
    if not allowed:
        response.status = 401
        response.headers = (("WWW-Authenticate", 'Basic realm="Fake Realm"'),)
    return response


def hidden_basic_auth(request: Request, rest: Sequence[str]) -> Response:
    """As basic_auth, with 404 for wrong credentials."""
    user, allowed = _credentials(request, rest)
    if not allowed:
        return text("not found\n", 404)
    return json_response({"authenticated": True, "authorized": True, "user": user})


def _credentials(request: Request, rest: Sequence[str]) -> tuple[str, bool]:
    import base64
    import hmac

    if len(rest) != 2:
        raise BadRequest(404, "ask for USER/PASSWORD")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    wanted = f"{rest[0]}:{rest[1]}".encode()
    try:
        pair = base64.b64decode(given, validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        pair = b""
    return pair.partition(b":")[0].decode("utf-8", "replace"), hmac.compare_digest(pair, wanted)


def bearer(request: Request, rest: Sequence[str]) -> Response:
    """200 with any bearer token, otherwise 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return Response(status=401, headers=(("WWW-Authenticate", "Bearer"),))
    return json_response({"authenticated": True, "token": token}, indent=2)


def decode_base64(request: Request, rest: Sequence[str]) -> Response:
    """/base64/VALUE or /base64/decode/VALUE decoded, /base64/encode/VALUE encoded."""
    import base64

    action, value = (rest[0], rest[1]) if len(rest) == 2 else ("decode", "".join(rest[:1]))
    if action == "encode":
        return text(base64.urlsafe_b64encode(value.encode()).decode())
    try:
        padded = value + "=" * (-len(value) % 4)
        return Response(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError as error:
        raise BadRequest(400, "not base64") from error


def hostname(request: Request, rest: Sequence[str]) -> Response:
    """The pod's host name."""
    from lateen.workloads.settings import pod_name

    return json_response({"hostname": pod_name()}, indent=2)


def random_uuid(request: Request, rest: Sequence[str]) -> Response:
    """A random UUID."""
    import uuid

    return json_response({"uuid": str(uuid.uuid4())}, indent=2)


def redirect_to(request: Request, rest: Sequence[str]) -> Response:
    """/redirect-to?url=URL&status_code=CODE."""
    values = query_values(request.query)
    target = values.get("url", [""])[0]
    status = _number(values.get("status_code", ["302"]), 0, "status_code")
    if not target or not 300 <= status <= 399:
        raise BadRequest(400, "url is missing, or status_code is not 300 to 399")
    _check_header("Location", target)
    return Response(status=status, headers=(("Location", target),))


def unstable(request: Request, rest: Sequence[str]) -> Response:
    """Fails with 500 at ``failure_rate``, 0.5 unless given."""
    import random

    try:
        rate = float(query_values(request.query).get("failure_rate", ["0.5"])[0])
    except ValueError as error:
        raise BadRequest(400, "failure_rate must be a number from 0 to 1") from error
    return Response(status=500 if random.random() < rate else 200)


# --- helpers ------------------------------------------------------------------------------------


def origin(request: Request) -> str:
    """The client: the first address of X-Forwarded-For, else the peer."""
    forwarded = request.headers.get("x-forwarded-for", "")
    return forwarded.partition(",")[0].strip() or request.peer


def url(request: Request) -> str:
    """The URL the client asked for, as far as the proxies before this server tell."""
    return _base(request) + request.target


def _base(request: Request) -> str:
    scheme = request.headers.get("x-forwarded-proto", "http")
    return f"{scheme}://{request.headers.get('host', 'localhost')}"


def _check_header(name: str, value: str) -> None:
    """Refuse what would break the response head (RFC 9110 section 5.5), and its framing."""
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    framing = name.lower() in ("content-length", "transfer-encoding", "connection")
    if not plain or framing or not (value.isprintable() and value.isascii()):
        raise BadRequest(400, "this header name or value cannot be sent")


def _number(words: Sequence[str], index: int, what: str) -> int:
    word = words[index] if index < len(words) else ""
    if not (word.isascii() and word.isdigit() and len(word) < 10):
        raise BadRequest(400, f"{what} must be a number")
    return int(word)


def _seconds(word: str) -> float:
    number, scale = word, 1.0
    for suffix, each in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        if word.endswith(suffix):
            number, scale = word.removesuffix(suffix), each
            break
    try:
        seconds = float(number) * scale
    except ValueError as error:
        raise BadRequest(400, f"not a time: {word}") from error
    if not 0 <= seconds < 1e9:
        raise BadRequest(400, f"not a time: {word}")
    return min(seconds, MAX_DELAY)


_SLIDES: Final = {
    "slideshow": {
        "author": "Yours Truly",
        "date": "date of publication",
        "slides": [
            {"title": "Hoist the sail", "type": "all"},
            {"items": ["Know where the wind is", "Keep a lookout"], "title": "Overview"},
        ],
        "title": "Sample Slide Show",
    }
}
_XML: Final = (
    b'<?xml version="1.0" encoding="utf-8"?>\n'
    b'<slideshow title="Sample Slide Show"><slide><title>Hoist the sail</title></slide>'
    b"</slideshow>\n"
)
_STORY: Final = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>A page</title></head>\n'
    "<body><h1>Before the wind</h1>\n<p>The lateen sail let a ship sail where it wanted, not only "
    "where the wind went.</p></body></html>\n"
)
_INDEX: Final = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>httpbin</title></head>\n'
    "<body><h1>httpbin</h1>\n<p>Try <a href='/headers'>/headers</a>, <a href='/get'>/get</a>, "
    "/post, /put, /patch, /delete, <a href='/anything'>/anything</a>, <a href='/ip'>/ip</a>, "
    "/status/CODE, /delay/SECONDS, /bytes/N, /stream/N, /drip, /redirect/N, /cookies, "
    "/basic-auth/USER/PASSWORD, /base64/VALUE, <a href='/uuid'>/uuid</a>.</p></body></html>\n"
)


def service(*, lists: bool) -> Handler:
    """The request handler; ``lists`` is go-httpbin's shape of header and argument values."""
    return _Paths(lists=lists).handle
