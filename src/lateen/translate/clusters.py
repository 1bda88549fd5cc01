"""Outbound clusters: one per service port, and one more per subset of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from lateen.api.base import duration_seconds
from lateen.api.findings import FieldPath, Finding
from lateen.api.networking.destination_rule import ConnectionPoolSettings, TrafficPolicy
from lateen.api.resource import Resource
from lateen.ir.cluster import (
    Cluster,
    ClusterType,
    LoadAssignment,
    LoadBalancer,
    ServiceReference,
    UpstreamProtocol,
)
from lateen.ir.origin import Origin
from lateen.ir.tls import UpstreamTls
from lateen.model.definitions import CONNECT_STRATEGY_ANNOTATION, RACE
from lateen.model.proxy import ProxyType
from lateen.model.service import Protocol, Registry, Resolution, Service, ServicePort
from lateen.translate import credentials, endpoints, names, origins
from lateen.translate.load_balancing import Balancing, balancing
from lateen.translate.locality import effective_locality
from lateen.translate.memo import Identity, Memo
from lateen.translate.traffic_policy import (
    EffectivePolicy,
    connection_pool,
    effective,
    outlier_detection,
    with_keepalive,
)
from lateen.translate.upstream_tls import from_settings, mesh_tls, unusable
from lateen.translate.view import Rule, RuleSubset, View

_TYPES = {
    Resolution.CLIENT_SIDE: ClusterType.EDS,
    Resolution.PASSTHROUGH: ClusterType.ORIGINAL_DST,
    Resolution.DNS: ClusterType.STRICT_DNS,
    Resolution.DNS_ROUND_ROBIN: ClusterType.LOGICAL_DNS,
    Resolution.DYNAMIC_DNS: ClusterType.DYNAMIC_FORWARD_PROXY,
}

_PASSTHROUGH_IDLE = 300.0
"""Seconds: nobody can say what is a good idle time for an unknown host, an hour is too long."""

_clusters: Memo[tuple[Cluster, ...]] = Memo()
_fallbacks: Memo[tuple[Cluster, ...]] = Memo(256)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One cluster to make."""

    service: Service
    port: ServicePort
    subset: RuleSubset | None
    rule: Rule | None
    policy: EffectivePolicy


def outbound_clusters(view: View, service: Service) -> tuple[Cluster, ...]:
    """All clusters of ``service``. The same object as before while its inputs are the same.

    ExternalName services have none: routes to them use the clusters of what they stand for.
    """
    if service.resolution is Resolution.ALIAS:
        return ()
    rule = view.rule(service)
    by_endpoints = _has_inline_endpoints(service) or _follows_endpoints(service)
    key = (
        Identity(service),
        Identity(rule),
        Identity(view.mesh),
        view.scope.type,
        view.scope.ipv6,
        view.auto_mtls(service),
        Identity(view.endpoints(service)) if by_endpoints else None,
        view.endpoint_facts(service) if by_endpoints else None,
        view.credential_facts(rule),
    )
    return _clusters.get(
        key,
        lambda: tuple(_make(view, service, rule)),
        family=(view.family, service.hostname, service.namespace),
    )


def fallback_clusters(view: View) -> tuple[Cluster, ...]:
    """``BlackHoleCluster``, and on sidecars ``PassthroughCluster`` and, where the mesh says so,
    ``AllowAnyDynamicDNSCluster``."""
    sidecar = view.scope.type is ProxyType.SIDECAR
    default = view.mesh_policy
    pool_settings = default.connection_pool if default is not None else None

    def make() -> tuple[Cluster, ...]:
        black_hole = Cluster(
            name=names.BLACK_HOLE,
            type=ClusterType.STATIC,
            load_balancer=LoadBalancer.ROUND_ROBIN,
            connect_timeout=view.connect_timeout,
            origins=(origins.default("blackhole (traffic sent here is refused)"),),
        )
        if not sidecar:
            return (black_hole,)
        pool = connection_pool(pool_settings, http2=False)
        passthrough = Cluster(
            name=names.PASSTHROUGH,
            type=ClusterType.ORIGINAL_DST,
            load_balancer=LoadBalancer.CLUSTER_PROVIDED,
            connect_timeout=view.connect_timeout,
            protocol=UpstreamProtocol.DOWNSTREAM,
            pool=replace(pool, idle_timeout=pool.idle_timeout or _PASSTHROUGH_IDLE),
            origins=(origins.ALLOW_ANY,),
        )
        if not view.looks_up_unknown_hosts:
            return (black_hole, passthrough)
        dynamic = Cluster(
            name=names.ALLOW_ANY_DYNAMIC_DNS,
            type=ClusterType.DYNAMIC_FORWARD_PROXY,
            load_balancer=LoadBalancer.CLUSTER_PROVIDED,
            connect_timeout=view.connect_timeout,
            protocol=UpstreamProtocol.DOWNSTREAM,
            pool=passthrough.pool,
            dns_lookup_family=view.lookup_family,
            origins=(origins.ALLOW_ANY_DYNAMIC_DNS,),
        )
        return (black_hole, passthrough, dynamic)

    key = (Identity(view.mesh), sidecar, view.looks_up_unknown_hosts, view.lookup_family)
    return _fallbacks.get(key, make)


