"""Every rule of samples/bookinfo/rules does what samples/README.md says it does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.mesh import SAMPLES, Answer, Mesh, eventually

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
RULES = SAMPLES / "bookinfo" / "rules"
REVIEWS = "http://reviews:9080/reviews/0"
RATINGS = "http://ratings:9080/ratings/0"
DETAILS = "http://details:9080/details/0"
JASON = {"end-user": "jason"}

Apply = Callable[[str], None]


@pytest.fixture
def rule(bookinfo: Mesh) -> Iterator[Apply]:
    """Applies a rule's file; afterwards only the subsets are there again."""
    subsets = RULES / "destination-rules.yaml"
    bookinfo.apply(subsets)

    def apply(name: str) -> None:
        result = bookinfo.apply(RULES / f"{name}.yaml")
        assert "live: acknowledged by" in result.out, result

    yield apply
    names = ["details", "productpage", "ratings", "reviews"]
    bookinfo.run("delete", "--ignore-not-found", "virtualservice", *names)
    bookinfo.run("delete", "--ignore-not-found", "serviceentry", "books")
    bookinfo.run("delete", "--ignore-not-found", "destinationrule", "books")
    bookinfo.apply(subsets)


def stars(answer: Answer) -> str:
    """``none``, ``black``, ``red`` or ``unavailable``: what reviews says of its stars."""
    data = json.loads(answer.body)
    ratings = [review.get("rating") for review in data["reviews"]]
    if not any(ratings):
        return "none"
    return "unavailable" if "error" in ratings[0] else str(ratings[0]["color"])


def test_every_rule_is_acknowledged(bookinfo: Mesh, rule: Apply) -> None:
    """All files are accepted one after the other, and no proxy rejects anything."""
    for path in sorted(RULES.glob("*.yaml")):
        result = bookinfo.apply(path)
        assert "refused" not in result.out, result
    status = bookinfo.run("status", "-o", "json").json()
    assert status["quarantined"] == []
    assert status["broken"] == []
    assert all(proxy["inSync"] for proxy in status["proxies"])


def test_all_v1_has_no_stars(bookinfo: Mesh, rule: Apply) -> None:
    rule("all-v1")
    load = bookinfo.load(REVIEWS, 100)
    assert load.statuses == {"200": 100}
    assert load.share("reviews-v1") == 1.0
    assert "glyphicon-star" not in bookinfo.get("/productpage").body


def test_random_load_balancing_uses_every_version(bookinfo: Mesh, rule: Apply) -> None:
    rule("destination-rule-reviews-random")
    load = bookinfo.load(REVIEWS, 300)
    assert load.statuses == {"200": 300}
    for version in ("v1", "v2", "v3"):
        assert 0.2 < load.share(f"reviews-{version}") < 0.47


@pytest.mark.parametrize(
    ("name", "first", "second", "share", "count", "tolerance"),
    [
        ("reviews-80-20", "reviews-v1", "reviews-v2", 0.8, 2000, 0.03),
        ("reviews-90-10", "reviews-v1", "reviews-v2", 0.9, 600, 0.06),
        ("reviews-50-v3", "reviews-v1", "reviews-v3", 0.5, 600, 0.09),
        ("reviews-v2-v3", "reviews-v2", "reviews-v3", 0.5, 600, 0.09),
    ],
)
def test_weights(
    bookinfo: Mesh,
    rule: Apply,
    name: str,
    first: str,
    second: str,
    share: float,
    count: int,
    tolerance: float,
) -> None:
    """Requests are split as the weights say: within 3 % for 2,000 of them, wider for fewer."""
    rule(name)
    load = bookinfo.load(REVIEWS, count)
    assert load.statuses == {"200": count}
    assert abs(load.share(first) - share) < tolerance, load.pods
    assert abs(load.share(second) - (1 - share)) < tolerance, load.pods


def test_all_to_v3_is_red(bookinfo: Mesh, rule: Apply) -> None:
    rule("reviews-v3")
    assert bookinfo.load(REVIEWS, 50).share("reviews-v3") == 1.0
    assert stars(bookinfo.curl(REVIEWS)) == "red"


def test_one_user_sees_another_version(bookinfo: Mesh, rule: Apply) -> None:
    """The header that productpage adds for the signed-in user decides."""
    rule("reviews-jason-v2")
    assert bookinfo.load(REVIEWS, 50).share("reviews-v1") == 1.0
    assert bookinfo.load(REVIEWS, 50, JASON).share("reviews-v2") == 1.0
    page = bookinfo.get("/productpage", bookinfo.login("jason"))
    assert "reviews-v2" in page.body
    assert "reviews-v1" in bookinfo.get("/productpage", bookinfo.login("anna")).body
    assert "reviews-v1" in bookinfo.get("/productpage").body


def test_one_user_black_others_red(bookinfo: Mesh, rule: Apply) -> None:
    rule("reviews-jason-v2-v3")
    assert stars(bookinfo.curl(REVIEWS, "-H", "end-user: jason")) == "black"
    assert stars(bookinfo.curl(REVIEWS)) == "red"


