"""The rig itself: it sends what the generated classes read, and reads what was sent."""

from __future__ import annotations

import http.server
import json
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hpack
import pytest
import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from benchmarks.scale import mesh
from benchmarks.scale.cluster import Access, Cluster, access_of, cluster_objects
from benchmarks.scale.fleet import Place
from benchmarks.scale.http2 import status_of
from benchmarks.scale.peer import Peer, PeerOptions
from benchmarks.scale.report import plot
from benchmarks.scale.responses import Response
from benchmarks.scale.scanner import Incoming, Message, Scanner
from benchmarks.scale.wire import CLUSTER, ENDPOINT, ROUTE, delta_request, state_request
from lateen.api.parse import parse_object
from lateen.api.resource import Resource
from lateen.model.discovery import DiscoveryResource
from lateen.serve.wire import encode_delta, encode_state


def test_requests_are_what_the_generated_classes_read() -> None:
    delta = discovery_pb2.DeltaDiscoveryRequest.FromString(
        delta_request(ENDPOINT, subscribe=("a", "b"), have={"c": "1"}, nonce="n", error="no")
    )
    state = discovery_pb2.DiscoveryRequest.FromString(
        state_request(ROUTE, names=("80",), version="3", nonce="n", error="no")
    )

    assert (delta.type_url, list(delta.resource_names_subscribe)) == (ENDPOINT, ["a", "b"])
    assert dict(delta.initial_resource_versions) == {"c": "1"}
    assert (delta.response_nonce, delta.error_detail.message) == ("n", "no")
    assert (state.type_url, list(state.resource_names), state.version_info) == (ROUTE, ["80"], "3")
    assert (state.response_nonce, state.error_detail.code) == ("n", 13)


@pytest.mark.parametrize("before", [(), ("first",), ("first", "second")])
def test_messages_that_begin_alike_are_read_as_if_alone(before: tuple[str, ...]) -> None:
    common = [cluster(f"common{number}", 2000) for number in range(60)]
    scanner = Scanner(delta=True)
    for nonce, other in enumerate(before):
        received(scanner, encode_delta(CLUSTER, [*common, cluster(other, 10)], (), str(nonce)))
    message = encode_delta(CLUSTER, [*common, cluster("own", 10)], ("gone",), "n")

    (found,) = received(scanner, message)

    names = [*(item.name for item in common), "own"]
    assert [name for name, _ in found.entries] == names
    assert list(found.references) == names
    assert (found.type_url, found.nonce, found.removed) == (CLUSTER, "n", ("gone",))
    assert found.size == len(message)


def test_what_came_before_is_compared_and_not_kept() -> None:
    scanner = Scanner(delta=True)
    resources = [cluster(f"common{number}", 2000) for number in range(60)]
    one = encode_delta(CLUSTER, resources, (), "n")
    other = encode_delta(CLUSTER, [*resources[:-1], cluster("other", 2000)], (), "n")
    for message in (one, one, other):
        arrived(scanner, message)

    again, different = arrived(scanner, one, other)

    assert again.known is not None
    assert (again.known.data, again.rest) == (one, b"")
    assert different.known is not None
    assert different.rest
    assert scanner.scan(different).entries[-1][0] == "other"


@pytest.mark.parametrize("piece", [1, 4, 5, 7, 16_384, 1_000_000])
def test_messages_are_put_together_from_any_pieces(piece: int) -> None:
    scanner = Scanner(delta=True)
    names = ("first", "first", "second", "first", "second")
    messages = [encode_delta(CLUSTER, [cluster(name, 70_000)], (), "n") for name in names]
    messages.insert(2, b"")

    found = arrived(scanner, *messages, piece=piece)

    assert [whole(message) for message in found] == messages


def test_state_of_the_world_responses_are_read() -> None:
    body = b"\x0a\x05names"  # field 1: the name
    item = DiscoveryResource(ROUTE, "names", "v", body)

    found = Scanner(delta=False).scan(Message(None, encode_state(ROUTE, [item], "n", "7")))

    assert (found.nonce, found.version, found.entries[0][0]) == ("n", "7", "names")


