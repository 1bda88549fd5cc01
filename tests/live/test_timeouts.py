"""Deadlines of routes, each with nothing else that could end the request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.mesh import Mesh

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
SLOW = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: slow-reviews, namespace: default}
spec: {host: reviews, subsets: [{name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: slow-ratings, namespace: default}
spec:
  hosts: [ratings]
  http:
  - fault: {delay: {fixedDelay: 3s, percentage: {value: 100}}}
    route: [{destination: {host: ratings}}]
"""
DEADLINE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: deadline, namespace: default}
spec:
  hosts: [HOST]
  GATEWAYS
  http:
  - match: [{uri: {prefix: /reviews}}]
    timeout: 0.5s
    retries: {attempts: 0}
    route: [{destination: {host: reviews, subset: v2}}]
"""


@pytest.fixture
def slow(bookinfo: Mesh) -> Iterator[Mesh]:
    """Bookinfo in which reviews take three seconds, as each asks ratings, which are delayed."""
    with bookinfo.applied(SLOW):
        yield bookinfo


def test_a_sidecar_gives_up_at_the_timeout(slow: Mesh) -> None:
    rule = DEADLINE.replace("HOST", "reviews").replace("GATEWAYS", "")
    with slow.applied(rule):
        answer = slow.curl("http://reviews:9080/reviews/0")
    assert answer.status == 504
    assert 0.4 < answer.seconds < 2.0


def test_a_gateway_gives_up_at_the_timeout(slow: Mesh) -> None:
    rule = DEADLINE.replace("HOST", "late.example.com")
    with slow.applied(rule.replace("GATEWAYS", "gateways: [bookinfo-gateway]")):
        answer = slow.get("/reviews/0", {"host": "late.example.com"})
    assert answer.status == 504
    assert 0.4 < answer.seconds < 2.0


def test_without_a_timeout_nothing_gives_up(slow: Mesh) -> None:
    rule = DEADLINE.replace("HOST", "reviews").replace("GATEWAYS", "")
    with slow.applied(rule.replace("    timeout: 0.5s\n", "")):
        answer = slow.curl("http://reviews:9080/reviews/0")
    assert answer.status == 200
    assert answer.seconds > 2.9