def test_delay_for_one_user(bookinfo: Mesh, rule: Apply) -> None:
    """jason's page fails as the two timeouts do not fit together; others notice nothing."""
    rule("reviews-jason-v2")
    rule("ratings-delay-jason")
    direct = bookinfo.curl(RATINGS, "-H", "end-user: jason")
    assert direct.status == 200
    assert 6.9 < direct.seconds < 9
    assert bookinfo.curl(RATINGS).seconds < 2
    page = bookinfo.get("/productpage", bookinfo.login("jason"))
    assert 5.5 < page.seconds < 9
    assert "product reviews are currently unavailable" in page.body
    assert bookinfo.get("/productpage").seconds < 3


def test_abort_for_one_user(bookinfo: Mesh, rule: Apply) -> None:
    rule("reviews-jason-v2")
    rule("ratings-abort-jason")
    aborted = bookinfo.curl(RATINGS, "-H", "end-user: jason")
    assert (aborted.status, aborted.body) == (500, "fault filter abort")
    assert bookinfo.curl(RATINGS).status == 200
    assert stars(bookinfo.curl(REVIEWS, "-H", "end-user: jason")) == "unavailable"
    page = bookinfo.get("/productpage", bookinfo.login("jason"))
    assert "Ratings service is currently unavailable" in page.body


def test_details_fail_for_everyone(bookinfo: Mesh, rule: Apply) -> None:
    rule("details-abort")
    assert bookinfo.curl(DETAILS).status == 555
    page = bookinfo.get("/productpage")
    assert page.status == 200
    assert "product details are currently unavailable" in page.body


def test_mirror(bookinfo: Mesh, rule: Apply) -> None:
    """v1 answers; v3's proxy logs a copy of each request."""
    rule("reviews-mirror-v3")
    agent = f"mirror-test-{time.time()}"
    load = bookinfo.load(REVIEWS, 40, {"user-agent": agent})
    assert load.statuses == {"200": 40}
    assert load.share("reviews-v1") == 1.0

    def copies() -> bool:
        log = bookinfo.logs("deploy/reviews-v3", "-c", "istio-proxy").splitlines()
        return sum(1 for line in log if agent in line and "inbound|9080" in line) == 40

    eventually(copies, message="copies in v3's log")


def test_deadline_and_retries(bookinfo: Mesh, rule: Apply) -> None:
    """Ratings delayed by 7 s make each of the attempts time out, and the deadline ends them all."""
    rule("reviews-retry-timeout")
    assert bookinfo.curl(REVIEWS).status == 200
    rule("ratings-delay-jason")
    late = bookinfo.curl(REVIEWS, "-H", "end-user: jason")
    assert late.status == 504
    assert 0.4 < late.seconds < 2.0
    log = bookinfo.logs("deploy/reviews-v2", "-c", "istio-proxy")
    assert log
    arrived = eventually(lambda: attempts(bookinfo), message="attempts in v2's log")
    assert arrived >= 3
    # Four attempts of 150 ms would end soon as well: the client's proxy says what ended them.
    assert eventually(lambda: ends(bookinfo), message="504 in the client's log")[-1] == (
        "response_timeout"
    )


def access_log(mesh: Mesh, target: str) -> list[dict[str, Any]]:
    log = mesh.logs(target, "-c", "istio-proxy")
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def ends(mesh: Mesh) -> list[str]:
    """Why requests of the client ended that took too long."""
    lines = access_log(mesh, "deploy/sleep")
    return [line["response_code_details"] for line in lines if line["response_code"] == 504]


def attempts(mesh: Mesh) -> int:
    """How many requests reached reviews-v2 and were given up by their client."""
    return sum(
        1
        for line in access_log(mesh, "deploy/reviews-v2")
        if "inbound" in (line["upstream_cluster"] or "") and "DC" in line["response_flags"]
    )


def test_circuit_breaker(bookinfo: Mesh, rule: Apply) -> None:
    """One request at a time passes; of several at once some are refused with 503 UO."""
    rule("all-v1")
    rule("reviews-circuit-breaker")
    alone = bookinfo.load(REVIEWS, 30, clients=1)
    assert alone.statuses == {"200": 30}
    crowd = bookinfo.load(REVIEWS, 600, clients=12)
    assert crowd.statuses["503"] > 0
    assert crowd.statuses["200"] > 0
    assert any("overflow" in failure for failure in crowd.failures)


def test_subset_without_pods_is_unavailable(bookinfo: Mesh, rule: Apply) -> None:
    """Rules for versions that are not deployed are accepted and answered with 503."""
    for name, url in (
        ("details-v2", DETAILS),
        ("ratings-mongodb", RATINGS),
        ("ratings-mysql", RATINGS),
        ("ratings-mysql-vm", RATINGS),
    ):
        rule(name)
        assert bookinfo.curl(url).status == 503, name
    assert stars(bookinfo.curl(REVIEWS)) == "unavailable"


def test_mtls_by_name(bookinfo: Mesh, rule: Apply) -> None:
    rule("destination-rules-mtls")
    assert bookinfo.get("/productpage").status == 200
    assert bookinfo.load(REVIEWS, 30).statuses == {"200": 30}


def test_egress_entry_is_a_cluster_with_tls(bookinfo: Mesh, rule: Apply) -> None:
    """The application speaks HTTP to port 80; its proxy is to speak TLS to port 443."""
    rule("egress-books")
    found = bookinfo.run("config", "clusters", "deploy/details-v1", "-o", "json")
    assert "outbound|80||www.googleapis.com" in found.out


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_rule_is_named_in_the_readme(path: Path) -> None:
    assert f"`{path.name}`" in (SAMPLES / "README.md").read_text()
