"""Which port of the machine each port of a LoadBalancer Service gets."""

from __future__ import annotations

from typing import Any

import pytest

from lateen.runtime.host_ports import parse_publish, requests, without_service
from lateen.runtime.ingress import in_front_of


def service(name: str, *ports: int, born: str = "1", **labels: str) -> dict[str, Any]:
    namespace, _, short = name.partition("/")
    return {
        "metadata": {"namespace": namespace, "name": short, "creationTimestamp": born},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.0.0.1",
            "selector": labels,
            "ports": [{"port": port} for port in ports],
        },
    }


SHOP = service("default/frontend-external", 80, app="frontend")
GATEWAY = service("istio-system/gw", 15021, 80, born="2", istio="ingressgateway")


def given(*options: str) -> list[tuple[str, int, int, bool]]:
    wanted = parse_publish(options)
    return [(*r.key, r.port, r.asked) for r in requests([SHOP, GATEWAY], wanted)]


def test_the_ingress_gateway_comes_first() -> None:
    assert given() == [
        ("istio-system/gw", 80, 8080, False),
        ("default/frontend-external", 80, 8080, False),
    ]


def test_a_choice_for_a_port_is_the_first_ones() -> None:
    assert given("80:9000") == [
        ("istio-system/gw", 80, 9000, True),
        ("default/frontend-external", 80, 9000, False),
    ]
    assert given("80:9000", "80:9001")[1] == ("default/frontend-external", 80, 9001, True)


def test_a_choice_for_one_service() -> None:
    assert given("default/frontend-external:80:9000") == [
        ("default/frontend-external", 80, 9000, True),
        ("istio-system/gw", 80, 8080, False),
    ]


@pytest.mark.parametrize(
    "option", ["default/frontend-external:80:none", "default/frontend-external:none"]
)
def test_a_service_that_is_not_published(option: str) -> None:
    assert given(option) == [("istio-system/gw", 80, 8080, False)]
    assert given("80:none") == []


def test_candidates_leave_out_what_others_have_and_end_unprivileged() -> None:
    first, second = requests([SHOP, service("a/b", 25)], {})[::-1]
    assert first.candidates([8080, 8081])[:2] == [8082, 8083]
    assert second.candidates([])[:2] == [25, 10_025]
    asked = requests([SHOP], {"80": [9000]})[0]
    assert asked.candidates([9000]) == [9000]


@pytest.mark.parametrize(
    "option",
    [
        "80",
        "80:",
        ":80",
        "80:x",
        "80:0",
        "80:65536",
        "x:80",
        "a/b:80",
        "a/b/c:80:81",
        "/b:80:81",
        "none",
        "x:none",
        "a/b:x:80",
        "80:90:100",
        "80:²",
    ],
)
def test_a_bad_option(option: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_publish([option])


def inside(name: str, *ports: int, **labels: str) -> dict[str, Any]:
    found = service(name, *ports, **labels)
    found["spec"]["type"] = "ClusterIP"
    return found


@pytest.mark.parametrize(
    ("option", "published"),
    [
        ("80:9000", [("shop/front", 80, 9000)]),
        ("443:9000", []),
        ("80:none", []),
        ("shop/web:80:9000", [("shop/web", 80, 9000)]),
        ("shop/front:80:9000", [("shop/front", 80, 9000)]),
        ("shop/headless:80:9000", []),
    ],
)
def test_other_services_are_published_where_the_user_says_so(
    option: str, published: list[tuple[str, int, int]]
) -> None:
    headless = inside("shop/headless", 80)
    headless["spec"]["clusterIP"] = "None"
    services = [inside("shop/web", 80, app="web"), inside("shop/front", 80, app="front"), headless]
    pod = {"metadata": {"namespace": "shop", "labels": {"app": "front"}}}
    elsewhere = {"metadata": {"namespace": "other", "labels": {"app": "web"}}}
    wanted = parse_publish([option])

    found = requests(services, wanted, in_front_of([pod, elsewhere], services))

    assert [(*request.key, request.port) for request in found] == published
    told = list(without_service(wanted, found))
    assert bool(told) == (not published and "none" not in option)
