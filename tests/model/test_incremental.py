"""However a mesh came about, step by step or at once, the snapshot is the same."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import fields

from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change, ChangeSet
from lateen.model.definitions import same_service
from lateen.model.destination_rules import destination_rules
from lateen.model.layers import Draft
from lateen.model.peer_authentication import peer_authentications
from lateen.model.proxies import proxy_of
from lateen.model.registry import RegistryState
from lateen.model.scope import scope_of
from lateen.model.service import Service
from lateen.model.sidecar import sidecars
from lateen.model.snapshot import EMPTY, Snapshot, apply, snapshot_of
from lateen.model.virtual_services import virtual_services
from tests.model.meshes import istio, mesh, objects, pod, pod_key, service

NAMESPACES = ("one", "two")
LABELS = ("{app: a}", "{app: a, version: v1}", "{app: b}", "{team: x}", "{}")

namespaces = st.sampled_from(NAMESPACES)
labels = st.sampled_from(LABELS)
small = st.integers(1, 3)
created = st.integers(1, 3).map(lambda day: f"2026-01-0{day}T00:00:00Z")


@st.composite
def pods(draw: st.DrawFn) -> str:
    number = draw(small)
    return pod(
        f"p{number}",
        f"10.0.0.{draw(small)}",
        draw(labels),
        draw(namespaces),
        ready=draw(st.booleans()),
        account=draw(st.sampled_from(("default", "other"))),
        spec=f"nodeName: n{draw(small)}",
        ports=draw(st.sampled_from(("[]", "[{name: web, containerPort: 8080}]"))),
    )


@st.composite
def services(draw: st.DrawFn) -> str:
    return service(
        f"s{draw(small)}",
        draw(namespaces),
        ports=draw(
            st.sampled_from(
                (
                    "[{name: http, port: 80}]",
                    "[{name: http, port: 80, targetPort: web}]",
                    "[{name: http, port: 80}, {name: tcp, port: 81, targetPort: 90}]",
                )
            )
        ),
        selector=draw(st.sampled_from((*LABELS, "null"))),
        created=draw(created),
        more=draw(
            st.sampled_from(
                (
                    "",
                    "clusterIP: 10.96.0.1",
                    "clusterIP: None",
                    "type: NodePort",
                    "internalTrafficPolicy: Local",
                    "trafficDistribution: PreferSameNode",
                )
            )
        ),
        annotations=draw(st.sampled_from(("{}", "{networking.istio.io/exportTo: .}"))),
    )


@st.composite
def slices(draw: st.DrawFn) -> str:
    number, namespace = draw(small), draw(namespaces)
    target = f"targetRef: {{kind: Pod, name: p{number}, namespace: {namespace}}}"
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: slice{draw(small)}
  namespace: {namespace}
  labels: {{kubernetes.io/service-name: s{draw(small)}}}
addressType: IPv4
ports: [{{name: http, port: 908{draw(small)}}}]
endpoints:
- addresses: [10.0.0.{number}]
  {draw(st.sampled_from(("", target)))}
---
"""


@st.composite
def entries(draw: st.DrawFn) -> str:
    host = draw(st.sampled_from(("x.example.com", "s1.one.svc.cluster.local")))
    behind = draw(
        st.sampled_from(
            (
                "endpoints: [{address: 192.0.2.1}]",
                f"endpoints: [{{address: 10.0.0.{draw(small)}}}]",
                "endpoints: [{address: 192.0.2.2, serviceAccount: sa}]",
                f"workloadSelector: {{labels: {draw(labels)}}}",
            )
        )
    )
    return istio(
        "ServiceEntry",
        f"e{draw(small)}",
        f"{{hosts: [{host}], resolution: STATIC, {behind}, "
        f"ports: [{{number: 8{draw(small)}, name: http{draw(small)}, protocol: HTTP}}]}}",
        draw(namespaces),
        draw(created),
    )


@st.composite
def workload_entries(draw: st.DrawFn) -> str:
    address = f"{draw(st.sampled_from(('192.0.2', '10.0.0')))}.{draw(small)}"
    return istio(
        "WorkloadEntry",
        f"w{draw(small)}",
        f"{{address: {address}, labels: {draw(labels)}, weight: {draw(small)}}}",
        draw(namespaces),
    )


