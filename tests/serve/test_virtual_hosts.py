"""Virtual hosts as resources of their own: when they are sent, and what real Envoys make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lateen.model.discovery import ROUTE, VIRTUAL_HOST
from lateen.serve.protocol import Dialect
from tests.serve.live import LiveMesh, live_mesh, until
from tests.serve.scripts import Client, Seen, target

BASE = target(1, LDS=["l"], RDS=["80", "81"], VHDS=["80/a", "80/b", "81/c"])


def with_routes(*names: str) -> tuple[Client, Seen]:
    """A proxy that asked for route configurations ``names``, then (as Envoy does, without names)
    for virtual hosts, and has acknowledged all but these."""
    client = Client()
    client.assign(BASE)
    client.ack(client.ask("LDS")[0])
    [routes] = client.ask("RDS", *names)
    assert routes.names == names
    client.ack(routes)
    [hosts] = client.ask("VHDS")
    return client, hosts


def test_a_proxy_gets_the_virtual_hosts_of_route_configurations_that_it_has() -> None:
    client, hosts = with_routes("80")
    assert hosts.names == ("80/a", "80/b")
    client.ack(hosts)
    assert client.session.in_sync
    routes, more = client.ask("RDS", "81")
    assert (routes.names, more.type, more.names) == (("81",), "VHDS", ("81/c",))


def test_a_changed_virtual_host_is_sent_alone() -> None:
    client, hosts = with_routes("80", "81")
    client.ack(hosts)
    [change] = client.assign(
        target(2, BASE, LDS=["l"], RDS=["80", "81"], VHDS=["80/a", "80/b=2", "81/c"])
    )
    assert (change.type, change.names, change.removed) == ("VHDS", ("80/b",), ())
    client.ack(change)
    [removal] = client.assign(target(3, LDS=["l"], RDS=["80", "81"], VHDS=["80/b=2", "81/c"]))
    assert (removal.type, removal.names, removal.removed) == ("VHDS", (), ("80/a",))


def test_virtual_hosts_follow_their_route_configuration_when_it_is_asked_for_again() -> None:
    client, hosts = with_routes("80", "81")
    client.ack(hosts)
    # A listener went and with it all that the proxy had for it; then it came back.
    for seen in client.ask("RDS", drop=("81",)):
        client.ack(seen)
    routes, again = client.ask("RDS", "81")
    assert (routes.names, again.names) == (("81",), ("81/c",))


def test_virtual_hosts_of_a_draining_listener_stay() -> None:
    client, hosts = with_routes("80", "81")
    client.ack(hosts)
    sent = client.assign(target(2, LDS=["l"], RDS=["80"], VHDS=["80/a", "80/b"]))
    assert [item for item in sent if item.type in ("RDS", "VHDS")] == []


def test_a_proxy_that_comes_back_is_sent_what_changed_meanwhile() -> None:
    client = Client()
    client.assign(BASE)
    versions = {n: r.version for n, r in BASE.view(VIRTUAL_HOST).resources.items()}
    client.ask("LDS", have={n: r.version for n, r in BASE.view(ROUTE).resources.items()})
    routes = {n: r.version for n, r in BASE.view(ROUTE).resources.items()}
    for seen in client.ask("RDS", "80", "81", have=routes):
        assert seen.names == ()
        client.ack(seen)
    [hosts] = client.ask("VHDS", have={**versions, "80/b": "old", "80/gone": "1"})
    assert (hosts.names, hosts.removed) == (("80/b",), ("80/gone",))


def test_state_of_the_world_gets_whole_route_configurations() -> None:
    client = Client(Dialect.STATE)
    client.assign(BASE)
    client.ack(client.ask("LDS")[0])
    [routes] = client.ask("RDS", "80")
    client.ack(routes, "80")
    changed = target(2, BASE, LDS=["l"], RDS=["80", "81"], VHDS=["80/a", "80/b=2", "81/c"])
    [again] = client.assign(changed)
    assert (again.type, again.names) == ("RDS", ("80",))
    held = client.session.subscriptions[ROUTE].held.resources["80"]
    assert changed.offers(held)
    assert not BASE.offers(held)


SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080, targetPort: 9080}]
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: default}
spec:
  selector: {app: ratings}
  ports: [{name: http, port: 9080, targetPort: 9080}]
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - match: [{statPrefix: mine}]
    timeout: %ss
    headers: {request: {set: {x-who: "%s"}}}
    route: [{destination: {host: reviews}}]
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[LiveMesh]:
    with live_mesh(tmp_path) as found:
        found.apply(SERVICES, wait=False)
        for name in ("reviews", "sleep"):
            found.add_pod(name)
            found.start_envoy(name)
        found.wait_connected("reviews", "sleep")
        yield found


def virtual_hosts(mesh: LiveMesh, name: str = "sleep") -> dict[str, Any]:
    """Virtual hosts of the route configuration 9080 in an Envoy."""
    dump = json.loads(mesh.admin(name, "/config_dump?resource=dynamic_route_configs"))
    return {
        host["name"]: host
        for entry in dump["configs"]
        if entry["route_config"]["name"] == "9080"
        for host in entry["route_config"].get("virtual_hosts", [])
    }


def timeout_of(mesh: LiveMesh) -> object:
    [route] = virtual_hosts(mesh)[REVIEWS]["routes"]
    return route["route"].get("timeout")


REVIEWS = "9080/reviews.default.svc.cluster.local:9080"
RATINGS = "9080/ratings.default.svc.cluster.local:9080"


@pytest.mark.envoy
@pytest.mark.live
@pytest.mark.timeout(110)
def test_envoys_are_sent_one_virtual_host_for_a_rule(mesh: LiveMesh) -> None:
    def sent() -> dict[str, float]:
        prefix = "lateen_xds_resources_sent_total{"
        return {
            line.split('"')[1]: float(line.split()[-1])
            for line in mesh.metrics().splitlines()
            if line.startswith(prefix)
        }

    assert set(virtual_hosts(mesh)) == {REVIEWS, RATINGS, "9080/allow_any"}
    before = sent()
    assert mesh.apply(RULE % (7, "me"))["acknowledged"]
    assert timeout_of(mesh) == "7s"
    # Statistics of routes have the name of the host alone, as they have without discovery.
    names = mesh.admin("sleep", "/stats/prometheus?filter=vhost")
    assert (
        "envoy_vhost_reviews_default_svc_cluster_local_9080_route_mine_upstream_rq_retry"
        '{route_config="9080"}'
    ) in names
    grown = {kind: count - before.get(kind, 0.0) for kind, count in sent().items()}
    assert {kind: count for kind, count in grown.items() if count} == {"vhds": 2.0}

    # What the control plane shows is what the proxy runs.
    assert mesh.proxy("sleep")["types"]["vhds"]["state"] == "SYNCED"
    config = mesh.api.request("GET", "/lateen/v1/proxies/sleep.default/config?type=routes")
    [dump] = config["configs"]
    [shown] = [
        entry["route_config"]
        for entry in dump["dynamic_route_configs"]
        if entry["route_config"]["name"] == "9080"
    ]
    assert {host["name"] for host in shown["virtual_hosts"]} == set(virtual_hosts(mesh))

    mesh.api.request("DELETE", "/api/v1/namespaces/default/services/ratings")
    until(lambda: RATINGS not in virtual_hosts(mesh), "virtual host gone")
    assert timeout_of(mesh) == "7s"


@pytest.mark.envoy
@pytest.mark.live
@pytest.mark.timeout(110)
def test_a_rule_that_envoy_refuses_is_found_by_its_virtual_host(mesh: LiveMesh) -> None:
    assert mesh.apply(RULE % (7, "me"))["acknowledged"]
    # Envoy knows no such command, which no validation of Istio finds.
    result = mesh.apply(RULE % (8, "%NO_SUCH_COMMAND%"), path="bad.yaml")
    [rejection] = result["rejections"]
    assert (rejection["object"]["kind"], rejection["object"]["name"]) == (
        "VirtualService", "reviews",
    )  # fmt: skip
    assert (rejection["file"], rejection["line"]) == ("bad.yaml", 1)
    assert timeout_of(mesh) == "7s"
    assert mesh.apply(RULE % (9, "me"))["acknowledged"]
    assert timeout_of(mesh) == "9s"
