"""Services and endpoints, whatever they are declared by."""

from __future__ import annotations

from lateen.model.scope import scope_of_pod
from lateen.model.service import Health, Locality, Protocol, Resolution, Service
from lateen.model.snapshot import Snapshot
from tests.model.meshes import istio, mesh, pod, pod_key, rule_ids, service

REVIEWS = "reviews.default.svc.cluster.local"


def get(snapshot: Snapshot, hostname: str) -> Service:
    found = snapshot.services.get(hostname)
    assert found is not None
    return found


def addresses(snapshot: Snapshot, hostname: str) -> list[tuple[str, int]]:
    return [(e.address, e.port) for e in snapshot.services.endpoints(get(snapshot, hostname))]


def test_a_service_selects_ready_pods_of_its_namespace() -> None:
    snapshot = mesh(
        service("reviews", ports="[{name: http, port: 80, targetPort: 9080}]"),
        pod("reviews-1", "10.0.0.1", "{app: reviews, version: v1}"),
        pod("reviews-2", "10.0.0.2", "{app: reviews, version: v2}", ready=False),
        pod("reviews-3", "10.0.0.3", "{app: reviews}", "elsewhere"),
        pod("ratings-1", "10.0.0.4", "{app: ratings}"),
    )
    endpoints = snapshot.services.endpoints(get(snapshot, REVIEWS))
    assert [(e.address, e.port, e.health) for e in endpoints] == [
        ("10.0.0.1", 9080, Health.HEALTHY),
        ("10.0.0.2", 9080, Health.UNHEALTHY),
    ]


def test_not_ready_addresses_may_be_published() -> None:
    snapshot = mesh(
        service("reviews", more="publishNotReadyAddresses: true"),
        pod("reviews-1", "10.0.0.1", "{app: reviews}", ready=False),
    )
    (endpoint,) = snapshot.services.endpoints(get(snapshot, REVIEWS))
    assert endpoint.health is Health.HEALTHY


def test_terminating_and_ended_pods_are_no_endpoints() -> None:
    snapshot = mesh(
        service("reviews"),
        pod(
            "reviews-1",
            "10.0.0.1",
            "{app: reviews}",
            metadata='deletionTimestamp: "2026-01-01T00:00:00Z"',
        ),
        pod("reviews-2", "10.0.0.2", "{app: reviews}").replace("Running", "Succeeded"),
    )
    assert addresses(snapshot, REVIEWS) == []


def test_a_named_target_port_is_looked_up_in_each_pod() -> None:
    snapshot = mesh(
        service("reviews", ports="[{name: http, port: 80, targetPort: web}]"),
        pod("a", "10.0.0.1", "{app: reviews}", ports="[{name: web, containerPort: 8080}]"),
        pod("b", "10.0.0.2", "{app: reviews}", ports="[{name: web, containerPort: 9090}]"),
        pod("c", "10.0.0.3", "{app: reviews}"),
    )
    assert addresses(snapshot, REVIEWS) == [("10.0.0.1", 8080), ("10.0.0.2", 9090)]
    assert rule_ids(snapshot) == [("LT1004", "reviews")]


def test_the_kinds_of_kubernetes_services() -> None:
    snapshot = mesh(
        service("plain", more="clusterIP: 10.96.0.7"),
        service("headless", more="clusterIP: None"),
        service("alias", more="type: ExternalName\n  externalName: Example.com"),
        service("node", more="type: NodePort\n  sessionAffinity: ClientIP"),
        service("near", more="internalTrafficPolicy: Local\n  trafficDistribution: PreferClose"),
    )

    def kind(name: str) -> Service:
        return get(snapshot, f"{name}.default.svc.cluster.local")

    assert kind("plain").resolution is Resolution.CLIENT_SIDE
    assert kind("plain").addresses == ("10.96.0.7",)
    assert kind("headless").resolution is Resolution.PASSTHROUGH
    assert kind("headless").headless
    assert kind("headless").addresses == ()
    assert kind("alias").resolution is Resolution.ALIAS
    assert kind("alias").external_name == "example.com"
    assert kind("node").session_affinity
    assert kind("near").internal_traffic_local
    assert kind("near").traffic_distribution == "PreferClose"


def test_a_statefulset_pod_has_its_own_name_behind_a_headless_service() -> None:
    snapshot = mesh(
        service("db", more="clusterIP: None", ports="[{name: tcp, port: 5432}]"),
        pod("db-0", "10.0.0.1", "{app: db}", spec="hostname: db-0\n  subdomain: db"),
    )
    (endpoint,) = snapshot.services.endpoints(get(snapshot, "db.default.svc.cluster.local"))
    assert endpoint.hostname == "db-0"


