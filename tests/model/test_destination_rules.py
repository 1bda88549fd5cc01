"""DestinationRules: which one holds, and merging."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.model.destination_rules import EffectiveDestinationRule, destination_rules
from lateen.model.snapshot import Snapshot
from tests.model.meshes import istio, mesh, rule_ids

HOST = "reviews.shop.svc.cluster.local"


def dr(
    name: str, namespace: str = "shop", spec: str = "", created: str = "", host: str = HOST
) -> str:
    more = f", {spec}" if spec else ""
    return istio("DestinationRule", name, f"{{host: '{host}'{more}}}", namespace, created)


def names(found: EffectiveDestinationRule | None) -> list[str]:
    return [] if found is None else [source.key.name for source in found.sources]


def look(
    snapshot: Snapshot, client: str, labels: dict[str, str] | None = None, host: str = HOST
) -> list[str]:
    return names(destination_rules(snapshot).lookup(client, host, "shop", labels))


def test_the_clients_namespace_then_the_services_then_the_root() -> None:
    texts = [dr("own", "client"), dr("service", "shop"), dr("root", "istio-system")]
    assert look(mesh(*texts), "client") == ["own"]
    assert look(mesh(*texts[1:]), "client") == ["service"]
    assert look(mesh(*texts[2:]), "client") == ["root"]
    assert look(mesh(), "client") == []


def test_a_private_rule_is_for_its_own_namespace() -> None:
    snapshot = mesh(dr("service", "shop", "exportTo: [.]"), dr("root", "istio-system"))
    assert look(snapshot, "shop") == ["service"]
    assert look(snapshot, "client") == ["root"]


def test_clients_in_the_root_namespace_prefer_only_its_private_rules() -> None:
    texts = [dr("service", "shop"), dr("root", "istio-system")]
    assert look(mesh(*texts), "istio-system") == ["service"]
    private = dr("private", "istio-system", "exportTo: [.]")
    assert look(mesh(*texts, private), "istio-system") == ["private"]


def test_the_most_specific_host_wins_within_a_namespace() -> None:
    snapshot = mesh(
        dr("all", host="*.local"),
        dr("some", host="*.shop.svc.cluster.local"),
        dr("exact", host="reviews"),
    )
    assert look(snapshot, "shop") == ["exact"]
    assert look(snapshot, "shop", host="x.shop.svc.cluster.local") == ["some"]
    assert look(snapshot, "shop", host="x.other.svc.cluster.local") == ["all"]


def test_rules_for_one_host_are_merged_oldest_first() -> None:
    snapshot = mesh(
        dr(
            "b",
            spec="trafficPolicy: {loadBalancer: {simple: RANDOM}}, "
            "subsets: [{name: v2, labels: {version: v2}}, {name: v1, labels: {version: other}}]",
            created="2026-01-02T00:00:00Z",
        ),
        dr(
            "a", spec="subsets: [{name: v1, labels: {version: v1}}]", created="2026-01-01T00:00:00Z"
        ),
    )
    found = destination_rules(snapshot).lookup("shop", HOST, "shop")
    assert found is not None
    assert names(found) == ["a", "b"]
    assert [(s.name, s.labels["version"]) for s in found.spec.subsets] == [
        ("v1", "v1"),
        ("v2", "v2"),
    ]
    assert [(r.key.name, i) for r, i in found.subset_sources] == [("a", 0), ("b", 0)]
    assert found.policy_source is not None
    assert found.policy_source.key.name == "b"
    assert rule_ids(snapshot) == [("LT1007", "b")]


def test_different_exports_stay_apart() -> None:
    snapshot = mesh(
        dr("narrow", spec="exportTo: [one]", created="2026-01-01T00:00:00Z"),
        dr("other", spec="exportTo: [two]", created="2026-01-02T00:00:00Z"),
    )
    assert look(snapshot, "one") == ["narrow"]
    assert look(snapshot, "two") == ["other"]
    assert look(snapshot, "three") == []


def test_a_wider_export_joins_the_narrower_and_stands_alone() -> None:
    snapshot = mesh(
        dr("narrow", spec="exportTo: [one]", created="2026-01-01T00:00:00Z"),
        dr("wide", spec="exportTo: ['*']", created="2026-01-02T00:00:00Z"),
    )
    assert look(snapshot, "one") == ["narrow", "wide"]
    assert look(snapshot, "two") == ["wide"]


def test_a_workload_selector_narrows_to_clients_of_the_namespace() -> None:
    snapshot = mesh(
        dr("general", created="2026-01-01T00:00:00Z"),
        dr(
            "special",
            spec="workloadSelector: {matchLabels: {app: web}}",
            created="2026-01-02T00:00:00Z",
        ),
    )
    assert look(snapshot, "shop", {"app": "web"}) == ["special"]
    assert look(snapshot, "shop", {"app": "x"}) == ["general"]
    assert look(snapshot, "shop", None) == ["general"]
    assert look(snapshot, "client", {"app": "web"}) == ["general"]


EXPORTED = st.sampled_from(("", "exportTo: ['*']", "exportTo: [.]", "exportTo: [a]"))
PLACED = st.sampled_from(("a", "b", "shop", "istio-system"))


@given(
    rules=st.lists(
        st.tuples(PLACED, st.sampled_from((HOST, "*.shop.svc.cluster.local", "*.local")), EXPORTED),
        max_size=6,
    ),
    client=PLACED,
)
@settings(max_examples=200, deadline=None)
def test_all_services_at_once_is_each_by_itself(
    rules: list[tuple[str, str, str]], client: str
) -> None:
    services = [
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {space}}}\n"
        "spec: {ports: [{port: 80}]}"
        for name, space in (("reviews", "shop"), ("ratings", "shop"), ("reviews", "a"))
    ]
    written = [dr(f"r{n}", space, more, host=host) for n, (space, host, more) in enumerate(rules)]
    snapshot = mesh(*services, *written)
    known = destination_rules(snapshot)
    visible = snapshot.services.visible_to(client)
    known.for_services("elsewhere", visible)
    assert known.for_services(client, visible) == tuple(
        known.for_service(client, service) for service in visible
    )


def test_what_is_remembered_of_services_is_bounded() -> None:
    service = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n"
        "spec: {ports: [{port: 80}]}"
    )
    snapshot = mesh(service, dr("rule"))
    known = destination_rules(snapshot)
    views = [(*snapshot.services.visible_to("client"),) for _ in range(100)]
    for view in views:
        assert names(known.for_services("client", view)[0]) == ["rule"]
    assert len(known._general) <= 16
