"""The values that describe a node, a sandbox and a process in it. All plain, all JSON-able."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

APP_USER = 65534
"""Uid and gid of applications when the node runs as root and the pod asks for no other."""

PROXY_USER = 1337
"""Uid and gid of Envoy when the node runs as root (Istio's)."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node needs to know. Paths are absolute paths of the machine."""

    state_dir: str
    """The mesh's private directory. Containers never see it, except for what is mounted."""
    pod_cidr: str = "10.244.0.0/16"
    """Addresses of pods; the first one is the node's own, on its bridge."""
    service_cidr: str = "10.96.0.0/16"
    """Cluster IPs. A connection to one that no service port owns is refused."""
    extra_addresses: tuple[str, ...] = ("10.96.0.10", "10.96.0.11")
    """More addresses of the node itself (cluster DNS)."""
    cluster_cidrs: tuple[str, ...] = ("240.240.0.0/16",)
    """Further ranges that never leave the machine (ServiceEntry's automatic addresses)."""
    hidden_paths: tuple[str, ...] = ()
    """More directories that containers must not see."""
    exposed_paths: tuple[str, ...] = ()
    """Directories that containers can read although one above them is closed to other users
    (programs below /root). The running Python and Lateen are always among them."""
    scratch_bytes: int = 256 * 1024 * 1024
    """Most memory that the files of one container's own layer may take."""
    engine: str = ""
    """Container engine that images come from: a name, or ``auto``. Empty or ``none``: no process
    for it stays on the machine's side."""
    egress: bool = True
    """Pods may open TCP connections to addresses outside the mesh, through the host."""
    stop_seconds: float = 20.0
    """How long the node's program may take to end after SIGTERM before all is killed."""
    die_with_parent: bool = False
    """The node ends when the process that launched it ends."""

    @property
    def node_ip(self) -> str:
        """First address of ``pod_cidr``."""
        return str(ipaddress.ip_network(self.pod_cidr)[1])


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the machine (or of the node's scratch tmpfs) shown in a container."""

    source: str
    target: str
    """Absolute path in the container. What does not exist there is made."""
    read_only: bool = False
    sub_path: str = ""
    """Part of ``source`` to show instead of the whole. It is looked up at each start and cannot
    lead out of ``source``, whatever links containers have put there."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A pod's shell: network, host name and System V/POSIX IPC of its own."""

    name: str
    """Unique on the node, for instance ``default/reviews-v1-7c9f-x2b4k``."""
    ip: str
    """IPv4 address from the node's ``pod_cidr``."""
    hostname: str
    resolv_conf: str = ""
    """Content of /etc/resolv.conf."""
    hosts: str = ""
    """Content of /etc/hosts; loopback names and the pod's own when empty."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """More settings of the network namespace, ``net.ipv4.tcp_syncookies`` style."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One process tree in a sandbox, as Kubernetes' Container describes it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment; nothing is inherited. PATH, HOSTNAME and HOME are set if absent."""
    cwd: str = "/"
    mounts: tuple[Mount, ...] = ()
    uid: int | None = None
    """None: `APP_USER` as root, the caller's own uid otherwise. Anything else needs a node that
    runs as root (`Node.can_switch_user`)."""
    gid: int | None = None
    groups: tuple[int, ...] = ()
    """Supplementary groups, where the node can switch users."""
    capabilities: tuple[int, ...] = ()
    """Capabilities the process keeps (numbers of capabilities(7)). Programs of the machine: none.
    An image's uid 0 loses them, as everywhere, when it becomes another user."""
    image: str = ""
    """Directory with the files of an image, which become the container's root. Empty: the
    machine's."""
    mark_sockets: bool = False
    """Adds the capability that SO_MARK needs on this kernel (the proxy's own sockets)."""
    read_only_root: bool = False
    confined: bool = True
    """Runs under the filter of system calls (`lateen.runtime.node.seccomp`)."""
    log_path: str = ""
    """File for standard output and error. Empty: the output is thrown away."""
    log_bytes: int = 10 * 1024 * 1024
    """The log is renamed to ``log_path + ".1"`` when it reaches this size."""
    stdin: bool = False
    """False: /dev/null."""


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A command run inside a container that exists (`lateen exec`, exec probes)."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the container's environment."""
    cwd: str = ""
    """Empty: the container's."""
    tty: bool = False
    """The descriptors given are one terminal, which becomes the controlling one."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One of the mesh's own processes, in the node's network, with the machine's files."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int | None = None
    """None: the uid of the node. All capabilities are dropped in any case."""
    gid: int | None = None
    paths: tuple[str, ...] = ()
    """Directories that it must reach with another ``uid``, even below closed ones (the state
    directory below /root); writable as far as their own permissions allow."""
    log_path: str = ""
    log_bytes: int = 10 * 1024 * 1024


def to_json(value: object) -> dict[str, object]:
    """A spec as a JSON object (mappings become dicts)."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"not a spec: {value!r}")
    result: dict[str, object] = {}
    for item in dataclasses.fields(value):
        content = getattr(value, item.name)
        if isinstance(content, Mapping):
            content = dict(content)
        elif isinstance(content, tuple):
            content = [to_json(x) if dataclasses.is_dataclass(x) else x for x in content]
        result[item.name] = content
    return result


def node_config(data: Mapping[str, object]) -> NodeConfig:
    """The `NodeConfig` that `to_json` wrote."""
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return NodeConfig(**arguments)  # type: ignore[arg-type]  # written by `to_json` in this build
