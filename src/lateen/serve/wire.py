"""Discovery messages on the wire: requests parsed with protobuf, responses joined by hand.

A response is a few fields around resources that are already serialised, so it is assembled from
bytes (Protocol Buffers encoding: a field is its tag, its length, its bytes). Tests hold the
result to what the generated classes parse.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import DecodeError

from lateen.model.discovery import DiscoveryResource
from lateen.model.service import Locality
from lateen.serve.claims import Claims, fingerprint
from lateen.serve.protocol import DeltaRequest, Dialect, Rejection, StateRequest
from lateen.serve.request_message import DeltaRequestMessage
from lateen.serve.views import intern_names

if TYPE_CHECKING:
    # The generated classes have no types; they do not leave this module.
    DiscoveryMessage: TypeAlias = Any

_MAX_ERROR_TEXT = 4096
# A proxy's words go to logs and terminals. Envoy separates what it refuses by line ends.
_NO_CONTROLS = {code: " " for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x0A}
_MAX_DEBUG_REQUEST = 4096
"""Bytes after the node. The node may be an Envoy's, with 60 kB of extensions."""
_SMALL = 512
"""Bytes of a request that may be one of many alike."""
_MAX_NODE = 1024 * 1024
_MAX_KEPT = 64 * 1024
"""Bytes of a node's fields that are kept as long as its stream."""


class MalformedRequest(Exception):
    """A message that is no discovery request."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a proxy says of itself in its first request (Envoy ``core.v3.Node``)."""

    id: str
    cluster: str = ""
    locality: Locality = Locality()
    metadata: Mapping[str, object] = field(default_factory=dict)
    version: str = ""
    """Envoy's version, for instance ``1.40.0``; empty when it does not say."""


def parse_delta(data: bytes) -> tuple[DeltaRequest, Node | None]:
    """Decode a ``DeltaDiscoveryRequest``. Raises `MalformedRequest`."""
    message = DeltaRequestMessage()
    _decode(message, data)
    return _delta_request(message), _node(message)


def parse_state(data: bytes) -> tuple[StateRequest, Node | None]:
    """Decode a state-of-the-world ``DiscoveryRequest``. Raises `MalformedRequest`."""
    message = discovery_pb2.DiscoveryRequest()
    _decode(message, data)
    return _state_request(message), _node(message)


def parse_request(dialect: Dialect, data: bytes) -> DeltaRequest | StateRequest:
    """Decode a request but for its node. Raises `MalformedRequest`."""
    # Proxies that were sent the same message acknowledge it with the same bytes.
    return _parse_small(dialect, data) if len(data) <= _SMALL else _parse(dialect, data)


def _parse(dialect: Dialect, data: bytes) -> DeltaRequest | StateRequest:
    if dialect is Dialect.DELTA:
        message = DeltaRequestMessage()
        _decode(message, data)
        return _delta_request(message)
    message = discovery_pb2.DiscoveryRequest()
    _decode(message, data)
    return _state_request(message)


_parse_small = functools.lru_cache(maxsize=1024)(_parse)


def parse_node(dialect: Dialect, data: bytes) -> Node | None:
    """The node of a request. Raises `MalformedRequest`.

    The rest, which may name thousands of resources, is not decoded when the node comes first.
    """
    begin, end = _node_span(dialect, data)
    if not begin:
        return (parse_delta if dialect is Dialect.DELTA else parse_state)(data)[1]
    message = DeltaRequestMessage()  # its first field is the node
    _decode(message, _field(1, data[begin:end]))
    return _node(message)


def _node_span(dialect: Dialect, data: bytes) -> tuple[int, int]:
    """Where the node of a request begins and ends; zeros unless it comes first, as it does from all
    that write fields in their order. Raises `MalformedRequest`."""
    number = 1 if dialect is Dialect.DELTA else 2
    start = _skip_version(data) if dialect is Dialect.STATE else 0
    if data[start : start + 1] == bytes((number << 3 | 2,)):
        size, begin = _read_varint(data, start + 1)
        if size <= _MAX_NODE and begin + size <= len(data):
            return begin, begin + size
    return 0, 0


def _skip_version(data: bytes) -> int:
    """Where the field after ``version_info`` begins."""
    if data[:1] != b"\x0a":
        return 0
    size, begin = _read_varint(data, 1)
    return begin + size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    for place in range(at, min(at + 5, len(data))):
        value |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return value, place + 1
        shift += 7
    raise MalformedRequest("not a discovery request")


