"""Debug endpoints about the mesh as the control plane sees it, in Istio's shapes."""

from __future__ import annotations

import msgspec

from lateen.api.kinds import KINDS
from lateen.api.parse import to_raw
from lateen.api.resource import Resource
from lateen.model.peer_authentication import peer_authentications
from lateen.model.proxy import ProxyType
from lateen.model.service import Endpoint, Resolution, Service
from lateen.serve.debug_proxies import Json, Query
from lateen.serve.serving import Serving

_NOT_SHOWN = frozenset({("", "Secret"), ("", "Pod"), ("", "ConfigMap")})
"""Kinds that are not configuration of the mesh, or that hold what must not be shown."""
_RESOLUTIONS = {
    Resolution.CLIENT_SIDE: 0,
    Resolution.DNS: 1,
    Resolution.PASSTHROUGH: 2,
    Resolution.DNS_ROUND_ROBIN: 3,
    Resolution.ALIAS: 4,
    Resolution.DYNAMIC_DNS: 5,
}


def registryz(plane: Serving, _query: Query) -> object:
    """All services."""
    return [_service(service) for service in plane.snapshot.services.all()]


def endpoint_shards(plane: Serving, _query: Query) -> object:
    """Endpoints: host name, namespace, then shard (``REGISTRY/CLUSTER``) to list."""
    shards: dict[str, dict[str, Json]] = {}
    for service in plane.snapshot.services.all():
        found = plane.snapshot.services.endpoints(service)
        by_shard: dict[str, list[Json]] = {}
        for endpoint in found:
            cluster = endpoint.identity.cluster if endpoint.identity else "Kubernetes"
            shard = by_shard.setdefault(f"{service.registry}/{cluster}", [])
            shard.append(_endpoint(service, endpoint))
        shards.setdefault(service.hostname, {})[service.namespace] = {
            "Shards": by_shard,
            "ServiceAccounts": {account: {} for account in service.service_accounts},
        }
    return shards


def configz(plane: Serving, query: Query) -> object:
    """Every configuration object as it is in force; ``?kind=`` picks. Secrets, pods and
    ConfigMaps are left out."""
    kind = query.get("kind", "")
    return [
        to_raw(resource)
        for resource in plane.snapshot.resources()
        if (resource.key.group, resource.key.kind) not in _NOT_SHOWN
        and kind in ("", resource.key.kind)
    ]


def resourcesz(_plane: Serving, _query: Query) -> object:
    """The kinds that this version reads."""
    return [
        {"group": kind.group, "version": kind.storage_version, "kind": kind.kind}
        for _, kind in sorted(KINDS.items())
    ]


def authorizationz(plane: Serving, _query: Query) -> object:
    """AuthorizationPolicies by namespace, and the mutual TLS mode of each namespace."""
    snapshot = plane.snapshot
    policies: dict[str, list[object]] = {}
    for resource in snapshot.of_kind("security.istio.io", "AuthorizationPolicy").values():
        policies.setdefault(resource.key.namespace, []).append(_policy(resource))
    modes = peer_authentications(snapshot)
    namespaces = {service.namespace for service in snapshot.services.all()} | policies.keys()
    return {
        "authorization_policies": {
            "namespace_to_policies": dict(sorted(policies.items())),
            "root_namespace": snapshot.root_namespace,
        },
        "mutual_tls": {
            "mesh": modes.mesh_mode(),
            "namespaces": {name: modes.namespace_mode(name) for name in sorted(namespaces)},
        },
    }


def telemetryz(plane: Serving, _query: Query) -> object:
    """Telemetry objects by namespace."""
    telemetries: dict[str, list[object]] = {}
    for resource in plane.snapshot.of_kind("telemetry.istio.io", "Telemetry").values():
        telemetries.setdefault(resource.key.namespace, []).append(_policy(resource))
    root = plane.snapshot.root_namespace
    return {
        "telemetries": {
            "namespace_to_telemetries": dict(sorted(telemetries.items())),
            "root_namespace": root,
        }
    }


def mesh(plane: Serving, _query: Query) -> object:
    """The mesh configuration in force."""
    found: object = msgspec.to_builtins(plane.snapshot.mesh)
    return found


