"""Endpoints: Envoy ``ClusterLoadAssignment``."""

from __future__ import annotations

import functools

from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from lateen.envoy import metadata, values
from lateen.ir.cluster import Endpoint, LoadAssignment, LocalityEndpoints
from lateen.model.service import Health, WorkloadIdentity

_HEALTH = {
    Health.HEALTHY: health_check_pb2.HEALTHY,
    Health.UNHEALTHY: health_check_pb2.UNHEALTHY,
    Health.DRAINING: health_check_pb2.DRAINING,
}


_FIELD_ENDPOINTS = endpoint_pb2.ClusterLoadAssignment.DESCRIPTOR.fields_by_name["endpoints"].number
_FIELD_LB_ENDPOINTS = endpoint_components_pb2.LocalityLbEndpoints.DESCRIPTOR.fields_by_name[
    "lb_endpoints"
].number


def load_assignment(source: LoadAssignment) -> bytes:
    """Serialised ``ClusterLoadAssignment``; localities and endpoints keep their order."""
    own = endpoint_pb2.ClusterLoadAssignment(cluster_name=source.cluster)
    if source.overprovisioning_factor is not None:
        own.policy.overprovisioning_factor.value = source.overprovisioning_factor
    body: bytes = own.SerializeToString(deterministic=True)
    return body + b"".join(
        values.delimited(_FIELD_ENDPOINTS, _locality(locality)) for locality in source.localities
    )


def _locality(source: LocalityEndpoints) -> bytes:
    own = endpoint_components_pb2.LocalityLbEndpoints(priority=source.priority)
    place = source.locality
    if place.region or place.zone or place.sub_zone:
        own.locality.CopyFrom(
            base_pb2.Locality(region=place.region, zone=place.zone, sub_zone=place.sub_zone)
        )
    if source.weight:
        own.load_balancing_weight.value = source.weight
    body: bytes = own.SerializeToString(deterministic=True)
    return body + b"".join(
        values.delimited(_FIELD_LB_ENDPOINTS, _endpoint(endpoint)) for endpoint in source.endpoints
    )


def _endpoint(source: Endpoint) -> bytes:
    # Not kept: addresses change all the time, and what is made here once is kept as the resource.
    # Serialised messages that follow each other merge: the shared part is made once per workload.
    own = endpoint_components_pb2.LbEndpoint()
    if source.weight != 1:  # Envoy's own default
        own.load_balancing_weight.value = source.weight
    if source.address.startswith("unix://"):
        own.endpoint.address.pipe.path = source.address.removeprefix("unix://")
    else:
        address = own.endpoint.address.socket_address
        address.address = source.address
        address.port_value = source.port
    if source.hostname:
        own.endpoint.hostname = source.hostname
    if source.health is not Health.HEALTHY:
        own.health_status = _HEALTH[source.health]
    body: bytes = own.SerializeToString()
    return body + _shared(source.identity, source.mtls)


@functools.lru_cache(maxsize=16384)
def _shared(identity: WorkloadIdentity | None, mtls: bool) -> bytes:
    body = metadata.endpoint(identity, mtls)
    if not body:
        return b""
    shared = endpoint_components_pb2.LbEndpoint(metadata=base_pb2.Metadata.FromString(body))
    result: bytes = shared.SerializeToString(deterministic=True)
    return result
