"""The cache of unpacked images: whole or absent, bounded, and never taken from who uses it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lateen.runtime.engine.cache import CacheError, ImageCache, default_folder

ONE, TWO, THREE = (letter * 64 for letter in "123")


class Filler:
    """Unpacks an image of some size, and counts how often it had to."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.calls = 0

    def __call__(self, directory: str) -> int:
        self.calls += 1
        Path(directory, "file").write_text("content")
        return self.size


def test_an_image_is_unpacked_once(tmp_path: Path) -> None:
    cache, unpack = ImageCache(tmp_path / "images"), Filler()
    for _ in range(2):
        root, lock = cache.hold(ONE, unpack)
        assert Path(root, "file").read_text() == "content"
        os.close(lock)
    assert unpack.calls == 1


def test_two_who_want_the_same_image_wait_for_one_of_them(tmp_path: Path) -> None:
    unpack = Filler()

    def want() -> None:
        os.close(ImageCache(tmp_path / "images").hold(ONE, unpack)[1])

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unpack.calls == 1


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "images")

    def fails(directory: str) -> int:
        Path(directory, "half").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        cache.hold(ONE, fails)
    assert [path.name for path in (tmp_path / "images").iterdir()] == [f"{ONE}.lock"]
    os.close(cache.hold(ONE, Filler())[1])


def test_what_a_crash_left_behind_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / f"{ONE}.new" / "root").mkdir(parents=True)
    (folder / ONE / "root" / "half").mkdir(parents=True)
    root, lock = ImageCache(folder).hold(ONE, Filler())
    assert os.listdir(root) == ["file"]
    os.close(lock)


def test_the_one_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "images", limit=10)
    for age, image in ((300, ONE), (200, TWO)):
        root, lock = cache.hold(image, Filler(5))
        os.close(lock)
        note = Path(root).with_name("image.json")
        os.utime(note, (note.stat().st_mtime - age,) * 2)
    os.close(cache.hold(THREE, Filler(5))[1])
    assert not (tmp_path / "images" / ONE).exists()
    assert (tmp_path / "images" / TWO).exists()


def test_an_image_in_use_stays(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "images", limit=1)
    root, lock = cache.hold(ONE, Filler(5))
    os.close(cache.hold(TWO, Filler(5))[1])
    assert Path(root, "file").exists()
    os.close(lock)
    os.close(cache.hold(THREE, Filler(5))[1])
    assert not Path(root).exists()
    assert not (tmp_path / "images" / TWO).exists()


def test_a_folder_that_others_may_change_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("open", "link"):
        with pytest.raises(CacheError, match="is a link or can be written to by another user"):
            ImageCache(tmp_path / name)
    with pytest.raises(CacheError, match="set XDG_CACHE_HOME"):
        ImageCache(tmp_path / "file" / "images")


def test_where_the_cache_is() -> None:
    assert default_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/lateen/images")
    assert default_folder({"HOME": "/home/me"}) == Path("/home/me/.cache/lateen/images")
    # The XDG specification: a relative path is to be ignored.
    relative = default_folder({"HOME": "/home/me", "XDG_CACHE_HOME": "c"})
    assert relative == Path("/home/me/.cache/lateen/images")
