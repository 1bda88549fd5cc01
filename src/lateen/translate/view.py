"""What a scope sees of a snapshot: everything the part functions ask for, computed when asked."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from typing import TypeVar, cast

from lateen.api.base import duration_seconds
from lateen.api.meshconfig.mesh_config import DefaultTrafficPolicy, MeshConfig
from lateen.api.meshconfig.proxy_config import Topology
from lateen.api.networking.destination_rule import LocalityLbSetting
from lateen.api.resource import Resource
from lateen.ir.origin import Origin
from lateen.ir.route import RetryPolicy
from lateen.model.destination_rules import destination_rules
from lateen.model.gateways import gateways
from lateen.model.mesh import observed_scoping
from lateen.model.names import DOMAIN, expand, subset_of
from lateen.model.peer_authentication import peer_authentications
from lateen.model.proxy import ProxyType, Scope
from lateen.model.service import Endpoint, Resolution, Service
from lateen.model.sidecar import EgressListener, SidecarScope, sidecars
from lateen.model.snapshot import Snapshot
from lateen.model.virtual_services import EffectiveVirtualService, virtual_services
from lateen.translate import credentials, names, origins
from lateen.translate.destination_rule import Rule, RuleSubset, rule_of
from lateen.translate.http_settings import HttpSettings, http_settings
from lateen.translate.memo import Identity, Memo
from lateen.translate.mtls import Mode, WorkloadMtls, workload_mtls
from lateen.translate.route_retry import from_block

T = TypeVar("T")

_rules: Memo[Rule] = Memo()
_MAX_ALIAS_HOPS = 10
_PASSING_MODES = ("ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS")
"""Outbound traffic policies under which unknown destinations are reached; like Istio, every other
mode blocks them."""

__all__ = ["Rule", "RuleSubset", "View"]


class View:
    """A snapshot as the proxies of one scope see it. Nothing in it changes; parts are lazy."""

    def __init__(self, snapshot: Snapshot, scope: Scope) -> None:
        self.snapshot = snapshot
        self.scope = scope
        self._cache: dict[Hashable, object] = {}

    def cached(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result of ``make``, computed once for this view."""
        if key not in self._cache:
            self._cache[key] = make()
        return cast("T", self._cache[key])

    @cached_property
    def family(self) -> int:
        """Tells what is remembered for this scope from what is for others (`Memo.get`). A number,
        as it is compared very often; two scopes with the same one would only remember less."""
        return hash(self.scope)

    # Mesh configuration

    @property
    def mesh(self) -> MeshConfig:
        """Settings of the mesh."""
        return self.snapshot.mesh

    @property
    def mesh_policy(self) -> DefaultTrafficPolicy | None:
        """Traffic policy of every cluster whose DestinationRule does not say otherwise."""
        return self.mesh.default_traffic_policy

    @property
    def mesh_locality(self) -> LocalityLbSetting | None:
        """Locality settings of every cluster whose DestinationRule does not say otherwise."""
        return self.mesh.locality_lb_setting

    @cached_property
    def connect_timeout(self) -> float:
        """Seconds to wait for an upstream connection."""
        return duration_seconds(self.mesh.connect_timeout)

    @cached_property
    def dns_refresh_rate(self) -> float:
        """Seconds between look-ups of DNS clusters whose names did not resolve."""
        return duration_seconds(self.mesh.dns_refresh_rate)

    @cached_property
    def inspection_timeout(self) -> float:
        """Seconds that protocol detection may wait for the client's first bytes; 0: no limit."""
        return duration_seconds(self.mesh.protocol_detection_timeout)

    @cached_property
    def on_demand(self) -> bool:
        """Whether the proxies fetch clusters when they first need them."""
        return self.scope.type is ProxyType.SIDECAR and observed_scoping(self.mesh)

    @property
    def upgrade_http(self) -> bool:
        """Whether clear-text HTTP/1.1 ports are spoken to in HTTP/2 (``h2UpgradePolicy``)."""
        return self.mesh.h2_upgrade_policy == "UPGRADE"

    @cached_property
    def default_retry(self) -> RetryPolicy | None:
        """Retries of routes that say nothing about them."""
        policy = self.mesh.default_http_retry_policy
        if policy is None:
            return RetryPolicy()
        return from_block(policy) if policy.attempts > 0 else None

    @cached_property
    def inbound_retry(self) -> RetryPolicy | None:
        """Retries towards the own workload: only when it certainly has not seen the request."""
        base = RetryPolicy(
            attempts=2,
            retry_on="reset-before-request",
            host_selection_attempts=0,
            previous_hosts=False,
        )
        policy = self.mesh.default_inbound_http_retry_policy
        if policy is None:
            return base
        if policy.attempts <= 0:
            return None
        return RetryPolicy(
            attempts=policy.attempts,
            retry_on=policy.retry_on or base.retry_on,
            base_interval=None if policy.backoff is None else duration_seconds(policy.backoff),
            host_selection_attempts=0,
            previous_hosts=False,
        )

    @cached_property
    def trust_domains(self) -> tuple[str, ...]:
        """Trust domains whose workloads may connect."""
        mesh = self.mesh
        found = [self.snapshot.trust_domain, *mesh.trust_domain_aliases]
        for bundle in mesh.ca_certificates:
            found += bundle.trust_domains
        return tuple(dict.fromkeys(found))

    @property
    def append_forwarded_host(self) -> bool:
        """Whether rewritten hosts are kept in ``x-forwarded-host``."""
        headers = self.mesh.default_config.proxy_headers
        return headers is not None and bool((headers.x_forwarded_host or {}).get("enabled"))

    @property
    def _topology(self) -> Topology:
        own = self.scope.topology
        return own if own is not None else self.mesh.default_config.gateway_topology

    @property
    def trusted_proxies(self) -> int:
        """Proxies in front of a gateway whose ``x-forwarded-for`` is believed."""
        return self._topology.num_trusted_proxies

    @property
    def forward_client_certificate(self) -> str:
        """What a gateway does with ``x-forwarded-client-cert``."""
        wanted = self._topology.forward_client_cert_details
        return "SANITIZE_SET" if wanted == "UNDEFINED" else wanted

    @property
    def accepts_proxy_protocol(self) -> bool:
        """Whether gateways expect the PROXY protocol."""
        return self._topology.proxy_protocol is not None

    @cached_property
    def unknown_destination(self) -> tuple[str, Origin]:
        """Cluster of traffic to destinations that nobody declared, and why."""
        resource = self.sidecar_scope.resource
        own = self.sidecar_scope.outbound_traffic_policy
        if own is None or resource is None:
            if self.mesh.outbound_traffic_policy.mode not in _PASSING_MODES:
                return names.BLACK_HOLE, origins.REGISTRY_ONLY
            return names.PASSTHROUGH, origins.ALLOW_ANY
        path = ("spec", "outboundTrafficPolicy")
        if own.mode not in _PASSING_MODES:
            reason = origins.of_resource(resource, path, "unknown destinations are blocked")
            return names.BLACK_HOLE, reason
        if own.egress_proxy is not None:
            proxy = own.egress_proxy
            host = expand(proxy.host, resource.key.namespace)
            port = proxy.port.number if proxy.port is not None else 0
            reason = origins.of_resource(
                resource, (*path, "egressProxy"), "unknown destinations go through this proxy"
            )
            return names.outbound_cluster(port, proxy.subset, host), reason
        reason = origins.of_resource(resource, path, "unknown destinations pass through")
        return names.PASSTHROUGH, reason

    @cached_property
    def looks_up_unknown_hosts(self) -> bool:
        """Whether unknown HTTP hosts are looked up by name instead of being sent where the client
        sent them (``ALLOW_ANY_DYNAMIC_DNS``, which only the mesh can ask for)."""
        own = self.sidecar_scope.outbound_traffic_policy
        return (
            self.scope.type is ProxyType.SIDECAR
            and (own is None or self.sidecar_scope.resource is None)
            and self.mesh.outbound_traffic_policy.mode == "ALLOW_ANY_DYNAMIC_DNS"
        )

    @property
    def unknown_host(self) -> tuple[str, Origin]:
        """`unknown_destination` of clear-text HTTP."""
        if self.looks_up_unknown_hosts:
            return names.ALLOW_ANY_DYNAMIC_DNS, origins.ALLOW_ANY_DYNAMIC_DNS
        return self.unknown_destination

    @cached_property
    def _looked_up_ports(self) -> frozenset[int] | None:
        """HTTP ports of services whose hosts are looked up; None for every port."""
        found = [s for s in self.services if s.resolution is Resolution.DYNAMIC_DNS]
        if self.looks_up_unknown_hosts:
            return None
        if not found:
            return frozenset()
        hosts = {service.hostname for service in found}
        if self.scope.type is not ProxyType.SIDECAR or any(
            destination.host in hosts
            for routing in self.routings
            for destination in routing.destinations()
        ):
            return None
        return frozenset(port.number for service in found for port in service.ports)

    def host_lookup(self, port: int) -> str:
        """The family in which an HTTP listener on ``port`` looks up hosts; empty if it does not."""
        ports = self._looked_up_ports
        return self.lookup_family if ports is None or port in ports else ""

    @property
    def lookup_family(self) -> str:
        """Family of the addresses that names are looked up for (``Cluster.dns_lookup_family``)."""
        return "V6_ONLY" if self.scope.ipv6 else "V4_ONLY"

    @property
    def wildcard(self) -> str:
        """The address on which listeners for every address stand."""
        return names.WILDCARD_V6 if self.scope.ipv6 else names.WILDCARD

    @property
    def localhost(self) -> str:
        """The workload's own address for traffic that is not captured."""
        return "::1" if self.scope.ipv6 else "127.0.0.1"

    @property
    def inbound_bind(self) -> str:
        """Source address of connections to the own workload."""
        return names.INBOUND_BIND_V6 if self.scope.ipv6 else names.INBOUND_BIND

    @cached_property
    def http_settings(self) -> HttpSettings:
        """What the mesh configuration says of HTTP and TLS termination everywhere."""
        return http_settings(self.mesh)

    # Services

    @cached_property
    def sidecar_scope(self) -> SidecarScope:
        """What the applying Sidecar lets a sidecar see; gateways see everything exported."""
        known = sidecars(self.snapshot)
        if self.scope.type is ProxyType.SIDECAR:
            return known.scope(self.scope.namespace, self.scope.label_map)
        return known.default_scope(self.scope.namespace)

    @property
    def services(self) -> tuple[Service, ...]:
        """Services that need clusters, oldest first, one per host name."""
        return self.sidecar_scope.services

    def egress(self, port: int) -> EgressListener | None:
        """The egress listener that decides what is reached on ``port``."""
        catch_all = None
        for listener in self.sidecar_scope.egress:
            if port and listener.port == port:
                return listener
            if listener.catch_all and catch_all is None:
                catch_all = listener
        return catch_all

    def service(self, hostname: str) -> Service | None:
        """The service that this host name means for the scope."""
        return self.sidecar_scope.service(hostname)

    def own_service(self, hostname: str) -> Service | None:
        """The service with this host name that sends to the scope's workload. It is one of its
        namespace, whatever the applying Sidecar imports."""
        return self.snapshot.services.get(hostname, self.scope.namespace)

    def endpoints(self, service: Service) -> tuple[Endpoint, ...]:
        """Endpoints of a service."""
        return self.snapshot.services.endpoints(service)

    def addresses(self, service: Service) -> tuple[str, ...]:
        """Virtual addresses that clients of the scope may send to."""
        if service.addresses_auto_allocated and not self.scope.dns_capture:
            return ()
        return tuple(
            address for address in service.addresses if self.scope.ipv6 == (":" in address)
        )

    def concrete(self, service: Service) -> Service:
        """The service itself, or what an ExternalName stands for (over several hops)."""
        current = service
        for _ in range(_MAX_ALIAS_HOPS):
            if current.resolution is not Resolution.ALIAS:
                return current
            target = self.service(current.external_name)
            if target is None:
                return service
            current = target
        return service

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for service in self.sidecar_scope.external_names:
            target = self.concrete(service)
            if target is not service:
                found.setdefault(target.hostname, []).append(service.hostname)
        return {host: tuple(aliases) for host, aliases in found.items()}

    def aliases(self, service: Service) -> tuple[str, ...]:
        """Host names of ExternalName services that stand for ``service``."""
        return self._aliases.get(service.hostname, ())

    # Routing

    @cached_property
    def routings(self) -> tuple[EffectiveVirtualService, ...]:
        """VirtualServices for sidecars, in the order in which they win."""
        return self.sidecar_scope.virtual_services

    def gateway_routings(self, gateway: str) -> tuple[EffectiveVirtualService, ...]:
        """VirtualServices bound to a Gateway (``NAMESPACE/NAME``)."""
        return virtual_services(self.snapshot).for_gateway(gateway, self.scope.namespace)

    @cached_property
    def _ages(self) -> dict[int, int]:
        everything = virtual_services(self.snapshot).all
        return {id(routing): index for index, routing in enumerate(everything)}

    def age(self, routing: EffectiveVirtualService) -> int:
        """Position of a VirtualService among all, the oldest first."""
        return self._ages[id(routing)]

    def routings_of(self, service: Service) -> tuple[EffectiveVirtualService, ...]:
        """VirtualServices for sidecars with rules for TCP or TLS that name ``service``."""
        return tuple(
            routing
            for routing in self._opaque_routings
            if any(subset_of(service.hostname, host) for host in routing.hosts)
        )

    @cached_property
    def _opaque_routings(self) -> tuple[EffectiveVirtualService, ...]:
        return tuple(routing for routing in self.routings if routing.tcp or routing.tls)

    def routing_facts(self, service: Service | None) -> Hashable:
        """Identity of everything that the TCP and TLS routes of ``service`` depend on."""
        if service is None:
            return None
        routings = self.routings_of(service)
        return (
            tuple((Identity(r), self.destination_facts(r)) for r in routings),
            Identity(self.rule(self.concrete(service))),
        )

    def client_facts(
        self, hostname: str, service: Service | None, routing: EffectiveVirtualService | None
    ) -> Hashable:
        """What the routes to a host depend on of the client's own namespace and labels.

        That is nothing for most: only clients in the namespace of a host know its shortest name,
        and only VirtualServices can tell clients apart.
        """
        namespace, labels = self.scope.namespace, self.scope.labels
        if routing is not None and tells_clients_apart(routing):
            return (namespace, labels)
        aliases = self.aliases(service) if service is not None else ()
        home = f".{namespace}.svc.{DOMAIN}"
        return namespace if any(name.endswith(home) for name in (hostname, *aliases)) else ""

    def opaque_client_facts(self, service: Service) -> Hashable:
        """`client_facts` of the TCP and TLS routes of ``service``."""
        if any(tells_clients_apart(routing) for routing in self.routings_of(service)):
            return (self.scope.namespace, self.scope.labels)
        return None

    def destination_facts(self, routing: EffectiveVirtualService) -> Hashable:
        """Identity of the services and DestinationRules that ``routing`` sends to."""
        return self.cached(("destinations", id(routing)), lambda: self._facts(routing))

    def _facts(self, routing: EffectiveVirtualService) -> Hashable:
        facts: list[Hashable] = []
        for destination in routing.destinations():
            service = self.service(destination.host)
            if service is None:
                facts.append(destination.host)
                continue
            concrete = self.concrete(service)
            facts += [Identity(service), Identity(concrete), Identity(self.rule(concrete))]
        return tuple(facts)

    # Policies

    def rule(self, service: Service | None) -> Rule | None:
        """The DestinationRule that the scope obeys for ``service``."""
        if service is None:
            return None
        return self.cached(("rule", id(service)), lambda: self._rule(service))

    def _rule(self, service: Service) -> Rule | None:
        found = destination_rules(self.snapshot).for_service(
            self.scope.namespace, service, self.scope.label_map
        )
        if found is None:
            return None
        return _rules.get(
            Identity(found),
            lambda: rule_of(found),
            family=(self.family, service.hostname, service.namespace),
        )

    def credential_facts(self, rule: Rule | None) -> Hashable:
        """Which of the credentials that ``rule`` names can be used."""
        if rule is None or not rule.credentials:
            return ()
        return credentials.facts(self.snapshot, self.scope.namespace, rule.credentials)

    def auto_mtls(self, service: Service) -> bool:
        """Whether clients use mutual TLS to endpoints of ``service`` that can."""
        if not self.mesh.enable_auto_mtls or service.mesh_external:
            return False
        modes = peer_authentications(self.snapshot)
        return Mode(modes.namespace_mode(service.namespace)) is not Mode.DISABLE

    def endpoint_mtls(self, endpoint: Endpoint) -> bool:
        """Whether mutual TLS is to be spoken to one endpoint."""
        if not endpoint.mtls:
            return False
        namespace = endpoint.identity.namespace if endpoint.identity is not None else ""
        modes = peer_authentications(self.snapshot)
        return Mode(modes.mode(namespace, endpoint.labels, endpoint.port)) is not Mode.DISABLE

    def endpoint_facts(self, service: Service) -> Hashable:
        """Identity of what load assignments of ``service`` depend on besides itself, its
        endpoints and rule."""
        scope = self.scope
        modes = peer_authentications(self.snapshot)
        spaces = {
            endpoint.identity.namespace if endpoint.identity is not None else ""
            for endpoint in self.endpoints(service)
        }
        policies = tuple(
            Identity(policy) for space in sorted(spaces) for policy in modes.policies(space)
        )
        return (
            policies,
            scope.locality,
            scope.network,
            scope.labels,
            scope.type,
            scope.node,
            scope.cluster,
        )

    @cached_property
    def service_facts(self) -> Hashable:
        """What outbound clusters depend on besides the snapshot, and load assignments do besides it
        and the scope's node.

        Scopes of different namespaces mostly agree: they see the same services, and rules of a
        client's own namespace that others do not obey are rare. Holds while the snapshot does.
        """
        scope, rules = self.scope, destination_rules(self.snapshot)
        found = rules.for_services(scope.namespace, self.services, scope.label_map)
        named: Hashable = ()
        if credentials.objects_named_by_rules(self.snapshot):
            named = tuple(self.credential_facts(self.rule(item)) for item in self.services)
        return (
            tuple(map(id, self.services)),
            tuple(map(id, found)),
            named,
            (scope.type, scope.ipv6, scope.locality, scope.network, scope.cluster, scope.labels),
        )

    @cached_property
    def egress_facts(self) -> Hashable:
        """What outbound listeners and routes depend on besides the snapshot, `client_facts` and
        `opaque_client_facts`. Holds while the snapshot does."""
        found = self.sidecar_scope
        return (
            self.service_facts,
            id(found.resource),
            tuple(map(id, found.egress)),
            id(found.virtual_services),
            replace(self.scope, namespace="", node=""),
        )

    @cached_property
    def listener_facts(self) -> Hashable:
        """`egress_facts` for listeners, with what they depend on of the client itself."""
        apart = any(map(tells_clients_apart, self._opaque_routings))
        return (self.egress_facts, self.scope.namespace if apart else "")

    @cached_property
    def workload_mtls(self) -> WorkloadMtls:
        """What the scope's own workload accepts."""
        found = peer_authentications(self.snapshot).effective(
            self.scope.namespace, self.scope.label_map
        )
        return workload_mtls(found)

    # The proxy's own side

    def target_port(self, number: int) -> int:
        """The port a gateway listens on for port ``number`` of the Service in front of it."""
        for port in self.scope.inbound:
            if port.service_port == number:
                return port.target_port
        return number

    @property
    def gateways(self) -> tuple[Resource, ...]:
        """Gateways that select the scope's proxies, oldest first."""
        return gateways(self.snapshot).for_labels(self.scope.label_map)


def tells_clients_apart(routing: EffectiveVirtualService) -> bool:
    """Whether a match of ``routing`` looks at the client's namespace or labels."""
    return (
        any(m.source_namespace or m.source_labels for r in routing.http for m in r.route.match)
        or any(m.source_namespace or m.source_labels for r in routing.tls for m in r.match)
        or any(m.source_namespace or m.source_labels for r in routing.tcp for m in r.match)
    )
