"""Files that users name, and what is wrong with some of them."""

import os
from pathlib import Path

import pytest

from lateen.source.files import InputError, read_inputs

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def test_a_file_that_is_not_utf8_is_one_finding_and_hides_no_other(tmp_path: Path) -> None:
    bad = tmp_path / "a.yaml"
    bad.write_bytes(b"name: \xff\n")
    (tmp_path / "b.yaml").write_text(CONFIG_MAP)
    inputs = read_inputs([str(tmp_path)])
    assert [resource.key.name for resource in inputs.resources] == ["a"]
    assert [finding.provenance.path for finding in inputs.findings] == [str(bad)]
    assert "not UTF-8" in inputs.findings[0].message


def test_the_only_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_inputs([str(tmp_path)])


def test_what_is_no_file_in_a_folder_is_one_finding_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(CONFIG_MAP)
    (tmp_path / "link.yaml").symlink_to("nowhere.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / ".hidden.yaml").symlink_to("nowhere.yaml")
    inputs = read_inputs([str(tmp_path)])
    assert [resource.key.name for resource in inputs.resources] == ["a"]
    told = {Path(item.provenance.path).name: item for item in inputs.findings}
    assert {name: item.rule for name, item in told.items()} == {
        "link.yaml": "LT0801",
        "pipe.yaml": "LT0801",
        "folder.yaml": "LT0805",
    }
    assert len(inputs.findings) == 3
    assert "is a link to nowhere.yaml, which does not exist" in told["link.yaml"].message
    assert told["pipe.yaml"].message == "is a named pipe, not a file"
    assert told["folder.yaml"].severity == "warning"


def test_a_folder_with_the_name_of_a_file_is_read_with_what_is_below(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").mkdir()
    (tmp_path / "all.yaml" / "good.yaml").write_text(CONFIG_MAP)
    inputs = read_inputs([str(tmp_path)], recursive=True)
    assert [resource.key.name for resource in inputs.resources] == ["a"]
    assert inputs.findings == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(CONFIG_MAP)
    (tmp_path / "file.yaml").write_text(CONFIG_MAP)
    (tmp_path / "file.yaml").chmod(0)
    (tmp_path / "folder").mkdir(mode=0)
    inputs = read_inputs([str(tmp_path)], recursive=True)
    (tmp_path / "folder").chmod(0o700)
    assert [resource.key.name for resource in inputs.resources] == ["a"]
    assert [item.rule for item in inputs.findings] == ["LT0801", "LT0801"]
    assert all("Permission denied" in item.message for item in inputs.findings)


def test_a_pipe_that_is_named_itself_is_read(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, CONFIG_MAP.encode())
    os.close(writer)
    inputs = read_inputs([f"/dev/fd/{reader}"])
    os.close(reader)
    assert [resource.key.name for resource in inputs.resources] == ["a"]
