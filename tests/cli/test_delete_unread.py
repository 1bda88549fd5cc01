"""`lateen delete` says what it could not read, and fails after it has deleted the rest."""

from pathlib import Path
from typing import Any

import pytest
import typer

from lateen.cli import delete as module


class _Client:
    """Stands in for the API: what is tested is what the command makes of its files."""

    def __init__(self) -> None:
        self.deleted: list[str] = []

    def request(self, method: str, path: str) -> dict[str, Any]:
        self.deleted.append(f"{method} {path}")
        return {}


def test_an_unreadable_file_fails_and_the_rest_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_bytes(b"name: \xff\n")
    (tmp_path / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n")
    client = _Client()
    monkeypatch.setattr(module, "connect", lambda mesh: client)
    with pytest.raises(typer.Exit) as ended:
        module.delete(files=[str(tmp_path)], mesh="m", namespace="default", wait=False)
    assert ended.value.exit_code == 1
    assert client.deleted == ["DELETE /api/v1/namespaces/default/configmaps/b"]
    printed = capsys.readouterr()
    assert "not UTF-8" in printed.out + printed.err