def test_the_generated_mesh_is_valid_and_has_the_size_asked_for() -> None:
    size = mesh.Size(services=20, endpoints=3, proxies=30, namespaces=4, sidecars=0.5)

    found = [parse_object(raw) for raw in mesh.objects(size)]

    assert all(isinstance(item, Resource) for item in found)
    kinds = [item.key.kind for item in found if isinstance(item, Resource)]
    assert (kinds.count("Service"), kinds.count("Pod")) == (20, 60)
    assert (kinds.count("VirtualService"), kinds.count("DestinationRule")) == (4, 10)
    assert kinds.count("Sidecar") == 2
    assert len(set(mesh.proxy_places(size))) == 30


def test_more_proxies_than_pods_are_refused() -> None:
    with pytest.raises(ValueError, match="too few for 7 proxies"):
        mesh.Size(services=2, endpoints=3, proxies=7, namespaces=1)


def test_a_cluster_holds_an_endpoint_slice_for_each_service() -> None:
    size = mesh.Size(services=4, endpoints=3, proxies=4, namespaces=2)

    slices = [raw for raw in cluster_objects(size) if raw["kind"] == "EndpointSlice"]
    entries = cluster_objects(mesh.Size(services=4, proxies=4, namespaces=2, entries=True))

    assert [raw["metadata"]["name"] for raw in slices] == ["svc0", "svc1", "svc2", "svc3"]
    third = slices[3]["endpoints"][2]
    assert third["addresses"] == [mesh.pod_address(3, 2)]
    assert third["targetRef"] == {"kind": "Pod", "namespace": "ns1", "name": "svc3-2"}
    assert all(raw["kind"] != "EndpointSlice" for raw in entries)


def test_the_mesh_is_written_to_a_cluster_namespaces_first(api: ApiServer) -> None:
    size = mesh.Size(services=4, endpoints=2, proxies=4, namespaces=2)

    count = Cluster(Access("127.0.0.1", api.port, None, "secret")).load(size)

    asked = [(path, body) for method, path, body in api.asked if method != "GET"]
    assert [(path, name_of(body)) for path, body in asked[:3]] == [
        ("/api/v1/namespaces", name) for name in ("istio-system", "ns0", "ns1")
    ]
    assert count == len(list(cluster_objects(size))) == len(asked) - 8  # statuses of 8 pods
    assert ("/api/v1/nodes", node("node1")) in asked
    services = "/apis/networking.istio.io/v1/namespaces/ns0/virtualservices"
    assert dict(asked)[services]["kind"] == "VirtualService"
    assert "status" not in dict(asked)["/api/v1/namespaces/ns0/pods"]
    status = dict(asked)["/api/v1/namespaces/ns0/pods/svc0-1/status"]
    assert status["status"]["podIP"] == mesh.pod_address(0, 1)
    assert api.tokens == {"Bearer secret"}


def test_a_cluster_gets_what_differs_and_loses_another_mesh(api: ApiServer) -> None:
    size = mesh.Size(services=2, endpoints=2, proxies=2, namespaces=1)
    moved, other = mesh.pod(size, 1, 0), mesh.virtual_service(size, 0, turn=9)
    moved["status"] = mesh.pod_status(1, 0, turn=1)
    found = {(raw["kind"], raw["metadata"]["name"]): raw for raw in cluster_objects(size)}
    found |= {("Pod", "svc1-0"): moved, ("VirtualService", "svc0"): other}
    found["Service", "old"] = mesh.service_object(mesh.Size(namespaces=9), 8)
    found["Service", "kubernetes"] = {"metadata": {"name": "kubernetes", "namespace": "default"}}
    for (kind, _), raw in found.items():
        live: dict[str, Any] = {**raw, "metadata": {**raw["metadata"], "uid": "server's own"}}
        api.lists.setdefault(f"{kind.lower()}s".replace("ys", "ies"), []).append(live)

    assert Cluster(Access("127.0.0.1", api.port, None)).load(size) == 2

    changes = {path.partition("?")[0]: method for method, path, _ in api.asked if method != "GET"}
    rule = "/apis/networking.istio.io/v1/namespaces/ns0/virtualservices/svc0"
    assert changes == {
        "/api/v1/namespaces/ns8/services/svc8": "DELETE",
        "/api/v1/namespaces/ns0/pods/svc1-0/status": "PATCH",
        rule: "PATCH",
    }


