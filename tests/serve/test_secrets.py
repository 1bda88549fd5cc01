"""Credentials go to gateways of the same namespace that refer to them, to nobody else."""

from __future__ import annotations

import base64

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from lateen.api.resource import Resource
from lateen.model.discovery import LISTENER, DiscoveryResource, ResourceSet
from lateen.serve.secrets import referenced_secret
from lateen.serve.wire import encode_named_empty
from tests.serve.mesh import parsed, snapshot_of


def secret(name: str, **data: str) -> Resource:
    return parsed(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "edge"},
            "data": {
                key.replace("_", "."): base64.b64encode(value.encode()).decode()
                for key, value in data.items()
            },
        }
    )


def referring(*names: str) -> ResourceSet:
    body = b"".join(encode_named_empty(name) for name in names)
    return {LISTENER: {"l": DiscoveryResource(LISTENER, "l", "1", body)}}


def test_a_referenced_credential_of_the_own_namespace_is_served() -> None:
    snapshot, _ = snapshot_of(secret("web", tls_crt="CERT", tls_key="KEY"))
    name = "kubernetes://web"
    found = referenced_secret(snapshot, "edge", name, referring(name))
    assert found is not None
    message = secret_pb2.Secret.FromString(found.body)
    assert message.name == name
    assert message.tls_certificate.private_key.inline_bytes == b"KEY"
    assert [str(key) for key in found.origins] == ["Secret edge/web"]


def test_what_is_not_referred_to_or_lies_elsewhere_is_not() -> None:
    snapshot, _ = snapshot_of(secret("web", tls_crt="CERT", tls_key="KEY"))
    name = "kubernetes://web"
    assert referenced_secret(snapshot, "edge", name, referring("kubernetes://web2")) is None
    assert referenced_secret(snapshot, "other", name, referring(name)) is None
    foreign = "kubernetes-gateway://edge/web"
    assert referenced_secret(snapshot, "other", foreign, referring(foreign)) is None
    assert referenced_secret(snapshot, "edge", foreign, referring(foreign)) is not None
    assert referenced_secret(snapshot, "edge", "default", referring("default")) is None


def test_the_ca_of_a_credential_comes_from_it_or_from_a_secret_of_its_own() -> None:
    name = "kubernetes://web-cacert"
    own, _ = snapshot_of(
        secret("web", tls_crt="C", tls_key="K", ca_crt="inside"), secret("web-cacert", cacert="own")
    )
    inside, _ = snapshot_of(secret("web", tls_crt="C", tls_key="K", ca_crt="inside"))
    for snapshot, expected in ((own, b"own"), (inside, b"inside")):
        found = referenced_secret(snapshot, "edge", name, referring(name))
        assert found is not None
        message = secret_pb2.Secret.FromString(found.body)
        assert message.validation_context.trusted_ca.inline_bytes == expected


def test_a_secret_without_what_is_asked_for_is_none() -> None:
    snapshot, _ = snapshot_of(secret("web", tls_crt="C"))
    assert (
        referenced_secret(snapshot, "edge", "kubernetes://web", referring("kubernetes://web"))
        is None
    )
