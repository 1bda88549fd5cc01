"""From a container in a manifest to what the node starts: program, environment, user, root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lateen.runtime.cache import ObjectCache
from lateen.runtime.engine import users
from lateen.runtime.engine.errors import EngineAbsent, ImageRefused
from lateen.runtime.environment import container_environment, expand, service_variables
from lateen.runtime.image_puller import ImagePuller
from lateen.runtime.images import (
    ImageCatalog,
    ImageCommand,
    engine_command,
    machine_command,
)
from lateen.runtime.node import privileges
from lateen.runtime.node.spec import ContainerSpec
from lateen.runtime.raw import Raw, full_name, name_of, namespace_of, spec_of
from lateen.runtime.volumes import container_mounts, generated_volumes

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ROOT_CAPABILITIES: Mapping[str, int] = {
    "CHOWN": privileges.CAP_CHOWN,
    "DAC_OVERRIDE": privileges.CAP_DAC_OVERRIDE,
    "FOWNER": privileges.CAP_FOWNER,
    "FSETID": privileges.CAP_FSETID,
    "KILL": privileges.CAP_KILL,
    "SETGID": privileges.CAP_SETGID,
    "SETUID": privileges.CAP_SETUID,
}
"""What root of an image may do: change owners and users within the container. The rest of what
container engines give is about networks (which could leave the proxy out), devices and roots."""


class ContainerConfigError(Exception):
    """A container cannot be made as its manifest and its image say; the message says why."""


async def find_program(
    images: ImageCatalog, puller: ImagePuller, pod: Raw, container: Raw
) -> ImageCommand:
    """What a container runs: by an option, as a built-in image, from the container engine, or by
    its own command. Raises `ImageUnknown`, `ImageRefused`."""
    image = str(container.get("image", ""))
    found = images.mapped(image, container)
    if found is not None:
        return found
    try:
        policy = str(container.get("imagePullPolicy") or "")
        return engine_command(await puller.get(image, policy, full_name(pod)), container)
    except EngineAbsent as error:
        return machine_command(image, container, str(error), images.near(image))
    except ImageRefused as error:
        near = images.near(image)
        if not near:
            raise
        raise ImageRefused(
            error.reason, f"{error} (no match: --image {', '.join(near)})"
        ) from error


def container_spec(
    pod: Raw,
    container: Raw,
    program: ImageCommand,
    objects: ObjectCache,
    volumes: Mapping[str, Path],
    *,
    ip: str,
    node_name: str,
    switches_user: bool,
    log_path: str,
) -> ContainerSpec:
    """What the node starts for a container; ``volumes`` are the pod's folders by name.

    Raises `MissingReference`, `VolumeUnsupported`, `ContainerConfigError`.
    """
    services: dict[str, str] = {}
    if spec_of(pod).get("enableServiceLinks") is not False:
        services = service_variables(objects.all("Service"), namespace_of(pod))
    base = {"PATH": DEFAULT_PATH, **program.env, "HOSTNAME": name_of(pod), **services}
    environment = container_environment(pod, container, ip, node_name, objects, base)
    security = {
        **(spec_of(pod).get("securityContext") or {}),
        **(container.get("securityContext") or {}),
    }
    uid, gid = security.get("runAsUser"), security.get("runAsGroup")
    groups = _more_groups(security)
    capabilities: tuple[int, ...] = ()
    working_dir, root = "", ""
    if program.image is not None:
        root, working_dir = program.image.root, program.image.config.working_dir
        identity = _identity(program, security, switches_user=switches_user)
        environment.setdefault("HOME", identity.home)
        uid, gid, groups = identity.uid, identity.gid, identity.groups
        capabilities = _capabilities(security) if uid == 0 else ()
    return ContainerSpec(
        name=str(container["name"]),
        argv=(*program.leading, *(expand(part, environment) for part in program.argv)),
        env=environment,
        cwd=str(container.get("workingDir") or working_dir or program.cwd or "/"),
        mounts=tuple(container_mounts(container, volumes, environment, generated_volumes(pod))),
        uid=uid if switches_user else None,
        gid=gid if switches_user else None,
        groups=groups if switches_user else (),
        capabilities=capabilities if switches_user else (),
        image=root,
        read_only_root=bool(security.get("readOnlyRootFilesystem")),
        confined=_confined(security),
        log_path=log_path,
    )


def _identity(program: ImageCommand, security: Raw, *, switches_user: bool) -> users.Identity:
    """Who the image's program runs as. Without root everything runs as one user, whom the image
    does not know, so that its own names do not matter."""
    assert program.image is not None
    if not switches_user:
        return users.Identity(0, 0)
    root = program.image.root
    try:
        identity = users.resolve(
            program.image.config.user,
            users.read_file(root, "etc/passwd"),
            users.read_file(root, "etc/group"),
            security.get("runAsUser"),
            security.get("runAsGroup"),
            _more_groups(security),
        )
    except users.UnknownUser as error:
        raise ContainerConfigError(f"{error}; set securityContext.runAsUser") from error
    if security.get("runAsNonRoot") and identity.uid == 0:
        raise ContainerConfigError(
            "securityContext.runAsNonRoot is true, and the image runs as root; set runAsUser"
        )
    return identity


def _more_groups(security: Raw) -> tuple[int, ...]:
    """Supplementary groups, of which ``fsGroup`` is one."""
    more = [int(group) for group in security.get("supplementalGroups") or []]
    if security.get("fsGroup") is not None:
        more.append(int(security["fsGroup"]))
    return tuple(more)


def _confined(security: Raw) -> bool:
    """Whether the filter of system calls applies, as it does for who says nothing.

    Raises `ContainerConfigError` for a profile from a file of the node, of which there are none.
    """
    if security.get("privileged"):
        return False
    profile = str((security.get("seccompProfile") or {}).get("type") or "RuntimeDefault")
    if profile not in ("RuntimeDefault", "Unconfined"):
        raise ContainerConfigError(
            f"securityContext.seccompProfile.type {profile} is not supported; use RuntimeDefault "
            "or Unconfined"
        )
    return profile == "RuntimeDefault"


def _capabilities(security: Raw) -> tuple[int, ...]:
    dropped = {str(name).upper() for name in (security.get("capabilities") or {}).get("drop") or []}
    if "ALL" in dropped:
        return ()
    return tuple(
        number
        for name, number in ROOT_CAPABILITIES.items()
        if name not in dropped and f"CAP_{name}" not in dropped
    )
