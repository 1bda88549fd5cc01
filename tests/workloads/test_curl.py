"""The built-in curl against the built-in httpbin."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workloads.processes import Process, curl, workload


@pytest.fixture(scope="module")
def httpbin() -> Iterator[Process]:
    with workload("httpbin", env={"HTTPBIN_STYLE": "python"}) as process:
        yield process


@pytest.fixture(scope="module")
def url(httpbin: Process) -> str:
    return f"http://127.0.0.1:{httpbin.port}"


def test_prints_the_body(url: str) -> None:
    seen = json.loads(curl("-sS", f"{url}/get?a=1&b=2").stdout)
    assert seen["args"] == {"a": "1", "b": "2"}
    assert seen["headers"]["User-Agent"].startswith("curl/")


def test_write_out_and_output(url: str, tmp_path: Path) -> None:
    out = tmp_path / "body"
    form = "%{http_code} %{size_download} %{content_type} %%\\n"
    result = curl("-s", "-o", str(out), "-w", form, f"{url}/bytes/10")
    assert result.stdout == "200 10 application/octet-stream %\n"
    assert out.stat().st_size == 10


def test_headers_method_data_and_user(url: str) -> None:
    sent = ("-X", "PUT", "-H", "X-One: 1", "-H", "User-Agent:", "-u", "me:secret")
    seen = json.loads(curl("-s", *sent, "-d", "a=1", "--data", "b=2", f"{url}/put").stdout)
    assert seen["form"] == {"a": "1", "b": "2"}
    assert seen["headers"]["X-One"] == "1"
    assert seen["headers"]["Authorization"] == "Basic bWU6c2VjcmV0"
    assert "User-Agent" not in seen["headers"]


def test_host_header_is_what_was_asked_for(url: str) -> None:
    seen = json.loads(curl("-s", "-HHost: httpbin.example.com", f"{url}/headers").stdout)
    assert seen["headers"]["Host"] == "httpbin.example.com"


def test_data_from_standard_input_and_get(url: str) -> None:
    assert json.loads(curl("-s", "-d", "@-", f"{url}/post", stdin="x=1\n").stdout)["form"] == {
        "x": "1"
    }
    shown = curl("-sG", "--data-urlencode", "q=a b&c", f"{url}/get").stdout
    assert json.loads(shown)["args"] == {"q": "a b&c"}


def test_include_and_head(url: str) -> None:
    shown = curl("-sI", f"{url}/html").stdout
    assert shown.startswith("HTTP/1.1 200 OK\n")
    assert "<html" not in shown
    assert "Content-Type: text/html" in curl("-si", f"{url}/html").stdout


def test_verbose_goes_to_standard_error(url: str) -> None:
    result = curl("-sv", f"{url}/status/204")
    assert "> GET /status/204 HTTP/1.1" in result.stderr
    assert "< HTTP/1.1 204 No Content" in result.stderr
    assert result.stdout == ""


def test_redirects_are_followed_when_asked(url: str) -> None:
    assert curl("-s", "-o/dev/null", "-w%{http_code}", f"{url}/redirect/2").stdout == "302"
    form = "%{http_code} %{num_redirects} %{url_effective}"
    result = curl("-sL", "-o/dev/null", "-w", form, f"{url}/redirect/2")
    assert result.stdout == f"200 2 {url}/get"


def test_cookies_are_kept_in_a_jar(url: str, tmp_path: Path) -> None:
    jar = tmp_path / "jar"
    curl("-s", "-c", str(jar), f"{url}/cookies/set?user=jason")
    assert jar.stat().st_mode & 0o077 == 0
    shown = curl("-s", "-b", str(jar), f"{url}/cookies").stdout
    assert json.loads(shown) == {"cookies": {"user": "jason"}}
    shown = curl("-s", "-b", "a=b", f"{url}/cookies").stdout
    assert json.loads(shown) == {"cookies": {"a": "b"}}


def test_resolve_and_connect_to(httpbin: Process) -> None:
    where = f"http://httpbin.invalid:{httpbin.port}/headers"
    found = curl("-s", "--resolve", f"httpbin.invalid:{httpbin.port}:127.0.0.1", where)
    host = json.loads(found.stdout)["headers"]["Host"]
    assert host == f"httpbin.invalid:{httpbin.port}"
    to = f"::127.0.0.1:{httpbin.port}"
    assert curl("-s", "--connect-to", to, "http://x.invalid/status/200").returncode == 0


def test_a_proxy_is_asked_with_the_whole_url(httpbin: Process, url: str) -> None:
    seen = curl("-s", "-x", url, "http://elsewhere.invalid/headers").stdout
    assert json.loads(seen)["headers"]["Host"] == "elsewhere.invalid"


def test_compressed(url: str) -> None:
    assert json.loads(curl("-s", "--compressed", f"{url}/gzip").stdout)["gzipped"] is True


def test_streams_are_decoded(url: str) -> None:
    assert len(curl("-s", f"{url}/stream/3").stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ("-sS", "--fail", "{}/status/503"),
            22,
            "curl: (22) The requested URL returned error: 503",
        ),
        (("-sS", "-m", "0.3", "{}/delay/5"), 28, "curl: (28) "),
        (("-sS", "http://127.0.0.1:1/"), 7, "curl: (7) Failed to connect to 127.0.0.1 port 1"),
        (("-sS", "http://nowhere.invalid/"), 6, "curl: (6) Could not resolve host"),
        (("-s", "http://127.0.0.1:1/"), 7, ""),
        (("-sSL", "--max-redirs", "1", "{}/redirect/5"), 47, "curl: (47) "),
        (("-sS", "ftp://example.com"), 1, "curl: (1) Protocol 'ftp' not supported"),
        (("--nonsense", "{}"), 2, "curl: option --nonsense: is unknown"),
        (("-sSk", "{}"), 35, ""),
    ],
)
def test_exit_statuses(url: str, arguments: tuple[str, ...], status: int, message: str) -> None:
    if status == 35:
        url = url.replace("http:", "https:")
    result = curl(*(each.format(url) for each in arguments))
    assert result.returncode == status
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr


def test_credentials_stay_with_the_first_host(httpbin: Process, url: str) -> None:
    other = f"http://localhost:{httpbin.port}/headers"
    start = f"{url}/redirect-to?url={other}"
    seen = json.loads(curl("-sL", "-u", "me:secret", "-H", "Cookie: a=b", start).stdout)
    assert "Authorization" not in seen["headers"]
    assert "Cookie" not in seen["headers"]
