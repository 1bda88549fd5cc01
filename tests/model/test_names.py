"""Host names as Istio reads them."""

from __future__ import annotations

import pytest

from lateen.model import names
from lateen.model.visibility import export_to, is_visible


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.prod", "reviews.prod"),
        ("*", "*"),
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_only_a_name_without_dots_is_short(host: str, full: str) -> None:
    assert names.expand(host, "shop") == full


@pytest.mark.parametrize(
    ("left", "right", "matches", "subset"),
    [
        ("a.example.com", "a.example.com", True, True),
        ("a.example.com", "*.example.com", True, True),
        ("*.example.com", "a.example.com", True, False),
        ("*.a.example.com", "*.example.com", True, True),
        ("*.example.com", "*", True, True),
        ("*", "a.example.com", True, False),
        ("*.example.com", "*.example.org", False, False),
        ("example.com", "*.example.com", False, False),
    ],
)
def test_wildcards(left: str, right: str, matches: bool, subset: bool) -> None:
    assert names.matches(left, right) is matches
    assert names.matches(right, left) is matches
    assert names.subset_of(left, right) is subset


def test_the_most_specific_host_wins() -> None:
    hosts = ["*", "*.com", "*.example.com", "a.example.com"]
    assert names.most_specific("a.example.com", hosts) == "a.example.com"
    assert names.most_specific("b.example.com", hosts) == "*.example.com"
    assert names.most_specific("b.example.org", ["*.com"]) is None


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("mesh", "mesh"),
        ("gw", "shop/gw"),
        ("./gw", "shop/gw"),
        ("edge/gw", "edge/gw"),
        ("gw.edge.svc.cluster.local", "edge/gw"),
    ],
)
def test_gateway_names(written: str, resolved: str) -> None:
    assert names.gateway_name(written, "shop") == resolved


@pytest.mark.parametrize(
    ("values", "default", "seen_by"),
    [
        ([], None, {"shop", "other"}),
        ([], ["."], {"shop"}),
        (["."], None, {"shop"}),
        (["*", "x"], None, {"shop", "other"}),
        (["~"], None, set()),
        (["other"], None, {"other"}),
    ],
)
def test_export_to(values: list[str], default: list[str] | None, seen_by: set[str]) -> None:
    exported = export_to(values, "shop", default)
    assert {ns for ns in ("shop", "other") if is_visible(exported, ns)} == seen_by
