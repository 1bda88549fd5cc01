"""ALPN between proxies of the mesh.

A server proxy chooses the filter chain by what the client *offers* and selects the inner protocol
from its own list. ``istio-http/1.1`` and ``istio-h2`` say "mesh TLS around HTTP", ``istio`` says
"mesh TLS". ``istio-peer-exchange`` is understood but never offered: stock Envoy has no filter that
reads the preamble which it announces.
"""

from __future__ import annotations

from lateen.ir.cluster import UpstreamProtocol

MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_TCP = ("istio-peer-exchange", "istio")
MESH_ALL = (*MESH_TCP, *MESH_HTTP)
PLAIN_HTTP = ("http/1.1", "h2c")
"""What the HTTP inspector reports for clear-text HTTP."""
SERVER_HTTP = ("h2", "http/1.1")
SERVER_TCP = ("istio",)

_CLIENT = {
    UpstreamProtocol.HTTP1: ("istio-http/1.1", "istio", "http/1.1"),
    UpstreamProtocol.HTTP2: ("istio-h2", "istio", "h2"),
    UpstreamProtocol.NONE: ("istio",),
    # The sniffing chain overrides this per request (`HttpConnectionManager.upstream_alpn`); it
    # stays when a request comes over another chain.
    UpstreamProtocol.DOWNSTREAM: ("istio",),
}


def client_protocols(protocol: UpstreamProtocol) -> tuple[str, ...]:
    """What a client proxy offers to another proxy for this upstream protocol."""
    return _CLIENT[protocol]
