"""Bookinfo as four real processes: pages, stars, sign-in, failures."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.workloads.processes import Process, curl, workload


@contextmanager
def bookinfo(**reviews: str) -> Iterator[dict[str, Process]]:
    env = {"DETAILS_HOSTNAME": "127.0.0.1", "RATINGS_HOSTNAME": "127.0.0.1"}
    env["REVIEWS_HOSTNAME"] = "127.0.0.1"
    with workload("details", "0") as details, workload("ratings", "0") as ratings:
        env |= {"DETAILS_SERVICE_PORT": str(details.port)}
        env |= {"RATINGS_SERVICE_PORT": str(ratings.port)}
        with workload("reviews", "0", env=env | reviews) as served:
            env |= {"REVIEWS_SERVICE_PORT": str(served.port)}
            with workload("productpage", "0", env=env) as page:
                yield {
                    "details": details,
                    "ratings": ratings,
                    "reviews": served,
                    "productpage": page,
                }


@pytest.fixture(scope="module")
def red() -> Iterator[dict[str, Process]]:
    with bookinfo(ENABLE_RATINGS="true", STAR_COLOR="red", HOSTNAME="reviews-v3-x") as running:
        yield running


def test_the_page_shows_details_and_red_stars(red: dict[str, Process]) -> None:
    status, page = red["productpage"].get("/productpage")
    assert status == 200
    assert "<title>Simple Bookstore App</title>" in page
    assert "William Shakespeare" in page
    assert page.count('"glyphicon glyphicon-star"') == 9
    assert 'data-color="red"' in page
    assert "reviews-v3-x" in page


def test_reviews_v1_has_no_stars_and_asks_nobody() -> None:
    with workload("reviews", "0", env={"RATINGS_HOSTNAME": "nowhere.invalid"}) as reviews:
        status, body = reviews.get("/reviews/0")
    assert status == 200
    answer = json.loads(body)
    assert [set(each) for each in answer["reviews"]] == [{"reviewer", "text"}] * 2


def test_reviews_json(red: dict[str, Process]) -> None:
    answer = json.loads(red["reviews"].get("/reviews/7")[1])
    assert answer["id"] == "7"
    assert answer["podname"] == "reviews-v3-x"
    assert answer["clustername"] == "null"
    assert [each["rating"] for each in answer["reviews"]] == [
        {"stars": 5, "color": "red"},
        {"stars": 4, "color": "red"},
    ]


def test_the_products_api(red: dict[str, Process]) -> None:
    page = red["productpage"]
    assert json.loads(page.get("/api/v1/products")[1])[0]["title"] == "The Comedy of Errors"
    assert json.loads(page.get("/api/v1/products/0")[1])["author"] == "William Shakespeare"
    assert len(json.loads(page.get("/api/v1/products/0/reviews")[1])["reviews"]) == 2
    assert page.get("/api/v1/products/0/ratings")[1] == (
        '{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}'
    )
    assert page.get("/api/v1/products/0/nothing")[0] == 404


def test_posted_ratings_are_kept(red: dict[str, Process]) -> None:
    url = f"http://127.0.0.1:{red['ratings'].port}/ratings/5"
    assert curl("-s", "-d", '{"Reviewer1":1,"Reviewer2":2}', url).stdout == (
        '{"id":5,"ratings":{"Reviewer1":1,"Reviewer2":2}}'
    )
    assert '"Reviewer1":1' in curl("-s", url).stdout
    assert red["ratings"].get("/ratings/x")[0] == 400


@pytest.mark.parametrize("name", ["productpage", "details", "reviews", "ratings"])
def test_health(red: dict[str, Process], name: str) -> None:
    status, body = red[name].get("/health")
    assert status == 200
    assert "healthy" in body


@contextmanager
def listener(answer: bytes | None) -> Iterator[tuple[int, list[str]]]:
    """A backend that records what it is sent and gives a fixed answer, or none at all."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            held = []
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                heard.append(client.recv(65536).decode())
                if answer is None:
                    held.append(client)
                else:
                    client.sendall(answer)
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


