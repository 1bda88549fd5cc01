"""HTTP rules of a VirtualService as routes, in order, each with where it was written."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.api.base import duration_seconds
from lateen.api.networking.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
)
from lateen.ir import route as ir
from lateen.ir.origin import Origin
from lateen.model.service import Service
from lateen.model.virtual_services import EffectiveVirtualService, HttpRule
from lateen.translate import names, origins, route_extras
from lateen.translate.clusters import subset_policy
from lateen.translate.load_balancing import hash_policies
from lateen.translate.route_headers import header_operations, host_rewrite, joined
from lateen.translate.route_match import Place, applies_http, is_catch_all, route_match
from lateen.translate.route_retry import retry_policy
from lateen.translate.view import View


def http_routes(
    view: View, routing: EffectiveVirtualService, place: Place, port_of: int
) -> tuple[ir.Route, ...]:
    """The routes that ``routing`` makes at ``place``.

    ``port_of`` is the service port that a destination without a port of its own gets. Rules
    after one that takes every request are left out, they could never be reached.
    """
    routes: list[ir.Route] = []
    for rule in routing.http:
        for route in _rule_routes(view, routing, rule, place, port_of):
            routes.append(route)
            if is_catch_all(route.match):
                return tuple(routes)
    return tuple(routes)


def default_route(view: View, service: Service, port: int) -> ir.Route:
    """The route of a service that no VirtualService speaks for."""
    concrete = view.concrete(service)
    policy, _ = subset_policy(view, concrete, port, "")
    hashes = hash_policies(policy.load_balancer)
    cluster = names.outbound_cluster(port, "", concrete.hostname)
    return ir.Route(
        name="default",
        match=ir.RouteMatch(),
        action=ir.Forward(
            clusters=(ir.WeightedCluster(cluster),),
            retry=retry_policy(None, default=view.default_retry, consistent_hash=bool(hashes)),
            hash_policies=hashes,
        ),
        operation=f"{service.hostname}:{port}/*",
        origins=(origins.DEFAULT_ROUTE,),
    )


def destination_cluster(
    view: View, destination: Destination, fallback_port: int
) -> tuple[str, Service | None, int]:
    """Cluster, service and port that a destination with a full host name means.

    The port is the one given, else the service's only one, else ``fallback_port``. A host that
    is not in the registry still gets a cluster name: Envoy answers 503 (flag NC) there, and
    `lateen.translate.references` tells the author.
    """
    hostname = destination.host
    service = view.service(hostname)
    port = destination.port.number if destination.port is not None else 0
    if service is not None:
        if not port:
            port = service.ports[0].number if len(service.ports) == 1 else fallback_port
        service = view.concrete(service)
        hostname = service.hostname
    return (
        names.outbound_cluster(port or fallback_port, destination.subset, hostname),
        service,
        port or fallback_port,
    )


def _rule_routes(
    view: View, routing: EffectiveVirtualService, rule: HttpRule, place: Place, port_of: int
) -> Iterator[ir.Route]:
    matches: list[tuple[int | None, HTTPMatchRequest | None]] = list(enumerate(rule.route.match))
    for index, match in matches or [(None, None)]:
        if match is not None and not applies_http(match, place):
            continue
        yield _route(view, routing, rule, place, port_of, index, match)


def _route(
    view: View,
    routing: EffectiveVirtualService,
    rule: HttpRule,
    place: Place,
    port_of: int,
    index: int | None,
    match: HTTPMatchRequest | None,
) -> ir.Route:
    route = rule.route
    conditions = route_match(match)
    name = route.name
    if match is not None and match.name:
        name = f"{name}.{match.name}" if name else match.name
    headers = header_operations(route.headers)
    action, extra = _action(view, rule, place, port_of)
    path: tuple[str | int, ...] = ("spec", "http", rule.index)
    # The matches of a delegate's rule are merged with the root's and stand nowhere as they are.
    if index is not None and rule.source is routing.resource:
        path = (*path, "match", index)
    return ir.Route(
        name=name,
        match=conditions,
        action=action,
        headers=joined(headers, extra),
        fault=route_extras.fault(route.fault),
        cors=route_extras.cors(route.cors_policy),
        stat_prefix=match.stat_prefix if match is not None else "",
        operation=_operation(routing, action, conditions, port_of),
        origins=(
            origins.of_resource(rule.source, path, _reason(route, match)),
            *_destination_origins(view, rule, port_of),
        ),
    )


def _action(
    view: View, rule: HttpRule, place: Place, port_of: int
) -> tuple[ir.Action, ir.HeaderOperations]:
    """The action, and header operations that a lone destination adds to the route's."""
    route = rule.route
    if route.redirect is not None:
        return route_extras.redirect(route.redirect, place), ir.HeaderOperations()
    if route.direct_response is not None:
        return route_extras.direct_response(route.direct_response), ir.HeaderOperations()
    if not route.route:
        return ir.NoAction(), ir.HeaderOperations()
    return _forward(view, rule, port_of)


