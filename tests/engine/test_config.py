"""An image's configuration with a manifest: command, stop signal, and who its programs run as."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen.runtime.engine.config import (
    ImageConfig,
    InvalidConfig,
    from_inspect,
    from_message,
    merge_command,
    stop_signal,
)
from lateen.runtime.engine.users import Identity, UnknownUser, read_file, resolve

ID = "0123456789abcdef" * 4
IMAGE = ImageConfig(ID, entrypoint=("/entry", "-e"), cmd=("serve", "$(HOME)"))


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [
        # The table of Kubernetes' documentation.
        ([], [], ["/entry", "-e", "serve", "$(HOME)"]),
        (["own"], [], ["own"]),
        ([], ["x"], ["/entry", "-e", "x"]),
        (["own"], ["x"], ["own", "x"]),
    ],
)
def test_command_and_args(command: list[str], args: list[str], argv: list[str]) -> None:
    leading, following = merge_command(IMAGE, command, args)
    assert [*leading, *following] == argv
    # Kubernetes' references are the manifest's: an image's words stay as they are.
    assert "$(HOME)" not in following


words = st.lists(st.text(st.characters(exclude_characters="\0"), max_size=5), max_size=3)


@given(words, words, words, words)
def test_merging_never_mixes_an_image_s_arguments_with_another_command(
    entrypoint: list[str], cmd: list[str], command: list[str], args: list[str]
) -> None:
    image = ImageConfig(ID, entrypoint=tuple(entrypoint), cmd=tuple(cmd))
    leading, following = merge_command(image, command, args)
    assert [*leading, *following] == (command or entrypoint) + (args if command or args else cmd)


def test_what_docker_and_podman_print() -> None:
    config = {
        "Entrypoint": ["/entry"],
        "Cmd": None,
        "Env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b", "broken"],
        "WorkingDir": "/work",
        "User": "app:staff",
        "StopSignal": "SIGQUIT",
    }
    docker = {"Id": f"sha256:{ID}", "Config": config, "Architecture": "amd64", "Os": "linux"}
    found = from_inspect({**docker, "RepoDigests": ["docker.io/app@sha256:0"]})
    assert (found.id, found.entrypoint, found.cmd) == (ID, ("/entry",), ())
    assert found.env == (("PATH", "/bin"), ("EMPTY", ""), ("EQUALS", "a=b"))
    assert (found.working_dir, found.user, found.stop_signal) == ("/work", "app:staff", "SIGQUIT")
    assert not found.local
    assert from_inspect({**docker, "Id": ID}).local
    assert from_message(found.to_json()) == found


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"Id": "../../etc"},
        {"Id": ID, "Config": ["a"]},
        {"Id": ID, "Config": {"Cmd": {"a": 1}}},
        {"Id": ID, "Config": {"Cmd": ["a\0b"]}},
        {"Id": ID, "Config": {"User": "a\0b"}},
    ],
)
def test_what_no_engine_prints(data: Any) -> None:
    with pytest.raises(InvalidConfig):
        from_inspect(data)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", signal.SIGTERM),
        ("SIGQUIT", signal.SIGQUIT),
        ("quit", signal.SIGQUIT),
        ("3", signal.SIGQUIT),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("SIG_DFL", signal.SIGTERM),
        ("999", signal.SIGTERM),
        ("nonsense", signal.SIGTERM),
    ],
)
def test_stop_signals(text: str, number: int) -> None:
    assert stop_signal(text) == number


PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:100:101:App:/home/app:/bin/sh\nbad:x:y:z::/:\n"
GROUP = "root:x:0:\nstaff:x:50:app,other\nlogs:x:60:app\nodd:x:-1:app\n"


@pytest.mark.parametrize(
    ("user", "more", "identity"),
    [
        ("", {}, Identity(0, 0, (), "/root")),
        ("app", {}, Identity(100, 101, (50, 60), "/home/app")),
        ("100", {}, Identity(100, 101, (50, 60), "/home/app")),
        ("app:staff", {}, Identity(100, 50, (), "/home/app")),
        ("app:7", {}, Identity(100, 7, (), "/home/app")),
        ("4242", {}, Identity(4242, 0, (), "/")),
        ("4242:4243", {}, Identity(4242, 4243, (), "/")),
        ("app", {"run_as_user": 5}, Identity(5, 0, (), "/")),
        ("nobody-there", {"run_as_user": 100}, Identity(100, 101, (50, 60), "/home/app")),
        ("app", {"run_as_group": 9}, Identity(100, 9, (50, 60), "/home/app")),
        ("4242", {"supplemental": [8, 9, 8]}, Identity(4242, 0, (8, 9), "/")),
    ],
)
def test_who_an_image_s_programs_run_as(
    user: str, more: dict[str, Any], identity: Identity
) -> None:
    assert resolve(user, PASSWD, GROUP, **more) == identity


@pytest.mark.parametrize("user", ["nobody-there", "app:nogroup", "bad", "4294967295", "9" * 30])
def test_users_that_the_image_does_not_have(user: str) -> None:
    with pytest.raises(UnknownUser):
        resolve(user, PASSWD, GROUP)


@given(st.text(max_size=20), st.text(max_size=80), st.text(max_size=80))
def test_strange_files_give_a_valid_identity_or_a_clear_error(
    user: str, passwd: str, group: str
) -> None:
    try:
        found = resolve(user, passwd, group)
    except UnknownUser:
        return
    assert all(0 <= number < 2**32 - 1 for number in (found.uid, found.gid, *found.groups))
    assert found.home.startswith("/")


def test_links_in_an_image_lead_into_the_image(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "passwd").write_text("from the image")
    (tmp_path / "absolute").symlink_to("/store/passwd")
    (tmp_path / "upwards").symlink_to("../../../../../store/passwd")
    (tmp_path / "machine").symlink_to("/etc/hostname")
    (tmp_path / "process").symlink_to("/proc/self/environ")
    os.mkfifo(tmp_path / "pipe")
    root = str(tmp_path)
    assert read_file(root, "absolute") == "from the image"
    assert read_file(root, "upwards") == "from the image"
    for nothing in ("machine", "process", "pipe", "missing", "store"):
        assert read_file(root, nothing) == "", nothing
