"""A folder mirrored into the store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lateen.source.store import Store
from lateen.source.watch import Mirror, mirror
from tests.source.objects import key


def document(name: str, value: str = "1") -> str:
    """A ConfigMap as YAML."""
    return (
        "apiVersion: v1\nkind: ConfigMap\n"
        f"metadata: {{name: {name}}}\ndata: {{k: '{value}'}}\n---\n"
    )


def names(store: Store) -> dict[str, str]:
    """ConfigMaps and their value."""
    return {o.key.name: o.raw["data"]["k"] for o in store.select("", "ConfigMap")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    made = tmp_path / "mesh"
    made.mkdir()
    return made


@pytest.fixture
def watched(folder: Path) -> Mirror:
    """A mirror of the folder into an empty store."""
    made = mirror(Store(), folder)
    made.settle = 0.01
    return made


async def test_files_come_change_and_go(folder: Path, watched: Mirror) -> None:
    store = watched.writer.store
    (folder / "a.yaml").write_text(document("a") + document("b"))
    (folder / ".hidden.yaml").write_text(document("hidden"))
    (folder / "sub").mkdir()
    (folder / "sub/c.yml").write_text(document("c"))
    await watched.settled()
    assert names(store) == {"a": "1", "b": "1", "c": "1"}
    (folder / "a.yaml").write_text(document("a", "2"))
    await watched.settled()
    assert names(store) == {"a": "2", "c": "1"}
    (folder / "sub").rename(folder.parent / "elsewhere")
    await watched.settled()
    assert names(store) == {"a": "2"}


async def test_a_broken_document_keeps_its_last_good_version(folder: Path, watched: Mirror) -> None:
    store, path = watched.writer.store, folder / "a.yaml"
    told: list[tuple[str, int]] = []
    watched.on_findings = lambda where, found: told.append((where, len(found)))
    path.write_text(document("a") + document("b"))
    await watched.settled()
    path.write_text(document("a", "2") + "apiVersion: v1\nkind: [ConfigMap\n")
    await watched.settled()
    assert names(store) == {"a": "2", "b": "1"}
    (finding,) = watched.findings
    assert finding.provenance.path == str(path)
    assert finding.line >= 6
    assert told == [(str(path), 1)]
    path.write_text(document("a", "3"))
    await watched.settled()
    assert names(store) == {"a": "3"}
    assert told[-1] == (str(path), 0)


async def test_moving_an_object_between_files_never_deletes_it(
    folder: Path, watched: Mirror
) -> None:
    store = watched.writer.store
    (folder / "a.yaml").write_text(document("a"))
    await watched.settled()
    (folder / "a.yaml").rename(folder / "b.yaml")
    await watched.settled()
    assert [event.verb for event in store.history(key("a"))] == ["MODIFIED", "ADDED"]
    found = store.get(key("a"))
    assert found is not None
    assert found.provenance.path.endswith("b.yaml")


async def test_a_file_that_is_written_in_steps_deletes_nothing(
    folder: Path, watched: Mirror
) -> None:
    store, path = watched.writer.store, folder / "a.yaml"
    path.write_text(document("a"))
    await watched.settled()
    path.write_text("")
    watched.look()
    assert names(store) == {"a": "1"}, "it may come back"
    path.write_text(document("a", "2"))
    await watched.settled()
    assert names(store) == {"a": "2"}
    assert "DELETED" not in [event.verb for event in store.history(key("a"))]


async def test_an_object_in_two_files_is_said_and_survives_one_of_them(
    folder: Path, watched: Mirror
) -> None:
    store = watched.writer.store
    (folder / "a.yaml").write_text(document("a", "first"))
    (folder / "b.yaml").write_text(document("a", "second"))
    await watched.settled()
    assert names(store) == {"a": "second"}
    assert any("is also in" in finding.message for finding in watched.findings)
    (folder / "b.yaml").unlink()
    await watched.settled()
    await watched.settled()
    assert names(store) == {"a": "first"}


async def test_a_restart_finds_what_went_meanwhile(folder: Path, tmp_path: Path) -> None:
    (folder / "a.yaml").write_text(document("a") + document("b"))
    (folder / "c.yaml").write_text(document("c"))
    store = Store(tmp_path / "store.db")
    await mirror(store, folder).settled()
    store.close()
    (folder / "a.yaml").write_text(document("a"))
    (folder / "c.yaml").unlink()
    again = Store(tmp_path / "store.db")
    await mirror(again, folder).settled()
    assert names(again) == {"a": "1"}


async def test_a_missing_folder_deletes_nothing(folder: Path, watched: Mirror) -> None:
    (folder / "a.yaml").write_text(document("a"))
    await watched.settled()
    folder.rename(folder.parent / "away")
    await watched.settled()
    assert names(watched.writer.store) == {"a": "1"}


async def test_a_file_that_is_no_text_is_reported(folder: Path, watched: Mirror) -> None:
    (folder / "a.yaml").write_bytes(b"\xff\xfe\x00")
    await watched.settled()
    assert "not UTF-8" in watched.findings[0].message


async def test_what_is_no_file_is_reported_and_holds_up_nothing(
    folder: Path, watched: Mirror
) -> None:
    (folder / "link.yaml").symlink_to("target")
    os.mkfifo(folder / "pipe.yaml")
    watched.look()
    assert sorted(finding.rule for finding in watched.findings) == ["LT0801", "LT0801"]
    (folder / "target").write_text(document("a"))
    watched.look()
    assert [Path(finding.provenance.path).name for finding in watched.findings] == ["pipe.yaml"]


async def test_saves_of_real_editors_are_followed(folder: Path, watched: Mirror) -> None:
    store, path = watched.writer.store, folder / "a.yaml"
    path.write_text(document("a"))
    running = asyncio.create_task(watched.run())

    async def reaches(expected: dict[str, str]) -> None:
        async with asyncio.timeout(10):
            while names(store) != expected:
                await asyncio.sleep(0.01)

    try:
        await reaches({"a": "1"})
        temporary = folder / ".a.yaml.swp"
        temporary.write_text(document("a", "2"))
        os.replace(temporary, path)
        await reaches({"a": "2"})
        (folder.parent / "other").mkdir()
        (folder.parent / "other/x.yaml").write_text(document("x"))
        (folder.parent / "other").rename(folder / "moved-in")
        await reaches({"a": "2", "x": "1"})
        path.unlink()
        await reaches({"x": "1"})
    finally:
        running.cancel()


@contextlib.contextmanager
def as_another_user() -> Iterator[None]:
    """Root may read everything, so that it must be somebody else for a moment."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(64321)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o000, 0o744, 0o711])
@pytest.mark.parametrize("part", [".", "sub"])
async def test_what_may_not_be_read_any_longer_is_not_gone(mode: int, part: str) -> None:
    base = Path(tempfile.mkdtemp(prefix="lateen-mirror-"))
    base.chmod(0o755)
    folder = base / "mesh"
    try:
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/a.yaml").write_text(document("a"))
        watched = mirror(Store(), folder)
        watched.settle = 0.01
        told: dict[str, str] = {}
        watched.on_findings = lambda where, found: told.update({where: str(found and found[0])})
        store = watched.writer.store
        await watched.settled()
        closed = folder / part
        closed.chmod(mode)
        with as_another_user():
            for _ in range(3):
                await watched.settled()
        assert names(store) == {"a": "1"}
        assert "the folder cannot be read: Permission denied" in told[str(closed.resolve())]
        closed.chmod(0o755)
        (folder / "sub/a.yaml").write_text(document("a", "2"))
        await watched.settled()
        assert names(store) == {"a": "2"}
        assert told[str(closed.resolve())] == "()"
    finally:
        shutil.rmtree(base)