def networkz(plane: Serving, _query: Query) -> object:
    """Networks that endpoints lie in, and the gateways known to lead into them."""
    networks: dict[str, int] = {}
    for service in plane.snapshot.services.all():
        for endpoint in plane.snapshot.services.endpoints(service):
            networks[endpoint.network] = networks.get(endpoint.network, 0) + 1
    gateways = [
        {
            "network": service.labels["topology.istio.io/network"],
            "service": service.hostname,
            "addresses": list(service.addresses),
        }
        for service in plane.snapshot.services.all()
        if "topology.istio.io/network" in service.labels
    ]
    return {"networks": networks, "gateways": gateways}


def clusterz(plane: Serving, _query: Query) -> object:
    """Clusters that services are read from: this mesh's own."""
    return [
        {
            "id": "Kubernetes",
            "secretName": "",
            "syncStatus": "synced" if plane.server.ready else "syncing",
        }
    ]


def mcsz(plane: Serving, _query: Query) -> object:
    """Services exported to and imported from other clusters (Multi-Cluster Services API)."""
    return [
        {"kind": resource.key.kind, "namespace": resource.key.namespace, "name": resource.key.name}
        for kind in ("ServiceExport", "ServiceImport")
        for resource in plane.snapshot.of_kind("multicluster.x-k8s.io", kind).values()
    ]


def inject(plane: Serving, _query: Query) -> object:
    """What decides whether a pod gets a sidecar, by namespace, and how many pods have one."""
    snapshot = plane.snapshot
    labels = ("istio-injection", "istio.io/rev", "istio.io/dataplane-mode")
    return {
        "namespaces": {
            resource.key.name: {
                name: resource.labels[name] for name in labels if name in resource.labels
            }
            for resource in snapshot.of_kind("", "Namespace").values()
        },
        "proxies": sum(item.proxy.type is ProxyType.SIDECAR for item in plane.server.connections),
    }


def pushcontext(plane: Serving, _query: Query) -> object:
    """The snapshot that pushes are made from, in figures."""
    counts: dict[str, int] = {}
    for resource in plane.snapshot.resources():
        name = f"{resource.key.group or 'core'}/{resource.key.kind}"
        counts[name] = counts.get(name, 0) + 1
    return {
        "version": plane.snapshot.version,
        "revision": plane.revision,
        "services": len(plane.snapshot.services.all()),
        "objects": dict(sorted(counts.items())),
    }


def _service(service: Service) -> Json:
    return {
        "Attributes": {
            "ServiceRegistry": str(service.registry),
            "Name": service.name,
            "Namespace": service.namespace,
            "Labels": dict(service.labels),
            "ExportTo": {name: {} for name in sorted(service.export_to)},
            "LabelSelectors": dict(service.selector),
        },
        "ports": [
            {"name": port.name, "port": port.number, "protocol": str(port.protocol)}
            for port in service.ports
        ],
        "creationTime": service.creation_timestamp or None,
        "hostname": service.hostname,
        "clusterVIPs": {"Addresses": {"Kubernetes": list(service.addresses)}},
        "defaultAddress": service.addresses[0] if service.addresses else "0.0.0.0",
        "Resolution": _RESOLUTIONS[service.resolution],
        "MeshExternal": service.mesh_external,
        "serviceAccounts": list(service.service_accounts),
        "source": str(service.provenance),
    }


def _endpoint(service: Service, endpoint: Endpoint) -> Json:
    locality = endpoint.locality
    place = "/".join((locality.region, locality.zone, locality.sub_zone)).rstrip("/")
    return {
        "Labels": dict(endpoint.labels),
        "Addresses": [endpoint.address],
        "ServicePortName": endpoint.service_port,
        "ServiceAccount": endpoint.identity.spiffe_id if endpoint.identity else "",
        "Network": endpoint.network,
        "Locality": {"Label": place, "ClusterID": "Kubernetes"},
        "EndpointPort": endpoint.port,
        "LbWeight": endpoint.weight,
        "TLSMode": "istio" if endpoint.mtls else "disabled",
        "Namespace": service.namespace,
        "WorkloadName": endpoint.identity.workload if endpoint.identity else "",
        "HostName": endpoint.hostname,
        "HealthStatus": str(endpoint.health),
        "NodeName": endpoint.node,
    }


def _policy(resource: Resource) -> Json:
    raw = to_raw(resource)
    return {
        "name": resource.key.name,
        "namespace": resource.key.namespace,
        "spec": raw.get("spec", {}),
        "source": str(resource.provenance),
    }