def test_the_identity_of_a_workload() -> None:
    owner = (
        "ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: reviews-v1-6d8c9f7b5, "
        "controller: true}]"
    )
    snapshot = mesh(
        service("reviews"),
        pod(
            "reviews-v1-6d8c9f7b5-abcde",
            "10.0.0.1",
            "{app: reviews, version: v1, pod-template-hash: 6d8c9f7b5, "
            "security.istio.io/tlsMode: istio, topology.istio.io/network: n1}",
            account="bookinfo-reviews",
            metadata=owner,
            spec="nodeName: n1",
        ),
        """
        apiVersion: v1
        kind: Node
        metadata:
          name: n1
          labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}
        """,
    )
    reviews = get(snapshot, REVIEWS)
    (endpoint,) = snapshot.services.endpoints(reviews)
    identity = endpoint.identity
    assert identity is not None
    assert (identity.workload, identity.app, identity.version) == ("reviews-v1", "reviews", "v1")
    assert (identity.canonical_name, identity.canonical_revision) == ("reviews", "v1")
    assert identity.spiffe_id == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    assert endpoint.mtls
    assert endpoint.network == "n1"
    assert endpoint.locality == Locality("r", "z")
    assert reviews.service_accounts == (identity.spiffe_id,)


def test_endpoint_slices_come_before_the_selector() -> None:
    snapshot = mesh(
        service("reviews"),
        pod("reviews-1", "10.0.0.1", "{app: reviews, version: v1}"),
        pod("reviews-2", "10.0.0.2", "{app: reviews, version: v2}"),
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata:
          name: reviews-abc
          namespace: default
          labels: {kubernetes.io/service-name: reviews}
        addressType: IPv4
        ports: [{name: http, port: 9080}]
        endpoints:
        - addresses: [10.0.0.1]
          targetRef: {kind: Pod, name: reviews-1, namespace: default}
        - addresses: [10.0.0.9]
          conditions: {ready: false}
        - addresses: [10.0.0.8]
          conditions: {ready: false, serving: true, terminating: true}
        """,
    )
    endpoints = snapshot.services.endpoints(get(snapshot, REVIEWS))
    assert [(e.address, e.port, e.health, e.labels.get("version")) for e in endpoints] == [
        ("10.0.0.1", 9080, Health.HEALTHY, "v1"),
        ("10.0.0.9", 9080, Health.UNHEALTHY, None),
    ]


def test_a_service_without_selector_has_the_addresses_of_its_endpoints_object() -> None:
    snapshot = mesh(
        """
        apiVersion: v1
        kind: Service
        metadata: {name: legacy, namespace: default}
        spec: {ports: [{port: 80}]}
        ---
        apiVersion: v1
        kind: Endpoints
        metadata: {name: legacy, namespace: default}
        subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 8080}]}]
        """
    )
    assert addresses(snapshot, "legacy.default.svc.cluster.local") == [("192.0.2.1", 8080)]


def test_a_service_selects_workload_entries_too() -> None:
    snapshot = mesh(
        service("reviews", ports="[{name: http, port: 80, targetPort: 9080}]"),
        istio(
            "WorkloadEntry",
            "vm",
            "{address: 192.0.2.1, labels: {app: reviews}, serviceAccount: vm, weight: 3, "
            "locality: r/z/s, ports: {http: 7070}}",
        ),
    )
    (endpoint,) = snapshot.services.endpoints(get(snapshot, REVIEWS))
    assert (endpoint.address, endpoint.port, endpoint.weight) == ("192.0.2.1", 7070, 3)
    assert endpoint.locality == Locality("r", "z", "s")
    assert endpoint.mtls


def test_one_cluster_ip_belongs_to_the_oldest_service() -> None:
    snapshot = mesh(
        service("young", more="clusterIP: 10.96.0.7", created="2026-01-02T00:00:00Z"),
        service("old", more="clusterIP: 10.96.0.7", created="2026-01-01T00:00:00Z"),
    )
    assert [s.name for s in snapshot.services.all()] == ["old"]
    assert ("LT1001", "young") in rule_ids(snapshot)


def test_a_service_that_selects_nothing_is_pointed_out() -> None:
    snapshot = mesh(service("lonely"))
    (finding,) = snapshot.findings
    assert finding.rule == "LT1003"
    assert "app=lonely" in finding.message
    assert finding.provenance.path == "mesh.yaml"


def test_a_service_entry_with_dns_is_its_own_endpoint() -> None:
    snapshot = mesh(
        istio(
            "ServiceEntry",
            "api",
            "{hosts: [api.example.com, www.example.com], resolution: DNS, "
            "ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]}",
        )
    )
    assert [s.hostname for s in snapshot.services.all()] == ["api.example.com", "www.example.com"]
    api = get(snapshot, "api.example.com")
    assert api.mesh_external
    assert api.ports[0].protocol is Protocol.TLS
    assert addresses(snapshot, "api.example.com") == [("api.example.com", 8443)]


def test_a_service_entry_lists_its_endpoints() -> None:
    snapshot = mesh(
        istio(
            "ServiceEntry",
            "db",
            "{hosts: [db.example.com], addresses: [192.0.2.9/32, 198.51.100.0/24], "
            "resolution: STATIC, location: MESH_INTERNAL, subjectAltNames: [db.example.com], "
            "ports: [{number: 5432, name: tcp, protocol: TCP}], "
            "endpoints: [{address: 192.0.2.1, labels: {version: v1}}, "
            "{address: 'unix:///run/db.sock'}, {address: 192.0.2.2, ports: {tcp: 6432}}]}",
        )
    )
    db = get(snapshot, "db.example.com")
    assert db.addresses == ("192.0.2.9", "198.51.100.0/24")
    assert db.service_accounts == ("db.example.com",)
    assert not db.mesh_external
    assert addresses(snapshot, "db.example.com") == [
        ("192.0.2.1", 5432),
        ("unix:///run/db.sock", 0),
        ("192.0.2.2", 6432),
    ]


def test_a_service_entry_selects_pods_and_workload_entries() -> None:
    snapshot = mesh(
        istio(
            "ServiceEntry",
            "shop",
            "{hosts: [shop.example.com], resolution: STATIC, location: MESH_INTERNAL, "
            "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], "
            "workloadSelector: {labels: {app: shop}}}",
        ),
        pod("shop-1", "10.0.0.1", "{app: shop}"),
        istio("WorkloadEntry", "vm", "{address: 192.0.2.1, labels: {app: shop}}"),
    )
    assert addresses(snapshot, "shop.example.com") == [("10.0.0.1", 8080), ("192.0.2.1", 8080)]


def test_allocated_addresses_are_used_and_marked() -> None:
    text = istio(
        "ServiceEntry",
        "api",
        "{hosts: [api.example.com], resolution: DNS, "
        "ports: [{number: 80, name: http, protocol: HTTP}]}",
    ).replace("---", "status: {addresses: [{value: 240.240.0.1, host: api.example.com}]}\n---")
    api = get(mesh(text), "api.example.com")
    assert api.addresses == ("240.240.0.1",)
    assert api.addresses_auto_allocated


def test_service_entries_of_one_host_are_merged_or_the_oldest_wins() -> None:
    def entry(name: str, address: str, resolution: str, port: int, created: str) -> str:
        return istio(
            "ServiceEntry",
            name,
            f"{{hosts: [x.example.com], resolution: {resolution}, "
            f"ports: [{{number: {port}, name: p{port}, protocol: HTTP}}], "
            f"endpoints: [{{address: {address}}}]}}",
            created=created,
        )

    snapshot = mesh(
        entry("first", "192.0.2.1", "STATIC", 80, "2026-01-01T00:00:00Z"),
        entry("second", "192.0.2.2", "STATIC", 81, "2026-01-02T00:00:00Z"),
        entry("third", "x.example.com", "DNS", 82, "2026-01-03T00:00:00Z"),
    )
    assert [p.number for p in get(snapshot, "x.example.com").ports] == [80, 81]
    assert addresses(snapshot, "x.example.com") == [("192.0.2.1", 80), ("192.0.2.2", 81)]
    assert rule_ids(snapshot) == [("LT1002", "third")]


def test_a_kubernetes_service_comes_before_a_service_entry() -> None:
    entry = (
        f"{{hosts: [{REVIEWS}], resolution: STATIC, ports: [{{number: 80, name: http, "
        "protocol: HTTP}], endpoints: [{address: 192.0.2.1}]}"
    )
    snapshot = mesh(
        istio("ServiceEntry", "override", entry, "elsewhere", "2025-01-01T00:00:00Z"),
        service("reviews"),
        pod("reviews-1", "10.0.0.1", "{app: reviews}"),
    )
    assert get(snapshot, REVIEWS).namespace == "default"
    own = snapshot.services.resolve(REVIEWS, "elsewhere")
    assert own is not None
    assert own.namespace == "elsewhere"


def test_export_to_decides_who_sees_a_service() -> None:
    snapshot = mesh(
        service("public"),
        service("private", annotations="{networking.istio.io/exportTo: .}"),
        service("hidden", annotations="{networking.istio.io/exportTo: '~'}"),
    )
    assert [s.name for s in snapshot.services.visible_to("default")] == ["private", "public"]
    assert [s.name for s in snapshot.services.visible_to("other")] == ["public"]


def test_inbound_ports_come_from_the_services_in_front_oldest_first() -> None:
    snapshot = mesh(
        service(
            "young",
            selector="{app: web}",
            ports="[{name: tcp, port: 81, targetPort: 8080}]",
            created="2026-01-02T00:00:00Z",
        ),
        service(
            "old",
            selector="{app: web}",
            ports="[{name: http, port: 80, targetPort: http}, {name: u, port: 53, protocol: UDP}]",
        ),
        pod("web-1", "10.0.0.1", "{app: web}", ports="[{name: http, containerPort: 8080}]"),
    )
    resource = snapshot.get(pod_key("web-1"))
    assert resource is not None
    scope = scope_of_pod(snapshot, resource)
    (port,) = scope.inbound
    assert (port.hostname, port.service_port, port.target_port, port.protocol) == (
        "old.default.svc.cluster.local",
        80,
        8080,
        "HTTP",
    )


def ports_of_web(*texts: str) -> list[tuple[str, int, int]]:
    """Service, service port and workload port of a pod at 10.0.0.1 that no selector picks."""
    snapshot = mesh(*texts, pod("web-1", "10.0.0.1", "{app: web}"))
    resource = snapshot.get(pod_key("web-1"))
    assert resource is not None
    scope = scope_of_pod(snapshot, resource)
    return [(p.hostname.split(".")[0], p.service_port, p.target_port) for p in scope.inbound]


SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: bare}}
addressType: IPv4
ports: [{name: http, port: 9080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
---
"""


