"""Sidecar."""

from __future__ import annotations

from lateen.api.findings import FieldPath
from lateen.api.networking.checks import check_selector
from lateen.api.networking.names import (
    HTTP_PROTOCOLS,
    PROTOCOLS,
    TLS_PROTOCOLS,
    fqdn_problem,
    is_ip,
    is_label,
    namespaced_host_problem,
    port_problem,
    unix_address_problem,
)
from lateen.api.networking.rules import HOST, LISTENER, PORT, RISKY, TLS
from lateen.api.networking.sidecar import (
    IstioEgressListener,
    IstioIngressListener,
    OutboundTrafficPolicy,
    Sidecar,
    SidecarPort,
    SidecarSpec,
)
from lateen.api.networking.validate_destination_rule import check_connection_pool
from lateen.api.networking.validate_http_route import check_destination
from lateen.api.networking.validate_tls import check_server_tls
from lateen.api.report import Report

UNIX = "unix://"
_LOCAL = ("", "127.0.0.1", "0.0.0.0", "::1", "::")


def validate_sidecar(obj: Sidecar, report: Report) -> None:
    """Listeners do not contradict each other, hosts are ``NAMESPACE/HOST``."""
    spec = obj.spec
    labels = None if spec.workload_selector is None else spec.workload_selector.labels
    check_selector(labels, ("spec", "workloadSelector", "labels"), "sidecar", report)
    if not (
        spec.egress
        or spec.ingress
        or spec.outbound_traffic_policy is not None
        or spec.inbound_connection_pool is not None
    ):
        report.error(LISTENER, ("spec",), "sidecar: empty configuration provided")
    _ingress_listeners(spec, report)
    if spec.inbound_connection_pool is not None:
        path: FieldPath = ("spec", "inboundConnectionPool")
        check_connection_pool(spec.inbound_connection_pool, path, report)
    _egress_listeners(spec, obj.metadata.namespace, report)
    if spec.outbound_traffic_policy is not None:
        _outbound(spec.outbound_traffic_policy, report)


def _ingress_listeners(spec: SidecarSpec, report: Report) -> None:
    ports: set[int] = set()
    for index, listener in enumerate(spec.ingress):
        path: FieldPath = ("spec", "ingress", index)
        _port(listener.port, (*path, "port"), report)
        problem = port_problem(listener.port.number)
        if problem:
            report.error(PORT, (*path, "port", "number"), problem)
        if listener.bind and not is_ip(listener.bind):
            report.error(LISTENER, (*path, "bind"), f"{listener.bind} is not a valid IP")
        if listener.port.number in ports:
            message = "sidecar: ports on IP bound listeners must be unique"
            report.error(LISTENER, (*path, "port", "number"), message)
        ports.add(listener.port.number)
        _default_endpoint(listener.default_endpoint, (*path, "defaultEndpoint"), report)
        _ingress_tls(listener, (*path, "tls"), report)
        pool = listener.connection_pool
        if pool is not None:
            check_connection_pool(pool, (*path, "connectionPool"), report)
            if pool.http is not None and listener.port.protocol.lower() not in HTTP_PROTOCOLS:
                report.warn(
                    RISKY,
                    (*path, "connectionPool", "http"),
                    "sidecar: HTTP connection pool settings are configured for port "
                    f"{listener.port.number} but its protocol is not HTTP "
                    f"({listener.port.protocol}); only TCP settings will apply",
                )


def _port(port: SidecarPort, path: FieldPath, report: Report) -> None:
    if port.target_port:
        report.error(PORT, (*path, "targetPort"), "targetPort has no impact on Sidecars")
    if port.name and not is_label(port.name):
        report.error(PORT, (*path, "name"), f"invalid port name: {port.name}")
    if port.protocol and port.protocol.lower() not in PROTOCOLS:
        report.error(PORT, (*path, "protocol"), f"unsupported protocol: {port.protocol}")


def _default_endpoint(endpoint: str, path: FieldPath, report: Report) -> None:
    if not endpoint:
        return
    if endpoint.startswith(UNIX):
        problem = unix_address_problem(endpoint.removeprefix(UNIX))
        if problem:
            report.error(LISTENER, path, problem)
        return
    host, colon, port = endpoint.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    shape_is_good = colon and host in _LOCAL and (bracketed or ":" not in host)
    if not shape_is_good:
        report.error(
            LISTENER,
            path,
            "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>, 0.0.0.0:<port>, "
            "[::1]:<port>, [::]:<port>, unix://<path> or unset",
        )
    elif not port.isdigit() or port_problem(int(port)):
        message = f"sidecar: defaultEndpoint port ({port}) is not a number in 1..65535"
        report.error(LISTENER, path, message)