def subset_policy(
    view: View, service: Service, port: int, subset: str
) -> tuple[EffectivePolicy, RuleSubset | None]:
    """The policy of one destination, and its subset if that exists."""
    rule = view.rule(service)
    if rule is None:
        return effective(view.mesh_policy, None, None, port), None
    found = rule.subset(subset) if subset else None
    policy = effective(
        view.mesh_policy,
        rule.traffic_policy,
        found.definition.traffic_policy if found is not None else None,
        port,
    )
    return policy, found


def upstream_protocol(
    protocol: Protocol, pool: ConnectionPoolSettings | None, upgrade_by_default: bool = False
) -> UpstreamProtocol:
    """What is spoken to the endpoints of a port with ``protocol``."""
    http = pool.http if pool is not None else None
    if http is not None and http.use_client_protocol and not protocol.is_tcp:
        return UpstreamProtocol.DOWNSTREAM
    if protocol.is_http2:
        return UpstreamProtocol.HTTP2
    upgrade = http.h2_upgrade_policy if http is not None else "DEFAULT"
    if protocol.is_http:
        wanted = upgrade == "UPGRADE" or (upgrade == "DEFAULT" and upgrade_by_default)
        return UpstreamProtocol.HTTP2 if wanted else UpstreamProtocol.HTTP1
    if protocol is Protocol.AUTO:
        return UpstreamProtocol.HTTP2 if upgrade == "UPGRADE" else UpstreamProtocol.DOWNSTREAM
    return UpstreamProtocol.NONE


def _make(view: View, service: Service, rule: Rule | None) -> Iterator[Cluster]:
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
            yield _cluster(view, _Wanted(service, port, subset, rule, policy))


def _cluster(view: View, wanted: _Wanted) -> Cluster:
    service, port, policy = wanted.service, wanted.port, wanted.policy
    subset = wanted.subset.definition.name if wanted.subset is not None else ""
    name = names.outbound_cluster(port.number, subset, service.hostname)
    balance = balancing(policy.load_balancer)
    protocol = upstream_protocol(port.protocol, policy.connection_pool, view.upgrade_http)
    kind = _kind(view, service, balance)
    tls, auto = _tls(view, wanted, subset, protocol, kind)
    outlier = outlier_detection(policy.outlier_detection)
    original = kind in (ClusterType.ORIGINAL_DST, ClusterType.DYNAMIC_FORWARD_PROXY)
    made = Cluster(
        name=name,
        type=kind,
        load_balancer=LoadBalancer.CLUSTER_PROVIDED if original else balance.policy,
        connect_timeout=_connect_timeout(view, policy.connection_pool),
        protocol=protocol,
        pool=with_keepalive(
            connection_pool(
                policy.connection_pool,
                policy.retry_budget,
                http2=protocol is UpstreamProtocol.HTTP2,
            ),
            view.mesh.tcp_keepalive,
        ),
        outlier_detection=outlier,
        tls=tls,
        auto_mtls=auto,
        proxy_protocol=_proxy_protocol_version(policy),
        load_assignment=_inline(view, service, port, wanted.subset, name, policy, kind),
        upstream_port_override=_port_override(service, port, kind),
        ring_minimum_size=0 if original else balance.ring_minimum_size,
        maglev_table_size=0 if original else balance.maglev_table_size,
        slow_start=None if original else balance.slow_start,
        locality_weighted=not original and _locality_weighted(view, service, policy),
        panic_threshold=float(outlier.min_health_percent) if outlier is not None else 0.0,
        dns_refresh_rate=view.dns_refresh_rate,
        dns_lookup_family="ALL" if _races(view, service) else view.lookup_family,
        service=ServiceReference(service.hostname, service.name, service.namespace),
        subset=subset,
        external=service.mesh_external,
        origins=tuple(_origins(wanted)),
    )
    problem = credentials.upstream_problem(view.snapshot, view.scope.namespace, tls)
    if not problem:
        return made
    return credentials.refusing_cluster(
        made, origins.default(f"no endpoints, as TLS cannot be originated: {problem}")
    )


def _kind(view: View, service: Service, balance: Balancing) -> ClusterType:
    if balance.passthrough and service.resolution is not Resolution.DYNAMIC_DNS:
        return ClusterType.ORIGINAL_DST
    if service.resolution is Resolution.PASSTHROUGH and view.scope.type is not ProxyType.SIDECAR:
        # A gateway's client did not choose the address, so the gateway must.
        return ClusterType.EDS
    if _races(view, service):
        return ClusterType.LOGICAL_DNS
    return _TYPES[service.resolution]


def _races(view: View, service: Service) -> bool:
    """Whether all addresses of the one name are tried at once (``istio.io/connect-strategy``).
    Envoy does so for LOGICAL_DNS, which takes one name per cluster."""
    wanted = service.annotations.get(CONNECT_STRATEGY_ANNOTATION) == RACE
    if not wanted or service.resolution is not Resolution.DNS:
        return False
    return len({endpoint.address for endpoint in view.endpoints(service)}) == 1


