"""A container's environment, its volumes, and what must not leak."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest

from lateen.runtime.environment import MissingReference, container_environment
from lateen.runtime.images import ImageCatalog, ImageUnknown, machine_command, repository
from lateen.runtime.volumes import VolumeUnsupported, container_mounts, prepare_volumes, write_files
from tests.runtime.objects import Objects, pod

Raw = dict[str, Any]
SETTINGS = {
    "kind": "ConfigMap",
    "metadata": {"name": "settings"},
    "data": {"LEVEL": "debug", "b": "2"},
}
SECRET = {
    "kind": "Secret",
    "metadata": {"name": "secret"},
    "data": {"key": base64.b64encode(b"hidden").decode()},
}
OBJECTS = Objects(SETTINGS, SECRET)


def environment(**container: Any) -> dict[str, str]:
    """Variables of a container of a pod with labels."""
    raw = pod("web-1", labels={"app": "web"})
    return container_environment(raw, {"name": "app", **container}, "10.0.0.9", "node", OBJECTS, {})


def value_of(**source: Any) -> str | None:
    """The variable ``V`` from a source."""
    return environment(env=[{"name": "V", "valueFrom": source}]).get("V")


def test_references_see_what_is_before_them() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)-$$(A)-$(LATER)"},
        {"name": "LATER", "value": "x"},
    ]
    assert environment(env=env)["B"] == "1-$(A)-$(LATER)"


def test_env_decides_over_env_from() -> None:
    found = environment(
        envFrom=[{"prefix": "P_", "configMapRef": {"name": "settings"}}],
        env=[{"name": "P_LEVEL", "value": "info"}],
    )
    assert found == {"P_LEVEL": "info", "P_b": "2"}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ({"fieldRef": {"fieldPath": "metadata.name"}}, "web-1"),
        ({"fieldRef": {"fieldPath": "metadata.labels['app']"}}, "web"),
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "10.0.0.9"),
        ({"configMapKeyRef": {"name": "settings", "key": "LEVEL"}}, "debug"),
        ({"secretKeyRef": {"name": "secret", "key": "key"}}, "hidden"),
        ({"secretKeyRef": {"name": "no", "key": "key", "optional": True}}, None),
    ],
)
def test_values_from_elsewhere(source: Raw, value: str | None) -> None:
    assert value_of(**source) == value


@pytest.mark.parametrize(
    "source",
    [
        {"fieldRef": {"fieldPath": "spec.invented"}},
        {"configMapKeyRef": {"name": "settings", "key": "missing"}},
        {"secretKeyRef": {"name": "missing", "key": "key"}},
    ],
)
def test_a_missing_reference_is_said(source: Raw) -> None:
    with pytest.raises(MissingReference):
        value_of(**source)


@pytest.mark.parametrize(
    ("limit", "reference", "value"),
    [
        ({"cpu": "500m"}, {"resource": "limits.cpu"}, "1"),
        ({"cpu": "500m"}, {"resource": "limits.cpu", "divisor": "1m"}, "500"),
        ({"memory": "64Mi"}, {"resource": "limits.memory"}, "67108864"),
        ({"memory": "64Mi"}, {"resource": "limits.memory", "divisor": "1Mi"}, "64"),
        ({}, {"resource": "requests.cpu"}, "0"),
    ],
)
def test_resources_are_numbers(limit: Raw, reference: Raw, value: str) -> None:
    env = [{"name": "V", "valueFrom": {"resourceFieldRef": reference}}]
    assert environment(env=env, resources={"limits": limit})["V"] == value


def volumes(tmp_path: Path, *declared: Raw) -> dict[str, Path]:
    """Volumes of a pod."""
    raw = pod()
    raw["spec"]["volumes"] = list(declared)
    return prepare_volumes(raw, tmp_path / "ns/pod/volumes", "10.0.0.9", "node", OBJECTS, {})


def mode_of(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_files_have_kubernetes_modes_behind_a_private_door(tmp_path: Path) -> None:
    found = volumes(
        tmp_path,
        {"name": "s", "secret": {"secretName": "secret"}},
        {"name": "strict", "secret": {"secretName": "secret", "defaultMode": 0o400}},
        {
            "name": "c",
            "configMap": {
                "name": "settings",
                "items": [{"key": "LEVEL", "path": "deep/level", "mode": 0o600}],
            },
        },
        {"name": "e", "emptyDir": {}},
    )
    assert (found["s"] / "key").read_bytes() == b"hidden"
    assert mode_of(found["s"] / "key") == 0o644
    assert mode_of(found["strict"] / "key") == 0o400
    assert mode_of(found["c"] / "deep/level") == 0o600
    assert not (found["c"] / "b").exists()
    assert mode_of(found["e"]) == 0o777
    assert mode_of(tmp_path / "ns/pod/volumes") == 0o700


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../out", "", "."])
def test_a_path_must_stay_in_its_volume(tmp_path: Path, path: str) -> None:
    items = [{"key": "LEVEL", "path": path}]
    with pytest.raises(VolumeUnsupported):
        volumes(tmp_path, {"name": "c", "configMap": {"name": "settings", "items": items}})
    with pytest.raises(VolumeUnsupported):
        write_files(tmp_path / "v", {path: (b"", 0o644)})


@pytest.mark.parametrize("sub_path", ["../other", "/etc", "link"])
def test_a_sub_path_must_stay_in_its_volume(tmp_path: Path, sub_path: str) -> None:
    directory = tmp_path / "v"
    directory.mkdir()
    (directory / "link").symlink_to("/etc")
    mount = {"name": "v", "mountPath": "/data", "subPath": sub_path}
    with pytest.raises(VolumeUnsupported):
        container_mounts({"volumeMounts": [mount]}, {"v": directory})


def test_sub_paths_of_a_volume(tmp_path: Path) -> None:
    mounts = [
        {"name": "v", "mountPath": "/a", "subPath": "x/y"},
        {"name": "v", "mountPath": "/b", "subPathExpr": "$(POD)", "readOnly": True},
    ]
    first, second = container_mounts({"volumeMounts": mounts}, {"v": tmp_path}, {"POD": "p-1"})
    assert (first.source, first.sub_path) == (str(tmp_path), "x/y")
    assert (second.source, second.sub_path) == (str(tmp_path), "p-1")
    assert (tmp_path / "x/y").is_dir()
    assert (tmp_path / "p-1").is_dir()
    assert second.read_only


def test_a_link_left_in_a_volume_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    directory = tmp_path / "v"
    directory.mkdir()
    (directory / ".key.new").symlink_to(outside)
    write_files(directory, {"key": (b"new", 0o644)})
    assert outside.read_text() == "mine"
    assert (directory / "key").read_text() == "new"


def test_claims_outlive_the_pod(tmp_path: Path) -> None:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data-w-0"}}
    (volumes(tmp_path, claim)["data"] / "file").write_text("kept")
    assert (volumes(tmp_path, claim)["data"] / "file").read_text() == "kept"


def test_what_cannot_be_provided_is_said(tmp_path: Path) -> None:
    with pytest.raises(VolumeUnsupported, match="'n' is of kind nfs"):
        volumes(tmp_path, {"name": "n", "nfs": {}})
    with pytest.raises(MissingReference, match="does not exist"):
        volumes(tmp_path, {"name": "h", "hostPath": {"path": str(tmp_path / "missing")}})


def test_images_are_commands() -> None:
    catalog = ImageCatalog.parse(["web=python -m web", "team/*=/bin/team"])

    def argv(image: str, **container: object) -> tuple[str, ...]:
        found = catalog.mapped(image, container)
        return found.argv if found else ()

    assert argv("registry.example/web:1") == ("python", "-m", "web")
    assert argv("web", args=["-v"]) == ("python", "-m", "web", "-v")
    assert argv("web", command=["sh"]) == ("sh",)
    assert argv("team/one:2") == ("/bin/team",)
    assert argv("unknown:1", command=["own"]) == ()


def test_an_image_that_nobody_knows_needs_a_command_in_the_manifest() -> None:
    assert machine_command("unknown:1", {"command": ["own"]}, "").argv == ("own",)
    with pytest.raises(ImageUnknown) as error:
        machine_command("example.com/unknown:1", {}, "this machine has no container engine")
    assert "image 'example.com/unknown:1'" in str(error.value)
    assert "--image 'example.com/unknown=COMMAND'" in str(error.value)
    assert str(error.value).count("\n") == 1
    assert "container engine bring the image: this machine has no" in str(error.value)


IMAGES = (
    "registry.example/team/api",
    "registry.example/team/api:1.2",
    "registry.example/team/api@sha256:" + 64 * "0",
    "registry.example/team/api:1.2@sha256:" + 64 * "0",
)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("name", ["registry.example/team/api", "team/api", "api", "*/team/*"])
def test_a_mapping_leaves_out_what_it_does_not_care_for(image: str, name: str) -> None:
    assert ImageCatalog.parse([f"{name}=run"]).mapped(image, {}) is not None


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("localhost:5000/team/api", "localhost:5000/team/api:1"),
        ("localhost:5000/team/api:1", "localhost:5000/team/api:1"),
        ("[::1]:5000/team/api", "[::1]:5000/team/api:1"),
        ("team/api:1", "registry.example/team/api:1@sha256:0"),
        ("api:1", "registry.example/team/api:1"),
        ("docker.io/library/nginx", "nginx:1.27"),
        ("docker.io/nginx", "nginx"),
        ("docker.io/team/api", "team/api:1"),
        ("nginx", "docker.io/library/nginx:1"),
    ],
)
def test_a_mapping_by_any_name_of_an_image(name: str, image: str) -> None:
    assert ImageCatalog.parse([f"{name}=run"]).mapped(image, {}) is not None


@pytest.mark.parametrize(
    "name",
    ["registry.example/team/api:2", "other.example/team/api", "other/api", "team/apis", "ap", "pi"],
)
def test_a_mapping_of_another_image(name: str) -> None:
    assert ImageCatalog.parse([f"{name}=run"]).mapped("registry.example/team/api:1", {}) is None


def test_mappings_like_an_image_are_named() -> None:
    catalog = ImageCatalog.parse(["team/api:2=x", "web=x", "registry.example/taem/api=x"])
    near = catalog.near("registry.example/team/api:1")
    assert near == ("team/api:2", "registry.example/taem/api")
    with pytest.raises(ImageUnknown, match=r"no match: --image team/api:2, "):
        machine_command("registry.example/team/api:1", {}, "", near)


@pytest.mark.parametrize("line", ["noequals", "=x", "name=", 'web="unclosed'])
def test_a_bad_image_line(line: str) -> None:
    with pytest.raises(ValueError, match="="):
        ImageCatalog.parse([line])


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("docker.io/istio/app:1.2", "istio/app"),
        ("localhost:5000/app", "app"),
        ("app:1", "app"),
        ("a.b/c/d@sha256:0", "c/d"),
    ],
)
def test_repositories(image: str, name: str) -> None:
    assert repository(image) == name
