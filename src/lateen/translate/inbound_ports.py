"""Ports on which a workload is reached: those of its services, or what its Sidecar says."""

from __future__ import annotations

from dataclasses import dataclass

from lateen.api.networking.destination_rule import ConnectionPoolSettings
from lateen.ir.cluster import ConnectionPool
from lateen.ir.origin import Origin
from lateen.model.destination_rules import destination_rules
from lateen.model.protocols import parse_protocol
from lateen.model.proxy import InboundPort
from lateen.translate import origins
from lateen.translate.traffic_policy import connection_pool, effective
from lateen.translate.view import View

_LOCALHOSTS = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}


@dataclass(frozen=True, slots=True)
class LocalPort:
    """A port of the workload and where its traffic is handed over."""

    port: InboundPort
    origin: Origin
    pool: ConnectionPool = ConnectionPool()
    address: str = ""
    """IP address or ``unix://`` path of the application; empty keeps the original destination."""
    instance: bool = False
    """``address`` is the workload's own, which is captured unless the proxy says who it is."""
    address_port: int = 0
    """Port of the application where it differs from the one traffic was sent to."""


def local_ports(view: View) -> tuple[LocalPort, ...]:
    """The ports of the scope's workload. ``Sidecar.ingress`` replaces those of services."""
    return view.cached("local-ports", lambda: _ingress(view) or _of_services(view))


def _of_services(view: View) -> tuple[LocalPort, ...]:
    local = view.mesh.inbound_traffic_policy.mode == "LOCALHOST"
    return tuple(
        LocalPort(
            port=port,
            origin=_origin(view, port),
            pool=_pool(view, port),
            address="127.0.0.1" if local else "",
            address_port=port.target_port if local else 0,
        )
        for port in view.scope.inbound
    )


def _origin(view: View, port: InboundPort) -> Origin:
    name = f" ({port.service_port_name})" if port.service_port_name else ""
    reason = (
        f"port {port.service_port}{name} of {port.hostname} is port {port.target_port} of the "
        "workload"
    )
    service = view.own_service(port.hostname)
    found = service.port(port.service_port) if service is not None else None
    if service is None or found is None:
        return Origin(reason=reason)
    return origins.of_service(service, reason, ("spec", "ports", service.ports.index(found)))


def _pool(view: View, port: InboundPort) -> ConnectionPool:
    """Limits towards the workload: the Sidecar's, else those of its service's DestinationRule."""
    sidecar = view.sidecar_scope.sidecar
    if sidecar is not None and sidecar.spec.inbound_connection_pool is not None:
        return connection_pool(sidecar.spec.inbound_connection_pool, http2=False)
    service = view.own_service(port.hostname)
    if service is None:
        return ConnectionPool()
    found = destination_rules(view.snapshot).for_service(view.scope.namespace, service, None)
    policy = effective(
        view.mesh_policy,
        found.spec.traffic_policy if found is not None else None,
        None,
        port.service_port,
    )
    return connection_pool(policy.connection_pool, http2=False)


def _ingress(view: View) -> tuple[LocalPort, ...]:
    scope = view.sidecar_scope
    if scope.sidecar is None or scope.resource is None:
        return ()
    found = []
    for index, entry in enumerate(scope.sidecar.spec.ingress):
        settings: ConnectionPoolSettings | None = (
            entry.connection_pool or scope.sidecar.spec.inbound_connection_pool
        )
        address, number = _application(view, entry.default_endpoint)
        found.append(
            LocalPort(
                port=InboundPort(
                    hostname=_hostname(view, entry.port.number),
                    service_port=entry.port.number,
                    service_port_name=entry.port.name,
                    target_port=entry.port.number,
                    protocol=parse_protocol(entry.port.protocol).value,
                ),
                origin=origins.of_resource(
                    scope.resource, ("spec", "ingress", index), "ingress port of the Sidecar"
                ),
                pool=connection_pool(settings, http2=False),
                address=address,
                address_port=number,
                instance=address in view.scope.addresses,
            )
        )
    return tuple(found)


def _hostname(view: View, number: int) -> str:
    """The service behind an ingress port, for telemetry."""
    for port in view.scope.inbound:
        if number in (port.target_port, port.service_port):
            return port.hostname
    return ""


def _application(view: View, endpoint: str) -> tuple[str, int]:
    """Where ``defaultEndpoint`` points: empty address for the one traffic was sent to.

    ``0.0.0.0`` and ``[::]`` stand for the workload's own address of the family, or for localhost
    where it has none (Istio ``IstioIngressListener.defaultEndpoint``).
    """
    if not endpoint:
        return "", 0
    if endpoint.startswith("unix://"):
        return endpoint, 0
    host, _, port = endpoint.rpartition(":")
    number = int(port) if port.isdigit() else 0
    if host in _LOCALHOSTS:
        own = (ip for ip in view.scope.addresses if (":" in ip) == (host == "[::]"))
        return next(own, _LOCALHOSTS[host]), number
    return host.strip("[]"), number
