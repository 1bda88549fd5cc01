"""Credentials as Envoy secrets, for the proxies that may have them."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from lateen.model.credentials import Credential, credentials
from lateen.model.discovery import (
    CLUSTER,
    LISTENER,
    SECRET,
    DiscoveryResource,
    ResourceSet,
    version_of,
)
from lateen.model.snapshot import Snapshot
from lateen.serve.wire import mentions


def referenced_secret(
    snapshot: Snapshot, namespace: str, name: str, resources: ResourceSet
) -> DiscoveryResource | None:
    """The Envoy secret ``name`` for a proxy whose proved namespace is ``namespace``.

    None when it lies in another namespace, cannot be used (`lateen.model.credentials`), or when
    the proxy's own listeners and clusters (``resources``) do not refer to it.
    """
    found = credentials(snapshot).of(name, namespace)
    # The text of the configuration is searched last: any client can ask for any number of names.
    if found.problem or not _refers(resources, name):
        return None
    return _resource(name, found)


def _refers(resources: ResourceSet, name: str) -> bool:
    return any(
        mentions(resource.body, name)
        for type_url in (LISTENER, CLUSTER)
        for resource in resources.get(type_url, {}).values()
    )


def _resource(name: str, found: Credential) -> DiscoveryResource:
    secret = secret_pb2.Secret(name=name)
    if found.authority:
        secret.validation_context.trusted_ca.inline_bytes = found.authority
        if found.revoked:
            secret.validation_context.crl.inline_bytes = found.revoked
    else:
        secret.tls_certificate.certificate_chain.inline_bytes = found.certificate
        secret.tls_certificate.private_key.inline_bytes = found.key
        if found.staple:
            secret.tls_certificate.ocsp_staple.inline_bytes = found.staple
    body: bytes = secret.SerializeToString(deterministic=True)
    origins = (found.resource.key,) if found.resource is not None else ()
    return DiscoveryResource(SECRET, name, version_of(body), body, origins)
