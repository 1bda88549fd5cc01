"""A pod's volumes as directories, and its containers' mounts."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lateen.runtime.environment import (
    MissingReference,
    Objects,
    config_bytes,
    expand,
    field_value,
    resource_value,
    secret_bytes,
)
from lateen.runtime.node.namespaces import open_beneath
from lateen.runtime.node.spec import Mount
from lateen.runtime.raw import Raw, namespace_of, spec_of


class VolumeUnsupported(Exception):
    """A kind of volume that cannot exist on one machine without a cluster."""


def prepare_volumes(
    pod: Raw, root: Path, pod_ip: str, node_name: str, objects: Objects, tokens: Mapping[str, str]
) -> dict[str, Path]:
    """Make every volume of a pod below ``root`` and return their directories by name.

    ``tokens`` are service-account tokens by audience (``""`` is the default one). Raises
    `MissingReference` and `VolumeUnsupported`.
    """
    root.mkdir(parents=True, exist_ok=True)
    # Secrets inside have the modes that the pod's users need; nobody else gets this far.
    root.chmod(0o700)
    result: dict[str, Path] = {}
    for volume in spec_of(pod).get("volumes") or []:
        directory = root / _inside(volume["name"])
        if "persistentVolumeClaim" in volume:
            result[volume["name"]] = _claim(volume["persistentVolumeClaim"], root)
            continue
        source = _source(volume, pod, pod_ip, node_name, objects, tokens)
        if isinstance(source, Path):
            result[volume["name"]] = source
            continue
        write_files(directory, source)
        result[volume["name"]] = directory
    return result


def token_requests(pod: Raw) -> list[tuple[str, int]]:
    """Audience and lifetime in seconds of every service-account token that the volumes hold."""
    found = []
    for volume in spec_of(pod).get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            token = source.get("serviceAccountToken")
            if token:
                found.append(
                    (token.get("audience") or "", int(token.get("expirationSeconds") or 3600))
                )
    return found


def write_files(directory: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Write files (content, mode) into a directory that only this pod is shown.

    The directory itself is entered by any user of the pod; other pods never see it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755 if files else 0o777)
    for name, (content, mode) in files.items():
        target = directory / _inside(name)
        for parent in reversed(target.relative_to(directory).parents[:-1]):
            # Whatever the node's umask is: the pod's users must get through.
            (directory / parent).mkdir(exist_ok=True)
            (directory / parent).chmod(0o755)
        temporary = target.with_name(f".{target.name}.new")
        temporary.unlink(missing_ok=True)
        # A container may have left a link here that leads out of the volume.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
        temporary.rename(target)


def generated_volumes(pod: Raw) -> frozenset[str]:
    """Names of the volumes whose files the node writes. Containers see them read-only: the node
    renews the files with its own rights, and must find its own directories there."""
    kinds = ("configMap", "secret", "downwardAPI", "projected")
    volumes = spec_of(pod).get("volumes") or []
    return frozenset(volume["name"] for volume in volumes if any(kind in volume for kind in kinds))


def container_mounts(
    container: Raw,
    volumes: Mapping[str, Path],
    environment: Mapping[str, str] | None = None,
    generated: frozenset[str] = frozenset(),
) -> list[Mount]:
    """The container's ``volumeMounts``; ``environment`` is for ``subPathExpr``.

    Raises `MissingReference` for an undeclared volume, `VolumeUnsupported` for a ``subPath`` that
    leaves its volume, also through a symbolic link.
    """
    mounts = []
    for mount in container.get("volumeMounts") or []:
        directory = volumes.get(mount["name"])
        if directory is None:
            raise MissingReference(f"volume {mount['name']!r} is mounted but not declared")
        sub_path = mount.get("subPath") or ""
        if mount.get("subPathExpr"):
            sub_path = expand(mount["subPathExpr"], environment or {})
        if sub_path:
            _make_sub_path(directory, _inside(sub_path))
        read_only = bool(mount.get("readOnly")) or mount["name"] in generated
        mounts.append(Mount(str(directory), mount["mountPath"], read_only, sub_path))
    return mounts


def remove_volumes(root: Path) -> None:
    """Remove what `prepare_volumes` made."""
    shutil.rmtree(root, ignore_errors=True)


Files = dict[str, tuple[bytes, int]]
_FILE_MODE = 0o644
"""Kubernetes' ``defaultMode`` of generated files."""


def _make_sub_path(directory: Path, sub_path: str) -> None:
    """Makes the directories of a ``subPath`` that are missing, and nothing outside the volume:
    containers that run already may be changing it at the same time."""
    parent = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        parts = [part for part in sub_path.split("/") if part not in ("", ".")]
        for place, part in enumerate(parts, start=1):
            path = "/".join(parts[:place])
            found = _open_or_make(directory, path, parent, part)
            os.close(parent)
            parent = found
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise VolumeUnsupported(f"subPath {sub_path!r} leaves its volume through a link") from error
    finally:
        os.close(parent)


