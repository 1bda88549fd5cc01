"""Image references: which are one, what they mean, and that none can be an option."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen.runtime.engine.reference import InvalidReference, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27-alpine", "docker.io/library/nginx:1.27-alpine"),
        ("team/app", "docker.io/team/app:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("ghcr.io/team/app_one/web:v1", "ghcr.io/team/app_one/web:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("[fd00::1]:5000/app:1", "[fd00::1]:5000/app:1"),
        ("REGISTRY/app", "REGISTRY/app:latest"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}"),
        # The digest says more exactly which one it is; podman takes no tag beside it.
        (f"a.b/app:1@{DIGEST}", f"a.b/app@{DIGEST}"),
    ],
)
def test_a_reference_in_full(text: str, name: str) -> None:
    assert parse(text).name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-v",
        "--privileged",
        "-v/etc:/etc",
        "a.b/--privileged",
        "a.b/-x:1",
        "app:-tag",
        "app:",
        "App",
        "a//b",
        "../etc",
        "/etc/passwd",
        "app latest",
        "app\nlatest",
        "app;reboot",
        "$(reboot)",
        "app@sha256:short",
        "oci-archive:/etc/shadow",
        "docker-archive:/root/x.tar",
        "dir:/etc",
        "http://a.b/app",
        "a" * 64,
        "x" * 300,
        "a.b:123456/app",
    ],
)
def test_not_a_reference(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse(text)


@given(st.text(max_size=60))
def test_whatever_a_manifest_says_the_engine_gets_a_plain_word(text: str) -> None:
    try:
        name = parse(text).name
    except InvalidReference:
        return
    assert re.fullmatch(r"[\[A-Za-z0-9][A-Za-z0-9._:/@\[\]+-]*", name)
    assert ".." not in name
    assert parse(name).name == name


def test_what_podman_calls_an_image_that_was_built_here() -> None:
    assert parse("app:1").local_name == "localhost/app:1"
    assert parse("team/app").local_name == "localhost/team/app:latest"
    assert parse("ghcr.io/team/app").local_name == ""
    assert parse(f"app@{DIGEST}").local_name == ""


def test_only_the_tag_latest_floats() -> None:
    assert parse("app").floating
    assert parse("app:latest").floating
    assert not parse("app:1").floating
    assert not parse(f"app@{DIGEST}").floating
