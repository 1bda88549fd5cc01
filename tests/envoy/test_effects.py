"""What single fields of routes and clusters make Envoy do, each with nothing else that could do it.

One Envoy with a virtual host for each case, and an application that tells what it got. Each field
is taken out in turn by ``.ci/mutations.py``, which sees that its test fails then.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from lateen.ir.cluster import (
    Cluster,
    ClusterType,
    ConnectionPool,
    Endpoint,
    LoadAssignment,
    LoadBalancer,
    LocalityEndpoints,
    OutlierDetection,
    UpstreamProtocol,
)
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.ir.route import (
    Cors,
    DirectResponse,
    Fault,
    Forward,
    HashPolicy,
    HeaderMatch,
    HeaderOperations,
    HeaderValue,
    MatchKind,
    Mirror,
    PathKind,
    PathMatch,
    QueryMatch,
    Redirect,
    RetryPolicy,
    Route,
    RouteConfiguration,
    RouteMatch,
    StringMatch,
    VirtualHost,
    WeightedCluster,
)
from lateen.pki.authority import load_or_create
from tests.envoy import pair
from tests.ports import free_port

pytestmark = pytest.mark.envoy
_NO_RETRY = None
_ORIGIN = StringMatch(MatchKind.EXACT, "https://page.example")


class _Application(http.server.ThreadingHTTPServer):
    """Answers with what it got; ``/status/N`` fails, ``/slow`` takes 1.5 s."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__((pair.LOCALHOST, 0), _Handler)
        self.name = name
        self.paths: list[str] = []
        self.connections = 0
        self.open = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    server: _Application

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1
        self.server.open += 1

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.server.open -= 1

    def do_GET(self) -> None:
        self.server.paths.append(f"{self.headers['host']}{self.path}")
        if "/slow" in self.path:
            time.sleep(1.5)
        status = int(self.path.rpartition("/")[2]) if "/status/" in self.path else 200
        got = {name.lower(): ",".join(self.headers.get_all(name, [])) for name in self.headers}
        body = json.dumps({"path": self.path, "by": self.server.name, "headers": got}).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-old", "1")
            self.send_header("x-gone", "1")
            self.end_headers()
            self.wfile.write(body)

    do_OPTIONS = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: str
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


class Proxy:
    """An Envoy in front of the applications ``one`` and ``two``."""

    def __init__(self, port: int, one: _Application, two: _Application) -> None:
        self.port, self.one, self.two = port, one, two

    def get(self, host: str, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        began = time.monotonic()
        connection = http.client.HTTPConnection(pair.LOCALHOST, self.port, timeout=10)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, headers={"host": host, **given})
            answer = connection.getresponse()
            body = answer.read().decode()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, body, time.monotonic() - began)

    def at_once(self, host: str, path: str, count: int) -> Counter[int]:
        """Statuses of requests at once, but for the first, which has its connection already."""
        with ThreadPoolExecutor(count) as pool:
            first = pool.submit(self.get, host, path)
            time.sleep(0.3)
            others = pool.map(lambda _: self.get(host, path).status, range(count - 1))
            return Counter((first.result().status, *others))

    def arrived(self, host: str) -> int:
        return sum(path.startswith(host) for app in (self.one, self.two) for path in app.paths)


def _to(*clusters: str, **options: Any) -> Forward:
    options.setdefault("retry", _NO_RETRY)
    return Forward(tuple(WeightedCluster(name) for name in clusters or ("one",)), **options)


def _route(action: Any = None, match: RouteMatch | None = None, **options: Any) -> Route:
    return Route("r", match or RouteMatch(), action or _to(), **options)


def _host(name: str, *routes: Route) -> VirtualHost:
    return VirtualHost(name, (name,), routes)


def _matching(name: str, match: RouteMatch) -> VirtualHost:
    return _host(name, _route(DirectResponse(201), match), _route(DirectResponse(404)))


def _path(kind: PathKind, value: str, **options: Any) -> RouteMatch:
    return RouteMatch(path=PathMatch(kind, value, **options))


def _header(kind: MatchKind, value: str = "", **options: Any) -> RouteMatch:
    return RouteMatch(headers=(HeaderMatch("x-a", StringMatch(kind, value), **options),))


