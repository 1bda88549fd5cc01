"""Envoy metadata: what leads back from running configuration to the objects that asked for it.

``filter_metadata.istio`` is what Istio's tools read (``config``, ``services``, ``subset``,
``external``), with the service repeated as flat fields because access-log operators cannot look
into lists. ``filter_metadata.lateen.origins`` lists every origin as object and field path, or as
the reason in words for what the mesh does by default. Each word here is there a thousand times, so
what the control plane can tell from object and field is not said.
File and line are left out on purpose: they change when a comment is added, and a resource whose
bytes change is sent again. The control plane finds them by the object's key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from envoy.config.core.v3 import base_pb2
from google.protobuf import struct_pb2

from lateen.api.resource import ObjectKey
from lateen.ir.origin import Origin
from lateen.model.service import WorkloadIdentity

Value = str | bool | Sequence["Value"] | Mapping[str, "Value"]
"""What the metadata holds."""

ISTIO = "istio"
LATEEN = "lateen"
SOCKET_MATCH = "envoy.transport_socket_match"


def metadata(**filters: Mapping[str, Value]) -> base_pb2.Metadata:
    """``Metadata`` with the given filters; those without content are left out."""
    return from_filters(filters)


def from_filters(filters: Mapping[str, Mapping[str, Value]]) -> base_pb2.Metadata:
    """As `metadata`, for filter names that are not Python names."""
    result = base_pb2.Metadata()
    for name, content in filters.items():
        if content:
            _fill(result.filter_metadata[name], content)
    return result


def _fill(target: struct_pb2.Struct, content: Mapping[str, Value]) -> None:
    fields = target.fields
    for key, value in content.items():
        _set(fields[key], value)


def _set(target: Any, value: Value) -> None:  # noqa: ANN401 - struct_pb2.Value
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, Mapping):
        _fill(target.struct_value, value)
    else:
        target.list_value.SetInParent()
        for item in value:
            _set(target.list_value.values.add(), item)


def object_text(key: ObjectKey) -> str:
    """``GROUP/KIND/NAMESPACE/NAME``, empty parts kept, so that it can be read back."""
    return "/".join(key)


def parse_object(text: str) -> ObjectKey:
    """The key that `object_text` wrote, with or without a field after it. Raises ``ValueError``
    for any other text."""
    parts = text.partition(" ")[0].rsplit("/", 3)
    if len(parts) != 4:
        raise ValueError(f"{text!r} is not GROUP/KIND/NAMESPACE/NAME")
    return ObjectKey(*parts)


def origins(values: Iterable[Origin]) -> Mapping[str, Value]:
    """The ``lateen`` filter metadata of a part; empty without origins."""
    found = tuple(values)
    # A default is said where there is no more than that to say.
    objects = [origin for origin in found if origin.key is not None]
    entries = [_origin(origin) for origin in objects or found]
    return {"origins": entries} if entries else {}


def _origin(origin: Origin) -> str:
    """``GROUP/KIND/NAMESPACE/NAME FIELD``, or the reason for what is a default."""
    if origin.key is None:
        return origin.reason
    return f"{object_text(origin.key)} {field_text(origin.path)}".rstrip()


def field_text(path: Iterable[str | int]) -> str:
    """``spec.http[0].route`` of a field path."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def config_path(values: Iterable[Origin]) -> str:
    """Istio's ``config`` path: of the first origin that is an object."""
    return next((origin.config_path for origin in values if origin.key is not None), "")


def part(values: tuple[Origin, ...]) -> base_pb2.Metadata | None:
    """Metadata of a route, chain or listener; None when there is nothing to say."""
    if not values:
        return None
    path = config_path(values)
    return metadata(istio={"config": path} if path else {}, lateen=origins(values))


def object_keys(*groups: Iterable[Origin]) -> tuple[ObjectKey, ...]:
    """The objects behind origins, each once, in order of appearance."""
    return tuple(
        dict.fromkeys(origin.key for group in groups for origin in group if origin.key is not None)
    )


class EndpointLabels(NamedTuple):
    """Telemetry labels of an endpoint's workload, or their keys in the ``lateen`` metadata."""

    workload: str
    namespace: str
    app: str
    version: str
    canonical_name: str
    canonical_revision: str
    cluster: str


ENDPOINT_KEYS = EndpointLabels("w", "n", "a", "v", "c", "r", "k")
"""Short, as every endpoint has them; access loggers cannot take ``istio.workload`` apart."""


def endpoint(identity: WorkloadIdentity | None, mtls: bool) -> bytes:
    """Serialised ``Metadata`` of an endpoint: telemetry labels and the transport socket to use.

    ``istio.workload`` is Istio's ``NAME;NAMESPACE;CANONICAL;REVISION;CLUSTER``.
    """
    filters: dict[str, Mapping[str, Value]] = {}
    if identity is not None:
        name = identity.canonical_name or identity.workload
        filters[ISTIO] = {
            "workload": ";".join(
                (
                    identity.workload,
                    identity.namespace,
                    name,
                    identity.canonical_revision,
                    identity.cluster,
                )
            )
        }
        labels = EndpointLabels(
            identity.workload,
            identity.namespace,
            identity.app,
            identity.version,
            name,
            identity.canonical_revision,
            identity.cluster,
        )
        filters[LATEEN] = {
            key: value for key, value in zip(ENDPOINT_KEYS, labels, strict=True) if value
        }
    if mtls:
        filters[SOCKET_MATCH] = {"tlsMode": "istio"}
    body: bytes = from_filters(filters).SerializeToString(deterministic=True)
    return body
