"""Two sidecars with real mutual TLS: what users see in metrics, logs and headers."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from lateen.envoy.telemetry import JSON_FORMAT
from lateen.ir.cluster import UpstreamProtocol
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.ir.route import DirectResponse, Route, RouteConfiguration, RouteMatch, VirtualHost
from lateen.pki.authority import Authority, load_or_create
from lateen.pki.keys import new_key_and_request
from tests.envoy import pair
from tests.ports import free_port

pytestmark = pytest.mark.envoy

LABELS = {
    "reporter",
    *(
        f"{side}_{name}"
        for side in ("source", "destination")
        for name in (
            "workload",
            "workload_namespace",
            "app",
            "version",
            "canonical_service",
            "canonical_revision",
            "cluster",
            "principal",
        )
    ),
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
}


_T = TypeVar("_T")


class Mesh:
    """A client and a server sidecar with an HTTP and a gRPC application behind the latter."""

    def __init__(self, client: pair.Sidecar, server: pair.Sidecar, ports: dict[str, int]) -> None:
        self.client = client
        self.server = server
        self.ports = ports

    def get(self, port: str, **headers: str) -> dict[str, str]:
        """Send a request through the client's listener; the response headers."""
        request = urllib.request.Request(
            f"http://{pair.LOCALHOST}:{self.ports[port]}/x",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            body = response.read().decode()
            return {**{k.lower(): v for k, v in response.headers.items()}, "body": body}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return load_or_create(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Mesh]:
    directory = tmp_path_factory.mktemp("mesh")
    ports = {
        name: free_port()
        for name in (
            "http",
            "sniffed",
            "tcp",
            "grpc",
            "blocked",
            "other",
            "in",
            "in_grpc",
            "in_any",
        )
    }
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(pair.echo_server())
        grpc_app = stack.enter_context(_grpc_server())
        server = stack.enter_context(
            pair.sidecar(
                directory / "server", authority, pair.SERVER, _server(ports, app, grpc_app)
            )
        )
        client = stack.enter_context(
            pair.sidecar(directory / "client", authority, pair.CLIENT, _client(ports))
        )
        yield Mesh(client, server, ports)


def _server(ports: dict[str, int], app: int, grpc_app: int) -> ProxyConfiguration:
    return ProxyConfiguration(
        clusters=(
            pair.inbound_cluster("inbound|8080||", app),
            pair.inbound_cluster("inbound|9000||", grpc_app),
        ),
        listeners=(
            pair.inbound_listener(ports["in"], "inbound|8080||"),
            pair.inbound_listener(ports["in_grpc"], "inbound|9000||"),
            pair.inbound_listener(ports["in_any"], "inbound|8080||", prefixes=()),
        ),
    )


def _client(ports: dict[str, int]) -> ProxyConfiguration:
    http1 = ("istio-http/1.1", "istio", "http/1.1")
    clusters = (
        pair.outbound_cluster(ports["http"], UpstreamProtocol.HTTP1, http1),
        pair.outbound_cluster(ports["sniffed"], UpstreamProtocol.DOWNSTREAM, ()),
        pair.outbound_cluster(ports["tcp"], UpstreamProtocol.NONE, ("istio",)),
        pair.outbound_cluster(ports["other"], UpstreamProtocol.HTTP1, http1, server=pair.CLIENT),
        pair.outbound_cluster(ports["grpc"], UpstreamProtocol.HTTP2, ("istio-h2", "istio", "h2")),
    )
    return ProxyConfiguration(
        clusters=clusters,
        load_assignments=(
            *(
                pair.assignment(ports[name], ports["in"])
                for name in ("http", "sniffed", "tcp", "other")
            ),
            pair.assignment(ports["grpc"], ports["in_grpc"]),
        ),
        listeners=(
            pair.http_listener(ports["http"]),
            pair.http_listener(ports["grpc"]),
            pair.sniffed_listener(ports["sniffed"]),
            pair.tcp_listener(ports["tcp"], pair.outbound_name(ports["tcp"])),
            pair.http_listener(ports["blocked"]),
            pair.http_listener(ports["other"]),
        ),
        routes=(
            *(
                pair.route_to(str(ports[name]), pair.outbound_name(ports[name]))
                for name in ("http", "grpc", "sniffed", "other")
            ),
            _blocked(str(ports["blocked"])),
        ),
    )


def _blocked(name: str) -> RouteConfiguration:
    route = Route("block_all", RouteMatch(), DirectResponse(502))
    return RouteConfiguration(name, (VirtualHost("block_all", ("*",), (route,)),))


@contextlib.contextmanager
def _grpc_server() -> Iterator[int]:
    def twice(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield request
            yield request

    handler = grpc.method_handlers_generic_handler(
        "test.Echo", {"Twice": grpc.stream_stream_rpc_method_handler(twice)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(handler,))
    port = server.add_insecure_port(f"{pair.LOCALHOST}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait(5)


def _sample(lines: list[str], name: str, **labels: str) -> tuple[dict[str, str], float] | None:
    for line in lines:
        if line.startswith(name + "{"):
            found = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line))
            if all(found.get(key) == value for key, value in labels.items()):
                return found, float(line.rsplit(" ", 1)[1])
    return None


def _sampled(proxy: pair.Sidecar, name: str, **labels: str) -> tuple[dict[str, str], float]:
    return _eventually(lambda: _sample(proxy.metrics(), name, **labels))


def _eventually(look: Callable[[], _T | None]) -> _T:
    deadline = time.monotonic() + 15
    while (found := look()) is None:
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(0.1)
    return found


def test_both_sides_count_a_request_with_istios_labels(mesh: Mesh) -> None:
    mesh.get("http", host=pair.HOST)
    for proxy, reporter, policy in (
        (mesh.client, "source", "unknown"),
        (mesh.server, "destination", "mutual_tls"),
    ):
        labels, _ = _sampled(
            proxy,
            "istio_requests_total",
            reporter=reporter,
            response_code="200",
            source_workload="sleep-v1",
        )
        assert set(labels) == LABELS
        assert (
            labels
            | {
                "source_workload": "sleep-v1",
                "source_workload_namespace": "client-ns",
                "source_app": "sleep",
                "source_version": "v1",
                "source_canonical_service": "sleep",
                "source_canonical_revision": "v1",
                "source_cluster": "Kubernetes",
                "source_principal": pair.CLIENT.spiffe_id,
                "destination_workload": "reviews-v2",
                "destination_workload_namespace": "server-ns",
                "destination_app": "reviews",
                "destination_version": "v2",
                "destination_canonical_service": "reviews",
                "destination_canonical_revision": "v2",
                "destination_cluster": "Kubernetes",
                "destination_principal": pair.SERVER.spiffe_id,
                "destination_service": pair.HOST,
                "destination_service_name": "reviews",
                "destination_service_namespace": "server-ns",
                "request_protocol": "http",
                "grpc_response_status": "",
                "response_flags": "-",
                "connection_security_policy": policy,
            }
            == labels
        )


def test_durations_and_sizes_are_histograms(mesh: Mesh) -> None:
    mesh.get("http", host=pair.HOST)
    for name in (
        "istio_request_duration_milliseconds",
        "istio_request_bytes",
        "istio_response_bytes",
    ):
        _sampled(mesh.server, f"{name}_count")


def test_an_undeclared_port_speaks_mutual_tls_too(mesh: Mesh) -> None:
    seen = mesh.get("sniffed", host=pair.HOST)["body"]
    assert pair.CLIENT.spiffe_id in seen


def test_tcp_is_counted_with_the_peers_names(mesh: Mesh) -> None:
    mesh.get("tcp", host=pair.HOST, connection="close")
    for proxy in (mesh.client, mesh.server):
        for name in (
            "istio_tcp_connections_opened_total",
            "istio_tcp_connections_closed_total",
            "istio_tcp_sent_bytes_total",
            "istio_tcp_received_bytes_total",
        ):
            labels, value = _sampled(proxy, name, source_workload="sleep-v1")
            assert set(labels) == LABELS - {"response_code", "grpc_response_status"}
            assert labels["destination_workload"] == "reviews-v2"
            assert value > 0


def test_grpc_messages_are_counted(mesh: Mesh) -> None:
    with grpc.insecure_channel(f"{pair.LOCALHOST}:{mesh.ports['grpc']}") as channel:
        call = channel.stream_stream("/test.Echo/Twice")(iter([b"a", b"b", b"c"]))
        assert len(list(call)) == 6
    for proxy in (mesh.client, mesh.server):
        labels, value = _sampled(proxy, "istio_request_messages_total")
        assert labels["request_protocol"] == "grpc"
        assert labels["grpc_response_status"] == "0"
        assert value == 3
        found = _sample(proxy.metrics(), "istio_response_messages_total")
        assert found is not None
        assert found[1] == 6


def test_plain_clients_are_unknown(mesh: Mesh) -> None:
    mesh.server.get(mesh.ports["in"], "/x")
    labels, _ = _eventually(
        lambda: _sample(
            mesh.server.metrics(), "istio_requests_total", connection_security_policy="none"
        )
    )
    assert labels["source_workload"] == "unknown"
    assert labels["source_canonical_revision"] == "latest"
    assert labels["source_principal"] == "unknown"


def test_blocked_requests_go_to_the_black_hole(mesh: Mesh) -> None:
    with contextlib.suppress(urllib.error.HTTPError):
        mesh.get("blocked", host="nowhere.example.com")
    labels, _ = _sampled(mesh.client, "istio_requests_total", response_code="502")
    assert labels["destination_service_name"] == "BlackHoleCluster"
    assert labels["destination_service"] == "nowhere.example.com"
    assert labels["destination_workload"] == "unknown"


def test_the_access_log_has_istios_fields(mesh: Mesh) -> None:
    mesh.get("http", host=pair.HOST, user_agent="the-test")
    entry = _eventually(
        lambda: next(
            (e for e in mesh.client.access_log() if e.get("user_agent") == "the-test"), None
        )
    )
    assert set(entry) == set(JSON_FORMAT)
    assert len(entry) == 24
    assert entry["upstream_cluster"] == pair.outbound_name(mesh.ports["http"])
    assert entry["response_flags"] == "-"


def test_headers_are_as_behind_istio(mesh: Mesh) -> None:
    response = mesh.get("http", host=pair.HOST)
    assert response["server"] == "istio-envoy"
    assert '"x-request-id"' in response["body"]
    assert '"x-forwarded-proto": "http"' in response["body"]
    assert f"By={pair.SERVER.spiffe_id}" in response["body"]
    plain = urllib.request.urlopen(f"http://{pair.LOCALHOST}:{mesh.ports['in']}/x", timeout=5)
    with plain as answer:
        assert answer.headers["x-envoy-decorator-operation"] == f"{pair.HOST}:80/*"


def test_only_readiness_and_metrics_are_served(mesh: Mesh) -> None:
    config = mesh.client.config
    assert mesh.client.get(config.status_port, "/healthz/ready")[0] == 200
    assert mesh.client.get(config.status_port, "/quitquitquit")[0] == 404
    assert mesh.client.get(config.prometheus_port, "/config_dump")[0] == 404


def test_certificates_rotate_under_open_connections(mesh: Mesh, authority: Authority) -> None:
    connection = http.client.HTTPConnection(pair.LOCALHOST, mesh.ports["http"], timeout=10)

    def ask() -> int:
        connection.request("GET", "/x", headers={"host": pair.HOST})
        response = connection.getresponse()
        response.read()
        return response.status

    assert ask() == 200
    before = _serials(mesh.server)
    for _ in range(3):
        pair.rotate(mesh.server.secrets, authority, pair.SERVER)
        pair.rotate(mesh.client.secrets, authority, pair.CLIENT)
        assert ask() == 200
    _eventually(lambda: _serials(mesh.server) != before or None)
    assert ask() == 200
    connection.close()


def _serials(proxy: pair.Sidecar) -> list[str]:
    _, text = proxy.get(proxy.config.admin_port, "/certs")
    return re.findall(r'"serial_number": "(\w+)"', text)


def test_a_client_without_a_certificate_is_refused(
    mesh: Mesh, authority: Authority, tmp_path: Path
) -> None:
    made = new_key_and_request()
    file = tmp_path / "client.pem"
    file.write_bytes(made.key + authority.sign(made.request, pair.CLIENT).chain)
    # Where Envoy looks for names, it wants a certificate anyway.
    for port in ("in", "in_any"):
        assert _asked(mesh, port, file).startswith(b"HTTP/1.1 200")
        assert _asked(mesh, port, None) == b""


def _asked(mesh: Mesh, port: str, certificate: Path | None) -> bytes:
    """The beginning of the server's answer to a client with a certificate, or without one."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["istio-http/1.1", "istio"])
    if certificate is not None:
        context.load_cert_chain(certificate)
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection((pair.LOCALHOST, mesh.ports[port]), timeout=5) as raw,
        context.wrap_socket(raw) as wrapped,
    ):
        wrapped.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        return wrapped.recv(100)
    return b""


def test_a_server_with_another_identity_is_not_talked_to(mesh: Mesh) -> None:
    assert mesh.get("http", host=pair.HOST)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        mesh.get("other", host=pair.HOST)


def test_neither_proxy_complains(mesh: Mesh, tmp_path: Path) -> None:
    for proxy in (mesh.client, mesh.server):
        lines = [line for line in proxy.output.read_text().splitlines() if line.startswith("[")]
        assert [line for line in lines if "[error]" in line or "[critical]" in line] == []
