"""Translated configuration in two real Envoys: what PeerAuthentication and protocols come to.

Redirection is left out: each listener is bound on loopback on the port that traffic would have
been sent to, so filter chains see the destination port that they would see in a pod.
"""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from lateen.api.parse import parse_documents
from lateen.ir.listener import Listener
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.model.proxy import ProxyType, Scope
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import snapshot_of
from lateen.pki.authority import Authority, load_or_create
from lateen.translate.configuration import translate
from tests.envoy import pair
from tests.ports import free_port

pytestmark = pytest.mark.envoy

_PORTS = ("http", "any", "tcp")
_CLIENT = "spiffe://cluster.local/ns/client-ns/sa/sleep"


@dataclass
class Mesh:
    """Ports of the client's listeners, of the server's, and one that nobody declared."""

    client: dict[str, int]
    server: dict[str, int]
    undeclared: int


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return load_or_create(tmp_path_factory.mktemp("ca") / "ca")


@contextlib.contextmanager
def mesh(directory: Path, authority: Authority, mode: str) -> Iterator[Mesh]:
    """A client and a server whose namespace has a PeerAuthentication with this mode."""
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(pair.echo_server())
        ports = Mesh(
            {name: free_port() for name in _PORTS},
            {name: free_port() for name in _PORTS},
            free_port(),
        )
        parsed = parse_documents(_objects(ports, app, mode))
        assert parsed.findings == []
        snapshot = snapshot_of(parsed.resources)
        pod = next(r for r in parsed.resources if r.key.kind == "Pod")
        server = translate(snapshot, scope_of_pod(snapshot, pod))
        client = translate(snapshot, Scope(ProxyType.SIDECAR, "client-ns"))
        for name, identity, config in (
            (
                "server",
                pair.SERVER,
                _inbound_only(server, [*ports.server.values(), ports.undeclared]),
            ),
            ("client", pair.CLIENT, _outbound_only(client)),
        ):
            stack.enter_context(pair.sidecar(directory / name, authority, identity, config))
        yield ports


def _objects(ports: Mesh, app: int, mode: str) -> str:
    service_ports = [
        {"name": name, "port": ports.client[name], "targetPort": ports.server[name]}
        for name in _PORTS
    ]
    ingress = [
        {
            "port": {
                "number": ports.server[name],
                "name": name,
                "protocol": {"http": "HTTP", "tcp": "TCP"}.get(name, ""),
            },
            "defaultEndpoint": f"{pair.LOCALHOST}:{app}",
        }
        for name in _PORTS
    ]
    metadata = {"namespace": "server-ns", "name": "reviews"}
    labels = {"app": "reviews", "security.istio.io/tlsMode": "istio"}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "clusterIP": pair.LOCALHOST,
                "selector": {"app": "reviews"},
                "ports": service_ports,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**metadata, "labels": labels},
            "spec": {
                "serviceAccountName": "reviews",
                "containers": [{"name": "app", "image": "echo"}],
            },
            "status": {
                "podIP": pair.LOCALHOST,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": metadata,
            "spec": {"workloadSelector": {"labels": {"app": "reviews"}}, "ingress": ingress},
        },
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": metadata,
            "spec": {"mtls": {"mode": mode}},
        },
    ]
    return yaml.safe_dump_all(objects)


def _inbound_only(config: ProxyConfiguration, ports: list[int]) -> ProxyConfiguration:
    inbound = next(part for part in config.listeners if part.name == "virtualInbound")
    bound = [
        replace(
            inbound,
            name=f"virtualInbound_{port}",
            address=pair.LOCALHOST,
            port=port,
            original_dst_filter=False,
        )
        for port in ports
    ]
    return ProxyConfiguration(clusters=config.clusters, listeners=tuple(bound))


def _outbound_only(config: ProxyConfiguration) -> ProxyConfiguration:
    def bound(listener: Listener) -> Listener:
        return replace(listener, address=pair.LOCALHOST, bind_to_port=True)

    chosen = [bound(part) for part in config.listeners if not part.name.startswith("virtual")]
    return replace(config, listeners=tuple(chosen))


def get(port: int) -> dict[str, str]:
    """Headers that the application saw of a request with the service's host name."""
    request = urllib.request.Request(
        f"http://{pair.LOCALHOST}:{port}/", headers={"host": "reviews.server-ns"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        seen: dict[str, str] = json.load(response)
        return seen


def answers(port: int) -> bool:
    """Whether clear text sent straight to a port of the workload gets an answer."""
    with socket.create_connection((pair.LOCALHOST, port), timeout=10) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET / HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n")
        try:
            return connection.recv(9) == b"HTTP/1.1 "
        except ConnectionResetError:
            return False


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT"])
def test_clients_use_mutual_tls_and_only_strict_refuses_clear_text(
    tmp_path: Path, authority: Authority, mode: str
) -> None:
    with mesh(tmp_path, authority, mode) as ports:
        assert _CLIENT in get(ports.client["http"])["x-forwarded-client-cert"]
        assert _CLIENT in get(ports.client["any"])["x-forwarded-client-cert"]
        # Opaque bytes: nobody on the way knows that it is HTTP.
        assert "x-forwarded-client-cert" not in get(ports.client["tcp"])
        assert [answers(port) for port in ports.server.values()] == [mode == "PERMISSIVE"] * 3
        if mode == "STRICT":
            assert not answers(ports.undeclared)


def test_clear_text_is_used_where_mutual_tls_is_disabled(
    tmp_path: Path, authority: Authority
) -> None:
    with mesh(tmp_path, authority, "DISABLE") as ports:
        for name in _PORTS:
            assert "x-forwarded-client-cert" not in get(ports.client[name])
            assert answers(ports.server[name])
