"""The mesh's folder when somebody else was there first, and signals to whom they say."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lateen.runtime.local import make_private, running_pid, stop, write_node_file
from lateen.runtime.node.errors import NodeStartError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
NOBODY = 65534


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    make_private(tmp_path / "lateen" / "mesh")
    for path in (tmp_path / "lateen", tmp_path / "lateen" / "mesh"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_shared_place_without_sticky_bit_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(NodeStartError, match="anybody may replace"):
        make_private(tmp_path / "lateen" / "mesh")
    tmp_path.chmod(0o1777)
    make_private(tmp_path / "lateen" / "mesh")


def test_a_folder_that_anybody_writes_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lateen").mkdir()
    (tmp_path / "lateen").chmod(0o777)
    with pytest.raises(NodeStartError, match="written to by anybody"):
        make_private(tmp_path / "lateen" / "mesh")


@as_root
@pytest.mark.parametrize("theirs", ["lateen", "lateen/mesh"])
def test_another_users_folder_is_refused(tmp_path: Path, theirs: str) -> None:
    """Somebody who made it first could have put an authority in it whose key they know."""
    (tmp_path / "lateen/mesh").mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / theirs, NOBODY, NOBODY)
    with pytest.raises(NodeStartError, match="belongs to another user"):
        make_private(tmp_path / "lateen" / "mesh")


@as_root
def test_another_users_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "lateen").mkdir(mode=0o700)
    link = tmp_path / "lateen/mesh"
    link.symlink_to(tmp_path / "elsewhere")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(NodeStartError, match="belongs to another user"):
        make_private(link)


def sleeper() -> subprocess.Popen[bytes]:
    """A process that must survive."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_reused_process_id_is_not_signalled(tmp_path: Path) -> None:
    with sleeper() as process:
        try:
            write_node_file(tmp_path, {"pid": process.pid})
            assert running_pid(tmp_path) == process.pid
            data = json.loads((tmp_path / "node.json").read_text())
            data["start_ticks"] -= 1
            (tmp_path / "node.json").write_text(json.dumps(data))
            assert running_pid(tmp_path) == 0
            stop(tmp_path)
            time.sleep(0.1)
            assert process.poll() is None
        finally:
            process.kill()


@as_root
def test_a_process_of_another_user_is_not_signalled(tmp_path: Path) -> None:
    """`lateen down` by root in a folder of somebody who named root's process in it."""
    with sleeper() as process:
        try:
            write_node_file(tmp_path, {"pid": process.pid})
            os.chown(tmp_path / "node.json", NOBODY, NOBODY)
            assert running_pid(tmp_path) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', '{"pid": 1}', '{"pid": null}'])
def test_a_broken_node_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    assert running_pid(tmp_path) == 0
