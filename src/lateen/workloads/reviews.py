"""Bookinfo's reviews service: ``python -m lateen.workloads.reviews [PORT]`` (9080).

``/reviews/ID`` has two reviews. With ENABLE_RATINGS=true each comes with stars of STAR_COLOR,
which the ratings service is asked for: 10 s are given to it when the stars are black (version 2),
2.5 s otherwise. Version 2's limit is longer than what productpage waits for reviews: that is the
fault the fault injection task finds.
"""

import os
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from lateen.workloads.client import FetchError, fetch, forwarded
from lateen.workloads.http import Handler, Request, Response, json_response
from lateen.workloads.server import print_line, run_http
from lateen.workloads.settings import backend, listen_port, main, pod_name, request_log

_REVIEWS: Final = (
    (
        "Reviewer1",
        "Two pairs of twins, one town, and not a dull page: I laughed from start to end.",
    ),
    ("Reviewer2", "Fast and very funny on stage. Those who look for depth will find it elsewhere."),
)


def service(environment: Mapping[str, str]) -> Handler:
    """The request handler."""
    rated = environment.get("ENABLE_RATINGS", "").lower() == "true"
    color = environment.get("STAR_COLOR") or "black"
    timeout = 10.0 if color == "black" else 2.5
    host, port = backend("ratings", environment)
    pod = pod_name(environment)
    cluster = environment.get("CLUSTER_NAME") or "null"

    def page(number: int, ratings: list[dict[str, object]] | None) -> Response:
        reviews: list[dict[str, object]] = [
            {"reviewer": reviewer, "text": text} for reviewer, text in _REVIEWS
        ]
        if ratings is not None:
            for review, rating in zip(reviews, ratings, strict=True):
                review["rating"] = rating
        return json_response(
            {"id": str(number), "podname": pod, "clustername": cluster, "reviews": reviews}
        )

    async def rated_page(request: Request, number: int) -> Response:
        try:
            status, body = await fetch(
                host, port, f"/ratings/{number}", forwarded(request), timeout
            )
            stars = _stars(status, body)
        except (FetchError, ValueError) as error:
            print_line(f"ratings at {host}:{port}: {error}")
            stars = {}
        return page(
            number,
            [
                {"stars": stars[reviewer], "color": color}
                if reviewer in stars
                else {"error": "Ratings service is currently unavailable"}
                for reviewer, _ in _REVIEWS
            ],
        )

    def handle(request: Request) -> Response | Awaitable[Response]:
        if request.path == "/health":
            return json_response({"status": "Reviews is healthy"})
        number = request.path.removeprefix("/reviews/")
        if number == request.path or not (
            number.isascii() and number.isdigit() and len(number) < 10
        ):
            return json_response({"error": "not found: ask for /reviews/NUMBER"}, 404)
        return rated_page(request, int(number)) if rated else page(int(number), None)

    return handle


def _stars(status: int, body: bytes) -> dict[str, int]:
    import json

    if status != 200:
        raise ValueError(f"answered {status}")
    answer = json.loads(body)
    ratings = answer.get("ratings") if isinstance(answer, dict) else None
    if not isinstance(ratings, dict):
        return {}
    return {name: stars for name, stars in ratings.items() if isinstance(stars, int)}


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    port = listen_port(arguments, 9080)
    return run_http("reviews", port, service(os.environ), log=request_log())


if __name__ == "__main__":
    main("reviews", program)
