"""Istio's own sample manifests, unmodified, on a mesh of their own.

Run as ``python .ci/samples.py SAMPLES_DIR`` (the folder ``samples`` of an Istio release). Brings up
Bookinfo, applies every file of ``bookinfo/networking`` and checks that each does what Istio's
documentation says of it; those that need a database, a certificate manager or the internet must be
accepted, acknowledged and fail in the documented way. Then the other sample applications.
Prints ``samples: N passed, N failed``, then each failure; exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.live.mesh import Mesh, eventually, running  # noqa: E402 - after the path is set

REVIEWS = "http://reviews:9080/reviews/0"
RATINGS = "http://ratings:9080/ratings/0"
DETAILS = "http://details:9080/details/0"
JASON = {"end-user": "jason"}


class Case(NamedTuple):
    """Files that are applied in this order, and what holds then."""

    files: tuple[str, ...]
    check: Callable[[Mesh], None]


ATTEMPTS = 2
"""Times a case is run before it counts as failed; the first failure is printed all the same."""


def expect(condition: object, text: object) -> None:
    """Fails the case with ``text`` unless the condition holds."""
    if not condition:
        raise AssertionError(str(text))


def split(mesh: Mesh, **shares: float) -> None:
    """2,000 requests to reviews are shared among its versions so, within 3 %."""
    load = mesh.load(REVIEWS, 2000)
    expect(load.statuses == {"200": 2000}, load.failures)
    for version in ("v1", "v2", "v3"):
        wanted = shares.get(version, 0.0)
        found = load.share(f"reviews-{version}")
        expect(abs(found - wanted) < 0.03, f"{version} got {found:.3f}, not {wanted}")


def only(mesh: Mesh, version: str, headers: dict[str, str] | None = None) -> None:
    """All requests to reviews reach one version."""
    load = mesh.load(REVIEWS, 60, headers)
    expect(load.statuses == {"200": 60}, load.failures)
    expect(load.share(f"reviews-{version}") == 1.0, load.pods)


def page_is_served(mesh: Mesh) -> None:
    """bookinfo-gateway: the page and nothing but its paths."""
    expect(mesh.get("/productpage").status == 200, mesh.get("/productpage"))
    expect(mesh.get("/api/v1/products").status == 200, "/api/v1/products")
    expect(mesh.get("/nothing").status == 404, "other paths are answered 404")


def every_version(mesh: Mesh) -> None:
    """Without a rule all versions take part."""
    load = mesh.load(REVIEWS, 300)
    for version in ("v1", "v2", "v3"):
        expect(load.share(f"reviews-{version}") > 0.15, load.pods)
    expect(load.statuses == {"200": 300}, load.failures)


def all_v1(mesh: Mesh) -> None:
    only(mesh, "v1")
    expect("glyphicon-star" not in mesh.get("/productpage").body, "there are stars")


def jason_v2(mesh: Mesh) -> None:
    only(mesh, "v1")
    only(mesh, "v2", JASON)
    page = mesh.get("/productpage", mesh.login("jason")).body
    expect("reviews-v2" in page, "the signed-in user does not see v2")


def jason_v2_others_v3(mesh: Mesh) -> None:
    only(mesh, "v3")
    only(mesh, "v2", JASON)


def delayed(mesh: Mesh) -> None:
    late = mesh.curl(RATINGS, "-H", "end-user: jason")
    expect(late.status == 200 and 6.9 < late.seconds < 9, late)
    expect(mesh.curl(RATINGS).seconds < 2, "others wait too")
    page = mesh.get("/productpage", mesh.login("jason"))
    text = "product reviews are currently unavailable"
    expect(text in page.body and 5.5 < page.seconds < 9, page.seconds)


def aborted(mesh: Mesh) -> None:
    answer = mesh.curl(RATINGS, "-H", "end-user: jason")
    expect(answer.status == 500, answer)
    expect(mesh.curl(RATINGS).status == 200, "others fail too")
    page = mesh.get("/productpage", mesh.login("jason")).body
    expect("Ratings service is currently unavailable" in page, "the page shows ratings")


def details_fail(mesh: Mesh) -> None:
    expect(mesh.curl(DETAILS).status == 555, mesh.curl(DETAILS))
    page = mesh.get("/productpage").body
    expect("product details are currently unavailable" in page, "the page shows details")


def details_without_v2(mesh: Mesh) -> None:
    """details-v2 is not deployed: 503, and the page goes on without details."""
    expect(mesh.curl(DETAILS).status == 503, mesh.curl(DETAILS))
    expect(mesh.get("/productpage").status == 200, "the page fails")


def ratings_without_database(mesh: Mesh) -> None:
    """The version with a database is not deployed: reviews v3 without stars."""
    only(mesh, "v3")
    expect(mesh.curl(RATINGS).status == 503, mesh.curl(RATINGS))
    expect("currently unavailable" in mesh.curl(REVIEWS).body, "there are ratings")


def acme_challenge(mesh: Mesh) -> None:
    """The resolver of cert-manager is not deployed: its path leads to no service."""
    answer = mesh.get("/.well-known/acme-challenge/token")
    expect(answer.status in (500, 503), answer)


def egress(mesh: Mesh) -> None:
    """Port 80 of the external host goes to the cluster of port 443 that originates TLS."""
    dump = mesh.run("config", "all", mesh.client, "-o", "json").out
    expect("outbound|443||www.googleapis.com" in dump, "no cluster for port 443")
    answer = mesh.curl("http://www.googleapis.com/books/v1/volumes?q=isbn:0486424618", "-i")
    expect(answer.status in (200, 403, 429, 502, 503, 504), answer)
    log = mesh.logs(mesh.client, "-c", "istio-proxy").splitlines()

    def logged() -> bool:
        lines = mesh.logs(mesh.client, "-c", "istio-proxy").splitlines()
        return any("outbound|443||www.googleapis.com" in line for line in lines)

    eventually(logged, message=f"no request for port 443 in the log: {log[-1:]}")


SUBSETS = "destination-rule-all.yaml"
V1 = "virtual-service-all-v1.yaml"
NETWORKING = (
    Case(("bookinfo-gateway.yaml",), page_is_served),
    Case((SUBSETS,), every_version),
    Case(("destination-rule-all-mtls.yaml",), every_version),
    Case((SUBSETS, "destination-rule-reviews.yaml"), every_version),
    Case((SUBSETS, V1), all_v1),
    Case((SUBSETS, "virtual-service-reviews-80-20.yaml"), lambda m: split(m, v1=0.8, v2=0.2)),
    Case((SUBSETS, "virtual-service-reviews-90-10.yaml"), lambda m: split(m, v1=0.9, v2=0.1)),
    Case((SUBSETS, "virtual-service-reviews-50-v3.yaml"), lambda m: split(m, v1=0.5, v3=0.5)),
    Case((SUBSETS, "virtual-service-reviews-v2-v3.yaml"), lambda m: split(m, v2=0.5, v3=0.5)),
    Case((SUBSETS, "virtual-service-reviews-v3.yaml"), lambda m: only(m, "v3")),
    Case((SUBSETS, "virtual-service-reviews-test-v2.yaml"), jason_v2),
    Case((SUBSETS, "virtual-service-reviews-jason-v2-v3.yaml"), jason_v2_others_v3),
    Case(
        (
            SUBSETS,
            V1,
            "virtual-service-reviews-test-v2.yaml",
            "virtual-service-ratings-test-delay.yaml",
        ),
        delayed,
    ),
    Case(
        (
            SUBSETS,
            V1,
            "virtual-service-reviews-test-v2.yaml",
            "virtual-service-ratings-test-abort.yaml",
        ),
        aborted,
    ),
    Case((SUBSETS, "fault-injection-details-v1.yaml"), details_fail),
    Case((SUBSETS, "virtual-service-details-v2.yaml"), details_without_v2),
    Case((SUBSETS, "virtual-service-ratings-db.yaml"), ratings_without_database),
    Case((SUBSETS, "virtual-service-ratings-mysql.yaml"), ratings_without_database),
    Case((SUBSETS, "virtual-service-ratings-mysql-vm.yaml"), ratings_without_database),
    Case(("certmanager-gateway.yaml",), acme_challenge),
    Case(("egress-rule-google-apis.yaml",), egress),
)


def helloworld(mesh: Mesh) -> None:
    """Both versions answer by turns."""
    bodies = {mesh.curl("http://helloworld:5000/hello").body.split(",")[0] for _ in range(20)}
    expect(bodies == {"Hello version: v1", "Hello version: v2"}, bodies)


def httpbin(mesh: Mesh) -> None:
    answer = mesh.curl("http://httpbin:8000/headers", "-H", "x-sample: yes")
    expect(answer.status == 200, answer)
    expect("x-sample" in answer.body.lower(), answer.body)
    expect("spiffe://cluster.local/ns/default/sa/" in answer.body, "no client identity")
    expect(mesh.curl("http://httpbin:8000/status/418").status == 418, "/status/418")


def tcp_echo(mesh: Mesh) -> None:
    """A line comes back with ``hello`` before it."""
    script = (
        "import socket;s=socket.create_connection(('tcp-echo',9000),5);"
        "s.sendall(b'world\\n');print(s.recv(100).decode())"
    )
    out = mesh.exec(mesh.client, mesh.python, "-c", script).out
    expect("hello world" in out, out)


def helloworld_gateway(mesh: Mesh) -> None:
    answer = mesh.get("/hello")
    expect(answer.body.startswith("Hello version:"), answer)


def httpbin_gateway(mesh: Mesh) -> None:
    expect(mesh.get("/status/418").status == 418, mesh.get("/status/418"))


def tcp_versions(mesh: Mesh, share: float) -> None:
    """Lines through the gateway's port 31400 come back as "one", and a share of them as "two"."""
    script = (
        "import socket,collections;c=collections.Counter()\n"
        "for i in range(200):\n"
        " s=socket.create_connection(('istio-ingressgateway.istio-system',31400),5)\n"
        " s.sendall(b'x\\n');c[s.recv(100).decode().split()[0]]+=1;s.close()\n"
        "print(c['one'],c['two'])"
    )
    one, two = mesh.exec(mesh.client, mesh.python, "-c", script).out.split()
    expect(int(one) + int(two) == 200, (one, two))
    expect(abs(int(two) / 200 - share) < 0.1, (one, two))


