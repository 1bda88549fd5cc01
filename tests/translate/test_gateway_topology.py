"""What is in front of a gateway, for one gateway alone: the annotation of its pods."""

from __future__ import annotations

import pytest

from lateen.api.parse import parse_object
from lateen.api.resource import Resource
from lateen.ir.listener import HttpConnectionManager, Listener
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import Snapshot, snapshot_of
from lateen.translate.configuration import translate
from lateen.translate.mesh_settings import setting_findings

MESH = "defaultConfig: {gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}}"
GATEWAY = {
    "selector": {"istio": "ingressgateway"},
    "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
}


def an_object(version: str, kind: str, name: str, **fields: object) -> Resource:
    about = {"name": name, "namespace": "istio-system", **fields.pop("metadata", {})}  # type: ignore[dict-item]
    found = parse_object({"apiVersion": version, "kind": kind, "metadata": about, **fields})
    assert isinstance(found, Resource)
    return found


def pod(name: str, config: str, container: str = "istio-proxy") -> Resource:
    annotations = {"proxy.istio.io/config": config} if config else {}
    labels = {"istio": "ingressgateway"}
    containers = [{"name": container, "image": "auto"}]
    metadata = {"labels": labels, "annotations": annotations}
    return an_object("v1", "Pod", name, metadata=metadata, spec={"containers": containers})


def mesh_with(*pods: Resource) -> Snapshot:
    settings = an_object("v1", "ConfigMap", "istio", data={"mesh": MESH})
    front = an_object("networking.istio.io/v1", "Gateway", "front", spec=GATEWAY)
    return snapshot_of([settings, front, *pods])


def listener_of(snapshot: Snapshot, gateway: Resource) -> tuple[Listener, HttpConnectionManager]:
    (listener,) = translate(snapshot, scope_of_pod(snapshot, gateway)).listeners
    manager = listener.filter_chains[0].filter
    assert isinstance(manager, HttpConnectionManager)
    return listener, manager


@pytest.mark.parametrize(
    ("config", "hops", "forwarded", "proxy_protocol"),
    [
        ("", 1, "SANITIZE_SET", True),
        ("concurrency: 1", 1, "SANITIZE_SET", True),
        ("gatewayTopology: {numTrustedProxies: 2}", 2, "SANITIZE_SET", False),
        ("gatewayTopology: {}", 0, "SANITIZE_SET", False),
        ("gatewayTopology: {proxyProtocol: {}}", 0, "SANITIZE_SET", True),
        ("gatewayTopology: {forwardClientCertDetails: FORWARD_ONLY}", 0, "FORWARD_ONLY", False),
        ("gatewayTopology: {numTrustedProxies: many}", 1, "SANITIZE_SET", True),
    ],
)
def test_the_annotation_takes_the_place_of_the_mesh_s(
    config: str, hops: int, forwarded: str, proxy_protocol: bool
) -> None:
    gateway = pod("front", config)
    listener, manager = listener_of(mesh_with(gateway, pod("other", "")), gateway)

    assert manager.trusted_hops == hops
    assert manager.forward_client_certificate == forwarded
    assert listener.proxy_protocol is proxy_protocol


def test_it_holds_for_the_annotated_gateway_alone() -> None:
    one, other = pod("one", "gatewayTopology: {numTrustedProxies: 3}"), pod("other", "")
    snapshot = mesh_with(one, other)

    assert [listener_of(snapshot, each)[1].trusted_hops for each in (one, other, one)] == [3, 1, 3]


@pytest.mark.parametrize(("container", "told"), [("istio-proxy", []), ("app", ["gatewayTopology"])])
def test_it_is_told_where_there_is_no_gateway(container: str, told: list[str]) -> None:
    resource = pod("a", "gatewayTopology: {numTrustedProxies: 3}", container)
    assert [str(finding.path[-1]) for finding in setting_findings(resource)] == told
