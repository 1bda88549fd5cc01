"""Unpacked images, once per image id, shared by all meshes of a user.

``FOLDER/ID/root`` is the tree and ``FOLDER/ID/image.json`` its size; ``FOLDER/ID.lock`` is locked
by who uses it (shared) or changes it (alone). A tree appears by renaming, so it is whole or absent.
The ones not used for longest go when all of them together take more than the limit.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 20 * 1024**3
"""Bytes of all trees together, as far as none of those in use must go for it."""


class CacheError(Exception):
    """The cache's folder cannot be used; the message says why and what to do."""


class ImageCache:
    """The folder of one user. Raises `CacheError` when it is not this user's alone."""

    def __init__(self, folder: Path, limit: int = MAX_BYTES) -> None:
        self._folder = folder
        self._limit = limit
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = folder.lstat()
        except OSError as error:
            raise CacheError(
                f"image cache {folder}: {error.strerror}; set XDG_CACHE_HOME"
            ) from error
        writable = stat.S_IMODE(found.st_mode) & 0o022
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or writable:
            raise CacheError(
                f"image cache {folder} is a link or can be written to by another user; "
                "set XDG_CACHE_HOME to a folder of yours"
            )
        folder.chmod(0o700)

    def hold(self, image: str, unpack: Callable[[str], int]) -> tuple[str, int]:
        """The directory with an image's files, and the descriptor that keeps it there.

        ``unpack`` fills an empty directory and returns the bytes of its files; its errors pass.
        """
        lock = self._open_lock(image)
        try:
            while True:
                fcntl.flock(lock, fcntl.LOCK_SH)
                place = self._folder / image
                if (place / "image.json").exists():
                    os.utime(place / "image.json")
                    return str(place / "root"), lock
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (place / "image.json").exists():
                    self._fill(image, unpack)
                    # Not while changing back to a shared lock: the tree is the newest one anyway.
                    self._evict(keep=image)
        except BaseException:
            os.close(lock)
            raise

    def _fill(self, image: str, unpack: Callable[[str], int]) -> None:
        new = self._folder / f"{image}.new"
        remove_tree(new)
        remove_tree(self._folder / image)
        (new / "root").mkdir(parents=True)
        try:
            size = unpack(str(new / "root"))
            (new / "image.json").write_text(json.dumps({"bytes": size}))
            new.rename(self._folder / image)
        except BaseException:
            remove_tree(new)
            raise

    def _evict(self, keep: str) -> None:
        """Removes the trees not used for longest until the rest is within the limit."""
        sizes: dict[Path, tuple[float, int]] = {}
        for note in self._folder.glob("*/image.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                data = json.loads(note.read_text())
                sizes[note.parent] = (note.stat().st_mtime, int(data["bytes"]))
        total = sum(size for _, size in sizes.values())
        for place in sorted(sizes, key=lambda path: sizes[path][0]):
            if total <= self._limit:
                return
            if place.name != keep and self._remove_unused(place):
                total -= sizes[place][1]

    def _remove_unused(self, place: Path) -> bool:
        lock = self._open_lock(place.name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Without its note it is no image any more, also when removal stops half-way.
            (place / "image.json").unlink()
            remove_tree(place)
        except OSError:
            return False
        finally:
            os.close(lock)
        return True

    def _open_lock(self, image: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._folder / f"{image}.lock", flags, 0o600)


def default_folder(environment: dict[str, str]) -> Path:
    """``$XDG_CACHE_HOME/lateen/images``, by default below ``~/.cache``."""
    base = environment.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = f"{environment.get('HOME') or os.path.expanduser('~')}/.cache"
    return Path(base, "lateen", "images")


def remove_tree(path: Path) -> None:
    """Removes a directory tree, if there is one; never follows a link in it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