_RETRY = RetryPolicy(attempts=2, retry_on="5xx", base_interval=0.01)
_CHANGED = HeaderOperations(
    (HeaderValue("x-set", "new"),),
    (HeaderValue("x-add", "more"),),
    ("x-gone",),
    (HeaderValue("x-old", "2"),),
    (HeaderValue("x-more", "3"),),
    ("x-gone",),
)
_HOSTS = (
    _host("timeout", _route(_to(timeout=0.3))),
    _host("retries", _route(_to(retry=_RETRY))),
    _host("codes", _route(_to(retry=RetryPolicy(1, "retriable-status-codes", (404,))))),
    _host("per-try", _route(_to(retry=RetryPolicy(0, "5xx", per_try_timeout=0.3)))),
    _host("delay", _route(fault=Fault(delay=0.4, delay_percent=100.0))),
    _host("abort", _route(fault=Fault(abort_http=418, abort_percent=100.0))),
    _host("half", _route(fault=Fault(abort_http=418, abort_percent=50.0))),
    _host(
        "weights",
        _route(Forward((WeightedCluster("one", 90), WeightedCluster("two", 10)), retry=None)),
    ),
    _host("mirror", _route(_to(mirrors=(Mirror("two"),)))),
    _host("some-mirrored", _route(_to(mirrors=(Mirror("two", 50.0),)))),
    _host("prefix", _route(_to(prefix_rewrite="/new"), _path(PathKind.PREFIX, "/old"))),
    _host("regex", _route(_to(regex_rewrite=("^/a/(.*)$", r"/b/\1")))),
    _host("authority", _route(_to(host_rewrite="other.example"))),
    _host("redirect", _route(Redirect(307, "there.example", 8443, "https", "/moved"))),
    _host("direct", _route(DirectResponse(299, b"said"))),
    _host("headers", _route(headers=_CHANGED)),
    _host(
        "cors",
        _route(cors=Cors((_ORIGIN,), ("PUT",), ("x-in",), ("x-out",), 77, allow_credentials=True)),
    ),
    _matching("exact", _path(PathKind.EXACT, "/a")),
    _matching("prefix-match", _path(PathKind.PREFIX, "/a")),
    _matching("regex-match", _path(PathKind.REGEX, "/a.c")),
    _matching("segment", _path(PathKind.SEGMENT_PREFIX, "/a")),
    _matching("any-case", _path(PathKind.EXACT, "/Ab", ignore_case=True)),
    _matching("header", _header(MatchKind.EXACT, "v")),
    _matching("header-prefix", _header(MatchKind.PREFIX, "v")),
    _matching("header-regex", _header(MatchKind.REGEX, "v.")),
    _matching("present", _header(MatchKind.PRESENT)),
    _matching("without", _header(MatchKind.EXACT, "v", invert=True)),
    _matching(
        "method", RouteMatch(headers=(HeaderMatch(":method", StringMatch(MatchKind.EXACT, "PUT")),))
    ),
    _matching("query", RouteMatch(query=(QueryMatch("q", StringMatch(MatchKind.EXACT, "1")),))),
    *(
        _host(name, _route(_to(name)))
        for name in ("connections", "pending", "requests", "per-connection", "idle", "oldest")
    ),
    _host("outliers", _route(_to("outliers"))),
    _host("hash", _route(_to("hash", hash_policies=(HashPolicy(header="x-user"),)))),
    _host("unreachable", _route(_to("unreachable"))),
    _host("max-retries", _route(_to("max-retries", retry=_RETRY))),
)