def sleep_calls(mesh: Mesh) -> None:
    answer = mesh.curl(REVIEWS, source="deploy/sleep")
    expect(answer.status == 200 and "reviews" in json.loads(answer.body), answer)


APPLICATIONS = (
    Case(("helloworld/helloworld.yaml",), helloworld),
    Case(("httpbin/httpbin.yaml",), httpbin),
    Case(("tcp-echo/tcp-echo.yaml",), tcp_echo),
    Case(("sleep/sleep.yaml",), sleep_calls),
    Case(("helloworld/helloworld.yaml", "helloworld/helloworld-gateway.yaml"), helloworld_gateway),
    Case(("httpbin/httpbin.yaml", "httpbin/httpbin-gateway.yaml"), httpbin_gateway),
    Case(
        ("tcp-echo/tcp-echo-services.yaml", "tcp-echo/tcp-echo-all-v1.yaml"),
        lambda m: tcp_versions(m, 0.0),
    ),
    Case(
        (
            "tcp-echo/tcp-echo-services.yaml",
            "tcp-echo/tcp-echo-all-v1.yaml",
            "tcp-echo/tcp-echo-20-v2.yaml",
        ),
        lambda m: tcp_versions(m, 0.2),
    ),
)


def run_case(mesh: Mesh, folder: Path, case: Case, kept: frozenset[str]) -> None:
    """Applies the files, waits for acknowledgements and pods, checks, deletes again."""
    applied: list[Path] = []
    try:
        for name in case.files:
            result = mesh.apply(folder / name, status=None)
            applied.append(folder / name)
            expect(result.status == 0, f"{name}: {result.text}")
        eventually(lambda: all_ready(mesh), timeout=60, message="pods are not ready")
        case.check(mesh)
        status = mesh.run("status", "-o", "json", status=None)
        expect(status.status == 0, status.out)
    finally:
        for path in dict.fromkeys(applied):
            if path.name not in kept:
                mesh.run("delete", "--ignore-not-found", "-f", str(path), status=None)


