"""HTTP/2 frames (RFC 9113, section 4 and 6) and gRPC messages as what goes on the wire.

A message that many proxies are sent is serialised once and framed once: all connections write
slices of the same bytes.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

HEADER_SIZE = 9
FRAME_SIZE = 16_384
"""Largest payload that every receiver takes without having said so; we neither send nor take
larger ones."""
MAX_WINDOW = 0x7FFFFFFF
DEFAULT_WINDOW = 65_535

SETTING_ENABLE_PUSH = 2
SETTING_MAX_CONCURRENT_STREAMS = 3
SETTING_INITIAL_WINDOW_SIZE = 4
SETTING_MAX_FRAME_SIZE = 5
SETTING_MAX_HEADER_LIST_SIZE = 6

_HEADER = struct.Struct(">HBBBL")
_SETTING = struct.Struct(">HL")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    size = len(payload)
    return _HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def parse_header(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int, int, int]:
    """Length, type, flags and stream of the frame header at a position."""
    high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
    return high << 8 | low, kind, flags, stream & MAX_WINDOW


def settings(pairs: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in pairs.items()))


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values of a SETTINGS frame, whose length must be right."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, amount: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, amount.to_bytes(4, "big"))


def reset(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


class Part:
    """A piece of a message. What is sent in frames to many streams is kept in that form alone."""

    __slots__ = ("_data", "_framed", "size")

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data: bytes | None = data
        self._framed: bytes | None = None

    @property
    def data(self) -> bytes:
        """The bytes themselves."""
        if self._data is not None:
            return self._data
        assert self._framed is not None
        step, framed = FRAME_SIZE + HEADER_SIZE, self._framed
        return b"".join(
            framed[start + HEADER_SIZE : start + step] for start in range(0, len(framed), step)
        )

    @property
    def framed(self) -> bytes:
        """As DATA frames of stream 1, each but the last of `FRAME_SIZE`."""
        if self._framed is None:
            data = self._data
            assert data is not None
            pieces: list[bytes] = []
            for start in range(0, len(data), FRAME_SIZE):
                piece = data[start : start + FRAME_SIZE]
                size = len(piece)
                pieces.append(_HEADER.pack(size >> 8, size & 0xFF, DATA, 0, 1))
                pieces.append(piece)
            self._framed = b"".join(pieces)
            self._data = None
        return self._framed

    def slice(self, start: int, end: int) -> bytes:
        """``data[start:end]``; both within one frame's payload."""
        if self._data is not None:
            return self._data[start:end]
        assert self._framed is not None
        place = start + HEADER_SIZE * (start // FRAME_SIZE + 1)
        return self._framed[place : place + end - start]


class Payload:
    """A message in parts, of which several messages may have some in common."""

    __slots__ = ("_single", "parts", "size")

    def __init__(self, *parts: Part) -> None:
        self.parts = parts
        self.size = sum(part.size for part in parts)
        self._single: bytes | None = None

    @classmethod
    def of(cls, data: bytes) -> Payload:
        """A message in one part."""
        return cls(Part(data))

    @property
    def data(self) -> bytes:
        """The whole message."""
        if len(self.parts) == 1:
            return self.parts[0].data
        return b"".join(part.data for part in self.parts)

    @property
    def prefix(self) -> bytes:
        """What gRPC puts before a message: not compressed, and its length."""
        return b"\0" + self.size.to_bytes(4, "big")

    @property
    def single(self) -> bytes:
        """The one DATA frame of stream 1 that it is; only for those of `fits`."""
        if self._single is None:
            self._single = frame(DATA, 0, 1, self.prefix + self.data)
        return self._single

    @property
    def fits(self) -> bool:
        """Whether it goes into one frame."""
        return self.size <= FRAME_SIZE - 5
