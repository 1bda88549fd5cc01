"""Discovery requests of simulated proxies, joined from parts that many of them say alike (Protocol
Buffers encoding: a field is its tag, its length, its bytes), so that the rig is not what is
measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
SHORT = {CLUSTER: "cds", ENDPOINT: "eds", LISTENER: "lds", ROUTE: "rds", VIRTUAL_HOST: "vhds"}
LONG = {short: url for url, short in SHORT.items()}

Entry = tuple[str, str]
"""Name and version of a resource."""


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return bytes((number << 3 | 2,)) + _encoded(len(content)) + content


def delta_request(
    type_url: str,
    *,
    node: bytes = b"",
    subscribe: Iterable[str] = (),
    have: Mapping[str, str] | None = None,
    nonce: str = "",
    error: str = "",
) -> bytes:
    """A ``DeltaDiscoveryRequest``; ``node`` is a serialised ``core.v3.Node``."""
    parts = [field(1, node)] if node else []
    parts.append(field(2, type_url.encode()))
    parts.append(_names(subscribe))
    if have:
        parts.append(_versions(have))
    if nonce:
        parts.append(field(6, nonce.encode()))
    if error:
        parts.append(field(7, b"\x08\x0d" + field(2, error.encode())))
    return b"".join(parts)


def state_request(
    type_url: str,
    *,
    node: bytes = b"",
    names: Iterable[str] = (),
    version: str = "",
    nonce: str = "",
    error: str = "",
) -> bytes:
    """A state-of-the-world ``DiscoveryRequest``."""
    parts = [field(1, version.encode())] if version else []
    if node:
        parts.append(field(2, node))
    parts += [field(3, name.encode()) for name in names]
    parts.append(field(4, type_url.encode()))
    if nonce:
        parts.append(field(5, nonce.encode()))
    if error:
        parts.append(field(6, b"\x08\x0d" + field(2, error.encode())))
    return b"".join(parts)


_encoded_names: dict[tuple[str, ...], bytes] = {}
_encoded_versions: dict[int, tuple[Mapping[str, str], bytes]] = {}
"""What proxies hold, by the identity of the mapping that all in the same state share."""


def _names(names: Iterable[str]) -> bytes:
    key = tuple(names)
    known = _encoded_names.get(key)
    if known is None:
        if len(_encoded_names) > 1024:
            _encoded_names.clear()
        known = _encoded_names[key] = b"".join(field(3, name.encode()) for name in key)
    return known


def _versions(have: Mapping[str, str]) -> bytes:
    known = _encoded_versions.get(id(have))
    if known is None or known[0] is not have:
        if len(_encoded_versions) > 1024:
            _encoded_versions.clear()
        data = b"".join(map(_encoded_entries.__getitem__, have.items()))
        known = _encoded_versions[id(have)] = (have, data)
    return known[1]


class _EncodedEntries(dict[Entry, bytes]):
    """Encoded once for all proxies: most of what they hold is the same."""

    def __missing__(self, entry: Entry) -> bytes:
        if len(self) > 1 << 18:
            self.clear()
        name, version = entry
        made = self[entry] = field(5, field(1, name.encode()) + field(2, version.encode()))
        return made


_encoded_entries = _EncodedEntries()


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and where what comes after it begins."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
