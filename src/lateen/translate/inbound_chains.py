"""Filter chains of one inbound port, by protocol and mutual TLS mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lateen.ir.listener import (
    ChainMatch,
    FilterChain,
    HttpConnectionManager,
    NetworkFilter,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.origin import Origin
from lateen.ir.route import RouteConfiguration
from lateen.ir.tls import ROOT_CERTIFICATES, ClientCertificate, DownstreamTls
from lateen.model.service import Protocol
from lateen.translate import alpn
from lateen.translate.http_settings import HttpSettings
from lateen.translate.mtls import Mode


@dataclass(frozen=True, slots=True)
class InboundTarget:
    """What the chains of a port lead to."""

    port: int
    """Destination port to match; 0 for every port without chains of its own."""
    cluster: str
    chain: str
    """Name of the chains that carry TCP, and of all of them on declared ports."""
    http_chain: str
    stat_prefix: str
    routes: RouteConfiguration
    origins: tuple[Origin, ...]
    trust_domains: tuple[str, ...] = ()
    http: HttpSettings = HttpSettings()


def chains(target: InboundTarget, protocol: Protocol, mode: Mode) -> tuple[FilterChain, ...]:
    """The chains of a port. Plain text never reaches a port whose mode is STRICT."""
    if protocol.is_http:
        return tuple(_http(target, mode))
    if protocol is Protocol.AUTO:
        return tuple(_sniffed(target, mode))
    return tuple(_tcp(target, mode))


def needs_tls_inspector(mode: Mode) -> bool:
    """Whether a port with this mode tells TLS from clear text."""
    return mode is not Mode.DISABLE


def needs_http_inspector(protocol: Protocol, mode: Mode) -> bool:
    """Whether a port tells clear-text HTTP from other bytes."""
    return protocol is Protocol.AUTO and mode is not Mode.STRICT


def _http(target: InboundTarget, mode: Mode) -> Iterator[FilterChain]:
    if mode is Mode.STRICT:
        yield _chain(target, _match(target, "tls"), http=True, mutual=True)
    elif mode is Mode.PERMISSIVE:
        yield _chain(target, _match(target, "tls", alpn.MESH_ALL), http=True, mutual=True)
        yield _chain(target, _match(target, "raw_buffer"), http=True, mutual=False)
    else:
        yield _chain(target, _match(target, "raw_buffer"), http=True, mutual=False)


def _tcp(target: InboundTarget, mode: Mode) -> Iterator[FilterChain]:
    if mode is Mode.STRICT:
        yield _chain(target, _match(target, "tls"), http=False, mutual=True)
    elif mode is Mode.PERMISSIVE:
        yield _chain(target, _match(target, "tls", alpn.MESH_ALL), http=False, mutual=True)
        yield _chain(target, _match(target, "tls"), http=False, mutual=False)
        yield _chain(target, _match(target, "raw_buffer"), http=False, mutual=False)
    else:
        yield _chain(target, _match(target, "raw_buffer"), http=False, mutual=False)


def _sniffed(target: InboundTarget, mode: Mode) -> Iterator[FilterChain]:
    if mode is not Mode.DISABLE:
        yield _chain(target, _match(target, "tls", alpn.MESH_HTTP), http=True, mutual=True)
    if mode is Mode.STRICT:
        yield _chain(target, _match(target, "tls"), http=False, mutual=True)
        return
    yield _chain(target, _match(target, "raw_buffer", alpn.PLAIN_HTTP), http=True, mutual=False)
    if mode is Mode.PERMISSIVE:
        yield _chain(target, _match(target, "tls", alpn.MESH_TCP), http=False, mutual=True)
    yield _chain(target, _match(target, "raw_buffer"), http=False, mutual=False)
    if mode is Mode.PERMISSIVE or target.port == 0:
        # The workload's own TLS goes through untouched.
        yield _chain(target, _match(target, "tls"), http=False, mutual=False)


def _match(target: InboundTarget, transport: str, protocols: tuple[str, ...] = ()) -> ChainMatch:
    return ChainMatch(
        destination_port=target.port,
        transport_protocol=transport,
        application_protocols=protocols,
    )


def _chain(target: InboundTarget, match: ChainMatch, *, http: bool, mutual: bool) -> FilterChain:
    telemetry = Telemetry(reporter=Reporter.DESTINATION, mutual_tls=mutual)
    terminal: NetworkFilter
    if http:
        terminal = target.http.of(
            HttpConnectionManager(
                stat_prefix=target.stat_prefix,
                telemetry=telemetry,
                routes=target.routes,
                forward_client_certificate="APPEND_FORWARD",
                client_certificate_details=True,
            )
        )
    else:
        terminal = TcpProxy(
            stat_prefix=target.cluster,
            clusters=(WeightedTcpCluster(target.cluster),),
            telemetry=telemetry,
        )
    return FilterChain(
        name=target.http_chain if http else target.chain,
        filter=terminal,
        match=match,
        tls=_server_tls(target, http) if mutual else None,
        origins=target.origins,
    )


def _server_tls(target: InboundTarget, http: bool) -> DownstreamTls:
    # Clients of every trust domain that the mesh trusts are let in; which of them may do what is
    # for authorization to say.
    return DownstreamTls(
        validation=ROOT_CERTIFICATES,
        client_certificate=ClientCertificate.REQUIRED,
        alpn=alpn.SERVER_HTTP if http else alpn.SERVER_TCP,
        minimum_version=target.http.mesh_tls_minimum,
        subject_alt_name_prefixes=tuple(f"spiffe://{name}/" for name in target.trust_domains),
    )
