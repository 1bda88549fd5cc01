"""Services as kernel table entries."""

from __future__ import annotations

from typing import Any

from lateen.runtime.pod_files import hosts, resolv_conf
from lateen.runtime.service_table import service_ports
from tests.runtime.objects import pod

Raw = dict[str, Any]


def endpoints(service: Raw, pods: list[Raw], slices: list[Raw]) -> list[tuple[str, int]]:
    """Endpoints of the first port, as the table is built from them."""
    found = service_ports([service], pods, slices)
    return list(found[0].endpoints) if found else []


def service(**spec: Any) -> Raw:
    """A Service that selects ``app: web``."""
    return {
        "metadata": {"name": "s", "namespace": "default"},
        "spec": {
            "clusterIP": "10.96.1.0",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
            **spec,
        },
    }


def endpoint_slice(address: str, ready: bool = True, protocol: str = "TCP") -> Raw:
    """A slice of the Service."""
    return {
        "metadata": {
            "name": "s-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "s"},
        },
        "addressType": "IPv4",
        "ports": [{"port": 9000, "protocol": protocol}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
    }


WEB = pod("web", ready=True, labels={"app": "web"})


def test_ready_pods_are_endpoints() -> None:
    starting = pod("starting", labels={"app": "web"})
    assert endpoints(service(), [WEB, starting], []) == [("10.244.0.20", 8080)]
    ending = pod("e", ready=True, labels={"app": "web"}, deletionTimestamp="now")
    assert endpoints(service(), [ending], []) == []
    assert endpoints(service(publishNotReadyAddresses=True), [starting], []) != []


def test_slices_decide_over_pods_even_when_none_is_ready() -> None:
    assert endpoints(service(), [WEB], [endpoint_slice("10.1.1.1")]) == [("10.1.1.1", 9000)]
    assert endpoints(service(), [WEB], [endpoint_slice("10.1.1.1", ready=False)]) == []
    assert endpoints(service(), [WEB], [endpoint_slice("10.1.1.1", protocol="UDP")]) == []


def test_headless_services_have_no_entry() -> None:
    assert endpoints(service(clusterIP="None"), [WEB], []) == []


def test_named_target_ports() -> None:
    raw = pod("web", ready=True, labels={"app": "web"})
    raw["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 5000}]
    ports = [{"port": 80, "targetPort": "http"}]
    assert endpoints(service(ports=ports), [raw], []) == [("10.244.0.20", 5000)]
    ports = [{"port": 80, "targetPort": "missing"}]
    assert endpoints(service(ports=ports), [raw], []) == []


def test_resolv_conf_adds_what_the_pod_asks_for() -> None:
    raw = pod()
    raw["spec"]["dnsConfig"] = {"nameservers": ["1.1.1.1"], "options": [{"name": "edns0"}]}
    text = resolv_conf(raw, "10.96.0.10", "cluster.local")
    assert text.splitlines() == [
        "nameserver 10.96.0.10",
        "nameserver 1.1.1.1",
        "search default.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5 edns0",
    ]
    raw["spec"]["dnsPolicy"] = "None"
    assert resolv_conf(raw, "10.96.0.10", "cluster.local").startswith("nameserver 1.1.1.1\n")


def test_hosts_name_the_pod() -> None:
    raw = pod()
    raw["spec"].update(subdomain="db", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x", "y"]}])
    lines = hosts(raw, "10.244.0.20", "db-0", "cluster.local").splitlines()
    assert "10.244.0.20 db-0.db.default.svc.cluster.local db-0" in lines
    assert "1.2.3.4 x y" in lines
