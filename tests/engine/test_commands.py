"""Which engine there is, and how its words reach the user. A real engine: tests/live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lateen.runtime.engine.commands import EngineError, NoEngine, detect, installed, words
from lateen.runtime.engine.reference import parse

PATH = os.environ["PATH"]


def command(folder: Path, name: str, script: str) -> None:
    """A command of this name in a folder, as an engine's own may behave."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}:{PATH}", "HOME": str(folder), "SECRET": "hush"}


def test_a_machine_without_an_engine(tmp_path: Path) -> None:
    with pytest.raises(NoEngine, match=r"no container engine \(docker, podman or nerdctl\)"):
        detect("auto", {"PATH": str(tmp_path)})
    with pytest.raises(NoEngine, match=r"no container engine \(podman\)"):
        detect("podman", {"PATH": str(tmp_path)})
    with pytest.raises(NoEngine, match="switched off"):
        detect("none", os.environ.copy())


def test_docker_without_a_running_engine_counts_as_none(tmp_path: Path) -> None:
    command(
        tmp_path, "docker", "echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1"
    )
    with pytest.raises(NoEngine) as error:
        detect("docker", {"PATH": str(tmp_path)})
    assert str(error.value) == (
        "docker is installed, but no engine answers it: "
        "Cannot connect to the Docker daemon at unix:///x"
    )


def test_the_next_one_is_taken_then(tmp_path: Path) -> None:
    command(tmp_path, "docker", "exit 1")
    command(tmp_path, "podman", "echo 4.3.1")
    only = {"PATH": f"{tmp_path}:/no/such/folder"}
    assert detect("auto", only).name == "podman"
    with pytest.raises(NoEngine, match="docker is installed, but"):
        detect("docker", only)


def test_the_order_and_the_choice(tmp_path: Path) -> None:
    for name in ("docker", "podman", "nerdctl"):
        command(tmp_path, name, "echo 1.0")
    path = {"PATH": str(tmp_path)}
    assert list(installed(path)) == ["docker", "podman", "nerdctl"]
    assert detect("auto", path).name == "docker"
    assert detect("nerdctl", path).name == "nerdctl"


def test_relative_folders_of_path_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, "docker", "echo 1.0")
    monkeypatch.chdir(tmp_path)
    assert installed({"PATH": ":.:bin"}) == {}


def test_commands_get_no_more_of_the_environment_than_they_need(tmp_path: Path) -> None:
    command(tmp_path, "docker", "env")
    engine = detect("docker", environment(tmp_path))
    assert "HOME" in engine.environment
    assert "SECRET" not in engine.environment


def test_an_image_is_absent_or_the_engine_has_a_problem(tmp_path: Path) -> None:
    command(
        tmp_path,
        "docker",
        'case "$1" in version) echo 1;; image) echo "Error: No such image: x" >&2; exit 1;; esac',
    )
    engine = detect("docker", environment(tmp_path))
    assert engine.find(parse("example.com/app:1")) is None
    command(
        tmp_path,
        "docker",
        'case "$1" in version) echo 1;; *) echo "disk is on fire" >&2; exit 1;; esac',
    )
    with pytest.raises(EngineError, match="docker image inspect: disk is on fire"):
        engine.find(parse("example.com/app:1"))
    with pytest.raises(EngineError, match=r"docker pull example\.com/app:1: disk is on fire"):
        engine.pull("example.com/app:1")


def test_an_engine_that_talks_without_end(tmp_path: Path) -> None:
    command(tmp_path, "docker", 'case "$1" in version) echo 1;; *) yes;; esac')
    engine = detect("docker", environment(tmp_path))
    with pytest.raises(EngineError, match="it says more than anybody could want to know"):
        engine.inspect("example.com/app:1")


def test_words_are_one_bounded_printable_line() -> None:
    assert words("") == "it says nothing"
    assert words("\x1b[31mone\x1b[0m\n\n two\x07 \n") == "one two"
    assert len(words("x" * 10_000)) <= 603
    repeated = 'time="t" level=warning msg="failed, retrying"\nError: refused'
    assert words(repeated) == "Error: refused"
