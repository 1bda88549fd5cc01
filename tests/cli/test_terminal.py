"""What every command has in common: forms of output, help, encodings, hints, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from lateen.cli import output
from lateen.cli.main import COMMANDS, build

ROOT = Path(__file__).resolve().parents[2]
BOOKINFO = str(ROOT / "samples/bookinfo")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "apply": ("-f", BOOKINFO),
    "get": ("pods",),
    "history": ("pod/a",),
    "config": ("routes", "deploy/a"),
    "translate": ("-f", BOOKINFO, "--workload", "deploy/details-v1"),
    "validate": ("-f", BOOKINFO),
    "ps": (),
    "status": (),
    "check": (),
}
"""Every command that has -o, with what it needs beside."""
FAULTY = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: é, namespace: default}
spec: {hosts: [reviews], http: [{route: [{destination: {host: nowhere}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: astray, namespace: default}
spec: {hosts: [reviews], http: [{route: [{destination: {host: nowhere}}]}]}
"""


def lateen(
    *arguments: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "lateen", *arguments],
        input=stdin.encode(),
        env={**os.environ, "XDG_STATE_HOME": "/proc/nonexistent", **environment},
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )


def with_output() -> set[str]:
    """Commands that have the option -o."""
    program = typer.main.get_command(build([]))
    assert isinstance(program, TyperGroup)
    return {
        name
        for name, command in program.commands.items()
        if any("-o" in parameter.opts for parameter in command.params)
    }


def test_the_table_names_every_command_with_a_form_of_output() -> None:
    assert with_output() == set(ARGUMENTS)


@pytest.mark.parametrize("command", ARGUMENTS)
def test_an_unknown_form_of_output_is_refused(command: str) -> None:
    result = lateen(command, *ARGUMENTS[command], "-o", "wide")
    assert result.returncode == 2
    assert b"'wide' is not one of" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("command", ["validate", "translate", "check"])
def test_programs_can_read_what_is_printed(command: str, form: str, tmp_path: Path) -> None:
    """Also when there are findings; with a running mesh: tests/live/test_commands.py."""
    path = tmp_path / "faulty.yaml"
    path.write_text(FAULTY, encoding="utf-8")
    files = ("-f", str(path)) if "-f" in ARGUMENTS[command] else ()
    result = lateen(command, *ARGUMENTS[command], *files, "-o", form)
    if form == "json":
        assert isinstance(json.loads(result.stdout), dict)
    assert isinstance(yaml.safe_load(result.stdout), dict)


def test_every_command_has_a_short_option_for_help() -> None:
    program = typer.main.get_command(build([]))
    assert isinstance(program, TyperGroup)
    root = program.make_context("lateen", ["ps"], resilient_parsing=True)
    for name, command in program.commands.items():
        context = type(root)(command, root, name, **command.context_settings)
        # The options of the control plane are those of its process, which has both.
        expected = set() if name == "control-plane" else {"-h", "--help"}
        assert set(command.get_help_option_names(context)) == expected, name


def test_the_program_has_a_short_option_for_help() -> None:
    assert lateen("-h").stdout == lateen("--help").stdout


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Standard input, output and error have no other characters; nor have names of files."""


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_needs_more_than_ascii(command: str) -> None:
    """Help, and what is said of a mesh that does not run or of a file with mistakes."""
    needed = {
        "up": ("-f", "-"),
        "delete": ("pod", "é"),
        "logs": ("é",),
        "exec": ("é", "--", "true"),
        "restart": ("deploy/é",),
        "scale": ("deploy/é", "--replicas=1"),
        **ARGUMENTS,
    }
    calls: list[tuple[str, ...]] = [("-h",)]
    if command not in ("control-plane", "agent"):
        calls.append(needed.get(command, ()))
    if command in ("validate", "translate"):
        calls.append((*needed[command], "-f", "-"))
    for words in calls:
        result = lateen(command, *words, stdin=FAULTY, **ASCII)
        assert b"Traceback" not in result.stderr, result.stderr.decode()
        assert result.returncode in (0, 1, 2, 3)
        (result.stdout + result.stderr).decode("ascii")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_is_whole_on_an_ascii_terminal(form: str) -> None:
    result = lateen("validate", "-f", "-", "-o", form, stdin=FAULTY, PYTHONIOENCODING="ascii")
    assert "é" in str(yaml.safe_load(result.stdout.decode("ascii")))


def test_marks_have_a_form_in_ascii(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}")
    result = lateen("validate", "-f", str(path), PYTHONIOENCODING="ascii")
    assert result.stdout.startswith(b"ok 1 objects"), result.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`lateen ps` says why", "`lateen ps --mesh shop` says why"),
        ("`lateen exec POD -- curl x`", "`lateen exec POD --mesh shop -- curl x`"),
        ("`lateen down --mesh other`", "`lateen down --mesh other`"),
        ("`lateen validate -f` checks", "`lateen validate -f` checks"),
        ("`lateen ps`, then `lateen status -v`", None),
        ("`make demo`", "`make demo`"),
    ],
)
def test_commands_in_hints_name_the_mesh(
    monkeypatch: pytest.MonkeyPatch, text: str, shown: str | None
) -> None:
    monkeypatch.delenv("LATEEN_MESH", raising=False)
    monkeypatch.setattr(output, "_mesh_option", "")
    output.name_mesh("default")
    assert output.with_mesh(text) == text
    output.name_mesh("shop")
    if shown is None:
        shown = "`lateen ps --mesh shop`, then `lateen status -v --mesh shop`"
    assert output.with_mesh(text) == shown
    monkeypatch.setenv("LATEEN_MESH", "shop")
    output.name_mesh("shop")
    assert output.with_mesh(text) == text
    output.name_mesh("default")
    assert ("--mesh default" in output.with_mesh(text)) == ("--mesh shop" in shown)


def complete(*words: str, **environment: str) -> list[str]:
    line = " ".join(("lateen", *words))
    number = str(len(words))
    more = {"COMP_WORDS": line, "COMP_CWORD": number, "_LATEEN_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lateen"))],
        env={**os.environ, **more, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.stdout.split()


def test_the_shell_completes_commands_kinds_meshes_and_forms(tmp_path: Path) -> None:
    assert complete("st") == ["status"]
    assert complete("get", "virt") == ["virtualservices"]
    assert complete("config", "cl") == ["clusters"]
    assert complete("ps", "-o", "j") == ["json"]
    assert complete("logs", "deploy/") == []
    folder = tmp_path / "lateen" / "shop"
    folder.mkdir(parents=True)
    (folder / "node.json").write_text('{"pid": 1}')
    assert complete("ps", "--mesh", "s", XDG_STATE_HOME=str(tmp_path)) == ["shop"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is empty"), (" \n", "is empty"), ("# none\n---\n", "holds no object")],
)
@pytest.mark.parametrize("command", ["validate", "translate"])
def test_standard_input_without_objects_is_said(command: str, text: str, said: str) -> None:
    words = ("--workload", "deploy/a") if command == "translate" else ()
    result = lateen(command, "-f", "-", *words, stdin=text)
    assert result.returncode == 2
    assert f"standard input {said}" in result.stderr.decode()
    assert "the path given" not in result.stderr.decode()
