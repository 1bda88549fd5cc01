"""Archives become trees: good ones completely, hostile ones not at all outside their tree."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lateen.runtime.engine.unpack import HostileArchive, Limits, member_path, unpack
from lateen.runtime.node.check import check_node_support

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        any(problem.fatal for problem in check_node_support()), reason="no namespaces here"
    ),
]

Member = tuple[str, dict[str, Any], bytes]
ROOT = os.getuid() == 0
ANY_SIZE = Limits()


def archive(*members: Member, pax: bool = False) -> bytes:
    """A tar archive of (name, fields of `TarInfo`, content)."""
    buffer = io.BytesIO()
    kind = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name, fields, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def file(name: str, content: bytes = b"x", **fields: Any) -> Member:
    return name, fields, content


def directory(name: str, **fields: Any) -> Member:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **fields}, b""


def symlink(name: str, target: str) -> Member:
    return name, {"type": tarfile.SYMTYPE, "linkname": target}, b""


def hard_link(name: str, target: str) -> Member:
    return name, {"type": tarfile.LNKTYPE, "linkname": target}, b""


def unpacked(data: bytes, root: Path, limits: Limits = ANY_SIZE) -> int:
    """Unpacks an archive that is in memory."""
    source = os.memfd_create("archive", os.MFD_CLOEXEC)
    try:
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        return unpack(source, str(root), limits)
    finally:
        os.close(source)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory to unpack into, with a neighbour that must stay as it is."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("untouched")
    (tmp_path / "root").mkdir()
    yield tmp_path / "root"
    assert [path.name for path in tmp_path.iterdir()] in (["victim", "root"], ["root", "victim"])
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["file"]
    assert (tmp_path / "victim" / "file").read_text() == "untouched"
    assert stat.S_IMODE((tmp_path / "victim" / "file").stat().st_mode) & 0o777 == 0o644


def test_an_ordinary_archive(place: Path) -> None:
    data = archive(
        directory("./"),
        directory("./tmp", mode=0o1777),
        file("./bin/program", b"#!", mode=0o4755, mtime=1_600_000_000),
        symlink("./var/run", "/run"),
        symlink("./etc/passwd", "../../../../etc/passwd"),
        hard_link("./bin/other", "./bin/program"),
        file("./etc/shadow", b"secret", mode=0o640, uid=12, gid=34),
        ("./dev/sda", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}, b""),
        ("./run/pipe", {"type": tarfile.FIFOTYPE}, b""),
        hard_link("./dev/sdb", "./dev/sda"),
    )
    assert unpacked(data, place) == len(b"#!secret")
    assert (place / "bin/program").read_bytes() == b"#!"
    found = (place / "bin/program").stat()
    # No set-user-ID bit ever lies on the machine's disk.
    assert stat.S_IMODE(found.st_mode) == 0o755
    assert (found.st_mtime, found.st_nlink) == (1_600_000_000, 2)
    assert os.readlink(place / "var/run") == "/run"
    assert stat.S_IMODE((place / "tmp").stat().st_mode) == 0o1777
    owner = (place / "etc/shadow").stat()
    assert (owner.st_uid, owner.st_gid) == ((12, 34) if ROOT else (os.getuid(), os.getgid()))
    assert not (place / "dev").exists()
    assert not (place / "run").exists()


def test_a_later_member_takes_the_place_of_an_earlier_file(place: Path) -> None:
    unpacked(archive(file("a", b"1"), file("a", b"22"), symlink("b", "x"), file("b", b"3")), place)
    assert ((place / "a").read_bytes(), (place / "b").read_bytes()) == (b"22", b"3")
    assert not (place / "b").is_symlink()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([file("/etc/cron.d/evil")], "an absolute path"),
        ([file("../victim/file")], "leads upwards"),
        ([file("a/../../victim/file")], "leads upwards"),
        ([symlink("out", "/"), file("out/tmp/evil")], "below a link or a file"),
        ([symlink("out", "../victim"), file("out/file", b"evil")], "below a link or a file"),
        ([symlink("out", "../victim"), directory("out")], "the place of a link"),
        ([file("a"), file("a/b")], "below a link or a file"),
        ([directory("a"), file("a")], "the place of a directory"),
        ([directory("a"), symlink("a", "../victim")], "the place of a directory"),
        ([hard_link("a", "../victim/file")], "leads upwards"),
        ([hard_link("a", "/etc/passwd")], "an absolute path"),
        ([symlink("l", "../victim/file"), hard_link("a", "l/x")], "which is no file"),
        ([directory("d"), hard_link("a", "d")], "which is no file"),
        ([symlink("a", "")], "a link to nowhere"),
        ([file("x" * 300)], "File name too long"),
        ([file("/".join("d" * 300))], "too deep"),
        ([file("a", uid=2**32)], "no such owner"),
        ([file("a", b"x" * 2000)], "more than 1000 bytes"),
        ([file(f"f{n}", b"") for n in range(60)], "more than 50 files"),
    ],
)
def test_hostile_archives(place: Path, members: list[Member], message: str) -> None:
    with pytest.raises((HostileArchive, OSError), match=message):
        unpacked(archive(*members), place, Limits(bytes=1000, entries=50))


def test_a_sparse_file_counts_with_its_full_size(place: Path) -> None:
    huge = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "huge",
        "GNU.sparse.realsize": str(2**50),
    }
    content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    data = archive(("GNUSparseFile.0/huge", {"pax_headers": huge}, content), pax=True)
    with pytest.raises(HostileArchive, match="more than"):
        unpacked(data, place)


def test_a_header_without_end_takes_no_memory_without_end(place: Path) -> None:
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**40
    with pytest.raises((HostileArchive, OSError)):
        unpacked(header.tobuf(tarfile.GNU_FORMAT) + bytes(100_000), place)


@pytest.mark.parametrize("cut", [100, 600, 5000])
def test_an_archive_that_ends_too_early(place: Path, cut: int) -> None:
    with pytest.raises(HostileArchive):
        unpacked(archive(file("a", b"y" * 10_000))[:cut], place)


names = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "victim", "/", "c" * 20]), min_size=1, max_size=4
).map("/".join)
members = st.lists(
    st.tuples(st.sampled_from([file, directory, symlink, hard_link]), names, names), max_size=8
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(members)
def test_whatever_an_archive_says_nothing_happens_outside(
    place: Path, members: list[tuple[Any, str, str]]
) -> None:
    built = [
        make(name, target) if make in (symlink, hard_link) else make(name)
        for make, name, target in members
    ]
    try:
        unpacked(archive(*built), place)
    except (HostileArchive, OSError):
        pass
    finally:
        for path in sorted(place.rglob("*"), key=lambda found: -len(found.parts)):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@given(st.text(max_size=40))
def test_a_member_s_path_is_relative_and_goes_down(name: str) -> None:
    try:
        path = member_path(name)
    except HostileArchive:
        return
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/")) or path == ""
