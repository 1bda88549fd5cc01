"""The control plane's command line, as the node's supervisor writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lateen.serve.main import _mesh_config, parse_arguments


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
