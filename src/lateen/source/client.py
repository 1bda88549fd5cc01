"""A small client of the mesh's API over its Unix socket, for the command line and the agent.

Only the standard library and `h11`, because the agent stands beside every sidecar and must stay
small.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import h11

if TYPE_CHECKING:
    import asyncio

Raw = dict[str, Any]
MAXIMUM_RESPONSE = 64 * 1024 * 1024
"""Bytes of one answer that are accepted."""
RECONNECT_SECONDS = 0.2
"""Pause of `AsyncClient.watch` before it asks again."""
_CHUNK = 65_536


class ApiUnavailable(Exception):
    """Nobody answers on the socket: the mesh is not running, or not ours to talk to."""


class ApiError(Exception):
    """The API refused; ``status`` is the HTTP code, the text is meant for people."""

    def __init__(
        self, status: int, message: str, reason: str = "", details: Raw | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.details = details or {}


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON is whatever the server sent
        """The body as JSON data."""
        return json.loads(self.body)


def path_for(
    api_version: str, plural: str, namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    """URL path of an object or a list, Kubernetes convention."""
    prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    place = f"/namespaces/{namespace}" if namespace else ""
    tail = f"/{name}" if name else ""
    return f"{prefix}{place}/{plural}{tail}" + (f"/{subresource}" if subresource else "")


class Client:
    """Blocking client; one connection per request."""

    def __init__(self, socket_path: Path | str, timeout: float = 30.0) -> None:
        self._path = str(socket_path)
        self._timeout = timeout

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:  # noqa: ANN401 - JSON is whatever the server sent
        """Send one request and return the decoded JSON answer.

        Raises `ApiUnavailable` without a server and `ApiError` for an answer of 400 and above.
        """
        with self._connect(timeout) as connection, _broken_is_unavailable(self._path):
            wire = h11.Connection(h11.CLIENT)
            connection.sendall(_request_bytes(wire, method, path, body, headers))
            status, data = 0, bytearray()
            for event in _events(wire, connection):
                if isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    data += event.data
                    if len(data) > MAXIMUM_RESPONSE:
                        raise ApiError(502, "the answer is larger than this client accepts")
        return _decoded(status, bytes(data))

    def lines(
        self,
        method: str,
        path: str,
        body: object = None,
        timeout: float | None = None,
    ) -> Iterator[Any]:
        """Send one request and yield each JSON line of the answer as it comes."""
        with self._connect(timeout) as connection, _broken_is_unavailable(self._path):
            wire = h11.Connection(h11.CLIENT)
            connection.sendall(_request_bytes(wire, method, path, body, None))
            splitter = _LineSplitter()
            for event in _events(wire, connection):
                yield from splitter.feed(event)

    def get(self, path: str) -> Raw:
        """GET an object or a list."""
        result: Raw = self.request("GET", path)
        return result

    def _connect(self, timeout: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(self._timeout if timeout is None else timeout)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise ApiUnavailable(f"nobody answers on {self._path}: {error.strerror}") from error
        return connection


class AsyncClient:
    """The same for asyncio; one connection per request."""

    def __init__(self, socket_path: Path | str, timeout: float = 30.0) -> None:
        self._path = str(socket_path)
        self._timeout = timeout

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # noqa: ANN401 - JSON is whatever the server sent
        """See `Client.request`."""
        import asyncio  # the command line's blocking client does without its 20 ms

        async with _broken_is_unavailable(self._path), asyncio.timeout(self._timeout):
            reader, writer = await self._connect()
            try:
                wire = h11.Connection(h11.CLIENT)
                writer.write(_request_bytes(wire, method, path, body, headers))
                status, data = 0, bytearray()
                async for event in _async_events(wire, reader):
                    if isinstance(event, h11.Response):
                        status = event.status_code
                    elif isinstance(event, h11.Data):
                        data += event.data
                        if len(data) > MAXIMUM_RESPONSE:
                            raise ApiError(502, "the answer is larger than this client accepts")
            finally:
                writer.close()
        return _decoded(status, bytes(data))

    async def lines(self, method: str, path: str, body: object = None) -> AsyncGenerator[Any]:
        """See `Client.lines`; ends when the server ends the answer."""
        reader, writer = await self._connect()
        try:
            wire = h11.Connection(h11.CLIENT)
            writer.write(_request_bytes(wire, method, path, body, None))
            splitter = _LineSplitter()
            with _broken_is_unavailable(self._path):
                async for event in _async_events(wire, reader):
                    for line in splitter.feed(event):
                        yield line
        finally:
            writer.close()

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Raw]]:
        """List ``path``, yield each object as ``ADDED``, then ``SYNCED``, then every change.

        Reconnects for ever; after a gap the list is read again, what differs is yielded (also as
        ``DELETED``), and ``SYNCED`` again. With ``SYNCED`` comes the list itself: whatever a reader
        knows up to its ``resourceVersion`` and does not find in it is gone.
        """
        import asyncio  # the command line's blocking client does without its 20 ms

        known: dict[str, Raw] = {}
        joint = "&" if "?" in path else "?"
        while True:
            try:
                listing = await self.request("GET", path)
                fresh = {_place(item): item for item in listing["items"]}
                for place in [place for place in known if place not in fresh]:
                    yield "DELETED", known.pop(place)
                for place, item in fresh.items():
                    if place not in known:
                        yield "ADDED", item
                    elif _version(known[place]) != _version(item):
                        yield "MODIFIED", item
                known = fresh
                yield "SYNCED", listing
                revision = listing["metadata"]["resourceVersion"]
                lines = self.lines("GET", f"{path}{joint}watch=1&resourceVersion={revision}")
                async with contextlib.aclosing(lines):
                    async for line in lines:
                        if line["type"] == "ERROR":
                            break
                        if line["type"] == "BOOKMARK":
                            continue
                        item = line["object"]
                        if line["type"] == "DELETED":
                            known.pop(_place(item), None)
                        else:
                            known[_place(item)] = item
                        yield line["type"], item
            except (ApiUnavailable, ApiError):
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        import asyncio  # the command line's blocking client does without its 20 ms

        try:
            return await asyncio.open_unix_connection(self._path, limit=_CHUNK)
        except OSError as error:
            raise ApiUnavailable(f"nobody answers on {self._path}: {error.strerror}") from error


class _broken_is_unavailable:
    """What a connection does when its server dies or hangs, as `ApiUnavailable`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, TimeoutError):
            raise ApiUnavailable(f"no answer in time on {self._path}") from error
        if isinstance(error, (OSError, h11.RemoteProtocolError)):
            raise ApiUnavailable(f"the connection to {self._path} broke: {error}") from error

    async def __aenter__(self) -> None:
        return

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)


