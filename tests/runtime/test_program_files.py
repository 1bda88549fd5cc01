"""Programs of image mappings: where their names lead, and what pods must see of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lateen.runtime.images import ImageCatalog
from lateen.runtime.node import process, rootfs
from lateen.runtime.program_files import locate


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "app"
    (folder / "bin").mkdir(parents=True)
    for name in ("bin/run", "server.py"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_relative_program(app: Path) -> None:
    found = locate(("./bin/run", "-v"), str(app))
    assert found.argv == (f"{app}/bin/run", "-v")
    assert found.cwd == str(app)
    assert set(found.exposed) == {f"{app}/bin", str(app)}


def test_a_relative_file_of_a_program_in_path(app: Path) -> None:
    found = locate(("python3", "server.py"), str(app))
    assert (found.argv, found.cwd) == (("python3", "server.py"), str(app))
    assert found.exposed == (str(app),)


def test_a_command_without_files_needs_nothing(app: Path) -> None:
    found = locate(("python3", "-m", "http.server", "8080"), str(app))
    assert (found.cwd, found.exposed, found.missing) == ("", (), "")


def test_a_program_that_is_missing(app: Path) -> None:
    assert locate(("./nope",), str(app)).missing == f"./nope: no such program in {app}"
    assert locate(("/no/such",), str(app)).missing == "/no/such: no such program"
    (app / "link").symlink_to("/no/such")
    assert "leads to /no/such, which does not exist" in locate(("./link",), str(app)).missing
    assert ImageCatalog.parse(["x=./nope"], folder=str(app)).missing


def test_a_virtual_environment_and_its_base(app: Path, tmp_path: Path) -> None:
    base = tmp_path.resolve() / "python"
    (base / "bin").mkdir(parents=True)
    (base / "bin" / "python3").write_text("")
    (app / ".venv" / "bin").mkdir(parents=True)
    (app / ".venv" / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.12\n")
    (app / ".venv" / "bin" / "python").symlink_to(base / "bin" / "python3")
    found = locate((".venv/bin/python", "server.py"), str(app))
    # The program is named as written: Python finds its environment by that name.
    assert found.argv == (f"{app}/.venv/bin/python", "server.py")
    assert {str(base), f"{app}/.venv", str(app)} <= set(found.exposed)


@pytest.mark.parametrize("folder", ["/tmp", str(Path.home())])
def test_a_shared_folder_is_not_shown_for_a_file_in_it(folder: str) -> None:
    place = Path(folder, f"lateen-test-{os.getpid()}")
    place.write_text("")
    try:
        found = locate(("python3", place.name), folder)
        assert found.exposed == (str(place),)
        assert folder == "/tmp" or found.cwd == folder
        if folder == "/tmp":
            assert rootfs.covered_directories(found.exposed) == found.exposed
    finally:
        place.unlink()


def test_lines_of_a_file_refer_to_its_folder(app: Path) -> None:
    (app / "images.txt").write_text("web=./bin/run\n")
    catalog = ImageCatalog.parse([], str(app / "images.txt"), "/")
    program = catalog.mapped("example.com/web:1", {})
    assert program is not None
    assert (program.argv, program.cwd) == ((f"{app}/bin/run",), str(app))
    assert str(app) in catalog.exposed


def test_what_a_pod_does_not_see_is_no_missing_program() -> None:
    with pytest.raises(OSError, match="has a /tmp of its own"):
        process.find_program("/tmp/no-such-program", "/bin")
    with pytest.raises(OSError, match="no such program in "):
        process.find_program("./no-such-program", "/bin")
    with pytest.raises(OSError, match=r"no such program$"):
        process.find_program("/opt/no-such-program", "/bin")
