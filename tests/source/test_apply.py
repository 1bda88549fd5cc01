"""Applying many objects: one transaction, one bad object never stops the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.api.resource import ObjectKey, Provenance
from lateen.source import subscription
from lateen.source.embedded import EmbeddedSource
from lateen.source.store import Store, Write
from lateen.source.writing import Document, Outcome, Writer
from tests.source.objects import config_map, key, pod, service, service_entry

Raw = dict[str, Any]


def apply(store: Store, *raws: Raw, manager: str = "cli", path: str = "a.yaml") -> list[Outcome]:
    """Apply objects as documents of one file."""
    documents = [Document(raw, Provenance(path, i, i * 10 + 1)) for i, raw in enumerate(raws)]
    return Writer(store).apply(documents, manager, "test")


def results(outcomes: list[Outcome]) -> list[str]:
    """What became of each."""
    return [outcome.result for outcome in outcomes]


def spec(store: Store, name: str) -> Raw:
    """Spec of a Service."""
    found = store.get(key(name, "Service"))
    assert found is not None
    result: Raw = found.raw["spec"]
    return result


def test_one_bad_object_does_not_stop_the_rest() -> None:
    store = Store()
    bad: list[Raw] = [
        {"kind": "Nonsense"},
        {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": {"x": 1}}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": "text"},
    ]
    outcomes = apply(store, *bad, config_map("good"))
    assert results(outcomes) == ["refused"] * 4 + ["created"]
    assert all(outcome.findings for outcome in outcomes[:4])
    assert store.get(key("good")) is not None


def test_what_is_the_same_is_left_alone() -> None:
    store = Store()
    assert results(apply(store, config_map("a", k="1"), service("s"))) == ["created", "created"]
    before = store.revision
    assert results(apply(store, config_map("a", k="1"), service("s"))) == ["unchanged"] * 2
    assert store.revision == before
    assert results(apply(store, config_map("a", k="2"))) == ["configured"]


def test_a_moved_document_is_unchanged_but_found_at_its_new_place() -> None:
    store = Store()
    apply(store, config_map("a"))
    assert results(apply(store, config_map("new"), config_map("a"))) == ["created", "unchanged"]
    found = store.get(key("a"))
    assert found is not None
    assert found.provenance.line == 11


def test_the_same_object_twice_in_one_request() -> None:
    store = Store()
    outcomes = apply(store, config_map("a", k="1"), config_map("a", k="2"))
    assert results(outcomes) == ["created", "configured"]
    found = store.get(key("a"))
    assert found is not None
    assert found.raw["data"] == {"k": "2"}
    assert outcomes[1].revision == found.revision


def test_a_namespace_counts_wherever_it_stands_in_the_request() -> None:
    store = Store()
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    assert results(apply(store, config_map("a", "n"), space)) == ["created", "created"]
    found = store.get(ObjectKey("", "Namespace", "", "n"))
    assert found is not None
    assert "istio-injection" not in found.raw["metadata"]["labels"]


def test_another_clusters_facts_are_not_taken_over() -> None:
    store = Store()
    raw = pod("p", resourceVersion="77", uid="theirs", deletionTimestamp="2020-01-01T00:00:00Z")
    apply(store, {**raw, "status": {"phase": "Running", "podIP": "1.2.3.4"}})
    found = store.get(key("p", "Pod"))
    assert found is not None
    assert "status" not in found.raw
    assert "deletionTimestamp" not in found.raw["metadata"]
    assert found.raw["metadata"]["uid"] != "theirs"


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["apiVersion", "kind", "metadata", "spec", "data"]),
        st.recursive(
            st.sampled_from([None, True, 7, "v1", "Service", "ConfigMap", "name"]),
            lambda inner: st.one_of(
                st.lists(inner, max_size=2),
                st.dictionaries(
                    st.sampled_from(["name", "namespace", "labels", "ports", "clusterIP"]),
                    inner,
                    max_size=3,
                ),
            ),
            max_leaves=6,
        ),
    )
)
def test_no_object_makes_apply_raise(raw: Raw) -> None:
    assert len(apply(Store(), {"apiVersion": "v1", "kind": "Service", **raw})) == 1


def test_cluster_ips_are_given_lowest_first_and_kept() -> None:
    store = Store()
    apply(store, service("a"), service("b"))
    assert [spec(store, name)["clusterIP"] for name in "ab"] == ["10.96.1.0", "10.96.1.1"]
    apply(store, service("a", selector={"app": "x"}))
    assert spec(store, "a")["clusterIP"] == "10.96.1.0"
    store.commit([Write(key("a", "Service"), None)], "test")
    apply(store, service("c"))
    assert spec(store, "c")["clusterIP"] == "10.96.1.0"


def test_two_services_with_one_address_are_both_named() -> None:
    store = Store()
    outcomes = apply(
        store, service("a", clusterIP="10.96.7.7"), service("b", clusterIP="10.96.7.7")
    )
    assert results(outcomes) == ["created", "refused"]
    text = outcomes[1].findings[0].message
    assert "Service default/b asks for clusterIP 10.96.7.7, which Service default/a has" in text


def test_services_without_an_address() -> None:
    store = Store()
    apply(
        store,
        service("headless", clusterIP="None"),
        service("elsewhere", type="ExternalName", externalName="example.com"),
    )
    assert spec(store, "headless")["clusterIPs"] == ["None"]
    assert "clusterIP" not in spec(store, "elsewhere")


def test_a_new_cluster_ip_replaces_the_old_one() -> None:
    store = Store()
    apply(store, service("a"))
    apply(store, service("a", clusterIP="10.96.9.9"))
    assert spec(store, "a")["clusterIPs"] == ["10.96.9.9"]


def test_node_ports_are_given_and_kept_per_protocol() -> None:
    store = Store()
    ports = [
        {"name": "udp", "port": 53, "protocol": "UDP"},
        {"name": "tcp", "port": 53, "protocol": "TCP"},
        {"name": "fixed", "port": 80, "nodePort": 30000},
    ]
    dns = service("dns", type="NodePort", ports=ports)
    assert results(apply(store, dns)) == ["created"]
    given_ports = [port["nodePort"] for port in spec(store, "dns")["ports"]]
    assert given_ports[2] == 30000
    assert given_ports[1] != 30000
    assert results(apply(store, dns)) == ["unchanged"]
    taken = service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30000}])
    outside = service("c", type="NodePort", ports=[{"port": 80, "nodePort": 80}])
    outcomes = apply(store, taken, outside)
    assert "which Service default/dns has" in outcomes[0].findings[0].message
    assert "30000-32767" in outcomes[1].findings[0].message


def test_addresses_of_service_entries_are_kept() -> None:
    store = Store()
    apply(store, service_entry("a", "one.example", "two.example"), service_entry("b", "b.example"))

    def addresses(name: str) -> dict[str, str]:
        found = store.get(ObjectKey("networking.istio.io", "ServiceEntry", "default", name))
        assert found is not None
        return {e["host"]: e["value"] for e in found.raw.get("status", {}).get("addresses", [])}

    first = addresses("a")
    assert list(first.values()) == ["240.240.0.1", "240.240.0.2"]
    assert addresses("b") == {"b.example": "240.240.0.3"}
    apply(store, service_entry("a", "zero.example", "two.example"))
    assert addresses("a")["two.example"] == first["two.example"]
    apply(store, service_entry("a", "two.example", addresses=["10.1.1.1"]))
    assert addresses("a") == {}


async def test_a_source_that_fell_behind_gets_everything_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    apply(store, config_map("a"), config_map("gone"))
    source = EmbeddedSource(store)
    source.start()
    monkeypatch.setattr(subscription, "SUBSCRIBER_BACKLOG", 2)
    store.commit([Write(key("gone"), None)], "test")
    apply(store, *(config_map(f"n{i}") for i in range(5)))
    batch = await anext(source.batches())
    told = {change.key.name: change.resource is not None for change in batch.changes}
    assert told["gone"] is False
    assert {f"n{i}" for i in range(5)} <= {name for name, there in told.items() if there}
    assert batch.revision == store.revision


def test_what_is_being_deleted_is_said_to_take_the_change_with_it() -> None:
    store = Store()
    running = {**pod("p"), "status": {"phase": "Running"}}
    store.commit([Write(key("p", "Pod"), running)], "agent")
    stored = store.get(key("p", "Pod"))
    assert stored is not None
    Writer(store).delete(stored, "user")
    (outcome,) = apply(store, {**pod("p"), "metadata": {"name": "p", "labels": {"new": "yes"}}})
    assert outcome.result == "configured"
    assert [finding.rule for finding in outcome.findings] == ["LT0804"]
