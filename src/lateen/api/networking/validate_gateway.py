"""Gateway."""

from __future__ import annotations

from lateen.api.findings import FieldPath
from lateen.api.networking.gateway import Gateway, Server
from lateen.api.networking.names import (
    HTTP_PROTOCOLS,
    PROTOCOLS,
    TLS_PROTOCOLS,
    is_ip,
    is_label,
    namespaced_host_problem,
    port_problem,
    unix_address_problem,
)
from lateen.api.networking.rules import HOST, PORT, RISKY, TLS
from lateen.api.networking.validate_tls import check_server_tls
from lateen.api.report import Report

UNIX = "unix://"
_SEMANTICS = "internal.istio.io/gateway-semantics"


def validate_gateway(obj: Gateway, report: Report) -> None:
    """Each server is complete, port names are unique."""
    generated = obj.metadata.annotations.get(_SEMANTICS) == "gateway"
    if obj.metadata.name and not is_label(obj.metadata.name) and not generated:
        message = f'invalid gateway name: "{obj.metadata.name}"'
        report.error(HOST, ("metadata", "name"), message, "Use a DNS label, without dots.")
    if not obj.spec.servers:
        report.error(PORT, ("spec", "servers"), "gateway must have at least one server")
    names: set[str] = set()
    for index, server in enumerate(obj.spec.servers):
        path: FieldPath = ("spec", "servers", index)
        _server(server, path, generated, report)
        if server.port.name in names:
            message = f"port names in servers must be unique: duplicate name {server.port.name}"
            report.error(PORT, (*path, "port", "name"), message)
        names.add(server.port.name)
        redirects = server.tls is not None and server.tls.https_redirect
        if redirects and server.port.protocol.lower() not in HTTP_PROTOCOLS:
            report.warn(
                RISKY,
                (*path, "tls", "httpsRedirect"),
                "tls.httpsRedirect should only be used with http servers",
            )


def _server(server: Server, path: FieldPath, generated: bool, report: Report) -> None:
    if not server.hosts:
        report.error(HOST, (*path, "hosts"), "server config must contain at least one host")
    for index, host in enumerate(server.hosts):
        problem = namespaced_host_problem(host, in_gateway=True, generated=generated)
        if problem:
            report.error(HOST, (*path, "hosts", index), problem)
    port_is_good = _port(server, path, report)
    _bind(server, path, report)
    tls = server.tls
    if tls is not None:
        check_server_tls(tls, (*path, "tls"), report)
    if not port_is_good:
        return
    protocol = server.port.protocol.lower()
    if protocol in TLS_PROTOCOLS:
        if tls is None:
            message = "server must have TLS settings for HTTPS/TLS protocols"
            report.error(TLS, (*path, "tls"), message, "Add tls with a mode and a certificate.")
    elif tls is not None:
        certificates = tls.ca_certificates or tls.private_key or tls.server_certificate
        passthrough = tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
        if protocol not in HTTP_PROTOCOLS:
            message = "server cannot have TLS settings for non HTTPS/TLS ports"
            report.error(TLS, (*path, "tls"), message, "Use protocol HTTPS or TLS.")
        elif not passthrough or certificates:
            message = "server cannot have TLS settings for plain text HTTP ports"
            report.error(TLS, (*path, "tls"), message, "Use protocol HTTPS, or only httpsRedirect.")


def _port(server: Server, path: FieldPath, report: Report) -> bool:
    port = server.port
    here: FieldPath = (*path, "port")
    before = len(report.findings)
    if port.protocol.lower() not in PROTOCOLS:
        hint = "Use HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, REDIS, MYSQL, TCP or TLS."
        report.error(PORT, (*here, "protocol"), f'invalid protocol "{port.protocol}"', hint)
    if port.number or not server.bind.startswith(UNIX):
        problem = port_problem(port.number)
        if problem:
            report.error(PORT, (*here, "number"), problem)
    if port.target_port:
        report.error(PORT, (*here, "targetPort"), "targetPort has no impact on Gateways")
    if not port.name:
        report.error(PORT, (*here, "name"), "port name must be set")
    return len(report.findings) == before


def _bind(server: Server, path: FieldPath, report: Report) -> None:
    bind = server.bind
    if bind.startswith(UNIX):
        problem = unix_address_problem(bind.removeprefix(UNIX))
        if problem:
            report.error(PORT, (*path, "bind"), problem)
        if server.port.number:
            message = "port number must be 0 for unix domain socket"
            report.error(PORT, (*path, "port", "number"), message)
    elif bind and not is_ip(bind):
        report.error(PORT, (*path, "bind"), f"{bind} is not a valid IP")