def attempts(mesh: Mesh, folder: Path, case: Case, kept: frozenset[str]) -> list[str]:
    """Run a case, on a busy machine a second time; what went wrong each time."""
    problems: list[str] = []
    while len(problems) < ATTEMPTS:
        try:
            run_case(mesh, folder, case, kept)
        except Exception as error:
            problems.append(str(error) or traceback.format_exc())
        else:
            break
    return problems


def all_ready(mesh: Mesh) -> bool:
    """All pods are there and ready."""
    table = mesh.run("get", "deploy", "-o", "json").json()["items"]
    return all(
        (d.get("status") or {}).get("readyReplicas", 0) == d["spec"].get("replicas", 1)
        for d in table
    )


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; the exit status."""
    parser = argparse.ArgumentParser(description="Istio's samples, unmodified, on a real mesh")
    parser.add_argument("folder", type=Path, help="the samples folder of an Istio release")
    parser.add_argument("--only", default="", help="cases whose last file has this in its name")
    parser.add_argument("-v", "--verbose", action="store_true", help="name each case")
    options = parser.parse_args(arguments)
    folder: Path = options.folder.resolve()
    networking = folder / "bookinfo" / "networking"
    passed = 0
    failures: list[str] = []
    covered = {case.files[-1] for case in NETWORKING}
    failures += [
        f"{path.name}: no case checks this file"
        for path in sorted(networking.glob("*.yaml"))
        if path.name not in covered
    ]
    gateway = "bookinfo-gateway.yaml"
    files = (folder / "bookinfo/platform/kube/bookinfo.yaml", networking / gateway)
    words = [w for f in (*files, folder / "curl/curl.yaml") for w in ("-f", str(f))]
    with running(*words, name="samples") as mesh:
        mesh.client = "deploy/curl"
        cases = [(networking, c) for c in NETWORKING] + [(folder, c) for c in APPLICATIONS]
        for place, case in cases:
            name = case.files[-1]
            if options.only not in name:
                continue
            problems = attempts(mesh, place, case, frozenset((gateway,)))
            verdict = "failed" if len(problems) == ATTEMPTS else "passed"
            if verdict == "passed":
                passed += 1
            else:
                failures.append(f"{name}: {problems[-1]}")
            if options.verbose or problems:
                again = f" after: {problems[0]}" if problems else ""
                print(f"{name}: {verdict}{again}", flush=True)  # noqa: T201
    print(f"samples: {passed} passed, {len(failures)} failed")  # noqa: T201
    for failure in failures:
        print(f"  {failure}")  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    socket.setdefaulttimeout(30)
    sys.exit(main())
