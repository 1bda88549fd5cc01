"""Findings about references of VirtualServices that lead nowhere for a scope."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lateen.api.findings import FieldPath, Finding
from lateen.api.networking.virtual_service import Destination
from lateen.api.resource import Resource
from lateen.api.rule import Rule
from lateen.model.gateways import gateways
from lateen.model.names import MESH_GATEWAY
from lateen.model.virtual_services import EffectiveVirtualService, virtual_services
from lateen.translate import rules
from lateen.translate.routes import concerns_every_client
from lateen.translate.view import View


def findings(
    view: View,
    routings: Iterable[EffectiveVirtualService],
    ports: Callable[[EffectiveVirtualService], frozenset[int]],
) -> Iterator[Finding]:
    """Destinations of ``routings`` whose host, port or subset this scope does not know.

    ``ports`` are the listener ports that a VirtualService has routes on: what a destination
    without a port of its own falls back to.
    """
    for routing in routings:
        for source, path, destination in _destinations(routing):
            yield from _check(view, source, path, destination, ports(routing))


def service_ports(view: View, routing: EffectiveVirtualService) -> frozenset[int]:
    """Ports of the services that ``routing`` speaks for, 80 where it speaks for none."""
    found = {
        port.number
        for host in routing.hosts
        for service in (view.service(host),)
        if service is not None
        for port in service.ports
    }
    return frozenset(found or {80})


def unknown_gateways(view: View) -> Iterator[Finding]:
    """VirtualServices of the scope's namespace that name Gateways which do not exist."""
    known = {gateways(view.snapshot).name(item) for item in gateways(view.snapshot).all}
    for routing in virtual_services(view.snapshot).all:
        if routing.namespace != view.scope.namespace:
            continue
        for index, name in enumerate(routing.gateways):
            if name == MESH_GATEWAY or name in known:
                continue
            yield _finding(
                rules.UNKNOWN_GATEWAY,
                routing.resource,
                ("spec", "gateways", index),
                f"there is no Gateway {name}",
                "Create it, or name it as NAMESPACE/NAME if it is in another namespace.",
            )


def _destinations(
    routing: EffectiveVirtualService,
) -> Iterator[tuple[Resource, FieldPath, Destination]]:
    for rule in routing.http:
        base: FieldPath = ("spec", "http", rule.index)
        for index, entry in enumerate(rule.route.route):
            yield rule.source, (*base, "route", index, "destination"), entry.destination
        if rule.route.mirror is not None:
            yield rule.source, (*base, "mirror"), rule.route.mirror
        for index, mirror in enumerate(rule.route.mirrors):
            yield rule.source, (*base, "mirrors", index, "destination"), mirror.destination
    for name, targets in (
        ("tls", [route.route for route in routing.tls]),
        ("tcp", [route.route for route in routing.tcp]),
    ):
        for index, route in enumerate(targets):
            for number, target in enumerate(route):
                path = ("spec", name, index, "route", number, "destination")
                yield routing.resource, path, target.destination


def _check(
    view: View,
    source: Resource,
    path: FieldPath,
    destination: Destination,
    ports: frozenset[int],
) -> Iterator[Finding]:
    named = view.service(destination.host)
    if named is None:
        yield _finding(
            rules.UNKNOWN_HOST,
            source,
            (*path, "host"),
            f'host "{destination.host}" is no service that namespace {view.scope.namespace} sees',
            "Create the Service or a ServiceEntry for it, or correct the name (names without a "
            "dot are looked up in the namespace of the VirtualService).",
        )
        return
    service = view.concrete(named)
    if destination.port is not None and service.port(destination.port.number) is None:
        numbers = ", ".join(str(port.number) for port in service.ports) or "none"
        yield _finding(
            rules.UNKNOWN_PORT,
            source,
            (*path, "port", "number"),
            f"{service.hostname} has no port {destination.port.number} (it has {numbers})",
            "Name the port of the Service, not the container's.",
        )
    have = {port.number for port in service.ports}
    if destination.port is None and len(have) > 1 and not have & ports:
        yield _finding(
            rules.NO_PORT,
            source,
            (*path, "port"),
            f"{service.hostname} has several ports ({', '.join(map(str, sorted(have)))}) and none "
            f"is named; port {min(ports)} of the listener is taken, which it does not have",
            "Name the port.",
        )
    if not destination.subset:
        return
    rule = view.rule(service)
    if rule is not None and rule.subset(destination.subset) is not None:
        return
    known = ", ".join(entry.definition.name for entry in rule.subsets) if rule is not None else ""
    yield _finding(
        rules.UNKNOWN_SUBSET,
        source,
        (*path, "subset"),
        f'no DestinationRule for {service.hostname} defines subset "{destination.subset}"'
        + (f" (it has {known})" if known else ""),
        "Add the subset to the DestinationRule of that host, or create one.",
    )


def _finding(rule: Rule, source: Resource, path: FieldPath, message: str, hint: str) -> Finding:
    return rules.finding(rule, source.key, source.provenance, path, message, hint)


def shadowed_hosts(view: View) -> Iterator[Finding]:
    """VirtualServices for sidecars whose host an older one already speaks for."""
    owners: dict[str, EffectiveVirtualService] = {}
    for routing in view.routings:
        if not routing.http:
            continue
        for index, host in enumerate(routing.hosts):
            owner = owners.get(host)
            if owner is None:
                if concerns_every_client(routing):  # for others a younger one may speak
                    owners[host] = routing
                continue
            yield _finding(
                rules.HOST_TAKEN,
                routing.resource,
                ("spec", "hosts", index),
                f"{owner.resource.key} ({owner.resource.provenance}) is older and speaks for "
                f"{host}; for sidecars the rules here have no effect on it",
                "Put all rules of a host into one VirtualService, or use delegates.",
            )
