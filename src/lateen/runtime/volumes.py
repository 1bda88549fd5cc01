"""A pod's volumes as directories, and its containers' mounts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lateen.runtime.environment import (
    MissingReference,
    Objects,
    config_bytes,
    field_value,
    secret_bytes,
)
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
    result: dict[str, Path] = {}
    for volume in spec_of(pod).get("volumes") or []:
        directory = root / volume["name"]
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
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        temporary.chmod(mode)
        temporary.rename(target)


def container_mounts(container: Raw, volumes: Mapping[str, Path]) -> list[Mount]:
    """The container's ``volumeMounts``. Raises `MissingReference` for an undeclared volume."""
    mounts = []
    for mount in container.get("volumeMounts") or []:
        directory = volumes.get(mount["name"])
        if directory is None:
            raise MissingReference(f"volume {mount['name']!r} is mounted but not declared")
        sub_path = mount.get("subPath") or ""
        source = directory / sub_path if sub_path else directory
        if sub_path and not source.exists():
            source.mkdir(parents=True, exist_ok=True)
        mounts.append(Mount(str(source), mount["mountPath"], bool(mount.get("readOnly"))))
    return mounts


def remove_volumes(root: Path) -> None:
    """Remove what `prepare_volumes` made."""
    shutil.rmtree(root, ignore_errors=True)


Files = dict[str, tuple[bytes, int]]


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
        return Path(volume["hostPath"]["path"])
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
        for source in volume["projected"].get("sources") or []:
            if "serviceAccountToken" in source:
                files.update(_token(source["serviceAccountToken"], tokens))
            elif "configMap" in source:
                files.update(_config_map(source["configMap"], namespace, objects))
            elif "secret" in source:
                files.update(_secret(source["secret"], namespace, objects))
            elif "downwardAPI" in source:
                files.update(_downward(source["downwardAPI"], pod, pod_ip, node_name))
        return files
    kinds = [key for key in volume if key != "name"] or ["nothing"]
    raise VolumeUnsupported(
        f"volume {volume['name']!r} is of kind {kinds[0]}, which this machine cannot provide; "
        "emptyDir, hostPath, configMap, secret, downwardAPI and projected work"
    )


def _config_map(source: Raw, namespace: str, objects: Objects) -> Files:
    found = objects.find("ConfigMap", namespace, source["name"])
    return _items(source, found and config_bytes(found), f"ConfigMap {namespace}/{source['name']}")


def _secret(source: Raw, namespace: str, objects: Objects) -> Files:
    name = source.get("secretName") or source.get("name")
    found = objects.find("Secret", namespace, str(name))
    mode = int(source.get("defaultMode", 0o400))
    return _items(source, found and secret_bytes(found), f"Secret {namespace}/{name}", mode)


def _items(
    source: Raw, content: dict[str, bytes] | None, what: str, default_mode: int = 0o644
) -> Files:
    if content is None:
        if source.get("optional"):
            return {}
        raise MissingReference(f"{what} does not exist")
    mode = int(source.get("defaultMode", default_mode))
    if not source.get("items"):
        return {key: (value, mode) for key, value in content.items()}
    files: Files = {}
    for item in source["items"]:
        if item["key"] in content:
            files[_inside(item["path"])] = (content[item["key"]], int(item.get("mode", mode)))
        elif not source.get("optional"):
            raise MissingReference(f"{what} has no key {item['key']}")
    return files


def _downward(source: Raw, pod: Raw, pod_ip: str, node_name: str) -> Files:
    files: Files = {}
    for item in source.get("items") or []:
        path = (item.get("fieldRef") or {}).get("fieldPath", "")
        value = field_value(pod, path, pod_ip, node_name) or ""
        files[_inside(item["path"])] = (value.encode(), 0o644)
    return files


def _token(source: Raw, tokens: Mapping[str, str]) -> Files:
    token = tokens.get(source.get("audience") or "", tokens.get("", ""))
    # Readable by the pod's own user only through the mount: no other pod sees the directory.
    return {_inside(source["path"]): (token.encode(), 0o644)}


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise VolumeUnsupported(f"path {path!r} of a volume leaves the volume")
    return path
