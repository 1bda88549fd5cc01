"""Reads Bookinfo's ratings from MongoDB or MySQL: just enough of each protocol, no drivers.

The databases are those of the Bookinfo sample: a collection or table ``ratings`` in the database
``test``. Every read has a connection of its own, as a mesh of TCP routes should see it.
"""

import asyncio
import hashlib
import struct
from collections.abc import Mapping
from typing import Final

TIMEOUT: Final = 5.0
"""Seconds one read may take, connecting included."""
_MAX_MESSAGE: Final = 1024 * 1024


class CannotConnect(Exception):
    """Nothing answers at the database's address, or it refuses to let us in."""


class CannotRead(Exception):
    """The database answered, but not with ratings."""


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(host: str, port: int) -> Streams:
    try:
        return await asyncio.open_connection(host, port)
    except OSError as error:
        raise CannotConnect(f"{host}:{port}: {error}") from error


# --- MongoDB: OP_MSG, https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ -------


async def mongodb(environment: Mapping[str, str]) -> list[int]:
    """``rating`` of each document of test.ratings at MONGO_DB_URL (no authentication).

    Raises CannotConnect, CannotRead.
    """
    from urllib.parse import urlsplit

    url = environment.get("MONGO_DB_URL") or "mongodb://mongodb:27017/test"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 27017
    except ValueError as error:
        raise CannotConnect("MONGO_DB_URL is not a URL") from error
    if parts.scheme != "mongodb" or not host or parts.username:
        raise CannotConnect("MONGO_DB_URL must be like mongodb://HOST:PORT/DATABASE")
    database = parts.path.strip("/") or "test"
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await _connect(host, port)
            try:
                writer.write(_find(database, "ratings"))
                size = int.from_bytes(await reader.readexactly(4), "little")
                if not 26 <= size <= _MAX_MESSAGE:
                    raise CannotRead(f"{host}:{port} does not speak MongoDB's protocol")
                reply = _document(await reader.readexactly(size - 4), 17)
            finally:
                writer.close()
    except TimeoutError as error:
        raise CannotConnect(f"{host}:{port}: no answer within {TIMEOUT:g} s") from error
    except (OSError, EOFError) as error:
        raise CannotConnect(f"{host}:{port}: {error}") from error
    except (ValueError, LookupError, struct.error) as error:
        raise CannotRead(f"{host}:{port}: {error}") from error
    cursor = reply.get("cursor")
    batch = cursor.get("firstBatch") if isinstance(cursor, dict) else None
    if not isinstance(batch, dict):
        raise CannotRead(f"{host}:{port}: {reply.get('errmsg', 'no cursor in the answer')}")
    return [
        int(document["rating"])
        for document in batch.values()
        if isinstance(document, dict) and isinstance(document.get("rating"), int | float)
    ]


def _find(database: str, collection: str) -> bytes:
    def string(name: str, value: str) -> bytes:
        encoded = value.encode() + b"\0"
        return b"\x02" + name.encode() + b"\0" + struct.pack("<i", len(encoded)) + encoded

    elements = string("find", collection) + string("$db", database) + b"\0"
    document = struct.pack("<i", len(elements) + 4) + elements
    return struct.pack("<iiiiIB", 21 + len(document), 1, 0, 2013, 0, 0) + document


def _document(data: bytes, start: int, depth: int = 0) -> dict[str, object]:
    """One BSON document (https://bsonspec.org), arrays as documents. Raises ValueError."""
    if depth > 16:
        raise ValueError("the answer is nested too deeply")
    end = start + int.from_bytes(data[start : start + 4], "little") - 1
    if end >= len(data) or end < start + 4:
        raise ValueError("a document is cut short")
    values: dict[str, object] = {}
    at = start + 4
    while at < end:
        kind = data[at]
        stop = data.index(0, at + 1)
        name = data[at + 1 : stop].decode()
        at = stop + 1
        values[name], size = _value(data, kind, at, depth)
        at += size
    return values


def _value(data: bytes, kind: int, at: int, depth: int) -> tuple[object, int]:
    """A BSON value and how many bytes it has."""
    length = int.from_bytes(data[at : at + 4], "little")
    if kind in (0x03, 0x04):
        return _document(data, at, depth + 1), length
    if kind == 0x02:
        return data[at + 4 : at + 3 + length].decode("utf-8", "replace"), 4 + length
    if kind == 0x01:
        return struct.unpack_from("<d", data, at)[0], 8
    if kind == 0x10:
        return struct.unpack_from("<i", data, at)[0], 4
    if kind == 0x12:
        return struct.unpack_from("<q", data, at)[0], 8
    if kind == 0x05:
        return data[at + 5 : at + 5 + length], 5 + length
    fixed = {0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x11: 8, 0x13: 16}
    if kind not in fixed:
        raise ValueError(f"unknown BSON type {kind}")
    return data[at : at + fixed[kind]], fixed[kind]


