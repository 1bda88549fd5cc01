"""Whatever changes in whatever order: an update gives what a translation from scratch gives."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lateen.api.parse import parse_object
from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change, ChangeSet
from lateen.model.proxy import Scope
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import EMPTY, Snapshot, apply
from lateen.serve.generator import IncrementalMismatch, MeshGenerator
from lateen.translate import inbound
from lateen.translate.view import View

Raw = dict[str, Any]

NAMESPACES = ("one", "two", "istio-system")
NODES = ("n1", "n2")
HOSTS = ("web", "api", "db", "any", "peers")
PROTOCOLS = {"web": "http", "api": "http-api", "db": "tcp-db", "any": "", "peers": "tcp-peers"}


def an_object(version: str, kind: str, namespace: str, name: str, **fields: object) -> Raw:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **(fields.pop("metadata", {}) or {}),  # type: ignore[dict-item]
        },
        **fields,
    }


def service(namespace: str, host: str, port: int, **more: object) -> Raw:
    spec: Raw = {
        **more,
        "selector": {"app": host},
        "ports": [{"name": PROTOCOLS[host], "port": port}],
        "clusterIP": "None"
        if host == "peers"
        else f"10.96.{NAMESPACES.index(namespace)}.{HOSTS.index(host) + 1}",
    }
    if not PROTOCOLS[host]:
        del spec["ports"][0]["name"]
    return an_object("v1", "Service", namespace, host, spec=spec)


def some_service(chance: random.Random, namespace: str, host: str) -> Raw:
    more: Raw = {}
    if chance.random() < 0.4:
        more["trafficDistribution"] = chance.choice(("PreferClose", "PreferSameNode"))
    if chance.random() < 0.5:
        more["internalTrafficPolicy"] = "Local"
    raw = service(namespace, host, chance.choice((80, 8080)), **more)
    if chance.random() < 0.2:
        del raw["spec"]["selector"]
    if chance.random() < 0.2:
        raw["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
    return raw


def alias(chance: random.Random, namespace: str) -> Raw:
    target = chance.choice((*(f"{host}.one.svc.cluster.local" for host in HOSTS), "far.example"))
    spec = {"type": "ExternalName", "externalName": target}
    return an_object("v1", "Service", namespace, "alias", spec=spec)


def home(chance: random.Random, namespace: str) -> Raw:
    raw = an_object("v1", "Namespace", "", namespace)
    if chance.random() < 0.5:
        kind = chance.choice(("PreferSameZone", "PreferSameNode"))
        raw["metadata"]["annotations"] = {"networking.istio.io/traffic-distribution": kind}
    return raw


def address(namespace: str, host: str, number: int) -> str:
    return f"10.{NAMESPACES.index(namespace)}.{HOSTS.index(host)}.{number}"


def an_address(chance: random.Random, namespace: str) -> str:
    """Mostly that of a pod that is watched (see `beginning`)."""
    if chance.random() < 0.3:
        return f"192.0.2.{chance.randint(1, 9)}"
    return address(namespace, chance.choice(HOSTS), 9)


def endpoint_slice(chance: random.Random, namespace: str) -> Raw:
    host = chance.choice(HOSTS)
    listed: Raw = {"addresses": [an_address(chance, namespace)]}
    if chance.random() < 0.5:
        listed["nodeName"] = chance.choice(NODES)
    if chance.random() < 0.3:
        target = chance.choice(HOSTS)
        listed["addresses"] = [address(namespace, target, 9)]
        listed["targetRef"] = {"kind": "Pod", "name": f"{target}-0", "namespace": namespace}
    return an_object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        namespace,
        f"slice-{chance.randint(0, 1)}",
        metadata={"labels": {"kubernetes.io/service-name": host}},
        addressType="IPv4",
        ports=[{"name": PROTOCOLS[host], "port": chance.choice((9000, 9001))}],
        endpoints=[listed],
    )


def workload_entry(chance: random.Random, namespace: str) -> Raw:
    spec = {"address": an_address(chance, namespace), "labels": {"app": chance.choice(HOSTS)}}
    return networking("WorkloadEntry", namespace, f"machine-{chance.randint(0, 1)}", spec)


def pod(namespace: str, host: str, index: int, number: int, *, ready: bool, mesh: bool) -> Raw:
    labels = {"app": host, "version": f"v{index}"}
    if mesh:
        labels["security.istio.io/tlsMode"] = "istio"
    return an_object(
        "v1",
        "Pod",
        namespace,
        f"{host}-{index}",
        metadata={"labels": labels},
        spec={
            "serviceAccountName": host,
            "containers": [{"name": "app", "image": "app"}, {"name": "istio-proxy"}],
            "nodeName": NODES[(HOSTS.index(host) + index) % 2],
        },
        status={
            "phase": "Running",
            "podIP": address(namespace, host, number),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    )


def networking(kind: str, namespace: str, name: str, spec: Raw) -> Raw:
    return an_object("networking.istio.io/v1", kind, namespace, name, spec=spec)


def security(kind: str, namespace: str, name: str, spec: Raw) -> Raw:
    return an_object("security.istio.io/v1", kind, namespace, name, spec=spec)


def virtual_service(chance: random.Random, namespace: str) -> Raw:
    hosts = (*HOSTS, "alias", "*.two.svc.cluster.local", "other.example.com")
    host = chance.choice(hosts)
    target = chance.choice(HOSTS)
    destination: Raw = {"host": target}
    if chance.random() < 0.3:
        destination["subset"] = "v1"
    spec: Raw = {"hosts": [host], "exportTo": [chance.choice(("*", ".", "two"))]}
    if chance.random() < 0.2 and not host.startswith("*"):
        spec["tcp"] = [{"route": [{"destination": destination}]}]
    else:
        route: Raw = {
            "timeout": f"{chance.randint(1, 9)}s",
            "route": [{"destination": destination}],
        }
        if chance.random() < 0.3:
            route["match"] = [{"sourceLabels": {"app": chance.choice(HOSTS)}}]
        if chance.random() < 0.2:
            route["match"] = [{"sourceNamespace": chance.choice(("one", "two"))}]
        if chance.random() < 0.2:
            route = {"delegate": {"name": "delegate", "namespace": namespace}}
        spec["http"] = [route]
    return networking("VirtualService", namespace, f"rule-{chance.randint(0, 3)}", spec)


def delegate(chance: random.Random, namespace: str) -> Raw:
    route = {
        "timeout": f"{chance.randint(1, 9)}s",
        "route": [{"destination": {"host": chance.choice(HOSTS)}}],
    }
    return networking("VirtualService", namespace, "delegate", {"http": [route]})


def destination_rule(chance: random.Random, namespace: str) -> Raw:
    spec: Raw = {
        "host": f"{chance.choice(HOSTS)}.{chance.choice(('one', 'two'))}.svc.cluster.local",
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}],
        "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": chance.randint(1, 9)}}},
        "exportTo": [chance.choice(("*", ".", "two"))],
    }
    if chance.random() < 0.3:
        spec["workloadSelector"] = {"matchLabels": {"app": chance.choice(HOSTS)}}
    if chance.random() < 0.3:
        spec["trafficPolicy"] = {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}
    if chance.random() < 0.2:
        setting = {"failoverPriority": ["kubernetes.io/hostname"]}
        spec["trafficPolicy"]["loadBalancer"] = {"localityLbSetting": setting}
        spec["trafficPolicy"]["outlierDetection"] = {"consecutive5xxErrors": 5}
    return networking("DestinationRule", namespace, f"policy-{chance.randint(0, 2)}", spec)


def sidecar(chance: random.Random, namespace: str) -> Raw:
    spec: Raw = {"egress": [{"hosts": [chance.choice(("./*", "*/*", "two/*", "./web.one"))]}]}
    if chance.random() < 0.3:
        spec["workloadSelector"] = {"labels": {"app": chance.choice(HOSTS)}}
    if chance.random() < 0.3:
        port: Raw = {"number": 80, "name": "http", "protocol": "HTTP"}
        spec["ingress"] = [{"port": port, "defaultEndpoint": "0.0.0.0:81"}]
    if chance.random() < 0.3:
        port = {"number": 80, "name": "own", "protocol": chance.choice(("HTTP", "TCP", "TLS"))}
        spec["egress"].insert(0, {"port": port, "hosts": ["*/*"]})
        if chance.random() < 0.5:
            spec["egress"][0] |= {"bind": "127.0.0.2", "captureMode": "NONE"}
    if chance.random() < 0.3:
        port = {"number": 15080, "name": "proxy", "protocol": "HTTP_PROXY"}
        spec["egress"].insert(0, {"port": port, "hosts": [chance.choice(("*/*", "two/*"))]})
    if chance.random() < 0.3:
        port = {"number": 0, "name": "socket", "protocol": chance.choice(("HTTP", "TCP"))}
        spec["egress"].insert(0, {"port": port, "bind": "unix://@mesh", "hosts": ["*/*"]})
    return networking("Sidecar", namespace, f"sidecar-{chance.randint(0, 1)}", spec)


def peer_authentication(chance: random.Random, namespace: str) -> Raw:
    spec: Raw = {"mtls": {"mode": chance.choice(("STRICT", "PERMISSIVE", "DISABLE"))}}
    name = "default"
    if chance.random() < 0.4:
        name = "some"
        spec["selector"] = {"matchLabels": {"app": chance.choice(HOSTS)}}
    return security("PeerAuthentication", namespace, name, spec)


def authorization_policy(chance: random.Random, namespace: str) -> Raw:
    spec: Raw = {"action": chance.choice(("ALLOW", "DENY")), "rules": [{}]}
    if chance.random() < 0.5:
        spec["selector"] = {"matchLabels": {"app": chance.choice(HOSTS)}}
    return security("AuthorizationPolicy", namespace, f"policy-{chance.randint(0, 1)}", spec)


def service_entry(chance: random.Random, namespace: str) -> Raw:
    spec: Raw = {
        "hosts": [chance.choice(("other.example.com", "third.example.com", "web"))],
        "location": "MESH_EXTERNAL",
        "resolution": chance.choice(("DNS", "STATIC", "NONE")),
        "ports": [{"number": chance.choice((80, 443)), "name": "http", "protocol": "HTTP"}],
    }
    if chance.random() < 0.2:
        spec["hosts"], spec["resolution"] = ["*.example.com"], "DYNAMIC_DNS"
    if spec["resolution"] == "STATIC":
        spec["endpoints"] = [{"address": an_address(chance, namespace)}]
    return networking("ServiceEntry", namespace, f"entry-{chance.randint(0, 1)}", spec)


def a_change(chance: random.Random) -> Change:
    """One written or deleted object."""
    namespace = chance.choice(NAMESPACES[:2])
    host = chance.choice(HOSTS)
    kind = chance.choices(
        (
            *("pod", "service", "route", "delegate", "rule", "sidecar", "peer", "policy", "entry"),
            *("slice", "machine", "home"),
        ),
        (8, 4, 8, 2, 5, 2, 4, 2, 3, 3, 2, 1),
    )[0]
    match kind:
        case "pod":
            raw = pod(
                namespace,
                host,
                chance.randint(0, 2),
                chance.randint(1, 5),
                ready=chance.random() < 0.8,
                mesh=chance.random() < 0.8,
            )
        case "service":
            raw = some_service(chance, namespace, host)
            if chance.random() < 0.3:
                raw = alias(chance, namespace)
        case "route":
            raw = virtual_service(chance, namespace)
        case "delegate":
            raw = delegate(chance, namespace)
        case "rule":
            raw = destination_rule(chance, namespace)
        case "sidecar":
            raw = sidecar(chance, chance.choice(NAMESPACES))
        case "peer":
            raw = peer_authentication(chance, chance.choice(NAMESPACES))
        case "policy":
            raw = authorization_policy(chance, chance.choice(NAMESPACES))
        case "slice":
            raw = endpoint_slice(chance, namespace)
        case "machine":
            raw = workload_entry(chance, namespace)
        case "home":
            raw = home(chance, namespace)
        case _:
            raw = service_entry(chance, namespace)
    resource = parsed(raw)
    return Change(resource.key, None if chance.random() < 0.15 else resource)


def parsed(raw: Raw) -> Resource:
    found = parse_object(raw)
    assert isinstance(found, Resource), found
    return found


def beginning() -> list[Change]:
    """Services, pods to watch from, and some rules."""
    raws: list[Raw] = []
    for namespace in NAMESPACES[:2]:
        raws += [service(namespace, host, 80) for host in HOSTS]
        raws += [pod(namespace, host, 0, 9, ready=True, mesh=True) for host in HOSTS]
        raws.append(pod(namespace, "web", 9, 99, ready=True, mesh=True))
    return [Change(resource.key, resource) for resource in map(parsed, raws)]


def watched(snapshot: Snapshot) -> Iterator[Scope]:
    """Scopes of some proxies, as long as their pods exist."""
    for namespace in NAMESPACES[:2]:
        for host in ("web", "db", "any"):
            found = snapshot.get(ObjectKey("", "Pod", namespace, f"{host}-0"))
            if found is not None:
                yield scope_of_pod(snapshot, found)


REPEATABLE = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@REPEATABLE
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 14))
@pytest.mark.timeout(60)
def test_updates_equal_translations_from_scratch(seed: int, length: int) -> None:
    chance = random.Random(seed)
    update_at_random(chance, beginning(), lambda: a_change(chance), length)


@REPEATABLE
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 14))
@pytest.mark.timeout(60)
def test_routes_that_change_alone_equal_translations_from_scratch(seed: int, length: int) -> None:
    chance = random.Random(seed)
    rules = [virtual_service(chance, chance.choice(NAMESPACES[:2])) for _ in range(6)]

    def change() -> Change:
        if chance.random() < 0.2:
            return a_change(chance)
        resource = parsed(with_other_timeout(chance.choice(rules), chance.randint(1, 9)))
        return Change(resource.key, resource)

    resources = {resource.key: resource for resource in map(parsed, rules)}
    first = [Change(resource.key, resource) for resource in resources.values()]
    update_at_random(chance, [*beginning(), *first], change, length)


def with_other_timeout(raw: Raw, seconds: int) -> Raw:
    """A VirtualService whose HTTP routes alone differ."""
    rules = [
        {**rule, "timeout": f"{seconds}s"} if "delegate" not in rule else rule
        for rule in raw["spec"].get("http", ())
    ]
    return {**raw, "spec": {**raw["spec"], "http": rules} if rules else raw["spec"]}


def update_at_random(
    chance: random.Random, first: list[Change], change: Callable[[], Change], length: int
) -> None:
    """Change a mesh ``length`` times; the generator compares with a translation from scratch."""
    generator = MeshGenerator(verify=True)
    snapshot, _ = apply(EMPTY, first)
    held = {scope: generator.generate(snapshot, scope) for scope in watched(snapshot)}
    pending = ChangeSet()
    for _ in range(length):
        changes = [change() for _ in range(chance.choice((1, 1, 1, 2, 4)))]
        snapshot, changed = apply(snapshot, changes)
        pending = pending.merged(changed)
        if chance.random() < 0.25:
            continue  # more is debounced into the same push
        now = {}
        for scope in watched(snapshot):
            before = held.get(scope)
            now[scope] = (
                generator.generate(snapshot, scope)
                if before is None
                else generator.update(snapshot, scope, before, pending)
            )
        held, pending = now, ChangeSet()


def test_an_undeclared_dependency_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from lateen.model import kinds
    from lateen.translate import impact

    generator = MeshGenerator(verify=True)
    snapshot, _ = apply(EMPTY, beginning())
    scope = next(watched(snapshot))
    before = generator.generate(snapshot, scope)
    rule = networking(
        "DestinationRule",
        "one",
        "web",
        {"host": "web", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}}},
    )
    resource = parsed(rule)
    snapshot, changed = apply(snapshot, [Change(resource.key, resource)])

    forgotten = {**impact.PARTS, kinds.DESTINATION_RULE: impact.Part.NONE}
    monkeypatch.setattr(impact, "PARTS", forgotten)

    with pytest.raises(IncrementalMismatch, match=r"outbound\|80\|\|web\.one.*DestinationRule"):
        generator.update(snapshot, scope, before, changed)


def test_equal_workloads_captured_differently_get_listeners_of_their_own() -> None:
    snapshot, _ = apply(EMPTY, beginning())
    redirected = next(watched(snapshot))
    transparent = dataclasses.replace(redirected, interception="TPROXY")

    found = [inbound.listeners(View(snapshot, scope)) for scope in (redirected, transparent)]

    assert [listener.transparent for (listener,) in found] == [False, True]


def test_a_rule_that_makes_the_own_service_visible_changes_the_inbound_side() -> None:
    generator = MeshGenerator(verify=True)
    only_two = networking("Sidecar", "one", "default", {"egress": [{"hosts": ["two/*"]}]})
    resource = parsed(only_two)
    snapshot, _ = apply(EMPTY, [*beginning(), Change(resource.key, resource)])
    scope = next(watched(snapshot))
    before = generator.generate(snapshot, scope)
    destination = {"host": "web.one.svc.cluster.local"}
    spec = {
        "hosts": ["api.two.svc.cluster.local"],
        "http": [{"route": [{"destination": destination}]}],
    }
    resource = parsed(networking("VirtualService", "two", "to-one", spec))
    snapshot, changed = apply(snapshot, [Change(resource.key, resource)])

    generator.update(snapshot, scope, before, changed)


def test_rules_for_an_external_name_that_change_alone_reach_its_virtual_host() -> None:
    def rule(seconds: int) -> Change:
        route = {"timeout": f"{seconds}s", "route": [{"destination": {"host": "api"}}]}
        spec = {"hosts": ["alias"], "http": [route]}
        resource = parsed(networking("VirtualService", "one", "rule", spec))
        return Change(resource.key, resource)

    generator = MeshGenerator(verify=True)
    spec = {"type": "ExternalName", "externalName": "web.one.svc.cluster.local"}
    resource = parsed(an_object("v1", "Service", "one", "alias", spec=spec))
    snapshot, _ = apply(EMPTY, [*beginning(), Change(resource.key, resource), rule(1)])
    scope = next(watched(snapshot))
    held = generator.generate(snapshot, scope)
    for change in (rule(2), Change(rule(0).key, None), rule(3)):
        snapshot, changed = apply(snapshot, [change])
        held = generator.update(snapshot, scope, held, changed)
