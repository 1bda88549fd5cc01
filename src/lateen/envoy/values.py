"""Small conversions to well-known protobuf types."""

from __future__ import annotations

from envoy.config.core.v3 import address_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2, duration_pb2, message, wrappers_pb2

from lateen.envoy.protos import TYPE_PREFIX

UINT32_MAX = 4294967295


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds, to the nanosecond."""
    nanoseconds = round(seconds * 1_000_000_000)
    return duration_pb2.Duration(
        seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000
    )


def uint32(value: int) -> wrappers_pb2.UInt32Value:
    """An optional unsigned number."""
    return wrappers_pb2.UInt32Value(value=value)


def boolean(value: bool) -> wrappers_pb2.BoolValue:
    """An optional truth value."""
    return wrappers_pb2.BoolValue(value=value)


def packed(name: str, body: bytes) -> any_pb2.Any:
    """An ``Any`` of an already serialised message; ``name`` is its full name."""
    return any_pb2.Any(type_url=TYPE_PREFIX + name, value=body)


def pack(value: message.Message) -> any_pb2.Any:
    """An ``Any`` of a message, serialised deterministically."""
    return packed(value.DESCRIPTOR.full_name, value.SerializeToString(deterministic=True))


def per_million(percent: float) -> percent_pb2.FractionalPercent:
    """A percentage from 0 to 100 in millionths, the finest that Envoy rolls."""
    return percent_pb2.FractionalPercent(
        numerator=min(1_000_000, max(0, round(percent * 10_000))),
        denominator=percent_pb2.FractionalPercent.MILLION,
    )


def socket_address(address: str, port: int) -> address_pb2.Address:
    """``unix://`` path, IP address or (for DNS clusters) host name."""
    if address.startswith("unix://"):
        return address_pb2.Address(pipe=address_pb2.Pipe(path=address.removeprefix("unix://")))
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(address=address, port_value=port)
    )


def delimited(field: int, body: bytes) -> bytes:
    """A message field on the wire (length-delimited), for fragments that are put together."""
    return delimiter(field, len(body)) + body


def delimiter(field: int, size: int) -> bytes:
    """What comes before ``size`` bytes of a message field on the wire."""
    return _varint(field << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _BYTES[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_BYTES = [bytes((value,)) for value in range(0x80)]


ON_DEMAND_TIMEOUT = 5.0
"""Seconds that a request waits for a cluster which the proxy has to fetch first."""


def on_demand_source() -> dict[str, object]:
    """Where clusters are fetched from on demand (Envoy ``OnDemandCds``), as JSON data."""
    source = {"ads": {}, "resource_api_version": "V3"}
    return {"source": source, "timeout": f"{ON_DEMAND_TIMEOUT:g}s"}