def test_inbound_ports_of_endpoints_with_the_own_address_of_a_service_entry() -> None:
    spec = (
        "{{hosts: [web.example.com], resolution: STATIC, ports: [{{number: 80, name: http, "
        "protocol: HTTP, targetPort: 6000}}], endpoints: [{{address: {}}}]}}"
    )
    own = istio("ServiceEntry", "web", spec.format("10.0.0.1"))
    assert ports_of_web(own) == [("web", 80, 6000)]
    mapped = istio("ServiceEntry", "web", spec.format("10.0.0.1, ports: {http: 7000}"))
    assert ports_of_web(mapped) == [("web", 80, 7000)]
    assert ports_of_web(istio("ServiceEntry", "web", spec.format("10.0.0.2"))) == []
    elsewhere = istio("ServiceEntry", "web", spec.format("10.0.0.1"), "other")
    assert ports_of_web(elsewhere) == []  # objects shape workloads of their own namespace only


def test_a_service_entry_whose_host_is_a_services_gives_no_inbound_port() -> None:
    entry = istio(
        "ServiceEntry",
        "web",
        "{hosts: [other.default.svc.cluster.local], resolution: STATIC, workloadSelector: "
        "{labels: {app: web}}, ports: [{number: 80, name: http, protocol: HTTP}]}",
    )
    assert ports_of_web(entry) == [("other", 80, 80)]
    assert ports_of_web(entry, service("other")) == []


