"""Bookinfo's ratings service: ``python -m lateen.workloads.ratings [PORT]`` (9080).

``GET /ratings/ID`` has the stars of two reviewers; ``POST /ratings/ID`` replaces them for this
process. SERVICE_VERSION=v2 reads them from a database instead (DB_TYPE=mysql with MYSQL_DB_HOST
and so on, otherwise MONGO_DB_URL). v-faulty, v-delayed, v-unavailable and v-unhealthy misbehave
for trying out health checks, retries and outlier detection.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from lateen.workloads.http import Handler, Request, Response, json_response
from lateen.workloads.server import print_line, run_http
from lateen.workloads.settings import listen_port, main, request_log

_MAX_PRODUCTS: Final = 1000
_DELAY: Final = 7.0
_OUTAGE_PERIOD: Final = 60.0
_UNHEALTHY_PERIOD: Final = 15 * 60.0

Answer = Response | Awaitable[Response]


def service(environment: Mapping[str, str]) -> Handler:
    """The request handler."""
    version = environment.get("SERVICE_VERSION", "v1")
    started = time.monotonic()
    posted: dict[int, object] = {}

    def up(period: float) -> bool:
        return int((time.monotonic() - started) / period) % 2 == 0

    def local(number: int) -> Response:
        ratings = posted.get(number, {"Reviewer1": 5, "Reviewer2": 4})
        return json_response({"id": number, "ratings": ratings})

    async def delayed(number: int) -> Response:
        await asyncio.sleep(_DELAY)
        return local(number)

    def get(number: int) -> Answer:
        if version == "v2":
            return _from_database(number, environment)
        if version == "v-faulty" and random.random() < 0.5:
            return json_response({"error": "Service unavailable"}, 503)
        if version == "v-delayed" and random.random() < 0.5:
            return delayed(number)
        if version == "v-unavailable" and not up(_OUTAGE_PERIOD):
            return json_response({"error": "Service unavailable"}, 503)
        if version == "v-unhealthy" and not up(_UNHEALTHY_PERIOD):
            return json_response({"error": "Service unavailable"}, 503)
        return local(number)

    def post(number: int, body: bytes) -> Response:
        import json

        try:
            ratings = json.loads(body)
        except (ValueError, RecursionError):
            return json_response({"error": "please provide valid ratings JSON"}, 400)
        if version == "v2":
            return json_response({"error": "Post not implemented for database backed ratings"}, 501)
        if number not in posted and len(posted) >= _MAX_PRODUCTS:
            return json_response({"error": "too many products have ratings already"}, 507)
        posted[number] = ratings
        return local(number)

    def handle(request: Request) -> Answer:
        if request.path == "/health":
            if version == "v-unhealthy" and not up(_UNHEALTHY_PERIOD):
                return json_response({"status": "Ratings is not healthy"}, 500)
            return json_response({"status": "Ratings is healthy"})
        if not request.path.startswith("/ratings/"):
            return json_response({"error": "not found"}, 404)
        number = request.path.rpartition("/")[2]
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            return json_response({"error": "please provide numeric product ID"}, 400)
        if request.method == "POST":
            return post(int(number), request.body)
        if request.method in ("GET", "HEAD"):
            return get(int(number))
        return json_response({"error": "method not allowed"}, 405)

    return handle


async def _from_database(number: int, environment: Mapping[str, str]) -> Response:
    import lateen.workloads.databases as databases

    read: Callable[[Mapping[str, str]], Awaitable[list[int]]]
    read = databases.mysql if environment.get("DB_TYPE") == "mysql" else databases.mongodb
    try:
        stars = await read(environment)
    except databases.CannotConnect as error:
        print_line(f"database: {error}")
        return json_response({"error": "could not connect to ratings database"}, 500)
    except databases.CannotRead as error:
        print_line(f"database: {error}")
        return json_response({"error": "could not load ratings from database"}, 500)
    first, second = (*stars, 0, 0)[:2]
    return json_response({"id": number, "ratings": {"Reviewer1": first, "Reviewer2": second}})


def program(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit status."""
    port = listen_port(arguments, 9080)
    return run_http("ratings", port, service(os.environ), log=request_log())


if __name__ == "__main__":
    main("ratings", program)