def _ingress_tls(listener: IstioIngressListener, path: FieldPath, report: Report) -> None:
    tls = listener.tls
    if tls is None:
        return
    unsupported = {
        "subjectAltNames": bool(tls.subject_alt_names),
        "httpsRedirect": tls.https_redirect,
        "credentialName": bool(tls.credential_name),
        "credentialNames": bool(tls.credential_names),
        "tlsCertificates": bool(tls.tls_certificates),
    }
    for name, present in unsupported.items():
        if present:
            message = f"sidecar: {name} is not supported in ingress tls"
            report.error(TLS, (*path, name), message)
    if tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
        message = f"configuration is invalid: cannot set mode to {tls.mode} in sidecar ingress tls"
        report.error(TLS, (*path, "mode"), message)
    if listener.port.protocol.lower() not in TLS_PROTOCOLS:
        message = "server cannot have TLS settings for non HTTPS/TLS ports"
        report.error(TLS, path, message, "Use protocol HTTPS or TLS.")
    check_server_tls(tls, path, report)


def _egress_listeners(spec: SidecarSpec, namespace: str, report: Report) -> None:
    ports: set[int] = set()
    sockets: set[str] = set()
    for index, listener in enumerate(spec.egress):
        path: FieldPath = ("spec", "egress", index)
        port = listener.port
        if port is None:
            if index != len(spec.egress) - 1:
                message = "sidecar: the egress listener with empty port should be the last listener"
                report.error(LISTENER, path, message, "It takes all traffic: move it to the end.")
        else:
            _port(port, (*path, "port"), report)
            _egress_bind(listener, port, path, report)
            taken = listener.bind in sockets if port.number == 0 else port.number in ports
            if taken:
                kind = "unix domain socket values for" if port.number == 0 else "ports on IP bound"
                report.error(LISTENER, (*path, "port"), f"sidecar: {kind} listeners must be unique")
            if port.number == 0:
                sockets.add(listener.bind)
            else:
                ports.add(port.number)
        _egress_hosts(listener, namespace, path, report)


def _egress_bind(
    listener: IstioEgressListener, port: SidecarPort, path: FieldPath, report: Report
) -> None:
    bind = listener.bind
    if port.number == 0:
        if not bind.startswith(UNIX):
            message = "sidecar: ports with 0 value must have a unix domain socket bind address"
            report.error(LISTENER, (*path, "bind"), message)
        else:
            problem = unix_address_problem(bind.removeprefix(UNIX))
            if problem:
                report.error(LISTENER, (*path, "bind"), problem)
        if listener.capture_mode == "IPTABLES":
            message = "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners"
            report.error(LISTENER, (*path, "captureMode"), message)
        return
    problem = port_problem(port.number)
    if problem:
        report.error(PORT, (*path, "port", "number"), problem)
    if bind and not is_ip(bind):
        report.error(LISTENER, (*path, "bind"), f"{bind} is not a valid IP")


def _egress_hosts(
    listener: IstioEgressListener, namespace: str, path: FieldPath, report: Report
) -> None:
    if not listener.hosts:
        message = "sidecar: egress listener must contain at least one host"
        report.error(HOST, (*path, "hosts"), message, "Use */* for everything, ~/* for nothing.")
    seen: dict[str, set[str]] = {}
    for index, host in enumerate(listener.hosts):
        here: FieldPath = (*path, "hosts", index)
        where, slash, name = host.partition("/")
        if slash:
            names = seen.setdefault(namespace if where == "." else where, set())
            if (name == "*" and names) or (name != "*" and names & {name, "*"}):
                report.warn(RISKY, here, f"duplicated egress host: {host}")
            names.add(name)
        problem = namespaced_host_problem(host, in_gateway=False)
        if problem:
            hint = "Write NAMESPACE/HOST, for instance ./* or prod/reviews.prod.svc.cluster.local."
            report.error(HOST, here, problem, hint)
    others = [where for where in seen if where != "*" and not where.startswith("~")]
    if "*" in seen.get("*", ()) and others:
        message = "`*/*` host select all resources, no other hosts can be added"
        report.warn(RISKY, (*path, "hosts"), message)


def _outbound(policy: OutboundTrafficPolicy, report: Report) -> None:
    proxy = policy.egress_proxy
    if proxy is None:
        return
    path: FieldPath = ("spec", "outboundTrafficPolicy", "egressProxy")
    if policy.mode != "ALLOW_ANY":
        message = (
            "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode"
        )
        report.error(LISTENER, path, message)
        return
    if fqdn_problem(proxy.host):
        report.error(HOST, (*path, "host"), fqdn_problem(proxy.host))
    if proxy.port is None:
        report.error(PORT, (*path, "port"), "sidecar: egress_proxy port must be non-nil")
        return
    check_destination(proxy, path, report)
