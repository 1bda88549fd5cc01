"""Files that users name, and what is wrong with some of them."""

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
