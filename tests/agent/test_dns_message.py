"""The DNS codec against hostile and random input."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen.agent import dns_message as wire

labels = st.binary(min_size=1, max_size=20)
names = st.lists(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20),
    min_size=1,
    max_size=6,
).map(".".join)


@given(names, st.integers(1, 260), st.integers(0, 65535))
def test_a_query_is_read_as_it_was_written(name: str, record_type: int, identity: int) -> None:
    query = wire.parse_query(wire.query_message(name, record_type, identity))
    assert (query.name, query.type, query.id) == (name, record_type, identity)
    assert query.edns_size == wire.UDP_LIMIT


@given(st.binary(max_size=600))
def test_no_bytes_break_the_reader(message: bytes) -> None:
    for read in (wire.parse_query, wire.read_answers, lambda m: wire.cut_to(m, 100)):
        with contextlib.suppress(wire.MalformedMessageError, __import__("struct").error):
            read(message)
    wire.error_response(message, wire.FORMAT_ERROR)


@given(names, st.lists(st.tuples(names, st.ip_addresses(v=4)), max_size=60), st.integers(512, 1300))
def test_an_answer_never_exceeds_its_limit(
    name: str, records: list[tuple[str, object]], limit: int
) -> None:
    query = wire.parse_query(wire.query_message(name, wire.TYPE_A))
    written = [wire.address_record(owner, str(address), 5) for owner, address in records]
    message = wire.response(query, wire.NO_ERROR, written, limit=limit)
    assert len(message) <= limit
    code, read = wire.read_answers(message)
    assert code == wire.NO_ERROR
    assert read == written[: len(read)]
    assert wire.is_truncated(message) == (len(read) < len(written))


@given(st.lists(labels, min_size=1, max_size=8))
def test_names_of_any_bytes_survive(raw: list[bytes]) -> None:
    encoded = b"".join(bytes([len(label)]) + label for label in raw) + b"\0"
    name, end = wire.read_name(encoded, 0)
    assert end == len(encoded)
    assert wire.encode_name(name) == encoded.lower()


def test_pointers_may_not_run_in_circles() -> None:
    header = wire.HEADER.pack(1, 0, 1, 0, 0, 0)
    for name in (b"\xc0\x0c", b"\x01a\xc0\x0c", b"\xc0\x20", b"\xc0"):
        with pytest.raises(wire.MalformedMessageError):
            wire.parse_query(header + name + b"\0\1\0\1")


def test_cutting_an_answer_leaves_a_readable_one() -> None:
    query = wire.parse_query(wire.query_message("big.example.com", wire.TYPE_A))
    records = [wire.address_record("big.example.com", f"10.0.0.{n}", 5) for n in range(200)]
    whole = wire.response(query, wire.NO_ERROR, records)
    part = wire.cut_to(whole, 512)
    assert len(part) <= 512
    assert wire.is_truncated(part)
    assert wire.read_answers(part)[1] == records[: len(wire.read_answers(part)[1])]
    assert len(wire.read_answers(part)[1]) > 20
    assert wire.cut_to(whole, len(whole)) == whole


def test_an_answer_to_another_question_is_not_taken() -> None:
    asked = wire.query_message("a.example.com", wire.TYPE_A, 7)
    reply = wire.response(wire.parse_query(asked), wire.NO_ERROR)
    other = wire.response(
        wire.parse_query(wire.query_message("b.example.com", wire.TYPE_A, 7)), wire.NO_ERROR
    )
    assert wire.answers_query(reply, asked)
    assert not wire.answers_query(other, asked)
    assert not wire.answers_query(wire.with_id(reply, 8), asked)
    assert not wire.answers_query(asked, asked)