@st.composite
def nodes(draw: st.DrawFn) -> str:
    return f"""
apiVersion: v1
kind: Node
metadata:
  name: n{draw(small)}
  labels: {{topology.kubernetes.io/region: r{draw(small)}}}
---
"""


@st.composite
def homes(draw: st.DrawFn) -> str:
    distribution = draw(st.sampled_from(("PreferClose", "PreferSameNode", "Other")))
    return f"""
apiVersion: v1
kind: Namespace
metadata:
  name: {draw(namespaces)}
  annotations: {{networking.istio.io/traffic-distribution: {distribution}}}
---
"""


@st.composite
def rules(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(("VirtualService", "DestinationRule", "Sidecar", "PeerAuth")))
    namespace, name, stamp = draw(namespaces), f"r{draw(small)}", draw(created)
    host = draw(st.sampled_from(("s1", "s2.one.svc.cluster.local", "'*.one.svc.cluster.local'")))
    if kind == "VirtualService":
        hosts = draw(st.sampled_from((f"hosts: [{host}], ", "")))
        route = draw(
            st.sampled_from(("route: [{destination: {host: s2}}]", "delegate: {name: r1}"))
        )
        return istio(kind, name, f"{{{hosts}http: [{{{route}}}]}}", namespace, stamp)
    if kind == "DestinationRule":
        subset = f"subsets: [{{name: v{draw(small)}, labels: {{a: b}}}}]"
        return istio(kind, name, f"{{host: {host}, {subset}}}", namespace, stamp)
    if kind == "Sidecar":
        hosts = draw(st.sampled_from(("./*", "*/s1.one.svc.cluster.local", "two/*")))
        end = draw(st.sampled_from(("0.0.0.0", "127.0.0.1")))
        ingress = (
            f"{{port: {{number: 80, protocol: HTTP, name: http}}, defaultEndpoint: '{end}:81'}}"
        )
        spec = f"{{egress: [{{hosts: ['{hosts}']}}], ingress: [{ingress}]}}"
        return istio(kind, name, spec, namespace, stamp)
    mode = draw(st.sampled_from(("STRICT", "DISABLE")))
    selector = draw(st.sampled_from(("", "selector: {matchLabels: {app: a}}, ")))
    return istio(
        "PeerAuthentication", name, f"{{{selector}mtls: {{mode: {mode}}}}}", namespace, stamp
    )


trust_domains = st.sampled_from(("example.org", "cluster.local")).map(
    lambda domain: (
        f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: "trustDomain: {domain}"}}
