"""Addresses and ports the API hands out: ClusterIPs, node ports, addresses of ServiceEntries."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

SERVICE_CIDR = "10.96.0.0/16"
"""Range of ClusterIPs."""
RESERVED_SERVICE_ADDRESSES = 256
"""Addresses at the start of the range that are never given automatically (cluster DNS ...)."""
NODE_PORTS = range(30000, 32768)
SERVICE_ENTRY_CIDR = "240.240.0.0/16"
"""Range of automatic ServiceEntry addresses (Istio's ``PILOT_IP_AUTOALLOCATE_IPV4_PREFIX``)."""

Raw = dict[str, Any]
Owner = tuple[str, str]
"""Namespace and name."""
NodePort = tuple[str, int]
"""Protocol and number."""
_Value = TypeVar("_Value", bound=Hashable)


class AddressInUse(Exception):
    """A Service asks for an address or node port that it cannot have."""


@dataclass(slots=True)
class _Holders(Generic[_Value]):
    """Who holds which value."""

    owner_of: dict[_Value, Owner] = field(default_factory=dict)
    held_by: dict[Owner, list[_Value]] = field(default_factory=dict)

    def set(self, owner: Owner, values: Iterable[_Value]) -> None:
        """``owner`` holds these values now and no others. What another holds stays with it."""
        for value in self.held_by.pop(owner, ()):
            if self.owner_of.get(value) == owner:
                del self.owner_of[value]
        held = self.held_by[owner] = list(values)
        for value in held:
            self.owner_of.setdefault(value, owner)

    def other(self, value: _Value, owner: Owner) -> str:
        """``NAMESPACE/NAME`` of who holds a value instead of ``owner``; empty if nobody does."""
        holder = self.owner_of.get(value)
        return "" if holder is None or holder == owner else "/".join(holder)


class AddressBook:
    """What Services and ServiceEntries hold, kept while objects are written one after another."""

    def __init__(self, services: Iterable[Raw], service_entries: Iterable[Raw]) -> None:
        self._addresses: _Holders[str] = _Holders()
        self._node_ports: _Holders[NodePort] = _Holders()
        self._entries: _Holders[str] = _Holders()
        for raw in services:
            self.note_service(raw)
        for raw in service_entries:
            self.note_service_entry(raw)

    def note_service(self, raw: Raw, *, gone: bool = False) -> None:
        """Take over what a Service holds from now on."""
        self._addresses.set(_owner(raw), [] if gone else cluster_ips(raw))
        self._node_ports.set(_owner(raw), [] if gone else _node_ports(raw))

    def note_service_entry(self, raw: Raw, *, gone: bool = False) -> None:
        """Take over what a ServiceEntry holds from now on."""
        entries = [] if gone else (raw.get("status") or {}).get("addresses") or []
        self._entries.set(_owner(raw), [entry["value"] for entry in entries])

    def with_addresses(self, raw: Raw, previous: Raw | None) -> Raw:
        """A Service with its ClusterIP and node ports filled in.

        An address given by the user is kept; one the Service had is kept; otherwise the lowest
        free one is taken, so that the same manifests get the same addresses. Raises
        `AddressInUse`, which names both Services.
        """
        spec = dict(raw.get("spec") or {})
        me = _owner(raw)
        if spec.get("type") == "ExternalName":
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
            return {**raw, "spec": spec}
        if spec.get("clusterIP") == "None":
            spec["clusterIPs"] = ["None"]
        else:
            wanted = cluster_ips(raw) or (cluster_ips(previous) if previous else [])
            for address in wanted:
                if holder := self._addresses.other(address, me):
                    raise AddressInUse(
                        f"Service {'/'.join(me)} asks for clusterIP {address}, which Service "
                        f"{holder} has; remove clusterIP to get a free one"
                    )
            if not wanted:
                taken = self._addresses.owner_of.__contains__
                wanted = [_lowest_free(SERVICE_CIDR, taken, RESERVED_SERVICE_ADDRESSES)]
            spec["clusterIP"] = wanted[0]
            spec["clusterIPs"] = wanted
        if spec.get("type") == "NodePort" or (
            spec.get("type") == "LoadBalancer"
            and spec.get("allocateLoadBalancerNodePorts") is not False
        ):
            spec["ports"] = self._with_node_ports(spec.get("ports") or [], previous, me)
        return {**raw, "spec": spec}

    def service_entry_addresses(self, raw: Raw) -> list[Raw]:
        """``status.addresses`` of a ServiceEntry that gets automatic addresses, or an empty list.

        Same rule as Istio: no addresses of its own, resolution other than NONE, not switched off
        by the label ``networking.istio.io/enable-autoallocate-ip: "false"``, no wildcard host.
        Addresses given before are kept.
        """
        spec = raw.get("spec") or {}
        labels = raw["metadata"].get("labels") or {}
        if (
            spec.get("addresses")
            or spec.get("resolution", "NONE") == "NONE"
            or labels.get("networking.istio.io/enable-autoallocate-ip") == "false"
        ):
            return []
        me = _owner(raw)
        had = {e.get("host"): e for e in (raw.get("status") or {}).get("addresses") or []}
        hosts = [host for host in spec.get("hosts") or [] if not host.startswith("*")]
        kept = {
            host: had[host]
            for host in hosts
            if host in had and not self._entries.other(had[host]["value"], me)
        }
        used = {entry["value"] for entry in kept.values()}
        addresses = []
        for host in dict.fromkeys(hosts):
            entry = kept.get(host)
            if entry is None:
                value = _lowest_free(
                    SERVICE_ENTRY_CIDR, lambda a: a in self._entries.owner_of or a in used, 1
                )
                used.add(value)
                entry = {"value": value, "host": host}
            addresses.append(entry)
        return addresses

    def _with_node_ports(self, ports: list[Raw], previous: Raw | None, me: Owner) -> list[Raw]:
        had = {
            (_protocol(port), port.get("port")): port.get("nodePort") for port in _ports(previous)
        }
        given = [port.get("nodePort") for port in ports]
        numbers = [
            number or had.get((_protocol(port), port.get("port")))
            for number, port in zip(given, ports, strict=True)
        ]
        mine: set[NodePort] = set()
        for index, (port, number) in enumerate(zip(ports, numbers, strict=True)):
            if not number:
                continue
            value = (_protocol(port), number)
            if value in mine and not given[index]:
                numbers[index] = None
                continue
            _check_node_port(value, me, self._node_ports.other(value, me), value in mine)
            mine.add(value)
        result = []
        for port, number in zip(ports, numbers, strict=True):
            chosen = number or self._free_node_port(_protocol(port), mine)
            mine.add((_protocol(port), chosen))
            result.append({**port, "nodePort": chosen})
        return result

    def _free_node_port(self, protocol: str, mine: set[NodePort]) -> int:
        for number in NODE_PORTS:
            value = (protocol, number)
            if value not in mine and value not in self._node_ports.owner_of:
                return number
        raise AddressInUse(f"no node port is free in {NODE_PORTS.start}-{NODE_PORTS.stop - 1}")


def cluster_ips(service: Raw) -> list[str]:
    """The ClusterIPs of a Service, without ``None``; ``clusterIP`` decides over ``clusterIPs``."""
    spec = service.get("spec") or {}
    first, several = spec.get("clusterIP"), spec.get("clusterIPs") or []
    if first and (not several or several[0] != first):
        several = [first]
    return list(dict.fromkeys(a for a in several if a and a != "None"))


def _check_node_port(value: NodePort, me: Owner, holder: str, twice: bool) -> None:
    number = value[1]
    asks = f"Service {'/'.join(me)} asks for nodePort {number}"
    if holder:
        raise AddressInUse(f"{asks}, which Service {holder} has; choose another or remove nodePort")
    if twice:
        raise AddressInUse(f"{asks} for two of its ports; choose another or remove nodePort")
    if number not in NODE_PORTS:
        raise AddressInUse(
            f"{asks}; node ports are {NODE_PORTS.start}-{NODE_PORTS.stop - 1}. "
            "Choose another or remove nodePort"
        )


def _owner(raw: Raw) -> Owner:
    metadata = raw["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _ports(service: Raw | None) -> Iterable[Raw]:
    return ((service or {}).get("spec") or {}).get("ports") or []


def _node_ports(service: Raw) -> list[NodePort]:
    return [(_protocol(p), p["nodePort"]) for p in _ports(service) if p.get("nodePort")]


def _protocol(port: Raw) -> str:
    return port.get("protocol") or "TCP"


def _lowest_free(cidr: str, taken: Callable[[str], bool], skip: int) -> str:
    network = ipaddress.IPv4Network(cidr)
    first = int(network.network_address)
    for number in range(first + skip, first + network.num_addresses - 1):
        address = f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        if not taken(address):
            return address
    raise AddressInUse(f"no address is free in {cidr}")