def _open_or_make(directory: Path, path: str, parent: int, name: str) -> int:
    whole = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        try:
            return open_beneath(whole, path, os.O_PATH)
        except FileNotFoundError:
            os.mkdir(name, dir_fd=parent)
            return open_beneath(whole, path, os.O_PATH)
    finally:
        os.close(whole)


def _claim(source: Raw, root: Path) -> Path:
    """A claimed volume: one directory per claim and namespace, which lives as long as the mesh."""
    directory = root.parents[1] / ".claims" / _inside(str(source["claimName"]))
    directory.mkdir(parents=True, exist_ok=True)
    directory.parent.chmod(0o700)
    directory.chmod(0o777)
    return directory


def _host_path(source: Raw) -> Path:
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True)
    if not path.exists():
        raise MissingReference(f"hostPath {path} does not exist on this machine")
    return path


def _source(
    volume: Raw,
    pod: Raw,
    pod_ip: str,
    node_name: str,
    objects: Objects,
    tokens: Mapping[str, str],
) -> Files | Path:
    namespace = namespace_of(pod)
    if "hostPath" in volume:
        return _host_path(volume["hostPath"])
    if "emptyDir" in volume or "ephemeral" in volume:
        return {}
    if "configMap" in volume:
        return _config_map(volume["configMap"], namespace, objects)
    if "secret" in volume:
        return _secret(volume["secret"], namespace, objects)
    if "downwardAPI" in volume:
        return _downward(volume["downwardAPI"], pod, pod_ip, node_name)
    if "projected" in volume:
        files: Files = {}
        mode = {"defaultMode": volume["projected"].get("defaultMode") or _FILE_MODE}
        for source in volume["projected"].get("sources") or []:
            if "serviceAccountToken" in source:
                files.update(_token(source["serviceAccountToken"], tokens))
            elif "configMap" in source:
                files.update(_config_map({**mode, **source["configMap"]}, namespace, objects))
            elif "secret" in source:
                files.update(_secret({**mode, **source["secret"]}, namespace, objects))
            elif "downwardAPI" in source:
                own = {**mode, **source["downwardAPI"]}
                files.update(_downward(own, pod, pod_ip, node_name))
        return files
    kinds = [key for key in volume if key != "name"] or ["nothing"]
    raise VolumeUnsupported(
        f"volume {volume['name']!r} is of kind {kinds[0]}, which this machine cannot provide; "
        "emptyDir, hostPath, persistentVolumeClaim, configMap, secret, downwardAPI and "
        "projected work"
    )


def _config_map(source: Raw, namespace: str, objects: Objects) -> Files:
    found = objects.find("ConfigMap", namespace, source["name"])
    return _items(source, found and config_bytes(found), f"ConfigMap {namespace}/{source['name']}")


def _secret(source: Raw, namespace: str, objects: Objects) -> Files:
    name = source.get("secretName") or source.get("name")
    found = objects.find("Secret", namespace, str(name))
    return _items(source, found and secret_bytes(found), f"Secret {namespace}/{name}")


def _items(source: Raw, content: dict[str, bytes] | None, what: str) -> Files:
    if content is None:
        if source.get("optional"):
            return {}
        raise MissingReference(f"{what} does not exist")
    mode = _mode(source.get("defaultMode"), _FILE_MODE)
    if not source.get("items"):
        return {key: (value, mode) for key, value in content.items()}
    files: Files = {}
    for item in source["items"]:
        if item["key"] in content:
            files[_inside(item["path"])] = (content[item["key"]], _mode(item.get("mode"), mode))
        elif not source.get("optional"):
            raise MissingReference(f"{what} has no key {item['key']}")
    return files


def _downward(source: Raw, pod: Raw, pod_ip: str, node_name: str) -> Files:
    files: Files = {}
    for item in source.get("items") or []:
        if item.get("resourceFieldRef"):
            value = resource_value(item["resourceFieldRef"], pod, {})
        else:
            path = (item.get("fieldRef") or {}).get("fieldPath", "")
            value = field_value(pod, path, pod_ip, node_name)
        mode = _mode(item.get("mode"), _mode(source.get("defaultMode"), _FILE_MODE))
        files[_inside(item["path"])] = (value.encode(), mode)
    return files


def _mode(given: object, default: int) -> int:
    return int(given) & 0o777 if isinstance(given, int) else default


def _token(source: Raw, tokens: Mapping[str, str]) -> Files:
    token = tokens.get(source.get("audience") or "", tokens.get("", ""))
    # Readable by the pod's own user only through the mount: no other pod sees the directory.
    return {_inside(source["path"]): (token.encode(), 0o644)}


def _inside(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or not any(p not in ("", ".") for p in parts):
        raise VolumeUnsupported(f"path {path!r} of a volume leaves the volume")
    return path
