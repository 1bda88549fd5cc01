"""What the names of a cluster mean."""

from __future__ import annotations

from lateen.agent.names import NameTable, Target
from tests.agent.objects import Raw, endpoint_slice, pod, service, service_entry

WEB = [{"name": "http", "port": 80, "targetPort": 8080}]


def table(*objects: dict[str, object]) -> NameTable:
    names = NameTable()
    for raw in objects:
        names.apply("ADDED", raw)
    return names


def addresses(names: NameTable, name: str, namespace: str = "") -> tuple[str, ...] | None:
    found = names.lookup(name, namespace)
    return None if found is None else found.addresses


def test_cluster_ip_service() -> None:
    names = table(service("reviews", clusterIP="10.96.1.5", ports=WEB))
    assert addresses(names, "reviews.default.svc.cluster.local") == ("10.96.1.5",)
    assert addresses(names, "reviews.other.svc.cluster.local") is None
    assert addresses(names, "10-96-1-5.reviews.default.svc.cluster.local") is None


def test_service_changes_and_goes() -> None:
    names = table(service("reviews", clusterIP="10.96.1.5"))
    names.apply("MODIFIED", service("reviews", clusterIP="10.96.1.6"))
    assert addresses(names, "reviews.default.svc.cluster.local") == ("10.96.1.6",)
    assert names.lookup("5.1.96.10.in-addr.arpa") is None
    names.apply("DELETED", service("reviews", clusterIP="10.96.1.6"))
    assert names.lookup("reviews.default.svc.cluster.local") is None
    assert names.lookup("default.svc.cluster.local") is None


def test_headless_service_has_its_ready_pods() -> None:
    names = table(
        service("db", clusterIP="None", selector={"app": "db"}, ports=WEB),
        pod("db-a", "10.244.0.5", labels={"app": "db"}),
        pod("db-b", "10.244.0.6", labels={"app": "db"}, ready=False),
        pod("db-c", "10.244.0.7", labels={"app": "db"}, deleting=True),
        pod("web", "10.244.0.8", labels={"app": "web"}),
    )
    assert addresses(names, "db.default.svc.cluster.local") == ("10.244.0.5",)
    assert addresses(names, "10-244-0-5.db.default.svc.cluster.local") == ("10.244.0.5",)
    assert addresses(names, "10-244-0-6.db.default.svc.cluster.local") is None
    names.apply("MODIFIED", pod("db-b", "10.244.0.6", labels={"app": "db"}))
    assert addresses(names, "db.default.svc.cluster.local") == ("10.244.0.5", "10.244.0.6")
    names.apply("MODIFIED", pod("db-a", "10.244.0.5", labels={"app": "else"}))
    assert addresses(names, "db.default.svc.cluster.local") == ("10.244.0.6",)


def test_headless_service_created_after_its_pods() -> None:
    names = table(pod("db-a", "10.244.0.5", labels={"app": "db"}))
    names.apply("ADDED", service("db", clusterIP="None", selector={"app": "db"}))
    assert addresses(names, "db.default.svc.cluster.local") == ("10.244.0.5",)


def test_headless_service_without_ready_pods_does_not_exist() -> None:
    names = table(service("db", clusterIP="None", selector={"app": "db"}))
    assert names.lookup("db.default.svc.cluster.local") is None


def test_publish_not_ready_addresses() -> None:
    names = table(
        service("db", clusterIP="None", selector={"app": "db"}, publishNotReadyAddresses=True),
        pod("db-a", "10.244.0.5", labels={"app": "db"}, ready=False),
    )
    assert addresses(names, "db.default.svc.cluster.local") == ("10.244.0.5",)


