"""Credentials of gateways: Kubernetes Secrets as Envoy secrets, for those that may have them."""

from __future__ import annotations

import base64
import binascii

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from lateen.api.core.config import ConfigMap, Secret
from lateen.api.resource import ObjectKey, Resource
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

KUBERNETES = "kubernetes://"
KUBERNETES_GATEWAY = "kubernetes-gateway://"
CONFIG_MAP = "configmap://"
CA_SUFFIX = "-cacert"

_CERTIFICATE_KEYS = (("tls.crt", "tls.key"), ("cert", "key"))
_CA_KEYS = ("ca.crt", "cacert")
_CRL_KEYS = ("ca.crl", "crl")


def referenced_secret(
    snapshot: Snapshot, namespace: str, name: str, resources: ResourceSet
) -> DiscoveryResource | None:
    """The Envoy secret ``name`` for a gateway whose proved namespace is ``namespace``.

    None when the gateway's own listeners and clusters (``resources``) do not refer to it, when
    it lies in another namespace, or when the object does not exist or lacks what is asked for.
    """
    place = _place(name, namespace)
    if place is None or place[1] != namespace or not _refers(resources, name):
        return None
    kind, where, object_name = place
    if kind == "ConfigMap":
        resource = snapshot.get(ObjectKey("", kind, where, object_name))
        return _authority(name, resource)
    if object_name.endswith(CA_SUFFIX):
        # A Secret of exactly this name wins; else the CA inside the Secret without the suffix.
        for candidate in (object_name, object_name.removesuffix(CA_SUFFIX)):
            found = _authority(name, snapshot.get(ObjectKey("", kind, where, candidate)))
            if found is not None:
                return found
        return None
    resource = snapshot.get(ObjectKey("", kind, where, object_name))
    return _certificate(name, resource) or _authority(name, resource)


def _place(name: str, namespace: str) -> tuple[str, str, str] | None:
    """Kind, namespace and name of the object behind an SDS name."""
    if name.startswith(KUBERNETES):
        return "Secret", namespace, name.removeprefix(KUBERNETES)
    for prefix, kind in ((KUBERNETES_GATEWAY, "Secret"), (CONFIG_MAP, "ConfigMap")):
        if name.startswith(prefix):
            where, _, object_name = name.removeprefix(prefix).partition("/")
            return kind, where, object_name
    return None


def _refers(resources: ResourceSet, name: str) -> bool:
    return any(
        mentions(resource.body, name)
        for type_url in (LISTENER, CLUSTER)
        for resource in resources.get(type_url, {}).values()
    )


def _certificate(name: str, resource: Resource | None) -> DiscoveryResource | None:
    data = _data(resource)
    for certificate, key in _CERTIFICATE_KEYS:
        if data.get(certificate) and data.get(key):
            secret = secret_pb2.Secret(name=name)
            secret.tls_certificate.certificate_chain.inline_bytes = data[certificate]
            secret.tls_certificate.private_key.inline_bytes = data[key]
            if data.get("tls.ocsp-staple"):
                secret.tls_certificate.ocsp_staple.inline_bytes = data["tls.ocsp-staple"]
            return _resource(name, secret, resource)
    return None


def _authority(name: str, resource: Resource | None) -> DiscoveryResource | None:
    data = _data(resource)
    bundle = next((data[key] for key in _CA_KEYS if data.get(key)), b"")
    if not bundle:
        return None
    secret = secret_pb2.Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = bundle
    crl = next((data[key] for key in _CRL_KEYS if data.get(key)), b"")
    if crl:
        secret.validation_context.crl.inline_bytes = crl
    return _resource(name, secret, resource)


def _data(resource: Resource | None) -> dict[str, bytes]:
    if resource is None:
        return {}
    item = resource.object
    if isinstance(item, ConfigMap):
        return {key: value.encode() for key, value in item.data.items()}
    if not isinstance(item, Secret):
        return {}
    data: dict[str, bytes] = {}
    for key, value in item.data.items():
        try:
            data[key] = base64.b64decode(value, validate=False)
        except (binascii.Error, ValueError):
            continue
    data.update((key, value.encode()) for key, value in item.string_data.items())
    return data


def _resource(name: str, secret: secret_pb2.Secret, resource: Resource | None) -> DiscoveryResource:
    body: bytes = secret.SerializeToString(deterministic=True)
    origins = (resource.key,) if resource is not None else ()
    return DiscoveryResource(SECRET, name, version_of(body), body, origins)
