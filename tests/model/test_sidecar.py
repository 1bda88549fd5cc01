"""Sidecar: which one applies and what it lets a workload see; Gateways; scopes."""

from __future__ import annotations

from lateen.model.gateways import gateways
from lateen.model.proxies import proxy_of
from lateen.model.proxy import ProxyType
from lateen.model.scope import scope_of, scope_of_pod
from lateen.model.sidecar import SidecarScope, sidecars
from lateen.model.snapshot import Snapshot
from tests.model.meshes import istio, mesh, pod, pod_key, service

SERVICES = (
    service("a", "shop", ports="[{name: http, port: 80}, {name: tcp, port: 90}]"),
    service("b", "shop"),
    service("c", "other"),
)


def sidecar(name: str, spec: str, namespace: str = "shop", created: str = "") -> str:
    return istio("Sidecar", name, spec, namespace, created)


def scope(snapshot: Snapshot, **labels: str) -> SidecarScope:
    return sidecars(snapshot).scope("shop", labels)


def seen(found: SidecarScope) -> list[str]:
    return [f"{s.name}.{s.namespace}:{[p.number for p in s.ports]}" for s in found.services]


def test_without_a_sidecar_everything_exported_is_seen() -> None:
    found = scope(mesh(*SERVICES))
    assert seen(found) == ["a.shop:[80, 90]", "b.shop:[80]", "c.other:[80]"]
    assert found.resource is None
    assert len(found.egress) == 1


def test_the_selecting_one_then_the_namespaces_then_the_roots() -> None:
    snapshot = mesh(
        sidecar("root", "{egress: [{hosts: ['*/*']}]}", "istio-system"),
        sidecar("web", "{workloadSelector: {labels: {app: web}}, egress: [{hosts: ['./*']}]}"),
        sidecar("general", "{egress: [{hosts: ['./*']}]}"),
    )
    found = sidecars(snapshot)

    def name(namespace: str, app: str) -> str:
        resource = found.resource_for(namespace, {"app": app})
        return resource.key.name if resource is not None else ""

    assert name("shop", "web") == "web"
    assert name("shop", "x") == "general"
    assert name("other", "web") == "root"


def test_hosts_are_included_and_excluded() -> None:
    hosts = "['*/*', '~other/*', '~./b.shop.svc.cluster.local']"
    snapshot = mesh(*SERVICES, sidecar("s", f"{{egress: [{{hosts: {hosts}}}]}}"))
    assert seen(scope(snapshot)) == ["a.shop:[80, 90]"]


def test_nothing_at_all() -> None:
    assert seen(scope(mesh(*SERVICES, sidecar("s", "{egress: [{hosts: ['~/*']}]}")))) == []


def test_a_listener_with_a_port_takes_services_with_that_port_only() -> None:
    snapshot = mesh(
        *SERVICES,
        sidecar(
            "s",
            "{egress: [{port: {number: 90, protocol: TCP, name: tcp}, hosts: ['./*']}, "
            "{hosts: ['other/*']}]}",
        ),
    )
    found = scope(snapshot)
    assert seen(found) == ["a.shop:[90]", "c.other:[80]"]
    assert [s.name for s in found.egress[0].services] == ["a"]
    assert found.locked_ports == {90}


def test_destinations_of_imported_rules_are_imported() -> None:
    snapshot = mesh(
        *SERVICES,
        istio(
            "VirtualService",
            "b",
            "{hosts: [b], http: [{route: [{destination: {host: c.other.svc.cluster.local}}]}]}",
            "shop",
        ),
        sidecar("s", "{egress: [{hosts: ['./b.shop.svc.cluster.local']}]}"),
    )
    found = scope(snapshot)
    assert {s.name for s in found.services} == {"b", "c"}
    assert [s.name for s in found.egress[0].services] == ["b"]
    assert [v.name for v in found.virtual_services] == ["b"]


def test_one_service_per_host_own_namespace_first() -> None:
    entry = (
        "{hosts: [b.shop.svc.cluster.local], resolution: STATIC, "
        "ports: [{number: 99, name: http, protocol: HTTP}]}"
    )
    texts = (service("b", "shop"), istio("ServiceEntry", "b", entry, "other"))
    snapshot = mesh(*texts)
    assert [s.namespace for s in sidecars(snapshot).default_scope("other").services] == ["other"]
    assert [s.namespace for s in sidecars(snapshot).default_scope("third").services] == ["shop"]


def test_gateways_select_proxies_of_any_namespace() -> None:
    snapshot = mesh(
        istio("Gateway", "edge", "{selector: {istio: ingressgateway}}", "shop"),
        istio("Gateway", "other", "{selector: {istio: egressgateway}}", "shop"),
    )
    found = gateways(snapshot).for_labels({"istio": "ingressgateway", "app": "x"})
    assert [r.key.name for r in found] == ["edge"]


def test_a_scope_holds_only_labels_that_some_selector_tests() -> None:
    texts = (
        pod("a", "10.0.0.1", "{app: web, version: v1}", "shop"),
        pod("b", "10.0.0.2", "{app: web, version: v2}", "shop"),
    )

    def scopes(snapshot: Snapshot) -> int:
        resources = [snapshot.get(pod_key(name, "shop")) for name in ("a", "b")]
        return len({scope_of_pod(snapshot, r) for r in resources if r is not None})

    assert scopes(mesh(*texts)) == 1
    peer = "{selector: {matchLabels: {version: v1}}, mtls: {mode: STRICT}}"
    assert scopes(mesh(*texts, istio("PeerAuthentication", "p", peer, "shop"))) == 2
    assert scopes(mesh(*texts, istio("PeerAuthentication", "p", peer, "other"))) == 1
    source = (
        "{hosts: [w.example.com], http: [{match: [{sourceLabels: {version: v1}}], "
        "route: [{destination: {host: there}}]}]}"
    )
    assert scopes(mesh(*texts, istio("VirtualService", "v", source, "other"))) == 2


def test_a_gateway_pod_and_the_ports_of_its_service() -> None:
    snapshot = mesh(
        service(
            "ingress",
            "edge",
            selector="{istio: ingressgateway}",
            ports="[{name: http2, port: 80, targetPort: 8080}]",
        ),
        pod(
            "ingress-1",
            "10.0.0.1",
            "{istio: ingressgateway}",
            "edge",
            metadata="annotations: {inject.istio.io/templates: gateway}",
        ),
    )
    resource = snapshot.get(pod_key("ingress-1", "edge"))
    assert resource is not None
    proxy = proxy_of(snapshot, resource)
    assert proxy.type is ProxyType.ROUTER
    assert proxy.id == "router~10.0.0.1~ingress-1.edge~edge.svc.cluster.local"
    found = scope_of(snapshot, proxy)
    assert [(p.service_port, p.target_port) for p in found.inbound] == [(80, 8080)]