def test_stateful_set_names() -> None:
    first = pod("db-0", "10.244.0.5", labels={"app": "db"}, subdomain="db", hostname="db-0")
    second = pod("db-1", "10.244.0.6", labels={"app": "db"}, subdomain="db")
    second["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "db"}]
    names = table(service("db", clusterIP="None", selector={"app": "db"}), first, second)
    assert addresses(names, "db-0.db.default.svc.cluster.local") == ("10.244.0.5",)
    assert addresses(names, "db-1.db.default.svc.cluster.local") == ("10.244.0.6",)
    assert addresses(names, "10-244-0-5.db.default.svc.cluster.local") is None
    found = names.lookup("5.0.244.10.in-addr.arpa")
    assert found is not None
    assert found.pointers == ("db-0.db.default.svc.cluster.local",)


def test_service_records_of_a_cluster_ip_service() -> None:
    names = table(service("reviews", clusterIP="10.96.1.5", ports=WEB))
    found = names.lookup("_http._tcp.reviews.default.svc.cluster.local")
    assert found is not None
    assert found.targets == (Target(80, "reviews.default.svc.cluster.local", ("10.96.1.5",)),)
    assert names.lookup("_http._udp.reviews.default.svc.cluster.local") is None
    assert names.lookup("_tcp.reviews.default.svc.cluster.local") is not None


def test_service_records_of_a_headless_service_name_the_container_port() -> None:
    ports = [{"name": "sql", "port": 5432, "targetPort": "postgres"}]
    containers = [{"name": "c", "ports": [{"name": "postgres", "containerPort": 6000}]}]
    names = table(
        service("db", clusterIP="None", selector={"app": "db"}, ports=ports),
        pod("db-0", "10.244.0.5", labels={"app": "db"}, containers=containers),
    )
    found = names.lookup("_sql._tcp.db.default.svc.cluster.local")
    assert found is not None
    target = "10-244-0-5.db.default.svc.cluster.local"
    assert found.targets == (Target(6000, target, ("10.244.0.5",)),)


def test_headless_service_without_a_selector_uses_its_slices() -> None:
    endpoints: list[Raw] = [
        {"addresses": ["192.168.7.1"], "hostname": "one"},
        {"addresses": ["192.168.7.2"], "conditions": {"ready": False}},
    ]
    names = table(
        service("legacy", clusterIP="None", ports=[{"name": "http", "port": 80}]),
        endpoint_slice("legacy-1", "legacy", endpoints, [{"name": "http", "port": 9000}]),
    )
    assert addresses(names, "legacy.default.svc.cluster.local") == ("192.168.7.1",)
    assert addresses(names, "one.legacy.default.svc.cluster.local") == ("192.168.7.1",)
    found = names.lookup("_http._tcp.legacy.default.svc.cluster.local")
    assert found is not None
    assert [target.port for target in found.targets] == [9000]


def test_external_name() -> None:
    names = table(service("outside", type="ExternalName", externalName="Example.COM."))
    found = names.lookup("outside.default.svc.cluster.local")
    assert found is not None
    assert found.alias == "example.com"


def test_pod_names_and_reverse_names() -> None:
    names = table(
        service("reviews", clusterIP="10.96.1.5"),
        pod("web", "10.244.0.8"),
    )
    assert addresses(names, "10-244-0-8.default.pod.cluster.local") == ("10.244.0.8",)
    assert addresses(names, "10-244-0-8.other.pod.cluster.local") is None
    assert addresses(names, "10-244-0-9.default.pod.cluster.local") is None
    service_pointer = names.lookup("5.1.96.10.in-addr.arpa")
    pod_pointer = names.lookup("8.0.244.10.in-addr.arpa")
    assert service_pointer is not None
    assert pod_pointer is not None
    assert service_pointer.pointers == ("reviews.default.svc.cluster.local",)
    assert pod_pointer.pointers == ("10-244-0-8.default.pod.cluster.local",)


def test_pod_without_address_or_ended_has_no_name() -> None:
    ended = pod("job", "10.244.0.9")
    ended["status"]["phase"] = "Succeeded"
    names = table(pod("starting", ""), ended)
    assert names.lookup("10-244-0-9.default.pod.cluster.local") is None


def test_service_entry_hosts() -> None:
    names = table(
        service_entry("own", ["db.example.com"], addresses=["198.51.100.7", "10.0.0.0/8"]),
        service_entry("auto", ["api.example.com"], allocated={"api.example.com": "240.240.0.4"}),
        service_entry("wild", ["*.wild.example.com"], addresses=["198.51.100.8/32"]),
        service_entry("none", ["plain.example.com"]),
    )
    assert addresses(names, "db.example.com") == ("198.51.100.7",)
    assert addresses(names, "api.example.com") == ("240.240.0.4",)
    assert addresses(names, "a.b.wild.example.com") == ("198.51.100.8",)
    assert addresses(names, "wild.example.com") is None
    assert addresses(names, "plain.example.com") is None
    assert names.lookup("api.example.com", mesh_hosts=False) is None


def test_the_longest_wildcard_wins() -> None:
    names = table(
        service_entry("short", ["*.example.com"], addresses=["198.51.100.1"]),
        service_entry("long", ["*.a.example.com"], addresses=["198.51.100.2"]),
        service_entry("exact", ["x.a.example.com"], addresses=["198.51.100.3"]),
    )
    assert addresses(names, "y.a.example.com") == ("198.51.100.2",)
    assert addresses(names, "x.a.example.com") == ("198.51.100.3",)
    assert addresses(names, "y.b.example.com") == ("198.51.100.1",)


def test_export_to_limits_who_sees_a_host() -> None:
    names = table(
        service_entry("own", ["x.com"], "shop", addresses=["198.51.100.1"], exportTo=["."]),
        service_entry("all", ["x.com"], "infra", addresses=["198.51.100.2"]),
        pod("web", "10.244.0.8", "shop"),
    )
    assert names.namespace_at("10.244.0.8") == "shop"
    assert addresses(names, "x.com", "shop") == ("198.51.100.1",)
    assert addresses(names, "x.com", "bank") == ("198.51.100.2",)
    assert addresses(names, "x.com") == ("198.51.100.2",)


def test_existing_parents_of_names() -> None:
    names = table(service("reviews", clusterIP="10.96.1.5"))
    for name in ("cluster.local", "svc.cluster.local", "default.svc.cluster.local"):
        assert addresses(names, name) == ()
    assert names.lookup("www.google.com.default.svc.cluster.local") is None
    found = names.lookup("dns-version.cluster.local")
    assert found is not None
    assert found.text == "1.1.0"


def test_everything_is_forgotten_in_the_end() -> None:
    objects = [
        service("db", clusterIP="None", selector={"app": "db"}, ports=WEB),
        service("reviews", clusterIP="10.96.1.5", ports=WEB),
        pod("db-0", "10.244.0.5", labels={"app": "db"}),
        endpoint_slice("s", "db", [{"addresses": ["10.0.0.1"]}], [{"port": 1}]),
        service_entry("own", ["x.com", "*.y.com"], addresses=["198.51.100.1"]),
    ]
    names = table(*objects)
    for raw in objects:
        names.apply("DELETED", raw)
    assert {k: v for k, v in vars(names).items() if k != "domain" and v} == {}
