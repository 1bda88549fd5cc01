"""Text to typed resources and back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from lateen.api.locate import excerpt, locate
from lateen.api.networking.virtual_service import VirtualService
from lateen.api.parse import parse_documents, parse_object, to_raw
from lateen.api.resource import ObjectKey, Resource

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)

VIRTUAL_SERVICE = """\
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
"""


def test_versions_are_one_object_and_the_namespace_is_filled_in() -> None:
    resource = parse_documents(VIRTUAL_SERVICE).resources[0]
    key = ObjectKey("networking.istio.io", "VirtualService", "default", "reviews")
    assert resource.key == key
    assert resource.metadata.namespace == "default"
    assert isinstance(resource.object, VirtualService)
    assert resource.object.spec.http[0].route[0].destination.host == "reviews"


def test_json_lists_and_streams() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [service]})
    other = json.dumps(service | {"metadata": {"name": "b"}})
    result = parse_documents(text + "\n" + other)
    assert [(r.key.name, r.provenance.item) for r in result.resources] == [("a", 0), ("b", -1)]


def test_absent_and_zero_differ_where_the_api_does() -> None:
    raw = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "a", "namespace": "x"},
        "spec": {"host": "a", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 0}}},
    }
    resource = parse_object(raw)
    assert isinstance(resource, Resource)
    assert to_raw(resource) == raw


def test_nulls_that_kubernetes_tools_write_are_absent() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, creationTimestamp: null, labels: }\n"
    text += "spec: {selector: null, ports: [{port: 80}]}\nstatus: {loadBalancer: {}}\n"
    result = parse_documents(text)
    assert not result.findings
    assert result.resources[0].labels == {}


@given(
    names,
    st.dictionaries(names, names, max_size=3),
    st.lists(st.tuples(names, st.integers(0, 100), st.none() | st.sampled_from(["1s", "1h2m"]))),
)
def test_what_is_written_is_read_again(
    name: str, labels: dict[str, str], routes: list[tuple[str, int, str | None]]
) -> None:
    http = [
        {"route": [{"destination": {"host": host}, "weight": weight}], "timeout": timeout}
        for host, weight, timeout in routes
    ]
    raw = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "ns", "labels": labels},
        "spec": {"hosts": [name], "http": http},
    }
    first = parse_object(raw)
    assert isinstance(first, Resource)
    second = parse_object(to_raw(first))
    assert isinstance(second, Resource)
    assert second.object == first.object
    assert second.key == first.key


trees = st.recursive(
    st.integers() | st.booleans(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_leaves=10,
)


def keys_of(tree: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found: list[tuple[str | int, ...]] = []
    if isinstance(tree, dict):
        for key, value in tree.items():
            found += [(*path, key), *keys_of(value, (*path, key))]
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            found += keys_of(value, (*path, index))
    return found


@given(st.lists(st.dictionaries(names, trees, min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_located_line_holds_the_key(documents: list[dict[str, object]]) -> None:
    import yaml

    text = yaml.safe_dump_all(documents, explicit_start=True)
    lines = text.split("\n")
    for index, tree in enumerate(documents):
        for path in keys_of(tree):
            line, column = locate(text, index, path)
            key = str(path[-1])
            assert lines[line - 1][column - 1 :].lstrip("'\"").startswith(key)


def test_a_missing_field_is_located_at_its_parent() -> None:
    assert locate(VIRTUAL_SERVICE, 0, ("spec", "http", 0, "route", 0, "weight")) == (8, 7)
    assert locate(VIRTUAL_SERVICE, 7, ("spec",)) == (0, 0)


def test_an_excerpt_points_at_the_column() -> None:
    shown = excerpt(VIRTUAL_SERVICE, 5, 3)
    assert shown.split("\n")[1:3] == ["> 5 |   hosts: [reviews]", "    |   ^"]


def test_an_enum_number_is_understood_and_warned_of() -> None:
    text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\n"
    text += "spec: {host: a, trafficPolicy: {tls: {mode: 3}}}\n"
    result = parse_documents(text)
    assert [finding.rule for finding in result.findings] == ["LT0013"]
    raw = to_raw(result.resources[0])
    assert '"ISTIO_MUTUAL"' in json.dumps(raw)


def test_an_istio_operator_needs_no_metadata() -> None:
    # It is a file for istioctl, and Istio's own examples have none.
    head = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n"
    for metadata in ("", "metadata:\n", "metadata: {}\n", "metadata: {namespace: istio-system}\n"):
        result = parse_documents(f"{head}{metadata}spec: {{}}\n")
        assert not result.findings
        assert result.resources[0].key.name == "installed-state"
