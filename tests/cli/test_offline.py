"""Commands that need no mesh, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews}}]
"""
BAD = GOOD.replace("hosts:", "hsots:")


def lateen(
    *arguments: str, stdin: str = "", state: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(state or "/proc/nonexistent")}
    return subprocess.run(
        [sys.executable, "-m", "lateen", *arguments],
        input=stdin,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_good_file_is_said_to_be_good(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    result = lateen("validate", "-f", str(tmp_path))
    assert result.returncode == 0
    assert "1 objects in 1 files: 0 errors, 0 warnings" in result.stdout


def test_an_error_has_its_place_excerpt_and_hint_and_exit_status_one() -> None:
    result = lateen("validate", "-f", "-", stdin=BAD)
    assert result.returncode == 1
    assert '-:6:3: VirtualService default/reviews: unknown field "hsots"' in result.stdout
    assert "hsots: [reviews]" in result.stdout
    assert 'Did you mean "hosts"?' in result.stdout


def test_findings_as_json_have_the_documented_shape() -> None:
    result = lateen("validate", "-f", "-", "-o", "json", stdin=BAD)
    findings = json.loads(result.stdout)["findings"]
    unknown = next(f for f in findings if "hsots" in f["message"])
    assert set(unknown) == {
        "rule",
        "severity",
        "file",
        "line",
        "column",
        "object",
        "message",
        "hint",
    }
    assert (unknown["severity"], unknown["line"], unknown["column"]) == ("error", 6, 3)
    assert unknown["object"] == {
        "kind": "VirtualService",
        "namespace": "default",
        "name": "reviews",
    }


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("validate", "-f", "no-such-file.yaml"), 2, "no-such-file.yaml does not exist"),
        (("up",), 2, "nothing to run"),
        (("up", "-f", "x.yaml", "--publish", "80"), 2, "SERVICEPORT:HOSTPORT"),
        (("up", "-f", "x.yaml", "--image", "nothing"), 2, "is not NAME=COMMAND"),
        (("ps", "--mesh", "Not A Name"), 2, "cannot be the name of a mesh"),
        (("ps", "--mesh", "absent"), 3, "no mesh named absent runs on this machine"),
        (("down", "--mesh", "absent"), 3, "no mesh named absent is on this machine"),
        (
            ("get", "pods", "--mesh", "absent"),
            3,
            "start one with `lateen up -f FILE --mesh absent`",
        ),
        (("nonsense",), 2, "No such command 'nonsense'"),
    ],
)
def test_mistakes_are_answered_in_words_with_a_status(
    tmp_path: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    result = lateen(*arguments, state=tmp_path)
    assert result.returncode == status
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_every_command_has_help() -> None:
    listing = lateen("--help")
    assert listing.returncode == 0
    for command in ("up", "down", "apply", "exec", "translate", "check"):
        assert f"  {command} " in listing.stdout
        assert lateen(command, "--help").returncode == 0


def test_check_says_whether_pods_can_be_made_here(tmp_path: Path) -> None:
    result = lateen("check", "-o", "json", state=tmp_path)
    facts = {fact["check"]: fact for fact in json.loads(result.stdout)["facts"]}
    assert facts["envoy"]["state"] == "ok"
    assert "1.40" in facts["envoy"]["message"]
    assert all(fact["fix"] for fact in facts.values() if fact["state"] == "failure")


def test_translate_prints_what_the_proxy_of_a_workload_would_get() -> None:
    files = ("-f", "samples/bookinfo", "-f", "samples/bookinfo/rules/destination-rules.yaml")
    result = lateen(
        "translate", *files, "--workload", "deploy/productpage-v1", "-o", "json", "--check"
    )
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    clusters = {cluster["name"] for cluster in data["Cluster"]}
    assert "outbound|9080|v3|reviews.default.svc.cluster.local" in clusters
    assert "virtualInbound" in {listener["name"] for listener in data["Listener"]}
    assert "9080" in {route["name"] for route in data["RouteConfiguration"]}


def test_translate_explains_itself() -> None:
    result = lateen(
        "translate", "-f", "samples/bookinfo", "--workload", "deploy/reviews-v1", "--ir"
    )
    data = yaml.safe_load(result.stdout)
    route = next(config for config in data["routes"] if config["name"] == "9080")
    assert any("origins" in host for host in route["virtual_hosts"])


def test_a_mesh_configuration_with_an_error_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("defaultConfig:\n  concurrency: many\n  meshId: x\n")
    (tmp_path / "rule.yaml").write_text(GOOD)
    done = lateen(
        "up",
        "-f",
        str(tmp_path / "rule.yaml"),
        "--mesh-config",
        str(tmp_path / "mesh.yaml"),
        state=tmp_path / "state",
    )
    assert done.returncode == 1
    assert "mesh.yaml:2:3: must be a whole number" in done.stdout
    assert "nothing was started" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_host_may_be_a_service_of_other_files(tmp_path: Path) -> None:
    # A ServiceEntry beside it says nothing about the Services of the cluster.
    entry = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
"""
    result = lateen("validate", "-f", "-", stdin=GOOD + entry)
    assert result.returncode == 0, result.stdout
    assert "[LT2003]" in result.stdout