def test_the_user_who_signs_in_and_the_trace_reach_the_backends() -> None:
    with listener(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n") as (port, heard):
        env = {"REVIEWS_HOSTNAME": "127.0.0.1", "REVIEWS_SERVICE_PORT": str(port)}
        env |= {"DETAILS_HOSTNAME": "127.0.0.1", "DETAILS_SERVICE_PORT": str(port)}
        with workload("productpage", "0", env=env) as page:
            signed = curl("-si", "-d", "username=jason", f"127.0.0.1:{page.port}/login").stdout
            cookie = signed.partition("Set-Cookie: ")[2].partition(";")[0]
            trace = (
                "X-Request-Id: r1",
                "Traceparent: 00-1-2-01",
                "X-B3-TraceId: b1",
                "X-Other: no",
            )
            status, body = page.get("/productpage", f"Cookie: {cookie}", *trace)
            evil = page.get("/productpage", "Cookie: session=jason%0d%0aX-Admin:%20yes")[0]
    assert status == evil == 200
    assert "jason" in body
    assert "Error fetching product reviews" in body
    assert "Error fetching product details" in body
    for request in heard[:3]:
        for line in ("end-user: jason", "x-request-id: r1", "traceparent: 00-1-2-01"):
            assert line in request
        assert "x-b3-traceid: b1" in request
        assert "x-other" not in request
    assert [request.split()[1] for request in heard[:3]] == ["/details/0", *["/reviews/0"] * 2]
    assert all("\nX-Admin" not in request for request in heard)


def test_a_silent_reviews_service_costs_two_attempts_of_three_seconds() -> None:
    with listener(None) as (port, heard):
        env = {"REVIEWS_HOSTNAME": "127.0.0.1", "REVIEWS_SERVICE_PORT": str(port)}
        with workload("productpage", "0", env=env) as page:
            started = time.monotonic()
            status, body = page.get("/api/v1/products/0/reviews")
            took = time.monotonic() - started
    assert status == 500
    assert "currently unavailable" in body
    assert len(heard) == 2
    assert 5.9 < took < 9


def test_reviews_v3_gives_up_on_ratings_before_productpage_does() -> None:
    with listener(None) as (port, _):
        env = {"RATINGS_HOSTNAME": "127.0.0.1", "RATINGS_SERVICE_PORT": str(port)}
        env |= {"ENABLE_RATINGS": "true", "STAR_COLOR": "red"}
        with workload("reviews", "0", env=env) as reviews:
            started = time.monotonic()
            status, body = reviews.get("/reviews/0")
            took = time.monotonic() - started
    assert status == 200
    assert "Ratings service is currently unavailable" in body
    assert 2.4 < took < 5


@pytest.mark.parametrize(
    "env",
    [
        {"DB_TYPE": "mysql", "MYSQL_DB_HOST": "127.0.0.1", "MYSQL_DB_PORT": "1"},
        {"MONGO_DB_URL": "mongodb://127.0.0.1:1/test"},
    ],
)
def test_ratings_v2_without_its_database(env: dict[str, str]) -> None:
    with workload("ratings", "0", env={"SERVICE_VERSION": "v2", **env}) as ratings:
        assert ratings.get("/ratings/0") == (
            500,
            '{"error":"could not connect to ratings database"}',
        )
        assert ratings.get("/health")[0] == 200


def test_log_dir_gets_the_requests_but_not_the_probes(tmp_path: object) -> None:
    folder = f"{tmp_path}/logs"
    with workload("reviews", "0", env={"LOG_DIR": folder}) as reviews:
        reviews.get("/health")
        reviews.get("/reviews/3")
    with open(f"{folder}/messages.log") as file:
        assert [line.split()[2] for line in file] == ["/reviews/3"]
