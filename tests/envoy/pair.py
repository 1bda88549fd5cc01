"""Two real Envoys on loopback: a client's sidecar and a server's, with configuration of ours."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from lateen.envoy import bootstrap, build, loading
from lateen.envoy.binary import envoy_path
from lateen.ir.cluster import (
    Cluster,
    ClusterType,
    Endpoint,
    LoadAssignment,
    LocalityEndpoints,
    ServiceReference,
    UpstreamProtocol,
)
from lateen.ir.listener import (
    ChainMatch,
    Direction,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.ir.route import (
    Forward,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from lateen.ir.tls import ClientCertificate, DownstreamTls, UpstreamTls
from lateen.model.discovery import DiscoveryResource
from lateen.model.service import WorkloadIdentity
from lateen.pki.authority import Authority
from lateen.pki.keys import new_key_and_request
from lateen.pki.sds import write_secrets
from tests.ports import free_port

CLIENT = WorkloadIdentity("client-ns", "sleep-v1", "sleep", "sleep", "v1", "sleep", "v1")
SERVER = WorkloadIdentity("server-ns", "reviews-v2", "reviews", "reviews", "v2", "reviews", "v2")
HOST = "reviews.server-ns.svc.cluster.local"
SERVICE = ServiceReference(HOST, "reviews", "server-ns")
LOCALHOST = "127.0.0.1"


def outbound_name(port: int) -> str:
    """The client's cluster for a service port."""
    return f"outbound|{port}||{HOST}"


def outbound_cluster(
    port: int,
    protocol: UpstreamProtocol,
    alpn: tuple[str, ...],
    *,
    mutual: bool = True,
    server: WorkloadIdentity = SERVER,
) -> Cluster:
    """The client's cluster for the server, from which it expects the identity of ``server``."""
    mtls = UpstreamTls(
        certificate="default",
        validation="ROOTCA",
        sni=f"outbound_.{port}_._.{HOST}",
        subject_alt_names=(server.spiffe_id,),
        alpn=alpn,
    )
    return Cluster(
        outbound_name(port),
        ClusterType.EDS,
        protocol=protocol,
        auto_mtls=mtls if mutual else None,
        service=SERVICE,
    )


def assignment(port: int, target: int) -> LoadAssignment:
    """The server proxy as the endpoint of a service port."""
    endpoint = Endpoint(LOCALHOST, target, mtls=True, identity=SERVER)
    return LoadAssignment(outbound_name(port), (LocalityEndpoints((endpoint,)),))


def route_to(name: str, cluster: str, *hosts: str) -> RouteConfiguration:
    """Everything to one cluster, as Istio routes a service without rules."""
    route = Route(
        "default",
        RouteMatch(),
        Forward((WeightedCluster(cluster),)),
        operation=f"{HOST}:80/*",
    )
    return RouteConfiguration(name, (VirtualHost(f"{HOST}:80", hosts or ("*",), (route,)),))


def http_listener(port: int, telemetry: Telemetry | None = None) -> Listener:
    """The client's listener for HTTP, routed by the route configuration of the same number."""
    telemetry = telemetry or Telemetry(Reporter.SOURCE)
    manager = HttpConnectionManager(f"outbound_{port};", telemetry, route_name=str(port))
    return Listener(
        f"0.0.0.0_{port}", LOCALHOST, port, Direction.OUTBOUND, (FilterChain("http", manager),)
    )


def sniffed_listener(port: int) -> Listener:
    """As `http_listener`, for a port whose protocol is not declared."""
    listener = http_listener(port)
    manager = listener.filter_chains[0].filter
    assert isinstance(manager, HttpConnectionManager)
    chain = FilterChain("http", replace(manager, upstream_alpn=True))
    return replace(listener, filter_chains=(chain,))


def tcp_listener(port: int, cluster: str) -> Listener:
    """The client's listener for opaque TCP."""
    proxy = TcpProxy(cluster, (WeightedTcpCluster(cluster),), Telemetry(Reporter.SOURCE))
    return Listener(
        f"0.0.0.0_{port}", LOCALHOST, port, Direction.OUTBOUND, (FilterChain("tcp", proxy),)
    )


def inbound_listener(
    port: int,
    cluster: str,
    *,
    telemetry: bool = True,
    prefixes: tuple[str, ...] = ("spiffe://cluster.local/",),
) -> Listener:
    """The server's listener: PERMISSIVE, protocol not declared, as on a real pod.

    Names of clients begin with one of ``prefixes``; without any, as at a gateway, each is right.
    """
    tls = DownstreamTls(
        validation="ROOTCA",
        client_certificate=ClientCertificate.REQUIRED,
        subject_alt_name_prefixes=prefixes,
    )
    route = Route(
        "default",
        RouteMatch(),
        Forward((WeightedCluster(cluster),), retry=None),
        operation=f"{HOST}:80/*",
    )
    routes = RouteConfiguration(cluster, (VirtualHost(f"inbound|http|{port}", ("*",), (route,)),))

    def reports(mutual: bool) -> Telemetry:
        return Telemetry(
            Reporter.DESTINATION, mutual_tls=mutual, access_log=telemetry, metrics=telemetry
        )

    def manager(mutual: bool) -> HttpConnectionManager:
        return HttpConnectionManager(
            f"inbound_{port};", reports(mutual), routes=routes, client_certificate_details=True
        )

    def proxy(mutual: bool) -> TcpProxy:
        return TcpProxy(cluster, (WeightedTcpCluster(cluster),), reports(mutual))

    http_alpn = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
    return Listener(
        f"virtualInbound_{port}",
        LOCALHOST,
        port,
        Direction.INBOUND,
        (
            FilterChain("mtls-http", manager(True), ChainMatch(0, (), (), "tls", http_alpn), tls),
            FilterChain(
                "mtls-tcp",
                proxy(True),
                ChainMatch(0, (), (), "tls", ("istio",)),
                replace(tls, alpn=("istio",)),
            ),
            FilterChain(
                "http",
                manager(False),
                ChainMatch(0, (), (), "raw_buffer", ("http/1.0", "http/1.1", "h2c")),
            ),
            FilterChain("tcp", proxy(False), ChainMatch(0, (), (), "raw_buffer")),
        ),
        tls_inspector=True,
        http_inspector=True,
        inspection_timeout=1.0,
    )


