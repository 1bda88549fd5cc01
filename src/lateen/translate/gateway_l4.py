"""Gateway servers that forward bytes: TCP, terminated TLS, and TLS passed through by SNI."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.ir.listener import (
    ChainMatch,
    FilterChain,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.tls import DownstreamTls
from lateen.model.definitions import one_form_each
from lateen.model.names import subset_of
from lateen.model.service import Protocol
from lateen.translate import alpn, names, origins
from lateen.translate.gateway_servers import GatewayServer
from lateen.translate.gateway_tls import HANDSHAKE_TIMEOUT
from lateen.translate.outbound_l4 import tcp_proxy, weighted_clusters
from lateen.translate.route_match import Place, applies_l4
from lateen.translate.view import View


def tcp_chain(
    view: View, server: GatewayServer, terminated: DownstreamTls | None
) -> FilterChain | None:
    """The chain of a TCP (or terminated TLS) server: the first TCP rule that fits, else none."""
    place = _place(view, server)
    sni = () if "*" in server.hosts or terminated is None else server.hosts
    for routing in view.gateway_routings(server.gateway):
        if not _bound(server, routing.namespace, routing.hosts):
            continue
        for index, route in enumerate(routing.tcp):
            fits = not route.match or any(applies_l4(match, place) for match in route.match)
            if not fits:
                continue
            clusters = weighted_clusters(view, route.route, server.server.port.number)
            key = routing.resource.key
            stat = clusters[0].cluster if len(clusters) == 1 else f"{key.name}.{key.namespace}"
            return FilterChain(
                name=_chain_name(server),
                match=ChainMatch(server_names=sni),
                tls=terminated,
                connect_timeout=HANDSHAKE_TIMEOUT if terminated is not None else None,
                filter=tcp_proxy(view, stat, clusters, None, ""),
                origins=(
                    origins.of_resource(server.resource, server.path, "TCP server"),
                    origins.of_resource(
                        routing.resource, ("spec", "tcp", index), "first TCP rule that fits"
                    ),
                ),
            )
    return None


def passthrough_chains(view: View, server: GatewayServer) -> tuple[FilterChain, ...]:
    """One chain per TLS match: the connection is forwarded by its SNI, not terminated."""
    return tuple(_passthrough(view, server))


def _passthrough(view: View, server: GatewayServer) -> Iterator[FilterChain]:
    place = _place(view, server)
    for routing in view.gateway_routings(server.gateway):
        if not _bound(server, routing.namespace, routing.hosts):
            continue
        for index, route in enumerate(routing.tls):
            for number, match in enumerate(route.match):
                if not applies_l4(match, place):
                    continue
                clusters = weighted_clusters(view, route.route, server.server.port.number)
                key = routing.resource.key
                stat = clusters[0].cluster if len(clusters) == 1 else f"{key.name}.{key.namespace}"
                sni = () if "*" in match.sni_hosts else tuple(match.sni_hosts)
                yield FilterChain(
                    name=f"{_chain_name(server)}.{key.namespace}.{key.name}.{index}.{number}",
                    match=ChainMatch(
                        server_names=sni,
                        transport_protocol="tls" if not sni else "",
                        prefixes=one_form_each(match.destination_subnets),
                    ),
                    filter=tcp_proxy(view, stat, clusters, None, ""),
                    origins=(
                        origins.of_resource(server.resource, server.path, "TLS passthrough"),
                        origins.of_resource(
                            routing.resource,
                            ("spec", "tls", index, "match", number),
                            "TLS rule chosen by SNI",
                        ),
                    ),
                )


def auto_passthrough_chains(view: View, server: GatewayServer) -> tuple[FilterChain, ...]:
    """One chain per port and subset of every mesh service: the SNI itself names the cluster.

    Only connections that speak the mesh's TLS are let in, external services are left out.
    """
    return tuple(_auto_passthrough(view, server))


def _auto_passthrough(view: View, server: GatewayServer) -> Iterator[FilterChain]:
    hosts = server.hosts
    for service in view.services:
        if service.mesh_external or not any(subset_of(service.hostname, host) for host in hosts):
            continue
        rule = view.rule(service)
        subsets = ["", *(entry.definition.name for entry in rule.subsets)] if rule else [""]
        for port in service.ports:
            if port.protocol is Protocol.UDP:
                continue
            for subset in subsets:
                sni = names.mesh_sni(port.number, subset, service.hostname)
                yield FilterChain(
                    name=sni,
                    match=ChainMatch(
                        server_names=(sni,),
                        transport_protocol="tls",
                        application_protocols=alpn.MESH_ALL,
                    ),
                    filter=TcpProxy(sni, (WeightedTcpCluster(sni),), Telemetry(Reporter.SOURCE)),
                    origins=(
                        origins.of_resource(
                            server.resource, server.path, "AUTO_PASSTHROUGH of a mesh service"
                        ),
                        origins.of_service(service, f"port {port.number} of {service.hostname}"),
                    ),
                )


def _bound(server: GatewayServer, namespace: str, hosts: tuple[str, ...]) -> bool:
    return any(server.hosts_for(namespace, host) for host in hosts)


def _place(view: View, server: GatewayServer) -> Place:
    return Place(server.gateway, server.server.port.number, view.scope.namespace, view.scope.labels)


def _chain_name(server: GatewayServer) -> str:
    key = server.resource.key
    return f"{server.server.port.number}.{server.server.port.name}.{key.name}.{key.namespace}"
