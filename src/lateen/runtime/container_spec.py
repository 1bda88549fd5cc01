"""How the node starts one container of a pod: command, environment, mounts, user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lateen.runtime.cache import ObjectCache
from lateen.runtime.environment import container_environment, expand, service_variables
from lateen.runtime.images import ImageCatalog
from lateen.runtime.node.spec import ContainerSpec
from lateen.runtime.raw import Raw, name_of, namespace_of, spec_of
from lateen.runtime.volumes import container_mounts, generated_volumes

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def container_spec(
    images: ImageCatalog,
    cache: ObjectCache,
    pod: Raw,
    raw: Raw,
    volumes: Mapping[str, Path],
    *,
    ip: str,
    node_name: str,
    switches_user: bool,
    log_path: str,
) -> ContainerSpec:
    """The specification of container ``raw`` of ``pod``; ``volumes`` are their folders by name.

    Raises `ImageUnknown`, `MissingReference` and `VolumeUnsupported`.
    """
    command = images.command(str(raw.get("image", "")), raw)
    services: dict[str, str] = {}
    if spec_of(pod).get("enableServiceLinks") is not False:
        services = service_variables(cache.all("Service"), namespace_of(pod))
    base = {"PATH": _PATH, "HOSTNAME": name_of(pod), **services, **command.env}
    environment = container_environment(pod, raw, ip, node_name, cache, base)
    security = {
        **(spec_of(pod).get("securityContext") or {}),
        **(raw.get("securityContext") or {}),
    }
    return ContainerSpec(
        name=str(raw["name"]),
        argv=tuple(expand(part, environment) for part in command.argv),
        env=environment,
        cwd=str(raw.get("workingDir") or "/"),
        mounts=tuple(container_mounts(raw, volumes, environment, generated_volumes(pod))),
        uid=security.get("runAsUser") if switches_user else None,
        gid=security.get("runAsGroup") if switches_user else None,
        read_only_root=bool(security.get("readOnlyRootFilesystem")),
        log_path=log_path,
    )