def _delta_request(message: DiscoveryMessage) -> DeltaRequest:
    return DeltaRequest(
        type_url=message.type_url,
        subscribe=_names(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=Claims(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=_rejection(message),
    )


def _names(names: Sequence[bytes]) -> Collection[str]:
    """``names`` as text. Many are read once for all proxies that ask for the same."""
    try:
        if len(names) < _MANY_NAMES:
            return tuple([name.decode() for name in names])
        key = len(names), fingerprint(names)
        found = _asked.get(key)
        if found is None:
            found = _asked[key] = intern_names([name.decode() for name in names])
    except UnicodeDecodeError as error:
        raise MalformedRequest("not a discovery request: a name is not UTF-8") from error
    return found


_MANY_NAMES = 64
_asked: WeakValueDictionary[tuple[int, int], frozenset[str]] = WeakValueDictionary()
"""By number and fingerprint, for as long as some proxy asks for them."""


def _state_request(message: DiscoveryMessage) -> StateRequest:
    return StateRequest(
        type_url=message.type_url,
        names=tuple(message.resource_names),
        version=message.version_info,
        nonce=message.response_nonce,
        error=_rejection(message),
    )


def encode_delta(
    type_url: str,
    resources: Iterable[DiscoveryResource],
    removed: Iterable[str],
    nonce: str,
    version: str = "",
) -> bytes:
    """A ``DeltaDiscoveryResponse``."""
    kind = _field(1, type_url.encode())
    parts = [_field(1, version.encode())] if version else []
    for resource in resources:
        # Bodies are copied once, when all is joined.
        number, name = _field(1, resource.version.encode()), _field(3, resource.name.encode())
        length = resource.size
        value = _head(2, length)
        size = len(kind) + len(value) + length
        packed = _head(2, size)
        whole = _head(2, len(number) + len(packed) + size + len(name))
        parts += (whole, number, packed, kind, value, *resource.pieces, name)
    parts.append(_field(4, type_url.encode()))
    parts.append(_field(5, nonce.encode()))
    parts.extend(_field(6, name.encode()) for name in removed)
    return b"".join(parts)


def encode_state(
    type_url: str, resources: Iterable[DiscoveryResource], nonce: str, version: str
) -> bytes:
    """A state-of-the-world ``DiscoveryResponse``."""
    kind = _field(1, type_url.encode())
    parts = [_field(1, version.encode())]
    for resource in resources:
        length = resource.size
        value = _head(2, length)
        whole = _head(2, len(kind) + len(value) + length)
        parts += (whole, kind, value, *resource.pieces)
    parts.append(_field(4, type_url.encode()))
    parts.append(_field(5, nonce.encode()))
    return b"".join(parts)


def encode_named_empty(name: str) -> bytes:
    """A ``RouteConfiguration`` or ``ClusterLoadAssignment`` with a name (field 1) and no more."""
    return _field(1, name.encode())


DEBUG_TYPE = "istio.io/debug"
"""Type of requests about the control plane itself; ``istio.io/debug/syncz`` and the like too."""
_DEBUG_BYTES = DEBUG_TYPE.encode()


def asks_to_debug(dialect: Dialect, data: bytes) -> bool:
    """Whether a request may be one for a ``istio.io/debug`` type: quick, and only a hint."""
    try:
        _, end = _node_span(dialect, data)
    except MalformedRequest:
        return False  # whoever reads it says so
    return data.find(_DEBUG_BYTES, end, end + _MAX_DEBUG_REQUEST) >= 0


def encode_state_of(
    type_url: str, bodies: Iterable[tuple[str, bytes]], nonce: str, version: str, server: str
) -> bytes:
    """A ``DiscoveryResponse`` whose resources have types of their own (type URL and bytes).
    ``server`` is the identifier of the control plane."""
    parts = [_field(1, version.encode())]
    parts.extend(_field(2, _field(1, kind.encode()) + _field(2, body)) for kind, body in bodies)
    parts.append(_field(4, type_url.encode()))
    parts.append(_field(5, nonce.encode()))
    parts.append(_field(6, _field(1, server.encode())))
    return b"".join(parts)


def encode_delta_of(
    type_url: str, name: str, bodies: Iterable[tuple[str, bytes]], nonce: str, server: str
) -> bytes:
    """As `encode_state_of`, a ``DeltaDiscoveryResponse`` of resources called ``name``."""
    parts = [
        _field(2, _field(2, _field(1, kind.encode()) + _field(2, body)) + _field(3, name.encode()))
        for kind, body in bodies
    ]
    parts.append(_field(4, type_url.encode()))
    parts.append(_field(5, nonce.encode()))
    parts.append(_field(7, _field(1, server.encode())))
    return b"".join(parts)


def mentions(body: bytes, text: str) -> bool:
    """Whether a serialised message holds ``text`` as a whole string field."""
    encoded = text.encode()
    return _varint(len(encoded)) + encoded in body


def _field(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


@functools.lru_cache(maxsize=8192)
def _head(number: int, size: int) -> bytes:
    """What comes before ``size`` bytes of a field: its tag and its length."""
    return bytes((number << 3 | 2,)) + _varint(size)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode(message: DiscoveryMessage, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MalformedRequest("not a discovery request") from error


def _rejection(message: DiscoveryMessage) -> Rejection | None:
    if not message.HasField("error_detail"):
        return None
    detail = message.error_detail
    message = detail.message[:_MAX_ERROR_TEXT].translate(_NO_CONTROLS)
    return Rejection(message=message, code=detail.code)


class _Metadata(Mapping[str, object]):
    """A node's metadata, serialised until somebody looks: of most proxies nobody ever does, as the
    objects of their workloads say more."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def _decoded(self) -> dict[str, object]:
        found: dict[str, object] = json_format.MessageToDict(
            struct_pb2.Struct.FromString(self._body)
        )
        return found

    def __getitem__(self, name: str) -> object:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())


def _node(message: DiscoveryMessage) -> Node | None:
    if not message.HasField("node"):
        return None
    node = message.node
    texts = (node.id, node.cluster, *(text for _, text in node.locality.ListFields()))
    if node.metadata.ByteSize() + sum(map(len, texts)) > _MAX_KEPT:
        raise MalformedRequest(f"the node's id and metadata are larger than {_MAX_KEPT} bytes")
    build = node.user_agent_build_version.version
    version = f"{build.major_number}.{build.minor_number}.{build.patch}"
    return Node(
        id=node.id,
        cluster=node.cluster,
        locality=Locality(node.locality.region, node.locality.zone, node.locality.sub_zone),
        metadata=_Metadata(node.metadata.SerializeToString()),
        version="" if version == "0.0.0" else version,
    )
