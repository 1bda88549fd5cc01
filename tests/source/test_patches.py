"""Merge patch, strategic merge patch, JSON patch, server-side apply, selectors."""

from __future__ import annotations

from typing import Any

import pytest

from lateen.source.field_owners import FieldConflict, server_side_apply
from lateen.source.merge import PatchError, json_patch, merge_patch, strategic_merge
from lateen.source.selectors import SelectorError, selector

Raw = dict[str, Any]


def applied(current: Raw | None, manager: str, *, force: bool = True, **fields: Any) -> Raw:
    """Apply ``fields`` beside a name."""
    raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **fields}
    return server_side_apply(current, raw, manager, force=force)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": "text"}, {"a": {"b": None}}, {"a": {}}),
    ],
)
def test_merge_patch(target: Raw, patch: Raw, result: Raw) -> None:
    assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        (
            {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]},
            {"containers": [{"name": "b", "image": "b:2"}]},
            {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]},
        ),
        (
            {"containers": [{"name": "a"}, {"name": "b"}]},
            {"containers": [{"name": "a", "$patch": "delete"}]},
            {"containers": [{"name": "b"}]},
        ),
        (
            {"ports": [{"port": 80, "name": "http"}]},
            {"ports": [{"port": 443}], "$setElementOrder/ports": [{"port": 80}]},
            {"ports": [{"port": 80, "name": "http"}, {"port": 443}]},
        ),
        ({"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}),
        ({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}),
        ({"labels": {"a": "1", "b": "2"}}, {"labels": {"a": None}}, {"labels": {"b": "2"}}),
    ],
)
def test_strategic_merge(target: Raw, patch: Raw, result: Raw) -> None:
    assert strategic_merge(target, patch) == result


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/a/c", "value": 1}], {"a": {"b": [1, 2], "c": 1}}),
        ([{"op": "add", "path": "/a/b/-", "value": 3}], {"a": {"b": [1, 2, 3]}}),
        ([{"op": "add", "path": "/a/b/0", "value": 0}], {"a": {"b": [0, 1, 2]}}),
        ([{"op": "remove", "path": "/a/b/1"}], {"a": {"b": [1]}}),
        ([{"op": "replace", "path": "/a/b", "value": []}], {"a": {"b": []}}),
        ([{"op": "move", "from": "/a/b", "path": "/x"}], {"a": {}, "x": [1, 2]}),
        ([{"op": "copy", "from": "/a/b/0", "path": "/x~1y"}], {"a": {"b": [1, 2]}, "x/y": 1}),
        ([{"op": "test", "path": "/a/b/0", "value": 1}], {"a": {"b": [1, 2]}}),
    ],
)
def test_json_patch(operations: list[Raw], result: Raw) -> None:
    assert json_patch({"a": {"b": [1, 2]}}, operations) == result


@pytest.mark.parametrize(
    "operations",
    [
        {"op": "add"},
        [{"op": "test", "path": "/a", "value": 2}],
        [{"op": "remove", "path": "/missing"}],
        [{"op": "add", "path": "/a/b", "value": 1}],
        [{"op": "add", "path": "no-slash", "value": 1}],
        [{"op": "invent", "path": "/a"}],
        [{"op": "add", "path": "/a"}],
        ["text"],
    ],
)
def test_json_patch_refuses_what_does_not_fit(operations: Any) -> None:
    with pytest.raises(PatchError):
        json_patch({"a": 1}, operations)


def test_fields_a_manager_leaves_out_go_and_others_stay() -> None:
    first = applied(None, "one", data={"mine": "1", "also": "1"})
    both = applied(first, "two", data={"theirs": "2"})
    later = applied(both, "one", data={"mine": "1"})
    assert later["data"] == {"mine": "1", "theirs": "2"}


def test_a_field_that_two_managers_apply_stays_until_both_leave_it() -> None:
    raw = applied(applied(None, "one", data={"k": "v"}), "two", data={"k": "v"})
    raw = applied(raw, "one")
    assert raw["data"] == {"k": "v"}
    assert "data" not in applied(raw, "two")


def test_changing_anothers_field_is_a_conflict_unless_forced() -> None:
    raw = applied(None, "one", data={"k": "v"})
    with pytest.raises(FieldConflict, match="data/k is owned by one"):
        applied(raw, "two", force=False, data={"k": "w"})
    taken = applied(raw, "two", data={"k": "w"})
    assert taken["data"] == {"k": "w"}
    # It is not the first one's any more, so leaving it out removes nothing.
    assert applied(taken, "one")["data"] == {"k": "w"}


def test_applying_the_same_again_changes_nothing() -> None:
    raw = applied(applied(None, "one", data={"a": "1"}), "two", data={"b": "2"})
    assert applied(raw, "one", data={"a": "1"}) == raw


def test_a_map_may_become_a_value_below_it_and_back() -> None:
    empty = applied(None, "one", spec={"volume": {"emptyDir": {}}})
    filled = applied(empty, "one", spec={"volume": {"emptyDir": {"medium": "Memory"}}})
    assert filled["spec"] == {"volume": {"emptyDir": {"medium": "Memory"}}}
    again = applied(filled, "one", spec={"volume": {"emptyDir": {}}})
    assert again["spec"] == {"volume": {"emptyDir": {}}}


def test_labels_with_slashes_are_owned_too() -> None:
    raw = server_side_apply(None, {"metadata": {"name": "a", "labels": {"x/y": "1"}}}, "one")
    gone = server_side_apply(raw, {"metadata": {"name": "a"}}, "one")
    assert "labels" not in gone["metadata"]


@pytest.mark.parametrize(
    ("labels", "fields", "selected"),
    [
        ("", "", True),
        ("app=web", "", True),
        ("app==web,tier=front", "", True),
        ("app!=web", "", False),
        ("app in (web, api),tier", "", True),
        ("app notin (web)", "", False),
        ("!missing", "", True),
        ("missing", "", False),
        ("missing!=x", "", True),
        ("", "metadata.name=a", True),
        ("", "metadata.name!=a", False),
        ("", "status.phase=Running,metadata.namespace=n", True),
        ("", "spec.hostNetwork=true", True),
    ],
)
def test_selectors(labels: str, fields: str, selected: bool) -> None:
    raw = {
        "metadata": {"name": "a", "namespace": "n", "labels": {"app": "web", "tier": "front"}},
        "spec": {"hostNetwork": True},
        "status": {"phase": "Running"},
    }
    assert selector(labels, fields)(raw) is selected


@pytest.mark.parametrize(("labels", "fields"), [("a in b", ""), ("a=b=c", ""), ("", "name")])
def test_a_selector_that_makes_no_sense(labels: str, fields: str) -> None:
    with pytest.raises(SelectorError):
        selector(labels, fields)
