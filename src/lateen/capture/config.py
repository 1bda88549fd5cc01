"""The parameters of capture, with Istio's names and defaults, and how a pod's annotations set them.

Sources: annotations ``traffic.sidecar.istio.io/*``, ``sidecar.istio.io/interceptionMode`` and
``status.sidecar.istio.io/port`` of Istio's resource annotation reference; istio-iptables' flags.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

ALL = "*"
MAX_ENTRIES = 256
"""Bound on the entries of each list."""

_PREFIX = "traffic.sidecar.istio.io/"


class CaptureError(ValueError):
    """A parameter that cannot be used: says which, what it holds and what would be right."""


class ProxyMatch(enum.StrEnum):
    """How the proxy's own traffic is told from the application's."""

    UID = "uid"
    """Sockets of user or group 1337 (Kubernetes, virtual machines)."""
    MARK = "mark"
    """Sockets marked 1337 by SO_MARK (works where only one uid exists)."""


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """What to capture. Port lists hold port numbers as text, or ``("*",)`` for all."""

    proxy_match: ProxyMatch = ProxyMatch.UID
    proxy_id: int = 1337
    """Uid and gid, or mark, of the proxy."""
    outbound_port: int = 15001
    inbound_port: int = 15006
    tunnel_port: int = 15008
    """HBONE; never captured."""
    mode: str = "REDIRECT"
    """``REDIRECT`` or ``NONE`` (nothing is captured)."""
    include_inbound_ports: tuple[str, ...] = (ALL,)
    exclude_inbound_ports: tuple[str, ...] = ("15090", "15021", "15020")
    """Only read when ``include_inbound_ports`` is all."""
    include_outbound_ports: tuple[str, ...] = ()
    """Captured whatever the address."""
    exclude_outbound_ports: tuple[str, ...] = ()
    include_outbound_ranges: tuple[str, ...] = (ALL,)
    exclude_outbound_ranges: tuple[str, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()
    virtual_interfaces: tuple[str, ...] = ()
    """Traffic that arrives on them is outbound traffic (virtual machines in a pod)."""
    dns_port: int = 0
    """Where the application's DNS queries go instead (15053); 0 leaves DNS alone."""

    def __post_init__(self) -> None:
        """Raises `CaptureError` for what cannot be a port, a range or a mode."""
        if self.mode not in ("REDIRECT", "NONE"):
            raise CaptureError(
                f"interception mode {self.mode!r} is not supported; use REDIRECT or NONE"
            )
        for name in (
            "include_inbound_ports",
            "exclude_inbound_ports",
            "include_outbound_ports",
            "exclude_outbound_ports",
        ):
            wildcard = name == "include_inbound_ports"
            _check_ports(name, getattr(self, name), wildcard)
        _check_ranges("include_outbound_ranges", self.include_outbound_ranges, wildcard=True)
        _check_ranges("exclude_outbound_ranges", self.exclude_outbound_ranges, wildcard=False)


def from_annotations(
    annotations: Mapping[str, str],
    *,
    proxy_match: ProxyMatch = ProxyMatch.UID,
    dns_port: int = 0,
    mode: str = "REDIRECT",
) -> CaptureConfig:
    """The capture of a pod with these annotations. Raises `CaptureError` naming the annotation."""
    status_port = annotations.get("status.sidecar.istio.io/port", "15020")
    excluded = _listed(annotations, "excludeInboundPorts", "")
    try:
        return CaptureConfig(
            proxy_match=proxy_match,
            mode=annotations.get("sidecar.istio.io/interceptionMode", mode),
            include_inbound_ports=_listed(annotations, "includeInboundPorts", ALL),
            exclude_inbound_ports=_unique(("15090", "15021", status_port, *excluded)),
            include_outbound_ports=_listed(annotations, "includeOutboundPorts", ""),
            exclude_outbound_ports=_listed(annotations, "excludeOutboundPorts", ""),
            include_outbound_ranges=_listed(annotations, "includeOutboundIPRanges", ALL),
            exclude_outbound_ranges=_listed(annotations, "excludeOutboundIPRanges", ""),
            exclude_interfaces=_listed(annotations, "excludeInterfaces", ""),
            virtual_interfaces=_listed(
                annotations,
                "kubevirtInterfaces",
                annotations.get("istio.io/reroute-virtual-interfaces", ""),
            ),
            dns_port=dns_port,
        )
    except CaptureError as error:
        name = str(error).split(":", 1)[0]
        annotation = _ANNOTATION_OF.get(name)
        if annotation is None:
            raise
        raise CaptureError(f"annotation {annotation}{str(error)[len(name) :]}") from error


_ANNOTATION_OF = {
    "include_inbound_ports": _PREFIX + "includeInboundPorts",
    "exclude_inbound_ports": _PREFIX + "excludeInboundPorts",
    "include_outbound_ports": _PREFIX + "includeOutboundPorts",
    "exclude_outbound_ports": _PREFIX + "excludeOutboundPorts",
    "include_outbound_ranges": _PREFIX + "includeOutboundIPRanges",
    "exclude_outbound_ranges": _PREFIX + "excludeOutboundIPRanges",
}


def _listed(annotations: Mapping[str, str], name: str, default: str) -> tuple[str, ...]:
    text = annotations.get(_PREFIX + name, default)
    return _unique(tuple(part.strip() for part in text.split(",") if part.strip()))


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _check_ports(name: str, ports: tuple[str, ...], wildcard: bool) -> None:
    if len(ports) > MAX_ENTRIES:
        raise CaptureError(f"{name}: {len(ports)} entries; at most {MAX_ENTRIES}")
    for port in ports:
        if port == ALL and wildcard and len(ports) == 1:
            continue
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            allowed = "port numbers (1 to 65535)" + (' or "*" alone' if wildcard else "")
            raise CaptureError(f"{name}: {port!r} is not one of {allowed}")


def _check_ranges(name: str, ranges: tuple[str, ...], *, wildcard: bool) -> None:
    if len(ranges) > MAX_ENTRIES:
        raise CaptureError(f"{name}: {len(ranges)} entries; at most {MAX_ENTRIES}")
    for item in ranges:
        if item == ALL and wildcard and len(ranges) == 1:
            continue
        try:
            ipaddress.ip_network(item, strict=False)
        except ValueError:
            allowed = "an address range such as 10.0.0.0/8" + (' or "*" alone' if wildcard else "")
            raise CaptureError(f"{name}: {item!r} is not {allowed}") from None
