"""What a container leaves in a volume must not lead the node, or a later mount, out of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lateen.runtime.node.namespaces import open_beneath
from lateen.runtime.volumes import VolumeUnsupported, container_mounts, generated_volumes


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with links that a container made, beside a directory that is none of its."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("not yours")
    directory = tmp_path / "volume"
    (directory / "data/deep").mkdir(parents=True)
    (directory / "inside").symlink_to("data/deep")
    (directory / "up").symlink_to("../outside")
    (directory / "absolute").symlink_to(tmp_path / "outside")
    (directory / "root").symlink_to("/")
    return directory


@pytest.mark.parametrize(
    "path", ["up", "absolute", "root/etc", "data/../../outside", "inside/../../.."]
)
def test_no_look_up_leaves_a_directory(volume: Path, path: str) -> None:
    whole = os.open(volume, os.O_PATH)
    try:
        with pytest.raises(OSError, match=rf"Errno {errno.EXDEV}"):
            open_beneath(whole, path, os.O_PATH)
    finally:
        os.close(whole)


def test_links_within_a_directory_are_followed(volume: Path) -> None:
    whole = os.open(volume, os.O_PATH)
    found = open_beneath(whole, "inside", os.O_PATH)
    assert os.fstat(found).st_ino == (volume / "data/deep").stat().st_ino
    os.close(found)
    os.close(whole)


@pytest.mark.parametrize("sub_path", ["up/new", "absolute/new", "root", "data/../../outside/new"])
def test_a_sub_path_makes_nothing_outside_its_volume(volume: Path, sub_path: str) -> None:
    mount = {"name": "v", "mountPath": "/data", "subPath": sub_path}
    with pytest.raises(VolumeUnsupported):
        container_mounts({"volumeMounts": [mount]}, {"v": volume})
    assert sorted(p.name for p in (volume.parent / "outside").iterdir()) == ["secret"]


def test_a_sub_path_is_looked_up_at_each_start(volume: Path) -> None:
    """The mount names volume and part apart: a path resolved now could be a link by then."""
    mount = {"name": "v", "mountPath": "/data", "subPath": "data/new"}
    (made,) = container_mounts({"volumeMounts": [mount]}, {"v": volume})
    assert (made.source, made.sub_path) == (str(volume), "data/new")
    assert (volume / "data/new").is_dir()


def test_files_that_the_node_writes_are_read_only_for_containers(tmp_path: Path) -> None:
    """A container that could write there could put a link in the way of the next refresh."""
    pod = {
        "spec": {
            "volumes": [
                {"name": "settings", "configMap": {"name": "c"}},
                {"name": "keys", "secret": {"secretName": "s"}},
                {"name": "labels", "downwardAPI": {"items": []}},
                {"name": "token", "projected": {"sources": []}},
                {"name": "scratch", "emptyDir": {}},
            ]
        }
    }
    generated = generated_volumes(pod)
    assert generated == {"settings", "keys", "labels", "token"}
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in (*sorted(generated), "scratch")]
    places = {mount["name"]: tmp_path for mount in mounts}
    made = container_mounts({"volumeMounts": mounts}, places, None, generated)
    assert [mount.read_only for mount in made] == [True, True, True, True, False]
