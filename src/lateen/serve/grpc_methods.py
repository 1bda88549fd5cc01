"""Which gRPC method a request asks for, and whether it is served."""

from __future__ import annotations

from lateen.pki.identity import SpiffeId
from lateen.serve.grpc_headers import Headers
from lateen.serve.protocol import Dialect
from lateen.serve.transport import Refusal

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_METHODS = {
    f"/{SERVICE}/DeltaAggregatedResources": Dialect.DELTA,
    f"/{SERVICE}/StreamAggregatedResources": Dialect.STATE,
}


def requested(
    headers: Headers, identity: SpiffeId | None, *, draining: bool
) -> tuple[Dialect, SpiffeId]:
    """The protocol variant of a new stream and the identity that it is for. Raises `Refusal`."""
    dialect = _METHODS.get(headers.get(":path"))
    if headers.get(":method") != "POST" or not headers.get("content-type").startswith(
        "application/grpc"
    ):
        raise Refusal("INTERNAL", "this server speaks gRPC")
    if dialect is None:
        raise Refusal("UNIMPLEMENTED", f"there is no method {headers.get(':path')}")
    if draining:
        raise Refusal("UNAVAILABLE", "the control plane is stopping")
    if identity is None:
        words = "the client certificate must carry exactly one SPIFFE ID"
        raise Refusal("UNAUTHENTICATED", words)
    return dialect, identity