---
"""
    )
)

texts = st.one_of(
    pods(),
    pods(),
    services(),
    services(),
    slices(),
    entries(),
    workload_entries(),
    nodes(),
    homes(),
    rules(),
    trust_domains,
)
steps = st.lists(st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=4), max_size=12)


def value(item: object) -> object:
    """Services compared by value, maps without regard to order."""
    if isinstance(item, Service):
        return tuple((name, value(getattr(item, name))) for name in Service.__struct_fields__)
    if isinstance(item, Mapping):
        return {key: value(each) for key, each in item.items()}
    return item


def facts(snapshot: Snapshot) -> dict[str, object]:
    """Everything that can be asked of a snapshot, in comparable form."""
    found: dict[str, object] = {
        field.name: value(getattr(snapshot.services.state, field.name))
        for field in fields(RegistryState)
    }
    found["findings"] = snapshot.findings
    found["mesh"] = snapshot.mesh
    rules_ = virtual_services(snapshot)
    for namespace in NAMESPACES:
        found[f"visible {namespace}"] = [value(s) for s in snapshot.services.visible_to(namespace)]
        found[f"routing {namespace}"] = [
            (v.resource, v.hosts, v.gateways, [(r.route, r.source, r.index) for r in v.http])
            for v in rules_.for_mesh(namespace)
        ]
        scope = sidecars(snapshot).scope(namespace, {"app": "a"})
        found[f"sidecar {namespace}"] = (scope.resource, [value(s) for s in scope.services])
        found[f"mode {namespace}"] = peer_authentications(snapshot).mode(namespace, {"app": "a"})
        for service_ in snapshot.services.all():
            rule = destination_rules(snapshot).for_service(namespace, service_)
            found[f"rule {namespace} {service_.hostname} {service_.namespace}"] = (
                None if rule is None else (rule.spec, rule.sources)
            )
    for (namespace, name), resource in snapshot.of_kind("", "Pod").items():
        proxy = proxy_of(snapshot, resource)
        found[f"proxy {namespace}/{name}"] = (proxy, scope_of(snapshot, proxy))
    return found


def check_change_set(before: Snapshot, after: Snapshot, changes: ChangeSet) -> None:
    """What a change set does not name is the same object as before."""
    if changes.everything:
        return
    for namespace in NAMESPACES:
        old = before.services.state.services.get(namespace, {})
        new = after.services.state.services.get(namespace, {})
        for host in {*old, *new}:
            if (host, namespace) not in changes.services:
                assert old.get(host) is new.get(host)
            elif host in old and host in new:
                assert not same_service(old[host], new[host])
        old_endpoints = before.services.state.endpoints.get(namespace, {})
        new_endpoints = after.services.state.endpoints.get(namespace, {})
        for host in {*old_endpoints, *new_endpoints}:
            same = old_endpoints.get(host) is new_endpoints.get(host)
            assert same or (host, namespace) in changes.endpoints


@settings(max_examples=150, deadline=None)
@given(steps)
def test_step_by_step_equals_at_once(batches: list[list[tuple[str, bool]]]) -> None:
    current: dict[ObjectKey, Resource] = {}
    snapshot = EMPTY
    for batch in batches:
        changes = []
        for text, deleted in batch:
            (resource,) = objects(text)
            changes.append(Change(resource.key, None if deleted else resource))
            if deleted:
                current.pop(resource.key, None)
            else:
                current[resource.key] = resource
        facts(snapshot)  # so that everything derived is there to be carried on
        following, changed = apply(snapshot, changes)
        check_change_set(snapshot, following, changed)
        snapshot = following
    assert facts(snapshot) == facts(snapshot_of(current.values()))


def test_a_status_update_of_a_pod_changes_no_endpoint() -> None:
    before = mesh(service("web"), pod("web-1", "10.0.0.1", "{app: web}"))
    (resource,) = objects(pod("web-1", "10.0.0.1", "{app: web}", metadata="resourceVersion: '7'"))
    after, changes = apply(before, [Change(resource.key, resource)])
    assert changes.keys == {resource.key}
    assert not changes.endpoints
    assert not changes.workloads
    assert changes.only_endpoints
    web = after.services.get("web.default.svc.cluster.local")
    assert web is not None
    assert after.services.endpoints(web) is before.services.endpoints(web)


def test_one_pod_touches_only_its_services() -> None:
    before = mesh(
        service("web"),
        service("db"),
        pod("web-1", "10.0.0.1", "{app: web}"),
        pod("db-1", "10.0.0.2", "{app: db}"),
    )
    after, changes = apply(before, [Change(pod_key("web-1"))])
    assert changes.endpoints == {("web.default.svc.cluster.local", "default")}
    db = before.services.get("db.default.svc.cluster.local")
    assert db is not None
    assert after.services.get(db.hostname) is db
    assert after.services.endpoints(db) is before.services.endpoints(db)


def test_endpoints_of_a_headless_service_are_more_than_load_assignments() -> None:
    before = mesh(service("db", more="clusterIP: None"), pod("db-1", "10.0.0.2", "{app: db}"))
    _, changes = apply(before, [Change(pod_key("db-1"))])
    assert changes.inline == changes.endpoints == {("db.default.svc.cluster.local", "default")}
    assert not changes.only_endpoints


def test_a_change_that_changes_nothing_gives_the_same_snapshot() -> None:
    before = mesh(service("web"))
    (resource,) = before.resources()
    after, changes = apply(before, [Change(resource.key, resource), Change(pod_key("gone"))])
    assert after is before
    assert changes.empty


def test_nothing_of_an_update_waits_for_the_garbage_collector() -> None:
    """It looks at what is long in memory so rarely that cycles there are as good as kept."""
    before = mesh(service("a"), pod("a-1", "10.0.0.1", "{app: a}"))
    (moved,) = objects(pod("a-1", "10.0.0.2", "{app: a}"))
    gc.collect()
    gc.disable()
    try:
        after, _ = apply(before, [Change(moved.key, moved)])
        left = [found for found in gc.get_objects() if isinstance(found, Draft)]
    finally:
        gc.enable()
    assert after is not before
    assert left == []
