"""Services for pods without a sidecar: what kube-proxy does, as one kernel table of the node.

`ServiceTable` says which address and port stand for which endpoints, `service_changes` finds what
differs between two of them (pure); `service_rules.apply_changes` writes just that to the kernel. A
connection goes to a random endpoint, or with session affinity to one chosen by its source address.
A service address without a ready endpoint refuses connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_PORTS = 65_536


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a service, on each of whose addresses there is one of these."""

    address: str
    """ClusterIP or another virtual address (IPv4)."""
    port: int
    protocol: str = "tcp"
    """``tcp`` or ``udp``."""
    endpoints: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of ready endpoints."""
    affinity: bool = False
    """``sessionAffinity: ClientIP``."""
    node_port: int = 0
    """Also served on the node's own address under this port; 0: not."""

    @property
    def key(self) -> str:
        """Name of this port, unique in a table."""
        return f"{self.address}-{self.protocol}-{self.port}"


ServiceTable = Mapping[str, ServicePort]
"""`ServicePort.key` -> service port."""


def service_table(ports: Iterable[ServicePort]) -> dict[str, ServicePort]:
    """A table of these ports. Of two with the same address and port the first one wins."""
    table: dict[str, ServicePort] = {}
    for port in ports:
        table.setdefault(port.key, port)
    return table


@dataclass(frozen=True, slots=True)
class ServiceChanges:
    """What to take out of the kernel and what to put in; a changed port is in both."""

    removed: tuple[ServicePort, ...]
    added: tuple[ServicePort, ...]
    addresses_removed: tuple[str, ...] = ()
    """Virtual addresses that no service has any more."""
    addresses_added: tuple[str, ...] = ()
    backends_removed: tuple[str, ...] = ()
    """Addresses of endpoints that no service has any more."""
    backends_added: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Is there anything to do?"""
        return bool(self.removed or self.added)


def service_changes(old: ServiceTable, new: ServiceTable) -> ServiceChanges:
    """The difference. Raises `ValueError` for a table beyond `MAX_PORTS`."""
    if len(new) > MAX_PORTS:
        raise ValueError(f"{len(new)} service ports; at most {MAX_PORTS}")
    addresses = [{port.address for port in table.values()} for table in (old, new)]
    backends = [
        {address for port in table.values() for address, _ in port.endpoints}
        for table in (old, new)
    ]
    return ServiceChanges(
        removed=tuple(port for key, port in old.items() if new.get(key) != port),
        added=tuple(port for key, port in new.items() if old.get(key) != port),
        addresses_removed=tuple(sorted(addresses[0] - addresses[1])),
        addresses_added=tuple(sorted(addresses[1] - addresses[0])),
        backends_removed=tuple(sorted(backends[0] - backends[1])),
        backends_added=tuple(sorted(backends[1] - backends[0])),
    )
