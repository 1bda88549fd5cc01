"""Discovery messages on the wire for simulated proxies: requests joined, responses scanned.

Nothing is decoded that a proxy of the rig does not need (Protocol Buffers encoding: a field is
its tag, its length, its bytes), so that the rig is not what is measured.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import xxhash

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
SHORT = {CLUSTER: "cds", ENDPOINT: "eds", LISTENER: "lds", ROUTE: "rds", VIRTUAL_HOST: "vhds"}
LONG = {short: url for url, short in SHORT.items()}

_HTTP_MANAGER = (
    b"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    b".HttpConnectionManager"
)
_EDS = 3  # Cluster.DiscoveryType

Entry = tuple[str, str]
"""Name and version of a resource."""


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """What matters of a discovery response. ``references`` are the names that its resources make
    a proxy ask for: endpoints for clusters, route configurations for listeners, and (by the name of
    the route configuration) virtual hosts for route configurations that do not have them inline."""

    type_url: str
    nonce: str
    version: str
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]
    references: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """A response, its bytes, and the end and the body of each of its resources."""

    response: Response
    data: bytes
    ends: list[int]
    bodies: list[tuple[Entry, bytes]]


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Field number and value (bytes, or an integer) of each field of a message."""
    for number, value, _ in _placed_fields(data, 0):
        yield number, value


def _placed_fields(data: bytes, position: int) -> Iterator[tuple[int, bytes | int, int]]:
    """`fields` from ``position`` on, each with its end."""
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 2:
            size, start = _varint(data, position)
            position = start + size
            yield tag >> 3, data[start:position], position
        elif kind == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value, position
        else:
            start = position
            position += 8 if kind == 1 else 4
            yield tag >> 3, int.from_bytes(data[start:position], "little"), position


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


def scan_delta(data: bytes) -> Scanned:
    """A ``DeltaDiscoveryResponse``, or the end of one."""
    type_url = nonce = ""
    removed: list[str] = []
    bodies: list[tuple[Entry, bytes]] = []
    ends: list[int] = []
    for number, value, end in _placed_fields(data, 0):
        if not isinstance(value, bytes):
            continue
        if number == 2:
            found = _scanned.get(value)
            if found is None:
                found = _scanned[value] = _resource(value)
            bodies.append(found)
            ends.append(end)
        elif number == 4:
            type_url = value.decode()
        elif number == 5:
            nonce = value.decode()
        elif number == 6:
            removed.append(value.decode())
    response = response_of(type_url, nonce, "", bodies, tuple(removed), len(data))
    return Scanned(response, data, ends, bodies)


def scan_state(data: bytes) -> Response:
    """A state-of-the-world ``DiscoveryResponse``."""
    version = type_url = nonce = ""
    bodies: list[tuple[Entry, bytes]] = []
    for number, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            version = value.decode()
        elif number == 2:
            body = _any_value(value)
            name = next((v.decode() for n, v in fields(body) if n == 1 and isinstance(v, bytes)))
            bodies.append((_interned(name, xxhash.xxh3_64_hexdigest(body)), body))
        elif number == 4:
            type_url = value.decode()
        elif number == 5:
            nonce = value.decode()
    return response_of(type_url, nonce, version, bodies, (), len(data))


def response_of(
    type_url: str,
    nonce: str,
    version: str,
    bodies: list[tuple[Entry, bytes]],
    removed: tuple[str, ...],
    size: int,
) -> Response:
    """A response with the resources in ``bodies``."""
    found: dict[str, None] = {}
    names = _REFERENCES.get(type_url)
    if names is not None:
        for entry, body in bodies:
            known = _references.get(entry)
            if known is None:
                known = _references[entry] = tuple(names(body))
            found.update(dict.fromkeys(known))
    entries = tuple(entry for entry, _ in bodies)
    return Response(type_url, nonce, version, entries, removed, tuple(found), size)


_references: dict[Entry, tuple[str, ...]] = {}
_scanned: dict[bytes, tuple[Entry, bytes]] = {}
"""Resources by their bytes: proxies that are sent different messages are sent the same ones."""


@functools.lru_cache(maxsize=1 << 18)
def _interned(name: str, version: str) -> Entry:
    return (name, version)


def _resource(data: bytes) -> tuple[Entry, bytes]:
    name = version = ""
    body = b""
    for number, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 3:
            name = value.decode()
        elif number == 1:
            version = value.decode()
        elif number == 2:
            body = value
    return _interned(name, version), _any_value(body)


def _any_value(data: bytes) -> bytes:
    return next((v for n, v in fields(data) if n == 2 and isinstance(v, bytes)), b"")


def _endpoint_name(cluster: bytes) -> Iterator[str]:
    """What an EDS cluster (``type`` EDS) asks for: its ``service_name`` or its own name."""
    name = service = ""
    kind = 0
    for number, value in fields(cluster):
        if number == 1 and isinstance(value, bytes):
            name = value.decode()
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 3 and isinstance(value, bytes):
            service = next(
                (v.decode() for n, v in fields(value) if n == 2 and isinstance(v, bytes)), ""
            )
    if kind == _EDS:
        yield service or name


def _route_names(listener: bytes) -> Iterator[str]:
    """RDS names of all HTTP connection managers of a listener."""
    for number, chain in fields(listener):
        if number not in (3, 25) or not isinstance(chain, bytes):
            continue
        for place, network_filter in fields(chain):
            if place == 3 and isinstance(network_filter, bytes) and _HTTP_MANAGER in network_filter:
                yield from _managed_routes(network_filter)


def _managed_routes(network_filter: bytes) -> Iterator[str]:
    for number, config in fields(network_filter):
        if number != 4 or not isinstance(config, bytes):
            continue
        for place, rds in fields(_any_value(config)):
            if place == 3 and isinstance(rds, bytes):
                yield from (v.decode() for n, v in fields(rds) if n == 2 and isinstance(v, bytes))


def _discovered_hosts(route: bytes) -> Iterator[str]:
    found = dict(fields(route))
    name = found.get(1)
    if 9 in found and isinstance(name, bytes):  # RouteConfiguration.vhds
        yield name.decode()


_REFERENCES = {CLUSTER: _endpoint_name, LISTENER: _route_names, ROUTE: _discovered_hosts}


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    shift = 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
