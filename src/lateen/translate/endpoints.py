"""Load assignments: the endpoints of a cluster by locality, priority and weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import ceil

from msgspec.structs import replace

from lateen.ir import cluster as ir
from lateen.model.names import is_ip
from lateen.model.nodes import NODE_LABEL
from lateen.model.proxy import ProxyType
from lateen.model.service import Endpoint, Locality, Protocol, Resolution, Service, ServicePort
from lateen.translate import locality as localities
from lateen.translate import names
from lateen.translate.load_balancing import balancing
from lateen.translate.memo import Identity, Memo
from lateen.translate.traffic_policy import EffectivePolicy, effective
from lateen.translate.upstream_tls import unusable
from lateen.translate.view import RuleSubset, View

_assignments: Memo[tuple[ir.LoadAssignment, ...]] = Memo()


def load_assignments(view: View, service: Service) -> tuple[ir.LoadAssignment, ...]:
    """Endpoints of every EDS cluster of ``service``; the only part an endpoint change rebuilds."""
    if service.resolution is Resolution.PASSTHROUGH:
        if view.scope.type is ProxyType.SIDECAR:
            return ()
    elif service.resolution is not Resolution.CLIENT_SIDE:
        return ()
    rule = view.rule(service)
    key = (
        Identity(service),
        Identity(view.endpoints(service)),
        Identity(rule),
        Identity(view.mesh),
        view.endpoint_facts(service),
        view.credential_facts(rule),
    )
    return _assignments.get(
        key,
        lambda: tuple(_all(view, service)),
        family=(view.family, service.hostname, service.namespace),
    )


def _all(view: View, service: Service) -> Iterable[ir.LoadAssignment]:
    rule = view.rule(service)
    for port in service.ports:
        if port.protocol is Protocol.UDP:
            continue
        subsets: list[RuleSubset | None] = [None]
        if rule is not None:
            subsets += rule.subsets
        for subset in subsets:
            policy = effective(
                view.mesh_policy,
                rule.traffic_policy if rule is not None else None,
                subset.definition.traffic_policy if subset is not None else None,
                port.number,
            )
            if balancing(policy.load_balancer).passthrough:
                continue
            selected = rule is not None and rule.has_workload_selector
            if unusable(view.snapshot, view.scope, policy.tls, selected=selected) is not None:
                continue  # its cluster has no endpoints, and a proxy does not ask for any
            name = names.outbound_cluster(
                port.number, subset.definition.name if subset else "", service.hostname
            )
            yield assignment(view, service, port, subset, name, policy)


def assignment(
    view: View,
    service: Service,
    port: ServicePort,
    subset: RuleSubset | None,
    name: str,
    policy: EffectivePolicy,
) -> ir.LoadAssignment:
    """The endpoints of one cluster."""
    wanted = subset.definition.labels if subset is not None else {}
    chosen = [
        endpoint
        for endpoint in view.endpoints(service)
        if endpoint.service_port == port.name
        and _has_labels(endpoint.labels, wanted)
        and (endpoint.node == view.scope.node or not service.internal_traffic_local)
        and (service.resolution in _NAMED or _has_address(endpoint))
    ]
    mutual = policy.tls is not None and policy.tls.mode == "ISTIO_MUTUAL"
    marks = policy.tls is None or mutual
    groups: dict[tuple[Locality, int], list[ir.Endpoint]] = defaultdict(list)
    locality = localities.effective_locality(policy.load_balancer, view.mesh_locality, service)
    failover = locality.fails_over(ejects=policy.outlier_detection is not None)
    for endpoint in chosen:
        rank = _rank(view, endpoint, locality) if failover else 0
        groups[endpoint.locality, rank].append(
            ir.Endpoint(
                address=endpoint.address,
                port=endpoint.port,
                weight=max(1, endpoint.weight),
                health=endpoint.health,
                mtls=marks and (mutual or view.endpoint_mtls(endpoint)),
                identity=endpoint.identity,
                hostname=endpoint.hostname,
            )
        )
    ranks = {rank: index for index, rank in enumerate(sorted({key[1] for key in groups}))}
    parts = [
        ir.LocalityEndpoints(
            endpoints=tuple(found),
            locality=place,
            priority=ranks[rank],
            weight=sum(endpoint.weight for endpoint in found),
        )
        for (place, rank), found in sorted(_bounded(groups).items(), key=_order)
    ]
    if locality.enabled and locality.setting is not None and locality.setting.distribute:
        parts = _distributed(view.scope.locality, parts, locality)
    return ir.LoadAssignment(cluster=name, localities=tuple(parts))


_NAMED = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)
_WEIGHTS = 2**32 - 1


def _has_address(endpoint: Endpoint) -> bool:
    # A WorkloadEntry may have a host name, which is looked up for services with DNS only.
    return endpoint.address.startswith("unix://") or _is_ip(endpoint.address)


_is_ip = lru_cache(maxsize=65536)(is_ip)


_Groups = Mapping[tuple[Locality, int], list[ir.Endpoint]]


def _bounded(groups: _Groups) -> _Groups:
    """With all weights scaled down if their sum is more than Envoy takes (uint32)."""
    total = sum(endpoint.weight for found in groups.values() for endpoint in found)
    count = sum(map(len, groups.values()))
    if total <= _WEIGHTS:
        return groups
    return {
        key: [
            replace(each, weight=max(1, each.weight * (_WEIGHTS - count) // total))
            for each in found
        ]
        for key, found in groups.items()
    }


def first_only(assignment: ir.LoadAssignment) -> ir.LoadAssignment:
    """One endpoint at most, as LOGICAL_DNS takes."""
    for part in assignment.localities:
        if part.endpoints:
            return replace(
                assignment, localities=(replace(part, endpoints=part.endpoints[:1], weight=1),)
            )
    return assignment


def _rank(view: View, endpoint: Endpoint, policy: localities.LocalityPolicy) -> int:
    setting = policy.setting
    if setting is not None and setting.failover_priority:
        scope = view.scope
        own = scope.label_map | _topology(scope.locality, scope.network, scope.node, scope.cluster)
        cluster = endpoint.identity.cluster if endpoint.identity is not None else scope.cluster
        other = dict(endpoint.labels) | _topology(
            endpoint.locality, endpoint.network, endpoint.node, cluster
        )
        return localities.label_priority(setting.failover_priority, own, other)
    return localities.priority(view.scope.locality, endpoint.locality, setting)


def _topology(place: Locality, network: str, node: str, cluster: str) -> dict[str, str]:
    return {
        "topology.kubernetes.io/region": place.region,
        "topology.kubernetes.io/zone": place.zone,
        "topology.istio.io/subzone": place.sub_zone,
        "topology.istio.io/network": network,
        "topology.istio.io/cluster": cluster,
        NODE_LABEL: node,
    }


def _distributed(
    own: Locality, parts: list[ir.LocalityEndpoints], policy: localities.LocalityPolicy
) -> list[ir.LocalityEndpoints]:
    setting = policy.setting
    assert setting is not None
    entry = next((item for item in setting.distribute if localities.matches(item.from_, own)), None)
    if entry is None:
        return parts
    weights: dict[int, int] = {}
    for pattern, share in sorted(entry.to.items()):
        found = [
            index
            for index, part in enumerate(parts)
            if index not in weights and localities.matches(pattern, part.locality)
        ]
        total = sum(parts[index].weight for index in found)
        for index in found:
            weights[index] = ceil(share * parts[index].weight / total) if total else share
    return [
        replace(part, weight=weights[index]) for index, part in enumerate(parts) if index in weights
    ]


def _has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())


def _order(item: tuple[tuple[Locality, int], object]) -> tuple[int, str, str, str]:
    (place, rank), _ = item
    return (rank, place.region, place.zone, place.sub_zone)