# --- MySQL: https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html ------------------


async def mysql(environment: Mapping[str, str]) -> list[int]:
    """``Rating`` of each row of test.ratings at MYSQL_DB_HOST, MYSQL_DB_PORT.

    Signs in as MYSQL_DB_USER with MYSQL_DB_PASSWORD by mysql_native_password, or by
    caching_sha2_password when the server has the password cached. Raises CannotConnect, CannotRead.
    """
    host = environment.get("MYSQL_DB_HOST") or "mysqldb"
    word = environment.get("MYSQL_DB_PORT") or "3306"
    if not word.isdigit() or int(word) > 65535:
        raise CannotConnect("MYSQL_DB_PORT is not a port")
    user = environment.get("MYSQL_DB_USER") or "root"
    password = environment.get("MYSQL_DB_PASSWORD", "").encode()
    try:
        async with asyncio.timeout(TIMEOUT):
            streams = await _connect(host, int(word))
            try:
                await _sign_in(streams, user.encode(), password)
                return await _query(streams, b"SELECT Rating FROM ratings")
            finally:
                streams[1].close()
    except TimeoutError as error:
        raise CannotConnect(f"{host}:{word}: no answer within {TIMEOUT:g} s") from error
    except (OSError, EOFError, ValueError, LookupError) as error:
        raise CannotConnect(f"{host}:{word}: {error}") from error


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(4)
    size = int.from_bytes(head[:3], "little")
    if size > _MAX_MESSAGE:
        raise ValueError("a packet is too large")
    return head[3], await reader.readexactly(size)


def _send(writer: asyncio.StreamWriter, sequence: int, payload: bytes) -> None:
    writer.write(len(payload).to_bytes(3, "little") + bytes((sequence & 0xFF,)) + payload)


def _scramble(plugin: bytes, password: bytes, nonce: bytes) -> bytes:
    if not password:
        return b""
    if plugin == b"mysql_native_password":
        first = hashlib.sha1(password).digest()
        mask = hashlib.sha1(nonce + hashlib.sha1(first).digest()).digest()
    elif plugin == b"caching_sha2_password":
        first = hashlib.sha256(password).digest()
        mask = hashlib.sha256(hashlib.sha256(first).digest() + nonce).digest()
    else:
        raise CannotConnect(f"unknown MySQL authentication {plugin.decode('ascii', 'replace')}")
    return bytes(a ^ b for a, b in zip(first, mask, strict=True))


async def _sign_in(streams: Streams, user: bytes, password: bytes) -> None:
    reader, writer = streams
    sequence, greeting = await _packet(reader)
    if greeting[:1] != b"\x0a":
        raise CannotConnect("the server does not speak MySQL's protocol 10")
    at = greeting.index(b"\0", 1) + 5
    nonce = greeting[at : at + 8] + greeting[at + 27 : at + 39]
    plugin = greeting[at + 40 :].partition(b"\0")[0] or b"mysql_native_password"
    # LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH
    flags = 0x1 | 0x8 | 0x200 | 0x8000 | 0x80000
    answer = _scramble(plugin, password, nonce)
    payload = struct.pack("<IIB23x", flags, _MAX_MESSAGE, 33) + user + b"\0"
    payload += bytes((len(answer),)) + answer + b"test\0" + plugin + b"\0"
    _send(writer, sequence + 1, payload)
    while True:
        sequence, reply = await _packet(reader)
        kind = reply[:1]
        if kind == b"\x00":
            return
        if kind == b"\xff":
            raise CannotConnect(reply[3:].decode("utf-8", "replace"))
        if kind == b"\xfe":
            plugin, _, rest = reply[1:].partition(b"\0")
            _send(writer, sequence + 1, _scramble(plugin, password, rest.rstrip(b"\0")))
        elif reply != b"\x01\x03":  # 3: the cached password was right, OK follows
            raise CannotConnect("the server wants the password in clear, which needs TLS")


async def _query(streams: Streams, statement: bytes) -> list[int]:
    reader, writer = streams
    _send(writer, 0, b"\x03" + statement)
    _, head = await _packet(reader)
    if head[:1] == b"\xff":
        raise CannotConnect(head[3:].decode("utf-8", "replace"))
    for _ in range(head[0]):
        await _packet(reader)  # column definitions
    await _packet(reader)  # their end
    stars: list[int] = []
    while True:
        _, row = await _packet(reader)
        if row[:1] == b"\xfe" and len(row) < 9:
            return stars
        if row[:1] == b"\xff":
            raise CannotRead(row[3:].decode("utf-8", "replace"))
        stars.append(int(row[1 : 1 + row[0]]) if row[0] != 0xFB else 0)
