"""Protocol selection: what a service port carries (Istio's protocol selection rules)."""

from __future__ import annotations

from functools import lru_cache

from lateen.model.service import Protocol

WELL_KNOWN_TCP = frozenset({25, 53, 3306, 27017})
"""Ports of protocols in which the server speaks first or sniffing cannot work."""

_BY_NAME = {protocol.value.lower(): protocol for protocol in Protocol if protocol.value != "Auto"}
_APP_PROTOCOLS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}


def parse_protocol(text: str) -> Protocol:
    """The protocol that a name such as ``GRPC-Web`` or ``http2`` means; `Protocol.AUTO` if none."""
    return _BY_NAME.get(text.lower(), Protocol.AUTO)


@lru_cache(maxsize=16_384)
def select_protocol(
    number: int, name: str = "", transport: str = "TCP", app_protocol: str = ""
) -> Protocol:
    """Protocol of a Kubernetes service port.

    ``transport`` UDP decides at once; then ``appProtocol``, then the port name up to its first
    ``-`` (``grpc-web`` counts as a whole), then the well-known TCP ports. Everything else is
    detected by the proxy.
    """
    if transport == "UDP":
        return Protocol.UDP
    if app_protocol:
        known = _APP_PROTOCOLS.get(app_protocol.lower())
        if known is not None:
            return known
        protocol = _from_name(app_protocol)
    else:
        protocol = _from_name(name)
    if protocol is Protocol.AUTO and number in WELL_KNOWN_TCP:
        return Protocol.TCP
    return protocol


def _from_name(name: str) -> Protocol:
    lowered = name.lower()
    if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
        return Protocol.GRPC_WEB
    prefix = lowered.partition("-")[0]
    protocol = parse_protocol(prefix)
    if protocol in (Protocol.HTTP_PROXY, Protocol.HBONE):
        return Protocol.AUTO
    return protocol
