"""What cluster DNS needs of Kubernetes objects, read once from raw JSON and kept small."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

Raw = dict[str, Any]
_SLICE_SERVICE = "kubernetes.io/service-name"
_NOT_RUNNING = ("Succeeded", "Failed")


class Port(NamedTuple):
    """A port of a service: what SRV records name."""

    name: str
    protocol: str
    """Lower case: ``tcp``, ``udp`` or ``sctp``."""
    number: int
    target: int | str
    """Number or container port name; equals ``number`` when the service names none."""


class ServiceInfo(NamedTuple):
    """A Service."""

    addresses: tuple[str, ...]
    """ClusterIPs; empty when headless, an alias or not allocated yet."""
    headless: bool
    alias: str
    """Target of an ExternalName service, lower case."""
    ports: tuple[Port, ...]
    selector: dict[str, str]
    publish_not_ready: bool


class PodInfo(NamedTuple):
    """A Pod that has an address and has not ended."""

    addresses: tuple[str, ...]
    ready: bool
    hostname: str
    subdomain: str
    labels: dict[str, str]
    ports: dict[str, int]
    """Named container ports."""


class Endpoint(NamedTuple):
    """One endpoint of a headless service, whatever it came from."""

    addresses: tuple[str, ...]
    hostname: str
    ready: bool
    ports: dict[str, int]
    """Port number by the service port's name; for pods by the container port's name."""


class SliceInfo(NamedTuple):
    """An EndpointSlice."""

    service: str
    endpoints: tuple[Endpoint, ...]


class EntryInfo(NamedTuple):
    """A ServiceEntry."""

    hosts: dict[str, tuple[str, ...]]
    """Host (maybe ``*.example.com``) to its addresses; hosts without one are left out."""
    export_to: tuple[str, ...]


def service_info(raw: Raw) -> ServiceInfo:
    """Read a Service."""
    spec = raw.get("spec") or {}
    alias = spec.get("externalName", "") if spec.get("type") == "ExternalName" else ""
    found = dict.fromkeys([spec.get("clusterIP"), *(spec.get("clusterIPs") or [])])
    headless = "None" in found and not alias
    return ServiceInfo(
        addresses=() if alias or headless else _addresses(found),
        headless=headless,
        alias=str(alias).lower().rstrip("."),
        ports=tuple(_port(port) for port in spec.get("ports") or []),
        selector={str(k): str(v) for k, v in (spec.get("selector") or {}).items()},
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
    )


def pod_info(raw: Raw) -> PodInfo | None:
    """Read a Pod; None when it has no address of its own (yet, or any more)."""
    spec, status, metadata = raw.get("spec") or {}, raw.get("status") or {}, raw["metadata"]
    listed = [entry.get("ip") for entry in status.get("podIPs") or []]
    addresses = _addresses(dict.fromkeys([status.get("podIP"), *listed]))
    if not addresses or status.get("phase") in _NOT_RUNNING:
        return None
    subdomain = str(spec.get("subdomain") or "").lower()
    hostname = str(spec.get("hostname") or "").lower()
    if subdomain and not hostname:
        owners = metadata.get("ownerReferences") or []
        if any(owner.get("kind") == "StatefulSet" for owner in owners):
            hostname = str(metadata["name"]).lower()
    ports = {
        str(port["name"]): int(port["containerPort"])
        for container in spec.get("containers") or []
        for port in container.get("ports") or []
        if port.get("name")
    }
    conditions = status.get("conditions") or []
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return PodInfo(
        addresses=addresses,
        ready=ready and not metadata.get("deletionTimestamp"),
        hostname=hostname,
        subdomain=subdomain,
        labels=metadata.get("labels") or {},
        ports=ports,
    )


def slice_info(raw: Raw) -> SliceInfo | None:
    """Read an EndpointSlice; None when it belongs to no service or holds no addresses."""
    service = (raw["metadata"].get("labels") or {}).get(_SLICE_SERVICE)
    if not service or raw.get("addressType") == "FQDN":
        return None
    ports = {
        str(p.get("name") or ""): int(p["port"]) for p in raw.get("ports") or [] if p.get("port")
    }
    endpoints = []
    for item in raw.get("endpoints") or []:
        conditions = item.get("conditions") or {}
        endpoints.append(
            Endpoint(
                addresses=_addresses(item.get("addresses") or []),
                hostname=str(item.get("hostname") or "").lower(),
                ready=conditions.get("ready") is not False,
                ports=ports,
            )
        )
    return SliceInfo(str(service), tuple(endpoints))


def entry_info(raw: Raw) -> EntryInfo:
    """Read a ServiceEntry: its own addresses for each host, else the allocated ones."""
    spec = raw.get("spec") or {}
    own = _addresses(_single(a) for a in spec.get("addresses") or [])
    allocated: dict[str, list[str]] = {}
    for given in (raw.get("status") or {}).get("addresses") or []:
        allocated.setdefault(str(given.get("host", "")).lower(), []).append(given.get("value"))
    hosts = {}
    for host in spec.get("hosts") or []:
        host = str(host).lower().rstrip(".")
        addresses = own or _addresses(allocated.get(host, []))
        if addresses:
            hosts[host] = addresses
    return EntryInfo(hosts, tuple(spec.get("exportTo") or ("*",)))


def _port(raw: Raw) -> Port:
    number = int(raw["port"])
    return Port(
        name=str(raw.get("name") or ""),
        protocol=str(raw.get("protocol") or "TCP").lower(),
        number=number,
        target=raw.get("targetPort") or number,
    )


def _single(address: str) -> str:
    """A CIDR of one address is that address; a wider one is no address."""
    ip, _, length = str(address).partition("/")
    return ip if length in ("", "128" if ":" in ip else "32") else ""


def _addresses(candidates: Iterable[Any]) -> tuple[str, ...]:
    """The valid addresses in canonical form."""
    found = []
    for candidate in candidates:
        try:
            found.append(str(ipaddress.ip_address(str(candidate))))
        except ValueError:
            continue
    return tuple(dict.fromkeys(found))
