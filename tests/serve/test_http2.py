"""The HTTP/2 of the server: well-formed clients are served, others get the error of RFC 9113."""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.serve import http2_frames as wire
from lateen.serve.grpc_headers import Headers
from lateen.serve.http2_connection import ProtocolViolation, ServerConnection
from lateen.serve.http2_frames import Part, Payload
from lateen.serve.http2_stream import ServerStream

REQUEST = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/service/Method"),
    (":authority", "server"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
GREETING = wire.PREFACE + wire.settings({})


@dataclass
class Recorder:
    """An owner that answers each stream with its headers and remembers what it is told."""

    connection: ServerConnection = field(init=False)
    streams: list[ServerStream] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def opened(self, stream: ServerStream, headers: Headers) -> None:
        self.streams.append(stream)
        self.headers.append(headers)
        self.connection.respond(stream)

    def received(self, stream: ServerStream, message: bytes) -> None:
        self.messages.append(message)

    def finished(self, stream: ServerStream) -> None:
        self.ended.append("finished")

    def reset(self, stream: ServerStream) -> None:
        self.ended.append("reset")


def server(streams: int = 4) -> Recorder:
    """A server's side, with its owner."""
    owner = Recorder()
    owner.connection = ServerConnection(owner, streams=streams)
    return owner


def written(owner: Recorder) -> bytes:
    """Everything the server would write now."""
    pieces = []
    while (piece := owner.connection.output()) is not None:
        pieces.append(bytes(piece))
    return b"".join(pieces)


def client(window: int | None = None) -> h2.connection.H2Connection:
    """Another implementation of the other side, with streams of a small window if need be."""
    made = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    made.initiate_connection()
    if window is not None:
        made.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    return made


def exchange(
    peer: h2.connection.H2Connection, owner: Recorder
) -> tuple[bytes, list[h2.events.Event]]:
    """Let both sides talk until they have nothing to say; gives the data that the client got."""
    data = b""
    events: list[h2.events.Event] = []
    while True:
        sent, answered = peer.data_to_send(), b""
        if sent:
            owner.connection.receive(sent)
        answered = written(owner)
        if not sent and not answered:
            return data, events
        for event in peer.receive_data(answered):
            events.append(event)
            if isinstance(event, h2.events.DataReceived):
                data += event.data
                peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)


