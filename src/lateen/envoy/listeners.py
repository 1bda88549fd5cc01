"""Listeners and filter chains: Envoy ``Listener``."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

import msgspec
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2 as components_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.type.v3 import range_pb2
from google.protobuf import any_pb2

from lateen.envoy import dynamic_hosts, http, metadata, peers, tcp, telemetry, tls, values
from lateen.envoy.fragments import Fragments
from lateen.ir.listener import (
    ChainMatch,
    Direction,
    FilterChain,
    HttpConnectionManager,
    Listener,
    TcpProxy,
)

_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HTTP_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
_DIRECTIONS = {
    Direction.INBOUND: base_pb2.INBOUND,
    Direction.OUTBOUND: base_pb2.OUTBOUND,
}
_PARSED_HELLO_BYTES = 512
"""First read of the TLS inspector: most ClientHellos of the mesh fit."""


def listener(source: Listener) -> listener_pb2.Listener:
    """``Listener``."""
    result = _settings(source, _logs(source), _is_common(source))
    result.filter_chains.extend(_chain(chain) for chain in source.filter_chains)
    if source.default_filter_chain is not None:
        result.default_filter_chain.CopyFrom(_chain(source.default_filter_chain))
    return result


def listener_pieces(source: Listener) -> tuple[bytes, ...]:
    """`listener`, serialised, in pieces; filter chains that did not change are not made again, and
    their bytes are those of every listener that has them."""
    bare = msgspec.structs.replace(source, filter_chains=(), default_filter_chain=None)
    pieces = [_settings_bytes(bare, _logs(source), _is_common(source))]
    for chain in source.filter_chains:
        body = _chains.get(chain)
        pieces += (values.delimiter(_FIELD_CHAINS, len(body)), body)
    if source.default_filter_chain is not None:
        body = _chains.get(source.default_filter_chain)
        pieces += (values.delimiter(_FIELD_DEFAULT, len(body)), body)
    return tuple(pieces)


def _chain_bytes(source: FilterChain) -> bytes:
    body: bytes = _chain(source).SerializeToString(deterministic=True)
    return body


_chains: Fragments[FilterChain] = Fragments(_chain_bytes)
_FIELDS = listener_pb2.Listener.DESCRIPTOR.fields_by_name
_FIELD_CHAINS = _FIELDS["filter_chains"].number
_FIELD_DEFAULT = _FIELDS["default_filter_chain"].number


@functools.lru_cache(maxsize=1024)
def _settings_bytes(source: Listener, logs: bool, common: bool) -> bytes:
    # Listeners of many workloads differ in nothing but their chains.
    body: bytes = _settings(source, logs, common).SerializeToString(deterministic=True)
    return body


def _settings(source: Listener, logs: bool, common: bool) -> listener_pb2.Listener:
    result = listener_pb2.Listener(
        name=source.name,
        address=_address(source),
        listener_filters=_listener_filters(source),
        traffic_direction=_DIRECTIONS[source.direction],
        continue_on_listener_filters_timeout=source.continue_on_inspection_timeout,
    )
    if not source.bind_to_port:
        result.bind_to_port.CopyFrom(values.boolean(False))
    if source.use_original_dst:
        result.use_original_dst.CopyFrom(values.boolean(True))
    if source.transparent:
        result.transparent.CopyFrom(values.boolean(True))
    if source.inspection_timeout is not None:
        result.listener_filters_timeout.CopyFrom(values.duration(source.inspection_timeout))
    if source.exact_balance:
        result.connection_balance_config.exact_balance.SetInParent()
    if logs:
        result.access_log.append(telemetry.no_route_logger())
    about = None if common else metadata.part(source.origins)
    if about is not None:
        result.metadata.CopyFrom(about)
    return result


def _address(source: Listener) -> address_pb2.Address:
    result = values.socket_address(source.address, source.port)
    if result.pipe.path.startswith("/"):
        # Applications run as other users than the proxy. As to a port, whatever is in the pod and
        # sees the path may connect; the rights of its folder can narrow that.
        result.pipe.mode = 0o666
    return result


def _is_common(source: Listener) -> bool:
    """Whether all HTTP services of a port share the listener. It does not name them: each service
    that comes or goes would replace it, and with it all connections in time."""
    return source.direction is Direction.OUTBOUND and any(
        isinstance(chain.filter, HttpConnectionManager) and chain.filter.route_name.isdigit()
        for chain in source.filter_chains
    )


def _logs(source: Listener) -> bool:
    # A chain that takes every connection leaves none without a chain.
    if source.default_filter_chain is not None:
        return False
    if len(source.filter_chains) == 1 and source.filter_chains[0].match == ChainMatch():
        return False
    return any(chain.filter.telemetry.access_log for chain in source.filter_chains)


def _listener_filters(source: Listener) -> list[components_pb2.ListenerFilter]:
    filters: list[components_pb2.ListenerFilter] = []
    if source.original_dst_filter:
        filters.append(
            _listener_filter(
                "envoy.filters.listener.original_dst", values.pack(original_dst_pb2.OriginalDst())
            )
        )
    if source.proxy_protocol:
        filters.append(
            _listener_filter(
                "envoy.filters.listener.proxy_protocol",
                values.pack(proxy_protocol_pb2.ProxyProtocol()),
            )
        )
    if source.tls_inspector:
        inspector = tls_inspector_pb2.TlsInspector(
            initial_read_buffer_size=values.uint32(_PARSED_HELLO_BYTES)
        )
        filters.append(
            _listener_filter(
                "envoy.filters.listener.tls_inspector",
                values.pack(inspector),
                source.tls_inspector_excluded_ports,
            )
        )
    if source.http_inspector:
        filters.append(
            _listener_filter(
                "envoy.filters.listener.http_inspector",
                values.packed(_HTTP_INSPECTOR, b""),
                source.inspector_excluded_ports,
            )
        )
    return filters


def _listener_filter(
    name: str, config: any_pb2.Any, excluded: Iterable[int] = ()
) -> components_pb2.ListenerFilter:
    result = components_pb2.ListenerFilter(name=name, typed_config=config)
    predicates = [
        components_pb2.ListenerFilterChainMatchPredicate(
            destination_port_range=range_pb2.Int32Range(start=port, end=port + 1)
        )
        for port in excluded
    ]
    if len(predicates) == 1:
        result.filter_disabled.CopyFrom(predicates[0])
    elif predicates:
        result.filter_disabled.or_match.rules.extend(predicates)
    return result


def _chain(source: FilterChain) -> components_pb2.FilterChain:
    result = components_pb2.FilterChain(name=source.name)
    if source.match != ChainMatch():
        result.filter_chain_match.CopyFrom(_match(source.match))
    mutual = source.tls is not None and source.filter.telemetry.mutual_tls
    if mutual:
        result.filters.add().MergeFromString(peers.certificate_filter())
    match source.filter:
        case HttpConnectionManager() as manager:
            config = values.packed(_HCM, http.connection_manager(manager))
            result.filters.add(
                name="envoy.filters.network.http_connection_manager", typed_config=config
            )
        case TcpProxy() as proxy:
            if proxy.upstream_alpn:
                result.filters.add().MergeFromString(peers.tcp_alpn_filter())
            if proxy.resolve_sni:
                body = dynamic_hosts.sni_filter(proxy.resolve_sni, proxy.resolved_port)
                result.filters.add().MergeFromString(body)
            for body in tcp.filters(proxy, mutual_tls=mutual):
                result.filters.add().MergeFromString(body)
    if source.tls is not None:
        result.transport_socket.MergeFromString(tls.downstream_socket(source.tls))
    if source.connect_timeout is not None:
        result.transport_socket_connect_timeout.CopyFrom(values.duration(source.connect_timeout))
    about = metadata.part(source.origins)
    if about is not None:
        result.metadata.CopyFrom(about)
    return result


@functools.lru_cache(maxsize=4096)
def _match(source: ChainMatch) -> components_pb2.FilterChainMatch:
    result = components_pb2.FilterChainMatch(
        prefix_ranges=[cidr(prefix) for prefix in source.prefixes],
        server_names=source.server_names,
        transport_protocol=source.transport_protocol,
        application_protocols=source.application_protocols,
    )
    if source.destination_port:
        result.destination_port.value = source.destination_port
    return result


def cidr(text: str) -> address_pb2.CidrRange:
    """``CidrRange`` of an address or ``ADDRESS/LENGTH``. Raises ``ValueError`` for other text."""
    network = ipaddress.ip_network(text, strict=False)
    return address_pb2.CidrRange(
        address_prefix=str(network.network_address), prefix_len=values.uint32(network.prefixlen)
    )