def _clusters(one: int, two: int, deaf: int) -> Iterator[Cluster]:
    def made(name: str, *ports: int, **options: Any) -> Cluster:
        ends = tuple(Endpoint(pair.LOCALHOST, port) for port in ports or (one,))
        return Cluster(
            name,
            ClusterType.STATIC,
            protocol=UpstreamProtocol.HTTP1,
            load_assignment=LoadAssignment(name, (LocalityEndpoints(ends),)),
            **options,
        )

    yield made("one")
    yield made("two", two)
    yield made("connections", pool=ConnectionPool(max_connections=1, max_pending_requests=1))
    yield made("pending", pool=ConnectionPool(max_connections=1, max_pending_requests=2))
    yield made("requests", pool=ConnectionPool(max_requests=1))
    yield made("max-retries", pool=ConnectionPool(max_retries=0))
    yield made("per-connection", pool=ConnectionPool(max_requests_per_connection=1))
    yield made("idle", two, pool=ConnectionPool(idle_timeout=0.3))
    yield made("oldest", two, pool=ConnectionPool(max_connection_duration=0.3))
    ejecting = OutlierDetection(
        consecutive_5xx=2, interval=0.2, base_ejection_time=60.0, max_ejection_percent=100
    )
    yield made("outliers", outlier_detection=ejecting, panic_threshold=0.0)
    yield made("hash", one, two, load_balancer=LoadBalancer.RING_HASH)
    yield made("unreachable", deaf, connect_timeout=0.3)