def test_a_pod_of_a_peer_moves_in_its_endpoint_slice_too(api: ApiServer, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(yaml.safe_dump(kubeconfig({"server": f"http://127.0.0.1:{api.port}"})))
    peer = Peer(PeerOptions(Place("127.0.0.1", 1), kubeconfig=config))

    peer.set_pod_status("ns0", "svc0-1", mesh.pod_status(0, 1, turn=1))

    (_, _, status), (_, path, change) = api.asked
    address = mesh.pod_address(0, 1, turn=1)
    assert status["status"]["podIP"] == address
    assert path == "/apis/discovery.k8s.io/v1/namespaces/ns0/endpointslices/svc0"
    assert change == [{"op": "replace", "path": "/endpoints/1/addresses", "value": [address]}]


def test_what_an_api_server_refuses_ends_the_run(api: ApiServer) -> None:
    api.answers = [429, 422]

    with pytest.raises(SystemExit, match=r"422 .*not this"):
        Cluster(Access("127.0.0.1", api.port, None)).apply(
            [mesh.peer_authentication("a", "STRICT")]
        )

    assert len(api.asked) == 2


def test_a_kubeconfig_gives_the_server_and_the_token(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    cluster = {"server": "https://example.test:6443", "insecure-skip-tls-verify": True}
    file.write_text(yaml.safe_dump(kubeconfig(cluster)))

    access = access_of(file)

    assert (access.host, access.port, access.token) == ("example.test", 6443, "secret")
    assert access.tls is not None
    assert not access.tls.check_hostname


def test_the_end_of_a_stream_is_told_in_words() -> None:
    block = hpack.Encoder().encode([("grpc-status", "8"), ("grpc-message", "too%20many requests")])

    assert status_of(block) == "grpc-status 8 too many requests"
    assert "cannot be read" in status_of(b"\x00\xff")


def test_plots_are_well_formed() -> None:
    drawn = ElementTree.fromstring(plot("a < b", "proxies", {"one": [(0, 1), (100, 3.5)]}))

    assert drawn.tag.endswith("svg")


def arrived(scanner: Scanner, *messages: bytes, piece: int = 16_384) -> list[Message]:
    """What a stream makes of gRPC messages that come in pieces of so many bytes."""
    incoming, found = Incoming(scanner, "ns"), []
    sent = memoryview(b"".join(b"\0" + len(m).to_bytes(4, "big") + m for m in messages))
    for start in range(0, len(sent), piece):
        part = sent[start : start + piece]
        if not incoming.goes_on(part):
            for message in incoming.add(part):
                scanner.scan(message, "ns")
                found.append(message)
    return found


def received(scanner: Scanner, message: bytes) -> list[Response]:
    return [scanner.scan(each, "ns") for each in arrived(scanner, message)]


def whole(message: Message) -> bytes:
    return (message.known.data if message.known is not None else b"") + message.rest


def cluster(name: str, size: int) -> DiscoveryResource:
    """With endpoints by EDS; its name for statistics makes it ``size`` bytes long at least."""
    body = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, alt_stat_name="x" * size)
    return DiscoveryResource(CLUSTER, name, f"v-{name}", body.SerializeToString())


class ApiServer(http.server.ThreadingHTTPServer):
    """Takes every request and remembers its method, path and body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port: int = self.server_address[1]
        self.asked: list[tuple[str, str, Any]] = []
        self.tokens: set[str | None] = set()
        self.answers: list[int] = []
        """Status codes of the next answers; 200 when used up."""
        self.lists: dict[str, list[Any]] = {}
        """Items by the last part of the path."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def _answer(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        server.asked.append((self.command, self.path, json.loads(body or b"{}")))
        server.tokens.add(self.headers["Authorization"])
        items = server.lists.get(self.path.rpartition("/")[2], [])
        answer = json.dumps({"no": "not this", "items": items}).encode()
        self.send_response(server.answers.pop(0) if server.answers else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Nothing to print."""


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def name_of(raw: dict[str, Any]) -> str:
    name: str = raw["metadata"]["name"]
    return name


def kubeconfig(cluster: dict[str, Any]) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