def inbound_cluster(name: str, port: int) -> Cluster:
    """The server's cluster for its application."""
    return Cluster(
        name,
        ClusterType.STATIC,
        protocol=UpstreamProtocol.DOWNSTREAM,
        load_assignment=LoadAssignment(name, (LocalityEndpoints((Endpoint(LOCALHOST, port),)),)),
        inbound=True,
        service=SERVICE,
    )


def resources_of(configuration: ProxyConfiguration) -> list[DiscoveryResource]:
    """All resources of a configuration."""
    return [
        resource for named in build.resources(configuration).values() for resource in named.values()
    ]


def environment(identity: WorkloadIdentity) -> dict[str, str]:
    """What the agent sets for own-side labels."""
    return {
        "LATEEN_WORKLOAD": identity.workload,
        "LATEEN_NAMESPACE": identity.namespace,
        "LATEEN_APP": identity.app,
        "LATEEN_VERSION": identity.version,
        "LATEEN_CANONICAL_NAME": identity.canonical_name,
        "LATEEN_CANONICAL_REVISION": identity.canonical_revision,
        "LATEEN_CLUSTER": identity.cluster,
        "LATEEN_PRINCIPAL": identity.spiffe_id,
    }


@dataclass
class Sidecar:
    """A running Envoy."""

    process: subprocess.Popen[bytes]
    config: bootstrap.BootstrapConfig
    output: Path
    secrets: Path

    def get(self, port: int, path: str) -> tuple[int, str]:
        """Status and body of a GET on one of its ports."""
        request = urllib.request.Request(f"http://{LOCALHOST}:{port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> list[str]:
        """Lines of its Prometheus output that are samples of ``istio_*``."""
        _, text = self.get(self.config.prometheus_port, "/stats/prometheus")
        return [line for line in text.splitlines() if line.startswith("istio_")]

    def access_log(self) -> list[dict[str, Any]]:
        """Its JSON access log so far."""
        lines = self.output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextlib.contextmanager
def sidecar(
    directory: Path,
    authority: Authority,
    identity: WorkloadIdentity,
    configuration: ProxyConfiguration,
    concurrency: int = 1,
    transform: Callable[[dict[str, Any]], dict[str, Any]] = lambda static: static,
) -> Iterator[Sidecar]:
    """An Envoy with its own certificate that runs a configuration, changed by ``transform``."""
    directory.mkdir(parents=True)
    secrets = directory / "secrets"
    rotate(secrets, authority, identity)
    config = bootstrap.BootstrapConfig(
        node_id=f"sidecar~{LOCALHOST}~{identity.workload}.{identity.namespace}"
        f"~{identity.namespace}.svc.cluster.local",
        node_cluster=f"{identity.app}.{identity.namespace}",
        control_plane_host=LOCALHOST,
        control_plane_port=15012,
        control_plane_identity="spiffe://cluster.local/ns/istio-system/sa/istiod",
        admin_port=free_port(),
        prometheus_port=free_port(),
        status_port=free_port(),
        listen_address=LOCALHOST,
    )
    file = directory / "bootstrap.json"
    static = loading.standalone(resources_of(configuration), bootstrap.as_dict(config), secrets)
    file.write_text(json.dumps(transform(static)))
    output = directory / "output.log"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [
                envoy_path(),
                "--config-path",
                file,
                "--disable-hot-restart",
                "--concurrency",
                str(concurrency),
                "--log-level",
                "warning",
                "--file-flush-interval-msec",
                "200",
            ],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment(identity)},
        )
    made = Sidecar(process, config, output, secrets)
    try:
        _wait_ready(made)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rotate(secrets: Path, authority: Authority, identity: WorkloadIdentity) -> None:
    """Give a sidecar a new certificate."""
    made = new_key_and_request()
    issued = authority.sign(made.request, identity)
    write_secrets(secrets, issued.chain, made.key, authority.trust_bundle)


def _wait_ready(proxy: Sidecar) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if proxy.process.poll() is not None:
            raise AssertionError(f"Envoy ended:\n{proxy.output.read_text()}")
        with contextlib.suppress(OSError):
            if proxy.get(proxy.config.status_port, "/healthz/ready")[0] == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"Envoy is not ready:\n{proxy.output.read_text()}")


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """An HTTP application that answers with the request's headers as JSON; yields its port."""
    server = http.server.ThreadingHTTPServer((LOCALHOST, 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
