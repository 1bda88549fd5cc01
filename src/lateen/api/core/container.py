"""Containers: what runs in a pod."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from lateen.api.base import JsonObject, Message
from lateen.api.core.probes import Lifecycle, Probe

PortNumber = Annotated[int, Meta(ge=1, le=65535)]


class ContainerPort(Message, frozen=True, kw_only=True):
    """A port that a container listens on."""

    name: str = ""
    host_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    container_port: PortNumber
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_ip: str = field(name="hostIP", default="")


class ObjectFieldSelector(Message, frozen=True, kw_only=True):
    """A field of the pod, for instance ``metadata.name`` or ``status.podIP``."""

    api_version: str = ""
    field_path: str


class ResourceFieldSelector(Message, frozen=True, kw_only=True):
    """A resource limit or request of a container."""

    container_name: str = ""
    resource: str
    divisor: str | int = ""


class KeySelector(Message, frozen=True, kw_only=True):
    """A key of a ConfigMap or Secret of the same namespace."""

    name: str = ""
    key: str
    optional: bool | None = None


class FileKeySelector(Message, frozen=True, kw_only=True):
    """A key of an environment file in a volume."""

    volume_name: str
    path: str
    key: str
    optional: bool | None = None


class EnvVarSource(Message, frozen=True, kw_only=True):
    """Where an environment variable's value comes from; exactly one."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    file_key_ref: FileKeySelector | None = None


class EnvVar(Message, frozen=True, kw_only=True):
    """One environment variable; ``$(NAME)`` in ``value`` refers to earlier ones."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvSource(Message, frozen=True, kw_only=True):
    """A ConfigMap or Secret whose keys become variables."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Message, frozen=True, kw_only=True):
    """All keys of a ConfigMap or Secret as variables, with a prefix."""

    prefix: str = ""
    config_map_ref: EnvSource | None = None
    secret_ref: EnvSource | None = None


class VolumeMount(Message, frozen=True, kw_only=True):
    """A volume seen by a container."""

    name: str
    read_only: bool = False
    recursive_read_only: str | None = None
    mount_path: str
    sub_path: str = ""
    mount_propagation: str | None = None
    sub_path_expr: str = ""


class ResourceRequirements(Message, frozen=True, kw_only=True):
    """Quantities such as ``100m`` or ``64Mi``."""

    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}
    claims: list[JsonObject] = []


class Capabilities(Message, frozen=True, kw_only=True):
    """POSIX capabilities to add and drop."""

    add: list[str] = []
    drop: list[str] = []


class SecurityContext(Message, frozen=True, kw_only=True):
    """Privileges of a container."""

    capabilities: Capabilities | None = None
    privileged: bool | None = None
    se_linux_options: JsonObject | None = None
    windows_options: JsonObject | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    proc_mount: str | None = None
    seccomp_profile: JsonObject | None = None
    app_armor_profile: JsonObject | None = None


class Container(Message, frozen=True, kw_only=True):
    """``core/v1`` Container. ``restartPolicy: Always`` on an init container: a native sidecar."""

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    ports: list[ContainerPort] = []
    env_from: list[EnvFromSource] = []
    env: list[EnvVar] = []
    resources: ResourceRequirements | None = None
    resize_policy: list[JsonObject] = []
    restart_policy: str | None = None
    restart_policy_rules: list[JsonObject] = []
    volume_mounts: list[VolumeMount] = []
    volume_devices: list[JsonObject] = []
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never", ""] = ""
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
