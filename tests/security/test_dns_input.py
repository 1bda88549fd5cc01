"""Bytes that no resolver would send: the cluster's DNS answers or is silent, and goes on."""

from __future__ import annotations

import asyncio
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.agent import dns_message as wire
from lateen.agent.dns import ClusterDns

_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "reviews", "namespace": "default"},
    "spec": {"clusterIP": "10.96.1.1", "ports": [{"name": "http", "port": 80}]},
}


async def _nowhere(query: bytes) -> bytes:
    """A resolver of the machine that repeats the question: the worst that it may answer."""
    return query


def _answer(message: bytes, *, udp: bool) -> bytes | None:
    dns = ClusterDns(_nowhere)
    dns.apply("ADDED", _SERVICE)
    return asyncio.run(dns.answer(message, "10.244.0.9", udp=udp))


label = st.binary(min_size=1, max_size=63).map(lambda text: bytes([len(text)]) + text)
pointer = st.integers(0, 0x3FFF).map(lambda offset: struct.pack("!H", 0xC000 | offset))
name = st.lists(st.one_of(label, pointer), max_size=12).map(b"".join)
question = st.builds(
    lambda text, end, kind, klass: text + end + struct.pack("!HH", kind, klass),
    name,
    st.sampled_from((b"\0", b"", b"\xc0\x0c", b"\xff")),
    st.integers(0, 0xFFFF),
    st.sampled_from((1, 255, 0, 3)),
)
header = st.tuples(*[st.integers(0, 0xFFFF)] * 2, *[st.integers(0, 3)] * 4).map(
    lambda fields: struct.pack("!6H", *fields)
)
message = st.one_of(
    st.binary(max_size=600),
    st.builds(
        lambda head, parts, rest: head + b"".join(parts) + rest,
        header,
        st.lists(question, max_size=3),
        st.binary(max_size=80),
    ),
)


@given(message, st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_message_is_survived(data: bytes, udp: bool) -> None:
    answer = _answer(data, udp=udp)
    if answer is not None:
        assert answer[:2] == data[:2]
        assert len(answer) <= (4096 if udp else wire.TCP_LIMIT)


@given(message)
@settings(max_examples=400, deadline=None)
def test_any_answer_of_a_resolver_is_survived(data: bytes) -> None:
    try:
        wire.read_answers(data)
    except wire.MalformedMessageError:
        return


def test_a_name_that_points_at_itself_ends() -> None:
    loop = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c" + struct.pack("!HH", 1, 1)
    answer = _answer(loop, udp=True)
    assert answer is None or answer[3] & 0xF == wire.FORMAT_ERROR