def test_inbound_ports_of_a_workload_entry_with_the_own_address() -> None:
    entry = istio("WorkloadEntry", "vm", "{address: 10.0.0.1, labels: {vm: db}, ports: {tcp: 90}}")
    picking = service("db", selector="{vm: db}", ports="[{name: tcp, port: 80}]")
    assert ports_of_web(entry, picking) == [("db", 80, 90)]
    assert ports_of_web(entry, service("db")) == []


def test_inbound_ports_of_an_endpoint_slice_with_the_own_address() -> None:
    bare = service("bare", selector="null")
    assert ports_of_web(bare, SLICE) == [("bare", 80, 9080)]
    named = SLICE.replace(
        "[10.0.0.1]}", "[10.0.0.1], targetRef: {kind: Pod, name: web-1, namespace: default}}"
    )
    assert ports_of_web(bare, named) == [("bare", 80, 9080)]
    assert ports_of_web(bare, SLICE.replace("10.0.0.1", "10.0.0.3")) == []


def test_inbound_ports_of_endpoint_slices_count_where_no_service_selects() -> None:
    """As Istio's registry of Kubernetes objects looks at them (``GetProxyServiceTargets``)."""
    assert ports_of_web(service("bare", selector="null"), SLICE, service("web")) == [
        ("web", 80, 80)
    ]


def test_broken_mesh_configuration_is_reported_and_ignored() -> None:
    good = """
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: istio, namespace: istio-system}
        data: {mesh: "trustDomain: example.org"}
        """
    assert mesh(good).trust_domain == "example.org"
    bad = mesh(good.replace("trustDomain: example.org", "trustDomain: [1]"))
    assert bad.trust_domain == "cluster.local"
    assert bad.findings
