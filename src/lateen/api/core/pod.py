"""Pod and its template."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from lateen.api.base import JsonObject, Message
from lateen.api.core.container import Container
from lateen.api.core.selectors import LocalObjectReference
from lateen.api.core.volume import Volume
from lateen.api.resource import ApiObject, ObjectMeta


class HostAlias(Message, frozen=True, kw_only=True):
    """A line of the pod's hosts file."""

    ip: str
    hostnames: list[str] = []


class PodDNSOption(Message, frozen=True, kw_only=True):
    """A resolver option."""

    name: str = ""
    value: str | None = None


class PodDNSConfig(Message, frozen=True, kw_only=True):
    """Resolver settings that are merged into those of ``dnsPolicy``."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[PodDNSOption] = []


class Sysctl(Message, frozen=True, kw_only=True):
    """A kernel parameter of the pod's namespaces."""

    name: str
    value: str


class PodSecurityContext(Message, frozen=True, kw_only=True):
    """Privileges of all containers of a pod."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[int] = []
    supplemental_groups_policy: str | None = None
    fs_group: int | None = None
    fs_group_change_policy: str | None = None
    sysctls: list[Sysctl] = []
    se_linux_options: JsonObject | None = None
    se_linux_change_policy: str | None = None
    seccomp_profile: JsonObject | None = None
    app_armor_profile: JsonObject | None = None
    windows_options: JsonObject | None = None


class PodSpec(Message, frozen=True, kw_only=True):
    """``core/v1`` PodSpec. Fields about scheduling are kept as they are."""

    volumes: list[Volume] = []
    init_containers: list[Container] = []
    containers: list[Container]
    ephemeral_containers: list[JsonObject] = []
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    dns_policy: Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] = (
        "ClusterFirst"
    )
    dns_config: PodDNSConfig | None = None
    node_selector: dict[str, str] = {}
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool | None = None
    node_name: str = ""
    host_network: bool = False
    host_pid: bool = field(name="hostPID", default=False)
    host_ipc: bool = field(name="hostIPC", default=False)
    host_users: bool | None = None
    hostname_override: str | None = None
    share_process_namespace: bool | None = None
    security_context: PodSecurityContext | None = None
    image_pull_secrets: list[LocalObjectReference] = []
    hostname: str = ""
    subdomain: str = ""
    set_hostname_as_fqdn: bool | None = field(name="setHostnameAsFQDN", default=None)
    host_aliases: list[HostAlias] = []
    enable_service_links: bool | None = None
    readiness_gates: list[JsonObject] = []
    affinity: JsonObject | None = None
    scheduler_name: str = ""
    tolerations: list[JsonObject] = []
    priority_class_name: str = ""
    priority: int | None = None
    preemption_policy: str | None = None
    runtime_class_name: str | None = None
    overhead: JsonObject | None = None
    topology_spread_constraints: list[JsonObject] = []
    os: JsonObject | None = None
    scheduling_gates: list[JsonObject] = []
    scheduling_group: JsonObject | None = None
    workload_ref: JsonObject | None = None
    resource_claims: list[JsonObject] = []
    resources: JsonObject | None = None


class PodTemplateSpec(Message, frozen=True, kw_only=True):
    """``core/v1`` PodTemplateSpec: the pods that a workload makes."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec


class PodIP(Message, frozen=True, kw_only=True):
    """An address of a pod."""

    ip: str = ""


class PodCondition(Message, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A condition of a pod, for instance ``Ready``."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class PodStatus(Message, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The part of a pod's status that a mesh reads."""

    phase: str = ""
    conditions: list[PodCondition] = []
    message: str = ""
    reason: str = ""
    host_ip: str = field(name="hostIP", default="")
    pod_ip: str = field(name="podIP", default="")
    pod_ips: list[PodIP] = field(name="podIPs", default_factory=list)
    start_time: str | None = None
    init_container_statuses: list[JsonObject] = []
    container_statuses: list[JsonObject] = []


class Pod(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` Pod."""

    spec: PodSpec
    status: PodStatus = PodStatus()
