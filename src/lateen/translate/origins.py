"""Origins: why a part is there, as an object's field or as a default with a name."""

from __future__ import annotations

from lateen.api.findings import FieldPath
from lateen.api.resource import Resource
from lateen.ir.origin import Origin
from lateen.model.service import Service


def of_resource(resource: Resource, path: FieldPath, reason: str) -> Origin:
    """The field ``path`` of ``resource`` asked for it."""
    return Origin(reason=reason, key=resource.key, path=path, provenance=resource.provenance)


def of_service(service: Service, reason: str, path: FieldPath = ()) -> Origin:
    """The service's own object asked for it."""
    return Origin(reason=reason, key=service.key, path=path, provenance=service.provenance)


def default(reason: str) -> Origin:
    """No object asked for it: ``reason`` names the default of the mesh."""
    return Origin(reason=f"default: {reason}")


LOOP_GUARD = default("loop-guard (traffic addressed to the proxy's own port is dropped)")
ALLOW_ANY = default("outbound-traffic-policy ALLOW_ANY (unknown destinations pass through)")
ALLOW_ANY_DYNAMIC_DNS = default(
    "outbound-traffic-policy ALLOW_ANY_DYNAMIC_DNS (unknown hosts are looked up by name)"
)
REGISTRY_ONLY = default("outbound-traffic-policy REGISTRY_ONLY (unknown destinations are blocked)")
CATCH_ALL = default("catch-all (all captured traffic without a listener of its own)")
INBOUND_DEFAULT = default("inbound (ports of the workload that no service declares)")
DEFAULT_ROUTE = default("service route (no VirtualService names this host)")
AUTO_MTLS = default("auto-mtls (mutual TLS to endpoints that have a sidecar)")
NO_VIRTUAL_SERVICE = default("blackhole (no VirtualService is bound to this server)")