class _LineSplitter:
    """Cuts a streamed answer into JSON lines; an error answer is raised as `ApiError`."""

    def __init__(self) -> None:
        self._status = 0
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, event: h11.Event) -> Iterator[Any]:
        if isinstance(event, h11.Response):
            self._status = event.status_code
        elif isinstance(event, h11.Data):
            data = bytes(event.data)
            self._size += len(data)
            self._rest.append(data)
            if self._status < 400 and b"\n" in data:
                *complete, rest = b"".join(self._rest).split(b"\n")
                self._rest, self._size = [rest], len(rest)
                for line in complete:
                    if line.strip():
                        yield json.loads(line)
            if self._size > MAXIMUM_RESPONSE:
                raise ApiError(502, "a line of the answer is larger than this client accepts")
        elif isinstance(event, h11.EndOfMessage) and self._status >= 400:
            _decoded(self._status, b"".join(self._rest))


def _place(item: Raw) -> str:
    metadata = item["metadata"]
    return f"{item.get('kind')}/{metadata.get('namespace', '')}/{metadata['name']}"


def _version(item: Raw) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def _request_bytes(
    wire: h11.Connection,
    method: str,
    path: str,
    body: object,
    headers: Mapping[str, str] | None,
) -> bytes:
    payload = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    fields = {
        "Host": "lateen",
        "Accept": "application/json",
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(payload)),
        **(headers or {}),
    }
    target = quote(path, safe="/?&=%:,+~!$'()*;@-._")
    request = h11.Request(method=method, target=target, headers=list(fields.items()))
    sent = wire.send(request) or b""
    if payload:
        sent += wire.send(h11.Data(data=payload)) or b""
    return sent + (wire.send(h11.EndOfMessage()) or b"")


def _events(wire: h11.Connection, connection: socket.socket) -> Iterator[h11.Event]:
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(connection.recv(_CHUNK))
            continue
        if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return
        assert not isinstance(event, type)
        yield event
        if isinstance(event, h11.EndOfMessage):
            return


async def _async_events(
    wire: h11.Connection, reader: asyncio.StreamReader
) -> AsyncIterator[h11.Event]:
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(_CHUNK))
            continue
        if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return
        assert not isinstance(event, type)
        yield event
        if isinstance(event, h11.EndOfMessage):
            return


def _decoded(status: int, body: bytes) -> Any:  # noqa: ANN401 - JSON is whatever the server sent
    try:
        data = json.loads(body) if body.strip() else {}
    except ValueError:
        data = {"message": body.decode(errors="replace")}
    if status >= 400:
        known = data if isinstance(data, dict) else {}
        raise ApiError(
            status,
            str(known.get("message") or f"HTTP {status}"),
            str(known.get("reason", "")),
            known.get("details"),
        )
    return data
