"""The control plane's command line, as the node's supervisor writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lateen.serve.main import MAX_WORKERS, _mesh_config, parse_arguments, processes_for


def test_folders_and_mesh_configuration_of_up(tmp_path: Path) -> None:
    """Several watched folders and a MeshConfig arrive as they were given to `lateen up`."""
    options = parse_arguments(
        ["--state-dir", str(tmp_path), "--watch", "a", "--watch", "b", "--mesh-config", "m.yaml"]
    )
    assert options.watch == (Path("a"), Path("b"))
    assert options.mesh_config == Path("m.yaml")


def test_a_wrong_mesh_configuration_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("accessLogFile: /dev/stdout\noutboundTrafficPolicy: {mode: NEVER}\n")
    with pytest.raises(OSError, match=r"mesh\.yaml:2: .*NEVER"):
        _mesh_config(path)
    path.write_text("accessLogFile: /dev/stdout\n")
    assert _mesh_config(path).access_log_file == "/dev/stdout"


@pytest.mark.parametrize("wrong", [["--overload-after", "0"], ["--defer-max", "-1"]])
def test_times_of_overload_are_checked(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--state-dir", str(tmp_path), *wrong])
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["0", "65", "-1", "two", ""])
def test_the_number_of_processes_is_checked(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--state-dir", str(tmp_path), f"--workers={wrong}"])
    assert "--workers: must be 1 to 64" in capsys.readouterr().err


def test_the_number_of_processes_is_what_was_asked_for_or_left_to_the_mesh(tmp_path: Path) -> None:
    state = ["--state-dir", str(tmp_path)]
    assert parse_arguments(state).workers is None
    assert parse_arguments([*state, "--workers", "3"]).workers == 3
    # Processes find each other's port only when it is known.
    assert parse_arguments([*state, "--listen", "127.0.0.1:0"]).workers == 1


def test_a_small_mesh_has_one_process_and_a_large_one_takes_half_of_the_cores() -> None:
    assert processes_for(50_000, 1) == processes_for(50_000, 2) == 1
    assert [processes_for(count, 8) for count in (0, 1, 5000, 5001, 15_000, 50_000)] == [
        *[1, 1, 1],
        *[2, 3, 4],
    ]
    assert processes_for(1_000_000, 256) == MAX_WORKERS
