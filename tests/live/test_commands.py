"""The command line on a running mesh, as people who know kubectl expect it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.live.mesh import PROGRAM, ROOT, SAMPLES, Mesh, eventually

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]
REVIEWS = "http://reviews:9080/reviews/0"


def test_exec_runs_what_it_is_given(bookinfo: Mesh) -> None:
    assert bookinfo.exec("deploy/sleep", "curl", "-s", REVIEWS).out.startswith("{")
    assert bookinfo.exec("svc/sleep", "echo", "a b", "-x").out == "a b -x\n"
    name = bookinfo.pod("sleep")["metadata"]["name"]
    assert bookinfo.exec(name, "hostname").out.strip() == name


def test_exec_has_the_commands_exit_status(bookinfo: Mesh) -> None:
    assert bookinfo.exec("deploy/sleep", "sh", "-c", "exit 7", status=None).status == 7
    missing = bookinfo.exec("deploy/sleep", "no-such-program", status=None)
    assert missing.status in (126, 127)
    assert "no-such-program" in missing.err
    assert "Traceback" not in missing.text


def test_exec_passes_input_and_both_outputs(bookinfo: Mesh) -> None:
    result = bookinfo.run("exec", "-i", "deploy/sleep", "--", "cat", stdin="through\n")
    assert result.out == "through\n"
    both = bookinfo.exec("deploy/sleep", "sh", "-c", "echo out; echo err >&2")
    assert (both.out, both.err) == ("out\n", "err\n")


def test_exec_ends_with_its_caller(bookinfo: Mesh) -> None:
    """A command does not outlive the `lateen exec` that started it."""
    argv = [PROGRAM, "exec", "deploy/sleep", "--", "sleep", "4321"]
    process = subprocess.Popen(argv, env=bookinfo.environment(), cwd=ROOT)
    try:
        eventually(lambda: bookinfo.process_with("sleep 4321"))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def gone() -> bool:
        try:
            bookinfo.process_with("sleep 4321")
        except LookupError:
            return True
        return False

    eventually(gone)


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("exec", "deploy/nobody", "--", "true"), 1, "nobody"),
        (("exec", "deploy/sleep"), 2, "no command"),
        (("logs", "nobody"), 1, "nobody"),
        (("get", "unicorns"), 2, "unicorns"),
        (("get", "pod", "nobody"), 1, "nobody"),
        (("scale", "deploy/nobody", "--replicas", "2"), 1, "nobody"),
        (("restart", "deploy/nobody"), 1, "nobody"),
        (("delete", "vs", "nobody"), 1, "nobody"),
        (("history", "vs/nobody"), 1, "nobody"),
        (("config", "nonsense", "deploy/sleep"), 2, "nonsense"),
        (("apply", "-f", "/no/such/file.yaml"), 2, "/no/such/file.yaml"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_mistakes_are_told(bookinfo: Mesh, words: tuple[str, ...], status: int, text: str) -> None:
    result = bookinfo.run(*words, status=status)
    assert text in result.err
    assert "Traceback" not in result.text


def test_ps_and_get(bookinfo: Mesh) -> None:
    lines = bookinfo.run("ps").out.splitlines()
    page = next(line for line in lines if "productpage-v1" in line)
    assert "2/2" in page
    assert "Running" in page
    pods = bookinfo.run("get", "pods", "-l", "app=reviews", "-o", "json").json()["items"]
    assert {p["metadata"]["labels"]["version"] for p in pods} == {"v1", "v2", "v3"}
    table = bookinfo.run("get", "deploy,svc").out
    assert "deployment.apps/reviews-v1" in table or "deployment/reviews-v1" in table
    assert "service/reviews" in table
    one = bookinfo.run("get", "svc", "reviews", "-o", "json").json()
    assert one["spec"]["clusterIP"].startswith("10.96.")
    everywhere = bookinfo.run("get", "pods", "-A").out
    assert "istio-system" in everywhere


def test_logs(bookinfo: Mesh) -> None:
    bookinfo.curl("http://details:9080/details/0")
    eventually(lambda: "/details/0" in bookinfo.logs("deploy/details-v1"))
    line = bookinfo.logs("deploy/details-v1", "--tail", "1")
    assert len(line.splitlines()) == 1
    argv = [PROGRAM, "logs", "-f", "--tail", "0", "deploy/details-v1"]
    process = subprocess.Popen(
        argv,
        env=bookinfo.environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell were told to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        time.sleep(1.0)
        bookinfo.curl("http://details:9080/details/77")
        assert process.stdout is not None
        # Probes are logged too; the timeout of the test ends a log that never shows the request.
        while "/details/77" not in process.stdout.readline():
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) in (0, 130, -signal.SIGINT)
        finally:
            process.kill()


def test_scale_and_restart(bookinfo: Mesh) -> None:
    """Scaling waits for readiness, new pods serve at once, and old ones leave without a loss."""
    bookinfo.run("scale", "deploy/details-v1", "--replicas", "2")
    names = {p["metadata"]["name"] for p in bookinfo.pods() if "details" in p["metadata"]["name"]}
    assert len(names) == 2
    assert (
        bookinfo.run("get", "deploy", "details-v1", "-o", "json").json()["status"]["readyReplicas"]
        == 2
    )
    bookinfo.run("scale", "deploy/details-v1", "--replicas", "1")
    before = bookinfo.pod("details")["metadata"]["name"]
    bookinfo.run("restart", "deploy/details-v1")
    after = bookinfo.pod("details")["metadata"]["name"]
    assert before != after
    assert bookinfo.curl("http://details:9080/details/0").status == 200


def test_status_names_every_proxy(bookinfo: Mesh) -> None:
    data = bookinfo.run("status", "-o", "json").json()
    names = {proxy["name"].rsplit("-", 2)[0] for proxy in data["proxies"]}
    assert {"productpage-v1", "reviews-v1", "sleep", "istio-ingressgateway"} <= names
    assert all(proxy["inSync"] for proxy in data["proxies"])
    assert all(proxy["identity"].startswith("spiffe://") for proxy in data["proxies"])
    assert "SYNCED" in bookinfo.run("status").out


def test_config_shows_what_the_proxy_runs(bookinfo: Mesh) -> None:
    clusters = bookinfo.run("config", "clusters", "deploy/productpage-v1").out
    assert "reviews.default.svc.cluster.local" in clusters
    for part in ("listeners", "routes", "endpoints", "secrets", "all"):
        assert bookinfo.run("config", part, "deploy/productpage-v1").out
    secrets = bookinfo.run("config", "secrets", "deploy/productpage-v1", "-o", "json").out
    assert "BEGIN PRIVATE KEY" not in secrets
    assert "BEGIN EC PRIVATE KEY" not in secrets


def test_history_and_delete(bookinfo: Mesh) -> None:
    path = SAMPLES / "bookinfo" / "rules" / "reviews-90-10.yaml"
    bookinfo.apply(SAMPLES / "bookinfo" / "rules" / "destination-rules.yaml")
    bookinfo.apply(path)
    bookinfo.apply(SAMPLES / "bookinfo" / "rules" / "reviews-80-20.yaml")
    bookinfo.run("delete", "vs/reviews")
    rows = bookinfo.run("history", "vs/reviews", "-o", "json").json()["items"]
    assert [row["verb"] for row in rows[:3]] == ["DELETED", "MODIFIED", "ADDED"]
    assert rows[2]["file"].endswith("reviews-90-10.yaml")
    assert rows[2]["line"] == 2
    assert bookinfo.run("get", "vs", "reviews", status=None).status == 1


def test_apply_says_where_a_mistake_is(bookinfo: Mesh, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata: {name: wrong}\nspec:\n  hosts: [reviews]\n  htpp: []\n"
    )
    result = bookinfo.apply(bad, status=1)
    assert f"{bad}:6" in result.text
    assert "http" in result.text
    machine = bookinfo.run("apply", "-f", str(bad), "-o", "json", status=1)
    finding = json.loads(machine.out)["findings"][0]
    assert (finding["line"], finding["severity"]) == (6, "error")


@pytest.mark.parametrize(
    "words",
    [
        ("apply", "-f", "-"),
        ("get", "pods,vs"),
        ("get", "svc", "reviews"),
        ("history", "svc/reviews"),
        ("ps",),
        ("status",),
        ("check",),
        ("config", "routes", "deploy/sleep"),
    ],
    ids=" ".join,
)
def test_programs_can_read_what_is_printed(bookinfo: Mesh, words: tuple[str, ...]) -> None:
    """Also with findings: the object that is applied leads nowhere."""
    astray = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: astray}\n"
        "spec: {hosts: [astray], http: [{route: [{destination: {host: nowhere}}]}]}\n"
    )
    try:
        bookinfo.apply_text(astray)
        for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
            result = bookinfo.run(*words, "-o", form, stdin=astray, status=None)
            assert isinstance(read(result.out), dict), result
    finally:
        bookinfo.delete_text(astray)


def test_a_misspelt_namespace_is_not_made(bookinfo: Mesh) -> None:
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: astray}\n"
    result = bookinfo.run("apply", "-n", "istio-sistem", "-f", "-", stdin=account, status=2)
    assert "did you mean -n istio-system?" in result.err
    assert "istio-sistem" not in bookinfo.run("get", "namespaces").out
    empty = bookinfo.run("apply", "-f", "-", status=2)
    assert "standard input is empty" in empty.err
