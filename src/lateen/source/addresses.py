"""Addresses and ports the API hands out: ClusterIPs, node ports, addresses of ServiceEntries."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from lateen.source.store import Store

SERVICE_CIDR = "10.96.0.0/16"
"""Range of ClusterIPs."""
RESERVED_SERVICE_ADDRESSES = 256
"""Addresses at the start of the range that are never given automatically (cluster DNS ...)."""
NODE_PORTS = range(30000, 32768)
SERVICE_ENTRY_CIDR = "240.240.0.0/16"
"""Range of automatic ServiceEntry addresses (Istio's ``PILOT_IP_AUTOALLOCATE_IPV4_PREFIX``)."""

Raw = dict[str, Any]


class AddressInUse(Exception):
    """A Service asks for an address or node port that another one has."""


def taken_cluster_ips(store: Store, apart_from: tuple[str, str]) -> dict[str, str]:
    """Address to ``namespace/name`` of every Service but the one named."""
    taken: dict[str, str] = {}
    for stored in store.select("", "Service"):
        if (stored.key.namespace, stored.key.name) != apart_from:
            for address in cluster_ips(stored.raw):
                taken[address] = f"{stored.key.namespace}/{stored.key.name}"
    return taken


def cluster_ips(service: Raw) -> list[str]:
    """The ClusterIPs of a Service, without ``None``."""
    spec = service.get("spec") or {}
    found = [spec.get("clusterIP"), *(spec.get("clusterIPs") or [])]
    return list(dict.fromkeys(a for a in found if a and a != "None"))


def with_addresses(store: Store, raw: Raw, previous: Raw | None) -> Raw:
    """A Service with its ClusterIP and node ports filled in.

    An address given by the user is kept; one the Service had is kept; otherwise the lowest free
    one is taken, so that the same manifests get the same addresses. Raises `AddressInUse`.
    """
    spec = dict(raw.get("spec") or {})
    metadata = raw["metadata"]
    me = (metadata.get("namespace", ""), metadata["name"])
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
        return {**raw, "spec": spec}
    taken = taken_cluster_ips(store, me)
    wanted = cluster_ips(raw) or (cluster_ips(previous) if previous else [])
    for address in wanted:
        if address in taken:
            raise AddressInUse(
                f"Service {me[0]}/{me[1]} asks for clusterIP {address}, which Service "
                f"{taken[address]} has; remove clusterIP to get a free one"
            )
    if not wanted:
        wanted = [_lowest_free(SERVICE_CIDR, taken, RESERVED_SERVICE_ADDRESSES)]
    spec["clusterIP"] = wanted[0]
    spec["clusterIPs"] = wanted
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        spec["ports"] = _with_node_ports(store, spec.get("ports") or [], previous, me)
    return {**raw, "spec": spec}


def service_entry_addresses(store: Store, raw: Raw) -> list[Raw]:
    """``status.addresses`` of a ServiceEntry that gets automatic addresses, or an empty list.

    Same rule as Istio: no addresses of its own, resolution other than NONE, not switched off by
    the label ``networking.istio.io/enable-autoallocate-ip: "false"``, no wildcard host. Addresses
    given before are kept.
    """
    spec = raw.get("spec") or {}
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    if (
        spec.get("addresses")
        or spec.get("resolution", "NONE") == "NONE"
        or labels.get("networking.istio.io/enable-autoallocate-ip") == "false"
    ):
        return []
    me = (metadata.get("namespace", ""), metadata["name"])
    taken: dict[str, str] = {}
    for stored in store.select("networking.istio.io", "ServiceEntry"):
        if (stored.key.namespace, stored.key.name) != me:
            for entry in (stored.raw.get("status") or {}).get("addresses") or []:
                taken[entry["value"]] = stored.key.name
    had = {e.get("host"): e for e in (raw.get("status") or {}).get("addresses") or []}
    addresses = []
    for host in spec.get("hosts") or []:
        if host.startswith("*"):
            continue
        entry = had.get(host) or {
            "value": _lowest_free(SERVICE_ENTRY_CIDR, taken, 1),
            "host": host,
        }
        taken[entry["value"]] = me[1]
        addresses.append(entry)
    return addresses


def _with_node_ports(
    store: Store, ports: list[Raw], previous: Raw | None, me: tuple[str, str]
) -> list[Raw]:
    taken: dict[int, str] = {}
    for stored in store.select("", "Service"):
        if (stored.key.namespace, stored.key.name) != me:
            for port in (stored.raw.get("spec") or {}).get("ports") or []:
                if port.get("nodePort"):
                    taken[port["nodePort"]] = f"{stored.key.namespace}/{stored.key.name}"
    had = {p.get("port"): p.get("nodePort") for p in _ports(previous)}
    result = []
    for port in ports:
        number = port.get("nodePort") or had.get(port.get("port"))
        if number in taken:
            raise AddressInUse(
                f"Service {me[0]}/{me[1]} asks for nodePort {number}, which Service "
                f"{taken[number]} has; choose another or remove nodePort"
            )
        if not number:
            number = next((n for n in NODE_PORTS if n not in taken), None)
            if number is None:
                raise AddressInUse(f"no node port is free in {NODE_PORTS.start}-32767")
        taken[number] = f"{me[0]}/{me[1]}"
        result.append({**port, "nodePort": number})
    return result


def _ports(service: Raw | None) -> Iterable[Raw]:
    return ((service or {}).get("spec") or {}).get("ports") or []


def _lowest_free(cidr: str, taken: dict[str, str], skip: int) -> str:
    network = ipaddress.ip_network(cidr)
    for offset in range(skip, network.num_addresses - 1):
        address = str(network[offset])
        if address not in taken:
            return address
    raise AddressInUse(f"no address is free in {cidr}")
