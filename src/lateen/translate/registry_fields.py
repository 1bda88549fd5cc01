"""What of Services, ServiceEntries and WorkloadEntries has an effect.

`FIELDS` lists every field, for `lateen.translate.coverage`; `ignored` knows which *values* of
fields that have an effect do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.api.core import service as core
from lateen.api.core.config import Namespace
from lateen.api.findings import FieldPath
from lateen.api.networking import service_entry as se
from lateen.api.networking import workload_entry as we
from lateen.api.resource import Resource
from lateen.model.definitions import (
    CONNECT_STRATEGY_ANNOTATION,
    DISTRIBUTIONS,
    RACE,
    TRAFFIC_DISTRIBUTION_ANNOTATION,
)
from lateen.translate.fields import Fields, Ignored, fields

_PUBLISHED = "ports of LoadBalancer services are published on this machine"
_AFFINITY = (
    "proxies balance each request, as in Istio; use a DestinationRule with "
    "consistentHash.useSourceIp"
)

FIELDS: dict[type, Fields] = {
    se.ServicePort: fields("number protocol name target_port"),
    se.ServiceEntrySpec: fields(
        "hosts addresses ports location resolution endpoints workload_selector export_to "
        "subject_alt_names"
    ),
    we.WorkloadEntrySpec: fields(
        "address ports labels locality weight service_account",
        network="there are no gateways between networks: the endpoint is reached at its own "
        "address, and only failover looks at its network",
    ),
    core.ServicePort: fields(
        "name protocol app_protocol port target_port",
        {"node_port": "nothing listens on ports of nodes"},
    ),
    core.ServiceSpec: fields(
        "ports selector cluster_ip cluster_ips type external_name internal_traffic_policy "
        "publish_not_ready_addresses traffic_distribution ip_families",
        {
            "external_ips": "proxies do not listen on them",
            "load_balancer_ip": _PUBLISHED,
            "load_balancer_class": _PUBLISHED,
            "external_traffic_policy": _PUBLISHED,
            "health_check_node_port": _PUBLISHED,
            "allocate_load_balancer_node_ports": _PUBLISHED,
            "session_affinity": _AFFINITY,
            "ip_family_policy": "clusterIPs and ipFamilies say which families there are",
        },
        session_affinity_config=_AFFINITY,
        load_balancer_source_ranges="published ports take connections from every source",
    ),
}
"""Every message of the specs, with its fields by their Python names."""


def ignored(resource: Resource) -> Iterator[Ignored]:
    """Values in ``resource`` that do nothing."""
    obj = resource.object
    if isinstance(obj, core.Service | se.ServiceEntry | Namespace):
        yield from _distribution(resource)
    if isinstance(obj, core.Service):
        if obj.spec.session_affinity == "ClientIP":
            hint = "Use a DestinationRule, or remove it."
            yield Ignored(("spec", "sessionAffinity"), f"it has no effect: {_AFFINITY}", hint)
        for index, port in enumerate(obj.spec.ports):
            if port.protocol == "SCTP":
                path = ("spec", "ports", index, "protocol")
                yield Ignored(path, "SCTP is not proxied: the port is treated as TCP", "Remove it.")
        yield from _families(obj.spec)
    elif isinstance(obj, se.ServiceEntry):
        yield from _sixes(("spec", "addresses"), obj.spec.addresses)
        yield from _strategy(resource, obj.spec)
        if obj.spec.resolution == "DYNAMIC_DNS":
            yield from _moved_ports(obj.spec)


def _distribution(resource: Resource) -> Iterator[Ignored]:
    value = resource.object.metadata.annotations.get(TRAFFIC_DISTRIBUTION_ANNOTATION)
    if value is not None and value.lower() not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS.values())
        yield Ignored(
            ("metadata", "annotations", TRAFFIC_DISTRIBUTION_ANNOTATION),
            f'"{value}" is no traffic distribution, so there is none',
            f"Use one of {known}.",
        )


def _families(spec: core.ServiceSpec) -> Iterator[Ignored]:
    if "IPv6" in spec.ip_families:
        yield _six(("spec", "ipFamilies"), "IPv6")
    if ":" in spec.cluster_ip:
        yield _six(("spec", "clusterIP"), spec.cluster_ip)
    else:
        yield from _sixes(("spec", "clusterIPs"), spec.cluster_ips)


def _sixes(path: FieldPath, addresses: list[str]) -> Iterator[Ignored]:
    for index, address in enumerate(addresses):
        if ":" in address:
            yield _six((*path, index), address)


def _six(path: FieldPath, what: str) -> Ignored:
    return Ignored(
        path,
        f"{what} is served to pods without an IPv4 address only: proxies listen in one family",
        "Reach the service by an IPv4 address from pods that have one.",
    )


def _strategy(resource: Resource, spec: se.ServiceEntrySpec) -> Iterator[Ignored]:
    value = resource.object.metadata.annotations.get(CONNECT_STRATEGY_ANNOTATION)
    if value is None:
        return
    if value != RACE:
        problem, hint = f'"{value}" is no connect strategy', f"Use {RACE}, or remove it."
    elif spec.resolution != "DNS":
        problem = f"it has no effect with resolution {spec.resolution}"
        hint = "Use resolution DNS, or remove it."
    elif len(spec.endpoints) > 1:
        problem = f"it has no effect with {len(spec.endpoints)} endpoints: one name can race only"
        hint = "Leave one endpoint, or remove it."
    else:
        return
    yield Ignored(("metadata", "annotations", CONNECT_STRATEGY_ANNOTATION), problem, hint)


def _moved_ports(spec: se.ServiceEntrySpec) -> Iterator[Ignored]:
    for index, port in enumerate(spec.ports):
        if port.target_port not in (0, port.number):
            yield Ignored(
                ("spec", "ports", index, "targetPort"),
                "targetPort has no effect with resolution DYNAMIC_DNS: HTTP goes to the port that "
                "the request names, TLS to the port of the service",
                "Remove it.",
            )
