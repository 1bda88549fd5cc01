"""TLS credentials by name: nothing that waits for one that cannot be served is sent to a proxy.

Envoy holds back a listener or cluster until its secrets have come, and with it whatever waits for
that. So a Gateway server whose credential cannot be used refuses its connections, and a cluster
whose credential cannot be used has no endpoint; both say why, and both work as soon as the
credential does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from msgspec.structs import replace

from lateen.api.findings import FieldPath, Finding
from lateen.api.networking.destination_rule import (
    ClientTLSSettings,
    DestinationRule,
    TrafficPolicy,
)
from lateen.api.resource import Resource
from lateen.ir.cluster import Cluster, ClusterType, LoadBalancer
from lateen.ir.listener import (
    FilterChain,
    Reporter,
    TcpProxy,
    Telemetry,
    WeightedTcpCluster,
)
from lateen.ir.origin import Origin
from lateen.ir.tls import ROOT_CERTIFICATES, WORKLOAD_CERTIFICATE, DownstreamTls, UpstreamTls
from lateen.model import kinds
from lateen.model.credentials import CA_SUFFIX, CONFIG_MAP, Credential, credentials
from lateen.model.snapshot import Index, Snapshot
from lateen.translate import names, rules

_OF_THE_MESH = (WORKLOAD_CERTIFICATE, ROOT_CERTIFICATES, "")


def first_problem(
    snapshot: Snapshot, namespace: str, pairs: Iterable[str], authority: str
) -> Credential | None:
    """The first of the credentials that a proxy in ``namespace`` cannot use; None when it can use
    all. Those of the mesh itself are always there."""
    known = credentials(snapshot)
    found = [known.pair(name, namespace) for name in pairs if name not in _OF_THE_MESH]
    if authority not in _OF_THE_MESH:
        found.append(known.authority(authority, namespace))
    return next((item for item in found if item.problem), None)


def downstream_problem(snapshot: Snapshot, namespace: str, tls: DownstreamTls | None) -> str:
    """Why TLS cannot be terminated; empty when it can."""
    if tls is None:
        return ""
    found = first_problem(snapshot, namespace, tls.certificates, tls.validation)
    return found.problem if found is not None else ""


def upstream_problem(snapshot: Snapshot, namespace: str, tls: UpstreamTls | None) -> str:
    """Why TLS cannot be originated; empty when it can."""
    if tls is None:
        return ""
    found = first_problem(snapshot, namespace, (tls.certificate,), tls.validation)
    return found.problem if found is not None else ""


def refusing_chain(chain: FilterChain, origin: Origin) -> FilterChain:
    """``chain`` without TLS, closing each connection: its clients must not come to another one."""
    return replace(
        chain,
        tls=None,
        connect_timeout=None,
        filter=TcpProxy(
            stat_prefix=names.BLACK_HOLE,
            clusters=(WeightedTcpCluster(names.BLACK_HOLE),),
            telemetry=Telemetry(Reporter.SOURCE),
        ),
        origins=(*chain.origins, origin),
    )


def refusing_cluster(cluster: Cluster, origin: Origin) -> Cluster:
    """``cluster`` without endpoints: requests get 503 (flag UH), nothing is sent in clear text."""
    return replace(
        cluster,
        type=ClusterType.STATIC,
        load_balancer=LoadBalancer.ROUND_ROBIN,
        tls=None,
        auto_mtls=None,
        load_assignment=None,
        upstream_port_override=0,
        ring_minimum_size=0,
        maglev_table_size=0,
        slow_start=None,
        locality_weighted=False,
        origins=(*cluster.origins, origin),
    )


# Which DestinationRules name credentials


def of_policies(policies: Iterable[TrafficPolicy | None]) -> tuple[str, ...]:
    """Credential names in traffic policies, each once."""
    found = [
        tls.credential_name
        for policy in policies
        if policy is not None
        for _, tls in tls_settings(policy)
        if tls.credential_name
    ]
    return tuple(dict.fromkeys(found))


def tls_settings(policy: TrafficPolicy) -> Iterator[tuple[FieldPath, ClientTLSSettings]]:
    """The TLS settings of a policy and its ports, with their paths in it."""
    if policy.tls is not None:
        yield ("tls",), policy.tls
    for index, entry in enumerate(policy.port_level_settings):
        if entry.tls is not None:
            yield ("portLevelSettings", index, "tls"), entry.tls


def facts(snapshot: Snapshot, namespace: str, named: tuple[str, ...]) -> Hashable:
    """What clusters whose rule names credentials depend on of these."""
    if not named:
        return ()
    known = credentials(snapshot)
    found = []
    for name in named:
        secret = name if "://" in name else f"kubernetes://{name}"
        bundle = secret if secret.startswith(CONFIG_MAP) else f"{secret}{CA_SUFFIX}"
        found.append(
            (known.pair(secret, namespace).problem, known.authority(bundle, namespace).problem)
        )
    return tuple(found)


def objects_named_by_rules(snapshot: Snapshot) -> frozenset[tuple[str, str]]:
    """Kind and name of the objects that DestinationRules may name as credentials."""
    return snapshot.derived(_NAMED)


def _named(
    snapshot: Snapshot, previous: frozenset[tuple[str, str]] | None
) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for resource in snapshot.of_kind(*kinds.DESTINATION_RULE).values():
        rule = resource.object
        assert isinstance(rule, DestinationRule)
        spec = rule.spec
        policies = (spec.traffic_policy, *(subset.traffic_policy for subset in spec.subsets))
        for credential in of_policies(policies):
            name = credential.rpartition("/")[2]
            if credential.startswith(CONFIG_MAP):
                found.add(("ConfigMap", name))
            else:
                found |= {("Secret", name), ("Secret", f"{name}{CA_SUFFIX}")}
    result = frozenset(found)
    return previous if previous == result else result


_NAMED: Index[frozenset[tuple[str, str]]] = Index(
    "credentials of rules", frozenset({kinds.DESTINATION_RULE}), _named
)


def finding(resource: Resource, path: FieldPath, credential: Credential, effect: str) -> Finding:
    """What the author of ``resource`` is told about a credential that cannot be used."""
    missing = credential.resource is None
    rule = rules.CREDENTIAL_MISSING if missing else rules.CREDENTIAL_UNUSABLE
    hint = (
        "Create it in the namespace of the proxy, or correct the name."
        if missing
        else "Correct the object; it is used as soon as it is right."
    )
    return rules.finding(
        rule,
        resource.key,
        resource.provenance,
        path,
        f"{credential.problem}; {effect}",
        hint,
    )