@contextlib.contextmanager
def _deaf() -> Iterator[int]:
    """A port where connections are not refused and not made: its queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((pair.LOCALHOST, 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("effects")
    port = free_port()
    with _deaf() as deaf, _Application("one") as one, _Application("two") as two:
        for app in (one, two):
            threading.Thread(target=app.serve_forever, args=(0.05,), daemon=True).start()
        configuration = ProxyConfiguration(
            clusters=tuple(_clusters(one.server_port, two.server_port, deaf)),
            listeners=(pair.http_listener(port),),
            routes=(RouteConfiguration(str(port), _HOSTS),),
        )
        authority = load_or_create(folder / "ca")
        with pair.sidecar(folder / "proxy", authority, pair.CLIENT, configuration):
            yield Proxy(port, one, two)
        one.shutdown()
        two.shutdown()


def test_timeout(proxy: Proxy) -> None:
    answer = proxy.get("timeout", "/slow")
    assert (answer.status, answer.seconds < 1.2) == (504, True)


def test_retries(proxy: Proxy) -> None:
    assert proxy.get("retries", "/status/503").status == 503
    assert proxy.arrived("retries") == 3
    assert proxy.get("codes", "/status/404").status == 404
    assert proxy.arrived("codes") == 2


def test_per_try_timeout(proxy: Proxy) -> None:
    answer = proxy.get("per-try", "/slow")
    assert (answer.status, answer.seconds < 1.2) == (504, True)


def test_fault_delay(proxy: Proxy) -> None:
    assert proxy.get("delay").seconds > 0.39


def test_fault_abort(proxy: Proxy) -> None:
    assert proxy.get("abort").status == 418
    statuses = Counter(proxy.get("half").status for _ in range(100))
    assert 20 < statuses[418] < 80


def test_weights(proxy: Proxy) -> None:
    answered = Counter(proxy.get("weights").json()["by"] for _ in range(200))
    assert 150 < answered["one"] < 198


def test_mirror(proxy: Proxy) -> None:
    for _ in range(100):
        assert proxy.get("some-mirrored").json()["by"] == "one"
    assert proxy.get("mirror", "/copied").json()["by"] == "one"
    deadline = time.monotonic() + 5
    while "mirror/copied" not in proxy.two.paths:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    copies = sum(path.startswith("some-mirrored") for path in proxy.two.paths)
    assert 20 < copies < 80


def test_rewrites(proxy: Proxy) -> None:
    assert proxy.get("prefix", "/old/x").json()["path"] == "/new/x"
    assert proxy.get("regex", "/a/x").json()["path"] == "/b/x"
    assert proxy.get("authority").json()["headers"]["host"] == "other.example"


def test_redirect(proxy: Proxy) -> None:
    answer = proxy.get("redirect", "/x")
    assert answer.status == 307
    assert answer.headers["location"] == "https://there.example:8443/moved"


def test_direct_response(proxy: Proxy) -> None:
    answer = proxy.get("direct")
    assert (answer.status, answer.body) == (299, "said")


def test_request_headers(proxy: Proxy) -> None:
    got = proxy.get("headers", x_set="old", x_add="some", x_gone="1").json()["headers"]
    assert got["x-set"] == "new"
    assert got["x-add"] == "some,more"
    assert "x-gone" not in got


def test_response_headers(proxy: Proxy) -> None:
    got = proxy.get("headers").headers
    assert (got["x-old"], got["x-more"]) == ("2", "3")
    assert "x-gone" not in got


def test_cors(proxy: Proxy) -> None:
    asked = {"origin": "https://page.example", "access_control_request_method": "PUT"}
    allowed = proxy.get("cors", "/", "OPTIONS", **asked).headers
    assert allowed["access-control-allow-origin"] == "https://page.example"
    assert allowed["access-control-allow-methods"] == "PUT"
    assert allowed["access-control-allow-headers"] == "x-in"
    assert allowed["access-control-max-age"] == "77"
    assert allowed["access-control-allow-credentials"] == "true"
    simple = proxy.get("cors", origin="https://page.example").headers
    assert simple["access-control-expose-headers"] == "x-out"
    other = proxy.get("cors", origin="https://other.example").headers
    assert "access-control-allow-origin" not in other


@pytest.mark.parametrize(
    ("host", "yes", "no"),
    [
        ("exact", "/a", "/ab"),
        ("prefix-match", "/ab", "/b"),
        ("regex-match", "/abc", "/abbc"),
        ("segment", "/a/b", "/ab"),
        ("any-case", "/aB", "/b"),
        ("query", "/?q=1", "/?q=2"),
    ],
)
def test_match_of_the_path(proxy: Proxy, host: str, yes: str, no: str) -> None:
    assert (proxy.get(host, yes).status, proxy.get(host, no).status) == (201, 404)


@pytest.mark.parametrize(
    ("host", "yes", "no"),
    [
        ("header", "v", "w"),
        ("header-prefix", "va", "w"),
        ("header-regex", "va", "v"),
        ("present", "w", None),
        ("without", "w", "v"),
    ],
)
def test_match_of_a_header(proxy: Proxy, host: str, yes: str, no: str | None) -> None:
    without = proxy.get(host) if no is None else proxy.get(host, x_a=no)
    assert (proxy.get(host, x_a=yes).status, without.status) == (201, 404)


def test_match_of_the_method(proxy: Proxy) -> None:
    assert proxy.get("method", method="PUT").status == 201
    assert proxy.get("method").status == 404


def test_connections_and_pending_requests_are_limited(proxy: Proxy) -> None:
    # One is under way and one waits; without a limit of connections none would wait.
    assert proxy.at_once("connections", "/slow", 5) == {200: 2, 503: 3}
    assert proxy.at_once("pending", "/slow", 4) == {200: 3, 503: 1}


def test_requests_are_limited(proxy: Proxy) -> None:
    assert proxy.at_once("requests", "/slow", 3) == {200: 1, 503: 2}


def test_retries_at_once_are_limited(proxy: Proxy) -> None:
    assert proxy.get("max-retries", "/status/503").status == 503
    assert proxy.arrived("max-retries") == 1


def test_requests_of_a_connection_are_limited(proxy: Proxy) -> None:
    before = proxy.one.connections
    for _ in range(3):
        proxy.get("per-connection")
    assert proxy.one.connections == before + 3


@pytest.mark.parametrize("host", ["idle", "oldest"])
def test_connections_end(proxy: Proxy, host: str) -> None:
    """After they were idle, and after a time whatever they do."""
    before = proxy.two.connections
    proxy.get(host)
    for _ in range(4 if host == "oldest" else 0):
        time.sleep(0.1)
        proxy.get(host)
    assert host == "oldest" or proxy.two.connections == before + 1
    time.sleep(0.6 if host == "idle" else 0)
    proxy.get(host)
    assert proxy.two.connections >= before + 2


def test_outliers_are_ejected(proxy: Proxy) -> None:
    for _ in range(2):
        assert proxy.get("outliers", "/status/500").status == 500
    time.sleep(0.5)
    assert proxy.get("outliers").status == 503


def test_consistent_hash(proxy: Proxy) -> None:
    answered = {
        user: {proxy.get("hash", x_user=user).json()["by"] for _ in range(5)}
        for user in map(str, range(12))
    }
    assert all(len(names) == 1 for names in answered.values())
    assert set.union(*answered.values()) == {"one", "two"}


def test_connect_timeout(proxy: Proxy) -> None:
    answer = proxy.get("unreachable")
    assert answer.status == 503
    assert 0.25 < answer.seconds < 2.0
