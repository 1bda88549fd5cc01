"""Servers of the Gateways that a gateway proxy serves, grouped by the port they listen on."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from lateen.api.findings import Finding
from lateen.api.networking.gateway import Gateway, Server
from lateen.api.resource import Resource
from lateen.model.names import intersection
from lateen.model.protocols import parse_protocol
from lateen.model.service import Protocol
from lateen.translate import names
from lateen.translate.memo import Identity
from lateen.translate.rules import SERVER_CONFLICT, finding
from lateen.translate.view import View


class ServerKind(enum.Enum):
    """What a server does with its bytes."""

    HTTP = "http"
    HTTPS = "https"
    """TLS terminated, HTTP inside."""
    TLS = "tls"
    """TLS terminated, opaque bytes inside."""
    PASSTHROUGH = "passthrough"
    AUTO_PASSTHROUGH = "auto-passthrough"
    TCP = "tcp"

    @property
    def by_sni(self) -> bool:
        """Whether chains are chosen by SNI."""
        return self not in (ServerKind.HTTP, ServerKind.TCP)


@dataclass(frozen=True, slots=True, eq=False)
class GatewayServer:
    """One server of one Gateway object."""

    resource: Resource
    index: int
    server: Server
    kind: ServerKind
    target_port: int

    @property
    def facts(self) -> Hashable:
        """Identity of what it was made from."""
        return (Identity(self.resource), self.index, self.target_port)

    @property
    def path(self) -> tuple[str | int, ...]:
        """Field path of the server."""
        return ("spec", "servers", self.index)

    @property
    def gateway(self) -> str:
        """``NAMESPACE/NAME`` of the Gateway."""
        return f"{self.resource.key.namespace}/{self.resource.key.name}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts without their namespace part, ``*`` for ``*/*``, in lower case."""
        return tuple(
            dict.fromkeys(
                (host.partition("/")[2] if "/" in host else host).lower()
                for host in self.server.hosts
                if not host.startswith("~/")
            )
        )

    def hosts_for(self, namespace: str, host: str) -> tuple[str, ...]:
        """Where ``host`` of a VirtualService of ``namespace`` is bound here: the narrower names."""
        found: list[str] = []
        for entry in self.server.hosts:
            place, slash, pattern = entry.partition("/")
            if not slash:
                place, pattern = "*", entry
            pattern = pattern.lower()
            if place == ".":
                place = self.resource.key.namespace
            if place not in ("*", namespace):
                continue
            common = intersection(host, pattern)
            if common is not None and common not in found:
                found.append(common)
        return tuple(found)


@dataclass(slots=True)
class ServerGroup:
    """Servers that share a listener."""

    bind: str
    port: int
    servers: list[GatewayServer] = field(default_factory=list)

    @property
    def http(self) -> list[GatewayServer]:
        """Clear-text HTTP servers, which share one route configuration."""
        return [server for server in self.servers if server.kind is ServerKind.HTTP]

    @property
    def http_route_name(self) -> str:
        """``http.PORT[.BIND]``."""
        suffix = "" if self.bind in (names.WILDCARD, names.WILDCARD_V6) else f".{self.bind}"
        return f"http.{self.port}{suffix}"


def https_route_name(server: GatewayServer) -> str:
    """``https.PORT.PORT-NAME.GATEWAY.NAMESPACE[.BIND]``, with the port of the service."""
    key = server.resource.key
    port = server.server.port
    suffix = f".{server.server.bind}" if server.server.bind else ""
    return f"https.{port.number}.{port.name}.{key.name}.{key.namespace}{suffix}"


def groups(view: View) -> tuple[ServerGroup, ...]:
    """Listeners of the gateway with their servers, oldest Gateway first."""
    return view.cached("gateway-groups", lambda: _merge(view)[0])


def conflicts(view: View) -> tuple[Finding, ...]:
    """Servers that were left out because an older one has the port or the host."""
    return view.cached("gateway-conflicts", lambda: _merge(view)[1])


def _merge(view: View) -> tuple[tuple[ServerGroup, ...], tuple[Finding, ...]]:
    found: dict[tuple[str, int], ServerGroup] = {}
    findings: list[Finding] = []
    for server in _servers(view):
        bind = server.server.bind or view.wildcard
        group = found.get((bind, server.target_port))
        if group is None:
            group = found[bind, server.target_port] = ServerGroup(bind, server.target_port)
        clash = _clash(group, server)
        if clash is None:
            group.servers.append(server)
            continue
        other, why = clash
        findings.append(
            finding(
                SERVER_CONFLICT,
                server.resource.key,
                server.resource.provenance,
                server.path,
                f"server {server.server.port.name!r} on port {server.server.port.number} is left "
                f"out: {why} of {other.resource.key} ({other.resource.provenance})",
                "Use another port, another bind address or other hosts.",
            )
        )
    ordered = sorted(found.values(), key=lambda group: (group.port, group.bind))
    return tuple(group for group in ordered if group.servers), tuple(findings)


def _clash(group: ServerGroup, server: GatewayServer) -> tuple[GatewayServer, str] | None:
    for other in group.servers:
        if server.kind is ServerKind.HTTP and other.kind is ServerKind.HTTP:
            continue
        if not (server.kind.by_sni and other.kind.by_sni):
            return other, f"the port speaks {other.server.port.protocol} because"
        common = set(server.hosts) & set(other.hosts)
        if common:
            return other, f"host {min(common)!r} on this port belongs to a server"
    return None


def _servers(view: View) -> Iterator[GatewayServer]:
    for resource in view.gateways:
        gateway = resource.object
        assert isinstance(gateway, Gateway)
        for index, server in enumerate(gateway.spec.servers):
            yield GatewayServer(
                resource, index, server, _kind(server), view.target_port(server.port.number)
            )


def _kind(server: Server) -> ServerKind:
    protocol = parse_protocol(server.port.protocol)
    mode = server.tls.mode if server.tls is not None else ""
    if protocol in (Protocol.HTTPS, Protocol.TLS) or (
        server.tls is not None and not protocol.is_http
    ):
        if mode == "PASSTHROUGH":
            return ServerKind.PASSTHROUGH
        if mode == "AUTO_PASSTHROUGH":
            return ServerKind.AUTO_PASSTHROUGH
        return ServerKind.HTTPS if protocol is Protocol.HTTPS else ServerKind.TLS
    if protocol.is_http:
        return ServerKind.HTTP
    return ServerKind.TCP