def _forward(view: View, rule: HttpRule, port_of: int) -> tuple[ir.Forward, ir.HeaderOperations]:
    route = rule.route
    lone = len(route.route) == 1
    # A lone destination gets everything whatever its weight; of several, weight 0 means none.
    chosen = [entry for entry in route.route if lone or entry.weight > 0]
    clusters: list[ir.WeightedCluster] = []
    hashes: list[ir.HashPolicy] = []
    extra = ir.HeaderOperations()
    rewrite = route.rewrite
    rewritten = host_rewrite(route.headers)
    if rewrite is not None and rewrite.authority:
        rewritten = rewrite.authority
    for entry in chosen:
        cluster, service, port = destination_cluster(view, entry.destination, port_of)
        if service is not None:
            policy, _ = subset_policy(view, service, port, entry.destination.subset)
            hashes += [
                found for found in hash_policies(policy.load_balancer) if found not in hashes
            ]
        clusters.append(_weighted(entry, cluster, lone, bool(rewritten)))
        if lone:
            extra = header_operations(entry.headers)
            rewritten = rewritten or host_rewrite(entry.headers)
    regex = None
    if rewrite is not None and rewrite.uri_regex_rewrite is not None:
        regex = (rewrite.uri_regex_rewrite.match, rewrite.uri_regex_rewrite.rewrite)
    return (
        ir.Forward(
            clusters=tuple(clusters),
            timeout=0.0 if route.timeout is None else duration_seconds(route.timeout),
            retry=retry_policy(
                route.retries,
                default=view.default_retry,
                consistent_hash=bool(hashes) and len(clusters) == 1,
            ),
            prefix_rewrite=rewrite.uri if rewrite is not None else "",
            regex_rewrite=regex,
            host_rewrite=rewritten,
            append_forwarded_host=rewrite is not None and view.append_forwarded_host,
            mirrors=tuple(_mirrors(view, rule, port_of)),
            hash_policies=tuple(hashes),
        ),
        extra,
    )


def _weighted(
    entry: HTTPRouteDestination, cluster: str, lone: bool, rewritten: bool
) -> ir.WeightedCluster:
    if lone:
        return ir.WeightedCluster(cluster)
    return ir.WeightedCluster(
        cluster,
        weight=entry.weight,
        headers=header_operations(entry.headers),
        # Envoy lets the destination's host win over the route's; Istio's users expect the reverse.
        host_rewrite="" if rewritten else host_rewrite(entry.headers),
    )


def _mirrors(view: View, rule: HttpRule, port_of: int) -> Iterator[ir.Mirror]:
    route = rule.route
    for policy in route.mirrors:
        percent = 100.0 if policy.percentage is None else policy.percentage.value
        if percent > 0:
            cluster, _, _ = destination_cluster(view, policy.destination, port_of)
            yield ir.Mirror(cluster, percent)
    if route.mirror is not None and not route.mirrors:
        percent = 100.0
        if route.mirror_percentage is not None:
            percent = route.mirror_percentage.value
        elif route.mirror_percent is not None:
            percent = float(route.mirror_percent)
        if percent > 0:
            cluster, _, _ = destination_cluster(view, route.mirror, port_of)
            yield ir.Mirror(cluster, percent)


def _operation(
    routing: EffectiveVirtualService,
    action: ir.Action,
    match: ir.RouteMatch,
    port_of: int,
) -> str:
    path = match.path.value
    if match.path.kind in (ir.PathKind.PREFIX, ir.PathKind.SEGMENT_PREFIX):
        path += "*"
    if isinstance(action, ir.Forward) and len(action.clusters) == 1:
        parts = names.parse_cluster(action.clusters[0].cluster)
        if parts is not None:
            return f"{parts.hostname}:{parts.port}{path}"
    return f"{routing.name}:{port_of}{path}"


def _reason(route: HTTPRoute, match: HTTPMatchRequest | None) -> str:
    if match is None and not route.match:
        return "rule without conditions: takes every request that is left"
    return "rule whose conditions the request satisfies"


def _destination_origins(view: View, rule: HttpRule, port_of: int) -> Iterator[Origin]:
    """The DestinationRules that define the subsets which a rule sends to."""
    for entry in rule.route.route:
        subset = entry.destination.subset
        if not subset:
            continue
        _, service, _ = destination_cluster(view, entry.destination, port_of)
        found = view.rule(service) if service is not None else None
        definition = found.subset(subset) if found is not None else None
        if definition is not None:
            yield origins.of_resource(
                definition.resource, definition.path, f"defines subset {subset}"
            )
