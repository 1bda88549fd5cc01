"""Names on the wire that tools depend on: clusters, listeners, chains, routes, SNI (Istio's)."""

from __future__ import annotations

from typing import NamedTuple

BLACK_HOLE = "BlackHoleCluster"
PASSTHROUGH = "PassthroughCluster"
ALLOW_ANY_DYNAMIC_DNS = "AllowAnyDynamicDNSCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"

VIRTUAL_OUTBOUND = "virtualOutbound"
VIRTUAL_INBOUND = "virtualInbound"
PASSTHROUGH_CHAIN = "PassthroughFilterChain"

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
RESERVED_PORTS = frozenset({15001, 15006, 15021, 15090})
"""Ports of the proxy itself on the wildcard address: no outbound listener may take them."""

WILDCARD = "0.0.0.0"
WILDCARD_V6 = "::"
INBOUND_BIND = "127.0.0.6"
INBOUND_BIND_V6 = "::6"
"""Source of connections to the own workload, by which redirection knows them."""


class ClusterName(NamedTuple):
    """The parts of ``DIRECTION|PORT|SUBSET|HOST``."""

    direction: str
    port: int
    subset: str
    hostname: str


def outbound_cluster(port: int, subset: str, hostname: str) -> str:
    """``outbound|PORT|SUBSET|HOST``."""
    return f"outbound|{port}|{subset}|{hostname}"


def inbound_cluster(port: int) -> str:
    """``inbound|PORT||``: one per port of the workload, without a host."""
    return f"inbound|{port}||"


def parse_cluster(name: str) -> ClusterName | None:
    """The parts of a cluster name, or None for the fallback clusters."""
    parts = name.split("|")
    if len(parts) != 4 or not parts[1].isdigit():
        return None
    return ClusterName(parts[0], int(parts[1]), parts[2], parts[3])


def mesh_sni(port: int, subset: str, hostname: str) -> str:
    """SNI of mutual TLS between proxies: ``outbound_.PORT_.SUBSET_.HOST``."""
    return f"outbound_.{port}_.{subset}_.{hostname}"


def listener_name(address: str, port: int) -> str:
    """``ADDRESS_PORT``."""
    return f"{address}_{port}"


def sniffed_route(hostname: str, port: int) -> str:
    """Route configuration of a port whose protocol is detected: ``HOST:PORT``."""
    return f"{hostname}:{port}"


def proxy_route(address: str, port: int) -> str:
    """Route configuration of an HTTP proxy (``http_proxy_PORT``) or a Unix socket (its address)."""
    return f"http_proxy_{port}" if port else address


def virtual_host(hostname: str, port: int) -> str:
    """``HOST:PORT``."""
    return f"{hostname}:{port}"


def inbound_virtual_host(port: int) -> str:
    """``inbound|http|PORT``."""
    return f"inbound|http|{port}"
