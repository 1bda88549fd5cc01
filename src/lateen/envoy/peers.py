"""Who the client is, read once per connection from its certificate.

The mesh's authority writes workload, canonical name, revision, app and cluster into the subject
(``CN=workload, OU=canonical, OU=revision, OU=app, O=cluster``); namespace and principal come from
the SPIFFE identity. Nothing travels with requests, so an application cannot pretend to be another.
Certificates without these fields give ``unknown``.
"""

from __future__ import annotations

import functools
from typing import Any

from lateen.envoy import protos
from lateen.envoy.protos import TYPE_PREFIX

WORKLOAD = "peer.workload"
CANONICAL_NAME = "peer.canonical_name"
REVISION = "peer.revision"
APP = "peer.app"
CLUSTER = "peer.cluster"
NAMESPACE = "peer.namespace"
PRINCIPAL = "peer.principal"

_SUBJECT = ((WORKLOAD, "CN"), (CANONICAL_NAME, "OU"), (REVISION, "OU"), (APP, "OU"), (CLUSTER, "O"))
_FILTER = "envoy.extensions.filters.network.set_filter_state.v3.Config"
_CEL = {
    "name": "envoy.formatter.cel",
    "typed_config": {
        "@type": TYPE_PREFIX + "envoy.extensions.formatter.cel.v3.Cel",
        "cel_config": {"enable_string_functions": True, "enable_string_concat": True},
    },
}


@functools.cache
def certificate_filter() -> bytes:
    """Serialised network ``Filter`` that puts the client's facts into the connection's state."""
    values = {
        key: "%CEL(connection.subject_peer_certificate"
        f'.split(",")[{index}].replace("{attribute}=",""))%'
        for index, (key, attribute) in enumerate(_SUBJECT)
    }
    values[NAMESPACE] = '%CEL(connection.uri_san_peer_certificate.split("/")[4])%'
    values[PRINCIPAL] = "%DOWNSTREAM_PEER_URI_SAN%"
    config = {
        "@type": TYPE_PREFIX + _FILTER,
        "on_new_connection": [_state(key, "unknown") for key in values],
        "on_downstream_tls_handshake": [_state(key, text) for key, text in values.items()],
    }
    return protos.from_dict(
        "envoy.config.listener.v3.Filter", {"name": "lateen.peer", "typed_config": config}
    )


def _state(key: str, text: str) -> dict[str, Any]:
    formatters = [_CEL] if "%CEL(" in text else []
    return {
        "object_key": key,
        "factory_key": "envoy.string",
        "format_string": {
            "text_format_source": {"inline_string": text},
            "formatters": formatters,
            "omit_empty_values": True,
        },
        "skip_if_empty": True,
    }


_MESH_ALPN = (
    '%CEL(request.protocol == "HTTP/2" ? "istio-h2,istio,h2" : "istio-http/1.1,istio,http/1.1")%'
)
_ALPN_KEY = "envoy.network.application_protocols"


@functools.cache
def http_alpn_filter() -> bytes:
    """Serialised ``HttpFilter`` that offers the mesh ALPN of the request's own protocol."""
    config = {
        "@type": TYPE_PREFIX + "envoy.extensions.filters.http.set_filter_state.v3.Config",
        "on_request_headers": [
            {
                "object_key": _ALPN_KEY,
                "format_string": {
                    "text_format_source": {"inline_string": _MESH_ALPN},
                    "formatters": [_CEL],
                },
                "shared_with_upstream": "ONCE",
            }
        ],
    }
    name = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"
    return protos.from_dict(name, {"name": "lateen.alpn", "typed_config": config})


@functools.cache
def tcp_alpn_filter() -> bytes:
    """Serialised network ``Filter`` that offers the mesh ALPN for opaque TCP."""
    config = {
        "@type": TYPE_PREFIX + _FILTER,
        "on_new_connection": [
            {
                "object_key": _ALPN_KEY,
                "format_string": {"text_format_source": {"inline_string": "istio"}},
                "shared_with_upstream": "ONCE",
            }
        ],
    }
    return protos.from_dict(
        "envoy.config.listener.v3.Filter", {"name": "lateen.alpn", "typed_config": config}
    )