def _tls(
    view: View, wanted: _Wanted, subset: str, protocol: UpstreamProtocol, kind: ClusterType
) -> tuple[UpstreamTls | None, UpstreamTls | None]:
    """TLS for every endpoint, and TLS for endpoints that are marked."""
    service, port, settings = wanted.service, wanted.port, wanted.policy.tls
    sni = names.mesh_sni(port.number, subset, service.hostname)
    accounts = () if service.mesh_external else service.service_accounts
    if settings is not None:
        selected = wanted.rule is not None and wanted.rule.has_workload_selector
        declared = service.service_accounts if service.registry is Registry.SERVICE_ENTRY else ()
        explicit = from_settings(
            settings,
            sni=sni,
            identities=service.service_accounts,
            declared_names=declared,
            protocol=protocol,
            credentials_by_name=selected or view.scope.type is not ProxyType.SIDECAR,
        )
        return explicit, None
    if not view.auto_mtls(service):
        return None, None
    mutual = mesh_tls(sni, accounts, protocol)
    if kind in (ClusterType.ORIGINAL_DST, ClusterType.DYNAMIC_FORWARD_PROXY):
        # There is no endpoint metadata to tell the endpoints apart: all of them or none.
        return (mutual if _all_have_sidecars(view, service, port) else None), None
    return None, mutual


def _all_have_sidecars(view: View, service: Service, port: ServicePort) -> bool:
    found = [endpoint for endpoint in view.endpoints(service) if endpoint.service_port == port.name]
    return bool(found) and all(view.endpoint_mtls(endpoint) for endpoint in found)


def _follows_endpoints(service: Service) -> bool:
    return service.resolution is Resolution.PASSTHROUGH


def _has_inline_endpoints(service: Service) -> bool:
    return service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


def _inline(
    view: View,
    service: Service,
    port: ServicePort,
    subset: RuleSubset | None,
    name: str,
    policy: EffectivePolicy,
    kind: ClusterType,
) -> LoadAssignment | None:
    if kind not in (ClusterType.STRICT_DNS, ClusterType.LOGICAL_DNS):
        return None
    assignment = endpoints.assignment(view, service, port, subset, name, policy)
    if kind is ClusterType.LOGICAL_DNS:
        assignment = endpoints.first_only(assignment)
    return assignment


def _connect_timeout(view: View, pool: ConnectionPoolSettings | None) -> float:
    if pool is not None and pool.tcp is not None and pool.tcp.connect_timeout is not None:
        return duration_seconds(pool.tcp.connect_timeout)
    return view.connect_timeout


def _proxy_protocol_version(policy: EffectivePolicy) -> int:
    if policy.proxy_protocol is None:
        return 0
    return 2 if policy.proxy_protocol.version == "V2" else 1


def _port_override(service: Service, port: ServicePort, kind: ClusterType) -> int:
    if kind is not ClusterType.ORIGINAL_DST or service.registry is not Registry.SERVICE_ENTRY:
        return 0
    target = port.target_port
    return target if isinstance(target, int) and target != port.number else 0


def _locality_weighted(view: View, service: Service, policy: EffectivePolicy) -> bool:
    locality = effective_locality(policy.load_balancer, view.mesh_locality, service)
    return locality.weighted(ejects=policy.outlier_detection is not None)


def _origins(wanted: _Wanted) -> Iterator[Origin]:
    service, port = wanted.service, wanted.port
    index = service.ports.index(port)
    yield origins.of_service(
        service, f"port {port.number} of {service.hostname}", ("spec", "ports", index)
    )
    if wanted.rule is not None:
        yield from wanted.rule.origins(wanted.subset)
    if wanted.policy.tls is None and not service.mesh_external:
        yield origins.AUTO_MTLS


def credential_findings(view: View) -> Iterator[Finding]:
    """DestinationRules whose credentials cannot be used by the proxies of the scope."""
    if not credentials.objects_named_by_rules(view.snapshot):
        return
    for service in view.services:
        rule = view.rule(service)
        if rule is None or not rule.credentials:
            continue
        for cluster in outbound_clusters(view, service):
            if cluster.type is ClusterType.STATIC:
                yield from _unusable(view, service, rule)
                break


def _unusable(view: View, service: Service, rule: Rule) -> Iterator[Finding]:
    places: list[tuple[Resource | None, FieldPath, TrafficPolicy | None]] = [
        (rule.policy_source, ("spec", "trafficPolicy"), rule.traffic_policy)
    ]
    places += [
        (subset.resource, (*subset.path, "trafficPolicy"), subset.definition.traffic_policy)
        for subset in rule.subsets
    ]
    for resource, path, policy in places:
        for inner, settings in credentials.tls_settings(policy) if policy is not None else ():
            found = unusable(
                view.snapshot, view.scope, settings, selected=rule.has_workload_selector
            )
            if found is not None and resource is not None:
                yield credentials.finding(
                    resource,
                    (*path, *inner, "credentialName"),
                    found,
                    f"requests to {service.hostname} get 503",
                )
