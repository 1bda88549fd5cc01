"""DNS messages on the wire (RFC 1035, 6891): reading queries, writing answers, cutting to size.

Written here because the agent has little memory to spend and needs little: one question per
message, a handful of record types, and the rest passed on untouched.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TYPE_A, TYPE_NS, TYPE_CNAME, TYPE_SOA, TYPE_PTR, TYPE_TXT = 1, 2, 5, 6, 12, 16
TYPE_AAAA, TYPE_SRV, TYPE_OPT, TYPE_ANY = 28, 33, 41, 255
CLASS_IN = 1

NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED = range(6)
BAD_VERSION = 16

UDP_LIMIT = 1232
"""Bytes of a UDP answer at most: fits an Ethernet or tunnel path without fragments."""
PLAIN_UDP_LIMIT = 512
"""The same for clients without EDNS (RFC 1035 §4.2.1)."""
TCP_LIMIT = 65_535
HEADER = struct.Struct("!HHHHHH")

_QR, _AA, _TC, _RD, _RA, _CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
_MAXIMUM_NAME = 255
_MAXIMUM_LABEL = 63
_MAXIMUM_POINTERS = 64
_MAXIMUM_POINTER_OFFSET = 0x3FFF


class MalformedMessageError(ValueError):
    """The bytes are not a DNS message that can be answered."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question with what the answer must respect."""

    id: int
    opcode: int
    recursion_desired: bool
    checking_disabled: bool
    name: str
    """Lower case, without the final dot; bytes that are no host name characters are escaped."""
    type: int
    record_class: int
    question: bytes
    """The question as it came, to be repeated letter by letter."""
    edns_size: int | None
    """UDP payload size the client can take, None without EDNS."""
    edns_version: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A resource record of class IN; ``data`` is its uncompressed RDATA."""

    name: str
    type: int
    ttl: int
    data: bytes


def parse_query(message: bytes) -> Query:
    """Read a query. Raises `MalformedMessageError`."""
    if len(message) < HEADER.size:
        raise MalformedMessageError("shorter than a header")
    identity, flags, questions, answers, authorities, additionals = HEADER.unpack_from(message)
    if flags & _QR:
        raise MalformedMessageError("an answer, not a query")
    if questions != 1 or answers or authorities > 1:
        raise MalformedMessageError("not exactly one question")
    name, offset = read_name(message, HEADER.size)
    if offset + 4 > len(message):
        raise MalformedMessageError("the question is cut off")
    record_type, record_class = struct.unpack_from("!HH", message, offset)
    offset += 4
    question = message[HEADER.size : offset]
    if len(question) - 4 != len(encode_name(name)):
        raise MalformedMessageError("the question's name is compressed")
    size: int | None = None
    version = 0
    for _ in range(authorities + additionals):
        _, kind, size_or_class, ttl, _, offset = _read_record(message, offset)
        if kind == TYPE_OPT:
            if size is not None:
                raise MalformedMessageError("more than one OPT record")
            size, version = size_or_class, (ttl >> 16) & 0xFF
    return Query(
        id=identity,
        opcode=(flags >> 11) & 0xF,
        recursion_desired=bool(flags & _RD),
        checking_disabled=bool(flags & _CD),
        name=name,
        type=record_type,
        record_class=record_class,
        question=question,
        edns_size=size,
        edns_version=version,
    )


def query_message(name: str, record_type: int, identity: int = 0) -> bytes:
    """A recursive query with EDNS, for asking an upstream resolver."""
    header = HEADER.pack(identity, _RD, 1, 0, 0, 1)
    question = encode_name(name) + struct.pack("!HH", record_type, CLASS_IN)
    return header + question + _opt(0)


def udp_limit(query: Query) -> int:
    """Bytes that an answer over UDP to this query may have."""
    if query.edns_size is None:
        return PLAIN_UDP_LIMIT
    return max(PLAIN_UDP_LIMIT, min(query.edns_size, UDP_LIMIT))


def response(
    query: Query,
    code: int,
    answers: Sequence[Record] = (),
    *,
    authority: Sequence[Record] = (),
    additional: Sequence[Record] = (),
    authoritative: bool = True,
    limit: int = TCP_LIMIT,
) -> bytes:
    """The answer to ``query`` in at most ``limit`` bytes.

    Records that do not fit are left out: additional ones silently, answers and authority with the
    truncation flag, so that the client asks again over TCP.
    """
    writer = _Writer(query, limit)
    cut = False
    counts = [0, 0, 0]
    for section, records in enumerate((answers, authority, additional)):
        for record in records:
            if cut or not writer.add(record):
                cut = cut or section < 2
                break
            counts[section] += 1
    flags = _QR | query.opcode << 11 | (code & 0xF) | _RA
    flags |= _AA if authoritative else 0
    flags |= _TC if cut else 0
    flags |= _RD if query.recursion_desired else 0
    flags |= _CD if query.checking_disabled else 0
    return writer.finish(flags, counts, code)


def error_response(message: bytes, code: int) -> bytes | None:
    """An answer without a question to bytes that `parse_query` refused; None when it is unsafe."""
    if len(message) < HEADER.size:
        return None
    identity, flags = struct.unpack_from("!HH", message)
    if flags & _QR:
        return None  # answering answers makes two servers talk for ever
    return HEADER.pack(identity, _QR | (flags & 0x7900) | code, 0, 0, 0, 0)


def read_answers(message: bytes) -> tuple[int, list[Record]]:
    """Response code and answer section of an upstream's answer. Raises `MalformedMessageError`.

    Names inside CNAME records are decompressed, so that the records can be put in another message.
    """
    if len(message) < HEADER.size:
        raise MalformedMessageError("shorter than a header")
    _, flags, questions, count, _, _ = HEADER.unpack_from(message)
    offset = HEADER.size
    for _ in range(questions):
        _, offset = read_name(message, offset)
        offset += 4
    records = []
    for _ in range(count):
        name, kind, record_class, ttl, start, offset = _read_record(message, offset)
        if record_class != CLASS_IN:
            continue
        if kind in (TYPE_CNAME, TYPE_PTR, TYPE_NS):
            data = encode_name(read_name(message, start)[0])
        elif kind in (TYPE_A, TYPE_AAAA, TYPE_TXT):
            data = message[start:offset]
        else:
            continue  # may hold compressed names that we do not know how to move
        records.append(Record(name, kind, ttl, data))
    return flags & 0xF, records


def is_truncated(message: bytes) -> bool:
    """Whether a message has the truncation flag."""
    return len(message) >= HEADER.size and bool(message[2] & (_TC >> 8))


def with_id(message: bytes, identity: int) -> bytes:
    """The message with another identity."""
    return struct.pack("!H", identity) + message[2:]


def answers_query(answer: bytes, query: bytes) -> bool:
    """Whether ``answer`` belongs to ``query``: identity and question are equal (RFC 5452 §9.1)."""
    if len(answer) < HEADER.size or not answer[2] & 0x80 or answer[:2] != query[:2]:
        return False
    if answer[4:6] == b"\0\0":
        return answer[3] & 0xF != NO_ERROR  # refusals may leave the question out
    try:
        asked, end = read_name(query, HEADER.size)
        name, answer_end = read_name(answer, HEADER.size)
    except MalformedMessageError:
        return False
    return name == asked and answer[answer_end : answer_end + 4] == query[end : end + 4]


def cut_to(message: bytes, limit: int) -> bytes:
    """An answer cut to ``limit`` bytes at a record's end, with the truncation flag when cut.

    Raises `MalformedMessageError`.
    """
    if len(message) <= limit:
        return message
    identity, flags, questions, count, _, _ = HEADER.unpack_from(message)
    offset = HEADER.size
    for _ in range(questions):
        _, offset = read_name(message, offset)
        offset += 4
    if offset > len(message):
        raise MalformedMessageError("the question is cut off")
    kept = 0
    while kept < count:
        end = _read_record(message, offset)[5]
        if end > limit:
            break
        offset, kept = end, kept + 1
    if offset > limit:
        questions, kept, offset = 0, 0, HEADER.size
    return HEADER.pack(identity, flags | _TC, questions, kept, 0, 0) + message[HEADER.size : offset]


def read_name(message: bytes, offset: int) -> tuple[str, int]:
    """A name in lower case and the offset behind it. Raises `MalformedMessageError`.

    Pointers may only lead backwards, so reading always ends.
    """
    labels: list[str] = []
    length = 0
    end = -1
    floor = offset
    for _ in range(_MAXIMUM_POINTERS + _MAXIMUM_NAME):
        if offset >= len(message):
            break
        size = message[offset]
        if size == 0:
            return ".".join(labels), offset + 1 if end < 0 else end
        if size & 0xC0 == 0xC0:
            if offset + 1 >= len(message):
                break
            target = (size & 0x3F) << 8 | message[offset + 1]
            if target >= floor:
                raise MalformedMessageError("a name points forward")
            if end < 0:
                end = offset + 2
            offset = floor = target
            continue
        if size > _MAXIMUM_LABEL:
            raise MalformedMessageError("unknown label type")
        if offset + 1 + size > len(message):
            break
        length += size + 1
        if length >= _MAXIMUM_NAME:
            raise MalformedMessageError("a name is too long")
        labels.append(_label_text(message[offset + 1 : offset + 1 + size]))
        offset += 1 + size
    raise MalformedMessageError("a name is cut off")


def encode_name(name: str) -> bytes:
    """A name uncompressed. Raises `MalformedMessageError` when it is no valid name."""
    encoded = b"".join(_label_bytes(label) for label in name.split(".")) if name else b""
    if len(encoded) >= _MAXIMUM_NAME:
        raise MalformedMessageError(f"the name {name!r} is too long")
    return encoded + b"\0"


def address_record(name: str, address: str, ttl: int) -> Record:
    """An A or AAAA record."""
    ip = ipaddress.ip_address(address)
    return Record(name, TYPE_A if ip.version == 4 else TYPE_AAAA, ttl, ip.packed)


def name_record(name: str, record_type: int, target: str, ttl: int) -> Record:
    """A CNAME, PTR or NS record."""
    return Record(name, record_type, ttl, encode_name(target))


def service_record(name: str, port: int, target: str, ttl: int, weight: int = 100) -> Record:
    """An SRV record (RFC 2782)."""
    return Record(name, TYPE_SRV, ttl, struct.pack("!HHH", 0, weight, port) + encode_name(target))


def text_record(name: str, text: str, ttl: int) -> Record:
    """A TXT record of one short string."""
    raw = text.encode()
    return Record(name, TYPE_TXT, ttl, bytes([len(raw)]) + raw)


def authority_record(zone: str, ttl: int) -> Record:
    """The SOA record of a zone; ``ttl`` is also how long a "no such name" may be kept."""
    numbers = struct.pack("!IIIII", 1, 7200, 1800, 86400, ttl)
    data = encode_name(f"ns.dns.{zone}") + encode_name(f"hostmaster.{zone}") + numbers
    return Record(zone, TYPE_SOA, ttl, data)


class _Writer:
    """Builds a message; owner names are compressed against names written before."""

    def __init__(self, query: Query, limit: int) -> None:
        self._query = query
        self._edns = query.edns_size is not None
        self._limit = limit - (11 if self._edns else 0)
        self._body = bytearray(HEADER.size) + query.question
        self._known: dict[str, int] = {}
        self._remember(query.name, HEADER.size)

    def add(self, record: Record) -> bool:
        """Append a record; False, and nothing written, when it does not fit."""
        start = len(self._body)
        rest, prefix = record.name, []
        while rest and rest not in self._known:
            label, _, rest = rest.partition(".")
            prefix.append(_label_bytes(label))
        self._body += b"".join(prefix)
        self._body += struct.pack("!H", 0xC000 | self._known[rest]) if rest else b"\0"
        self._body += struct.pack(
            "!HHIH", record.type, CLASS_IN, max(record.ttl, 0), len(record.data)
        )
        self._body += record.data
        if len(self._body) > self._limit:
            del self._body[start:]
            return False
        self._remember(record.name, start)
        return True

    def finish(self, flags: int, counts: Sequence[int], code: int) -> bytes:
        HEADER.pack_into(
            self._body, 0, self._query.id, flags, 1, counts[0], counts[1], counts[2] + self._edns
        )
        return bytes(self._body) + (_opt(code >> 4) if self._edns else b"")

    def _remember(self, name: str, offset: int) -> None:
        while name and name not in self._known and offset <= _MAXIMUM_POINTER_OFFSET:
            self._known[name] = offset
            label, _, name = name.partition(".")
            offset += len(_label_bytes(label))


def _opt(extended_code: int) -> bytes:
    return b"\0" + struct.pack("!HHBBHH", TYPE_OPT, UDP_LIMIT, extended_code, 0, 0, 0)


def _read_record(message: bytes, offset: int) -> tuple[str, int, int, int, int, int]:
    """Name, type, class, TTL, start of the data and the offset behind the record."""
    name, offset = read_name(message, offset)
    if offset + 10 > len(message):
        raise MalformedMessageError("a record is cut off")
    kind, record_class, ttl, size = struct.unpack_from("!HHIH", message, offset)
    start = offset + 10
    if start + size > len(message):
        raise MalformedMessageError("a record's data is cut off")
    return name, kind, record_class, ttl, start, start + size


def _label_text(label: bytes) -> str:
    """A label as text; bytes that would be mistaken for structure become ``\\DDD``."""
    text = label.decode("latin-1")
    if label.isalnum() or all(33 <= byte < 127 and byte not in b".\\" for byte in label):
        return text.lower()
    return "".join(
        chr(byte).lower() if 33 <= byte < 127 and byte not in b".\\" else f"\\{byte:03d}"
        for byte in label
    )


def _label_bytes(label: str) -> bytes:
    parts: Iterable[str] = label.split("\\")
    first, *escaped = parts
    try:
        raw = first.encode("latin-1")
        for part in escaped:
            raw += bytes([int(part[:3])]) + part[3:].encode("latin-1")
    except ValueError as error:
        raise MalformedMessageError(f"{label!r} is no label") from error
    if not 0 < len(raw) <= _MAXIMUM_LABEL:
        raise MalformedMessageError(f"{label!r} is no label")
    return bytes([len(raw)]) + raw
