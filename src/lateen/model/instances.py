"""Which proxies' configuration names their own addresses."""

from __future__ import annotations

from lateen.api.networking.sidecar import Sidecar
from lateen.model import kinds
from lateen.model.proxy import Proxy
from lateen.model.snapshot import Index, Snapshot

_WILDCARDS = ("0.0.0.0:", "[::]:")


def own_addresses(snapshot: Snapshot, proxy: Proxy) -> tuple[str, ...]:
    """The proxy's addresses as its scope has them: none unless a Sidecar that may apply to it has
    an ingress port whose ``defaultEndpoint`` stands for them."""
    spaces = instance_namespaces(snapshot)
    wanted = proxy.namespace in spaces or snapshot.root_namespace in spaces
    return proxy.addresses if wanted else ()


def instance_namespaces(snapshot: Snapshot) -> frozenset[str]:
    """Namespaces with such a Sidecar: the same object as before when they are equal."""
    return snapshot.derived(_INDEX)


def _build(snapshot: Snapshot, previous: frozenset[str] | None) -> frozenset[str]:
    found = frozenset(
        resource.key.namespace
        for resource in snapshot.of_kind(*kinds.SIDECAR).values()
        if isinstance(resource.object, Sidecar)
        and any(
            entry.default_endpoint.startswith(_WILDCARDS) for entry in resource.object.spec.ingress
        )
    )
    return previous if previous is not None and previous == found else found


_INDEX: Index[frozenset[str]] = Index("instance-namespaces", frozenset({kinds.SIDECAR}), _build)
