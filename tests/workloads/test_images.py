"""Which images are known, and what their containers run."""

import sys

import pytest

from lateen.workloads.images import builtin_command


@pytest.mark.parametrize(
    ("image", "module", "env"),
    [
        ("docker.io/istio/examples-bookinfo-productpage-v1:1.20.3", "productpage", {}),
        (
            "docker.io/istio/examples-bookinfo-details-v2:1.20.3",
            "details",
            {"ENABLE_EXTERNAL_BOOK_SERVICE": "true"},
        ),
        ("registry.istio.io/release/examples-bookinfo-ratings-v1:1.20.3", "ratings", {}),
        ("istio/examples-bookinfo-ratings-v2", "ratings", {"SERVICE_VERSION": "v2"}),
        ("istio/examples-bookinfo-reviews-v1:1", "reviews", {"ENABLE_RATINGS": "false"}),
        ("istio/examples-bookinfo-reviews-v2:1", "reviews", {"STAR_COLOR": "black"}),
        ("localhost:5000/x/examples-bookinfo-reviews-v3:1", "reviews", {"STAR_COLOR": "red"}),
        ("lateen/bookinfo-reviews:v3", "reviews", {"STAR_COLOR": "red"}),
        ("docker.io/mccutchen/go-httpbin:v2.15.0", "httpbin", {"HTTPBIN_STYLE": "go"}),
        ("docker.io/kong/httpbin", "httpbin", {"HTTPBIN_STYLE": "python", "PORT": "80"}),
        ("docker.io/istio/examples-helloworld-v2:1.0", "helloworld", {"SERVICE_VERSION": "v2"}),
        ("docker.io/istio/tcp-echo-server:1.3", "tcp_echo", {}),
        ("hiroakis/tornado-websocket-example", "websockets", {}),
        ("gcr.io/istio-testing/ext-authz:latest", "ext_authz", {}),
        ("mccutchen/go-httpbin@sha256:0123", "httpbin", {}),
        ("lateen/sleep:1", "sleep", {}),
    ],
)
def test_known_images(image: str, module: str, env: dict[str, str]) -> None:
    found = builtin_command(image)
    assert found is not None
    assert found.argv()[:3] == (sys.executable, "-m", f"lateen.workloads.{module}")
    assert env.items() <= dict(found.env).items()


@pytest.mark.parametrize(
    "image",
    [
        "postgres:16",
        "evilcurlimages/curlx",
        "istio/examples-bookinfo-mongodb:1.20.3",
        "istio/examples-bookinfo-reviews-v9:1",
        "",
    ],
)
def test_unknown_images(image: str) -> None:
    assert builtin_command(image) is None


def test_args_replace_the_arguments_and_keep_the_entrypoint() -> None:
    echo = builtin_command("istio/tcp-echo-server:1.3")
    assert echo is not None
    assert echo.argv(args=["9000,9001", "one"])[2:] == (
        "lateen.workloads.tcp_echo",
        "9000,9001",
        "one",
    )


def test_command_replaces_the_entrypoint_and_drops_the_arguments() -> None:
    curl = builtin_command("curlimages/curl:8.16.0")
    assert curl is not None
    assert curl.argv(["/bin/sleep", "infinity"])[-1] == "infinity"
    assert curl.argv(["sh", "-c"], ["exit 0"]) == ("sh", "-c", "exit 0")


def test_programs_of_the_image_are_found_by_name() -> None:
    httpbin = builtin_command("mccutchen/go-httpbin")
    assert httpbin is not None
    gunicorn = ["gunicorn", "-b", "0.0.0.0:8080", "httpbin:app", "-k", "gevent"]
    assert httpbin.argv(gunicorn)[:4] == (
        sys.executable,
        "-m",
        "lateen.workloads.httpbin",
        "-b",
    )
    assert httpbin.argv(["/bin/go-httpbin", "-port", "8080"])[-2:] == ("-port", "8080")


def test_a_machine_without_curl_has_the_builtin_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    curl = builtin_command("curlimages/curl")
    assert curl is not None
    assert curl.argv(["curl", "-s", "x"]) == (
        sys.executable,
        "-m",
        "lateen.workloads.curl",
        "-s",
        "x",
    )
    assert curl.argv(["/bin/sleep", "infinity"])[2] == "lateen.workloads.sleep"


def test_shell_images_run_the_machine_s_programs() -> None:
    busybox = builtin_command("registry.k8s.io/busybox")
    assert busybox is not None
    assert busybox.argv(args=["/bin/sh", "-c", "sleep 1"]) == ("/bin/sh", "-c", "sleep 1")