def grpc(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def trailers(events: list[h2.events.Event]) -> dict[str, str]:
    """The status that ended the only stream."""
    (found,) = [event for event in events if isinstance(event, h2.events.TrailersReceived)]
    return {str(name): str(value) for name, value in found.headers or ()}


def test_a_stream_from_its_request_to_its_status() -> None:
    peer, owner = client(), server()
    peer.send_headers(1, REQUEST)
    peer.send_data(1, grpc(b"one") + grpc(b"two")[:3])
    exchange(peer, owner)
    peer.send_data(1, grpc(b"two")[3:], pad_length=7)
    exchange(peer, owner)
    assert owner.messages == [b"one", b"two"]
    assert owner.headers[0].get(":path") == "/service/Method"

    stream = owner.streams[0]
    stream.send(Payload.of(b"answer"))
    stream.finish(7, "not for you: 100 % ümlaut")
    data, events = exchange(peer, owner)
    assert data == grpc(b"answer")
    assert trailers(events) == {
        "grpc-status": "7",
        "grpc-message": "not for you: 100 %25 %C3%BCmlaut",
    }
    assert not list(owner.connection.streams)


def test_long_headers_come_in_continuations() -> None:
    peer, owner = client(), server()
    exchange(peer, owner)
    peer.send_headers(1, [*REQUEST, ("x-long", "a" * 25_000)])
    exchange(peer, owner)
    assert owner.headers[0].get("x-long") == "a" * 25_000


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("window", [None, 1, 100, 20_000])
def test_flow_control_is_obeyed_and_nothing_is_lost(number: int, window: int | None) -> None:
    peer, owner = client(window), server()
    peer.send_headers(number, REQUEST)
    exchange(peer, owner)
    size = 500 if window == 1 else 120_000
    shared, own = bytes(range(250)) * (size // 250), b"tail"
    owner.streams[0].send(Payload(Part(shared), Part(own)))
    owner.streams[0].send(Payload.of(b"next"))
    owner.streams[0].finish(0)
    # h2 raises when more comes than its windows allow.
    data, _ = exchange(peer, owner)
    assert data == grpc(shared + own) + grpc(b"next")


def test_streams_take_turns() -> None:
    peer, owner = client(), server()
    for number in (1, 3):
        peer.send_headers(number, REQUEST)
    peer.increment_flow_control_window(10_000_000)
    peer.increment_flow_control_window(10_000_000, 1)
    exchange(peer, owner)
    owner.streams[0].send(Payload.of(b"x" * 3_000_000))
    owner.streams[1].send(Payload.of(b"small"))
    first = owner.connection.output()
    assert first is not None
    pieces = [bytes(owner.connection.output() or b"") for _ in range(3)]
    assert any(b"small" in piece for piece in pieces)


def test_what_was_framed_for_many_is_read_back() -> None:
    data = bytes(range(256)) * 300
    part = Part(data)
    assert len(part.framed) == len(data) + 9 * 5
    assert part.data == data
    assert part.slice(16_384, 16_400) == data[16_384:16_400]


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return wire.frame(kind, flags, stream, payload)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Type and payload of each frame."""
    found, place = [], 0
    while place < len(data):
        size, kind, _, _ = wire.parse_header(data, place)
        found.append((kind, data[place + 9 : place + 9 + size]))
        place += 9 + size
    return found


def headers(stream: int = 1, fields: list[tuple[str, str]] | None = None, flags: int = 4) -> bytes:
    return raw(wire.HEADERS, flags, stream, Encoder().encode(fields or REQUEST))


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


BOMB = Encoder().encode([*REQUEST, ("x", "y" * 3000)]) + b"\xbe" * 30  # the last one, often
ATTACKS: dict[str, tuple[bytes, int]] = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", wire.PROTOCOL_ERROR),
    "no settings": (wire.PREFACE + raw(wire.PING, 0, 0, b"8" * 8), wire.PROTOCOL_ERROR),
    "settings acknowledged first": (
        wire.PREFACE + raw(wire.SETTINGS, wire.ACK, 0),
        wire.PROTOCOL_ERROR,
    ),
    "long frame": (GREETING + b"\x00\x40\x01" + bytes(6), wire.FRAME_SIZE_ERROR),
    "data without a stream": (GREETING + raw(wire.DATA, 0, 0, b"x"), wire.PROTOCOL_ERROR),
    "data of no stream": (GREETING + raw(wire.DATA, 0, 1, b"x"), wire.PROTOCOL_ERROR),
    "reset of no stream": (GREETING + raw(wire.RST_STREAM, 0, 1, number(8)), wire.PROTOCOL_ERROR),
    "window of no stream": (
        GREETING + raw(wire.WINDOW_UPDATE, 0, 5, number(1)),
        wire.PROTOCOL_ERROR,
    ),
    "even stream": (GREETING + headers(2), wire.PROTOCOL_ERROR),
    "stream zero": (GREETING + headers(0), wire.PROTOCOL_ERROR),
    "older stream": (GREETING + headers(3) + headers(1), wire.STREAM_CLOSED),
    "push": (GREETING + raw(wire.PUSH_PROMISE, 4, 1, number(2)), wire.PROTOCOL_ERROR),
    "continuation alone": (GREETING + raw(wire.CONTINUATION, 4, 1), wire.PROTOCOL_ERROR),
    "interrupted headers": (
        GREETING + headers(1, flags=0) + raw(wire.PING, 0, 0, b"8" * 8),
        wire.PROTOCOL_ERROR,
    ),
    "continuation of another": (
        GREETING + headers(1, flags=0) + raw(wire.CONTINUATION, 4, 3),
        wire.PROTOCOL_ERROR,
    ),
    "endless continuations": (
        GREETING + headers(1, flags=0) + raw(wire.CONTINUATION, 0, 1) * 100,
        wire.ENHANCE_YOUR_CALM,
    ),
    "huge headers": (
        GREETING + headers(1, flags=0) + raw(wire.CONTINUATION, 0, 1, bytes(16_000)) * 6,
        wire.ENHANCE_YOUR_CALM,
    ),
    "headers that cannot be read": (
        GREETING + raw(wire.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),
        wire.COMPRESSION_ERROR,
    ),
    "headers that grow": (GREETING + raw(wire.HEADERS, 4, 1, BOMB), wire.COMPRESSION_ERROR),
    "padding beyond the frame": (
        GREETING + headers() + raw(wire.DATA, wire.PADDED, 1, b"\x05abc"),
        wire.PROTOCOL_ERROR,
    ),
    "short headers": (
        GREETING + raw(wire.HEADERS, 4 | wire.HAS_PRIORITY, 1, b"abc"),
        wire.FRAME_SIZE_ERROR,
    ),
    "settings of seven bytes": (GREETING + raw(wire.SETTINGS, 0, 0, bytes(7)), 6),
    "settings on a stream": (GREETING + raw(wire.SETTINGS, 0, 1), wire.PROTOCOL_ERROR),
    "settings acknowledged with more": (
        GREETING + raw(wire.SETTINGS, wire.ACK, 0, bytes(6)),
        wire.FRAME_SIZE_ERROR,
    ),
    "push that is neither": (GREETING + wire.settings({2: 2}), wire.PROTOCOL_ERROR),
    "initial window": (GREETING + wire.settings({4: 1 << 31}), wire.FLOW_CONTROL_ERROR),
    "frame size": (GREETING + wire.settings({5: 100}), wire.PROTOCOL_ERROR),
    "window that grows too large": (
        GREETING + wire.window_update(0, wire.MAX_WINDOW),
        wire.FLOW_CONTROL_ERROR,
    ),
    "streams' windows that grow too large": (
        GREETING + headers() + wire.window_update(1, wire.MAX_WINDOW - 70_000)
        + wire.settings({4: 1_000_000}),
        wire.FLOW_CONTROL_ERROR,
    ),
    "window by nothing": (GREETING + wire.window_update(0, 0), wire.PROTOCOL_ERROR),
    "window of three bytes": (
        GREETING + raw(wire.WINDOW_UPDATE, 0, 0, b"abc"),
        wire.FRAME_SIZE_ERROR,
    ),
    "ping of seven bytes": (GREETING + raw(wire.PING, 0, 0, bytes(7)), wire.FRAME_SIZE_ERROR),
    "ping on a stream": (GREETING + raw(wire.PING, 0, 1, bytes(8)), wire.PROTOCOL_ERROR),
    "priority of four bytes": (
        GREETING + raw(wire.PRIORITY, 0, 1, bytes(4)),
        wire.FRAME_SIZE_ERROR,
    ),
    "reset of three bytes": (
        GREETING + headers() + raw(wire.RST_STREAM, 0, 1, b"abc"),
        wire.FRAME_SIZE_ERROR,
    ),
    "go away on a stream": (GREETING + raw(wire.GOAWAY, 0, 1, bytes(8)), wire.PROTOCOL_ERROR),
    "flood of pings": (GREETING + raw(wire.PING, 0, 0, bytes(8)) * 5000, wire.ENHANCE_YOUR_CALM),
    "flood of settings": (GREETING + wire.settings({}) * 5000, wire.ENHANCE_YOUR_CALM),
    "flood of priorities": (
        GREETING + raw(wire.PRIORITY, 0, 1, bytes(5)) * 5000,
        wire.ENHANCE_YOUR_CALM,
    ),
    "flood of nothing": (
        GREETING + headers() + raw(wire.DATA, 0, 1) * 5000,
        wire.ENHANCE_YOUR_CALM,
    ),
    "flood of unknown frames": (GREETING + raw(0x42, 0, 0) * 5000, wire.ENHANCE_YOUR_CALM),
    "rapid reset": (
        GREETING
        + b"".join(
            headers(n) + raw(wire.RST_STREAM, 0, n, number(8)) for n in range(1, 5000, 2)
        ),
        wire.ENHANCE_YOUR_CALM,
    ),
    "unfinished messages on many streams": (
        GREETING
        + b"".join(
            headers(n) + raw(wire.DATA, 0, n, b"\0\x00\x3f\xff\xff" + bytes(16_000))
            + raw(wire.DATA, 0, n, bytes(16_000)) * 200
            for n in (1, 3, 5)
        ),
        wire.ENHANCE_YOUR_CALM,
    ),
}  # fmt: skip


def deliver(owner: Recorder, data: bytes) -> None:
    """Hand over what a client sends, in pieces."""
    for start in range(0, len(data), 7000):
        owner.connection.receive(data[start : start + 7000])


@pytest.mark.parametrize("name", ATTACKS)
def test_who_breaks_the_protocol_is_told_and_gone(name: str) -> None:
    attack, code = ATTACKS[name]
    owner = server()
    with pytest.raises(ProtocolViolation) as violation:
        deliver(owner, attack)
    assert violation.value.code == code
    out = written(owner)
    *_, (kind, body) = frames_of(out)
    assert kind == wire.GOAWAY
    assert int.from_bytes(body[4:8], "big") == code
    assert len(out) < 200_000


MALFORMED: dict[str, list[tuple[str, str]]] = {
    "without a path": [pair for pair in REQUEST if pair[0] != ":path"],
    "upper case": [*REQUEST, ("X-Up", "1")],
    "pseudo header late": [REQUEST[0], ("te", "trailers"), *REQUEST[1:4]],
    "pseudo header twice": [REQUEST[0], *REQUEST],
    "pseudo header of a response": [(":status", "200"), *REQUEST],
    "header of a connection": [*REQUEST, ("connection", "close")],
    "te": [*REQUEST[:4], ("te", "gzip")],
    "line end": [*REQUEST, ("x", "a\r\nb: c")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_ends_its_stream_alone(name: str) -> None:
    owner = server()
    owner.connection.receive(GREETING + headers(1, MALFORMED[name]))
    assert wire.reset(1, wire.PROTOCOL_ERROR) in written(owner)
    assert not owner.streams
    owner.connection.receive(headers(3))
    assert len(owner.streams) == 1


def test_more_streams_than_allowed_are_refused() -> None:
    owner = server(streams=2)
    owner.connection.receive(GREETING + headers(1) + headers(3) + headers(5))
    assert wire.reset(5, wire.REFUSED_STREAM) in written(owner)
    owner.connection.receive(raw(wire.RST_STREAM, 0, 1, number(8)) + headers(7))
    assert [stream.number for stream in owner.streams] == [1, 3, 7]
    assert owner.ended == ["reset"]


@pytest.mark.parametrize(
    ("prefix", "status"), [(b"\0\xff\xff\xff\xff", 8), (b"\1\0\0\0\5abcde", 12)]
)
def test_messages_that_are_not_taken_end_the_stream_with_a_status(
    prefix: bytes, status: int
) -> None:
    peer, owner = client(), server()
    peer.send_headers(1, REQUEST)
    peer.send_data(1, prefix)
    _, events = exchange(peer, owner)
    assert trailers(events)["grpc-status"] == str(status)
    assert owner.messages == []


def test_frames_of_a_stream_that_has_ended_here_are_ignored() -> None:
    owner = server()
    owner.connection.receive(GREETING + headers())
    owner.streams[0].finish(0)
    assert wire.reset(1, wire.NO_ERROR) in written(owner)
    late = raw(wire.DATA, 0, 1, grpc(b"late")) + wire.window_update(1, 5)
    owner.connection.receive(late + raw(wire.RST_STREAM, 0, 1, number(8)))
    assert owner.messages == []


def test_after_going_away_streams_are_refused_and_open_ones_go_on() -> None:
    owner = server()
    owner.connection.receive(GREETING + headers())
    owner.connection.go_away()
    owner.connection.receive(raw(wire.DATA, 0, 1, grpc(b"still")) + headers(3))
    assert owner.messages == [b"still"]
    assert wire.reset(3, wire.REFUSED_STREAM) in written(owner)


@settings(deadline=None, max_examples=200)
@given(
    frames=st.lists(
        st.tuples(
            st.integers(0, 11), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)
        ),
        max_size=12,
    ),
    cut=st.integers(1, 50),
)
def test_any_frames_are_taken_or_refused_and_however_they_are_cut(
    frames: list[tuple[int, int, int, bytes]], cut: int
) -> None:
    data = GREETING + headers() + b"".join(raw(*frame) for frame in frames)
    whole, pieces = server(), server()
    found = [_outcome(whole, [data])]
    found.append(_outcome(pieces, [data[i : i + cut] for i in range(0, len(data), cut)]))
    assert found[0] == found[1]
    assert whole.messages == pieces.messages
    assert whole.ended == pieces.ended


def _outcome(owner: Recorder, pieces: list[bytes]) -> int | None:
    try:
        for piece in pieces:
            owner.connection.receive(piece)
    except ProtocolViolation as violation:
        return violation.code
    return None
