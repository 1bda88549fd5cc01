"""Limits of the machine, as a small /proc shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lateen.runtime import limits
from lateen.runtime.limits import Limit, machine_limits


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 128 inotify instances for a user, 3 of them taken by one process."""
    monkeypatch.setattr(limits, "PROXY_USER", os.geteuid())
    (tmp_path / "sys/fs/inotify").mkdir(parents=True)
    (tmp_path / "sys/fs/inotify/max_user_instances").write_text("128\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nMemAvailable:    1048576 kB\n")
    (tmp_path / "17/fd").mkdir(parents=True)
    for number, target in enumerate(["anon_inode:inotify"] * 3 + ["/dev/null"]):
        (tmp_path / f"17/fd/{number}").symlink_to(target)
    return tmp_path


def named(name: str, pods: int, proc: Path, place: Path) -> Limit:
    """One of the limits."""
    return next(limit for limit in machine_limits(pods, place, proc) if limit.name == name)


@pytest.mark.parametrize(("pods", "good"), [(8, True), (62, True), (63, False)])
def test_each_proxy_takes_two_inotify_instances(pods: int, good: bool, proc: Path) -> None:
    limit = named("inotify", pods, proc, proc)
    assert limit.good is good
    assert "room for 62 more proxies" in limit.message
    assert "is 128, 3 in use" in limit.message


def test_the_command_to_type_is_enough(proc: Path) -> None:
    assert named("inotify", 63, proc, proc).remedy.endswith("max_user_instances=1024")
    assert named("inotify", 600, proc, proc).remedy.endswith("max_user_instances=2048")


@pytest.mark.parametrize(("pods", "good"), [(8, True), (30, False)])
def test_memory_is_compared_with_what_the_pods_take(pods: int, good: bool, proc: Path) -> None:
    limit = named("memory", pods, proc, proc)
    assert limit.good is good
    assert "1024 MiB of memory available" in limit.message


def test_the_disk_is_that_of_the_state_directory(proc: Path) -> None:
    limit = named("disk", 1, proc, proc / "not" / "yet" / "there")
    assert f"free in {proc}" in limit.message


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    assert {"inotify", "open-files", "memory", "disk"} <= {
        limit.name for limit in machine_limits(1, tmp_path)
    }
