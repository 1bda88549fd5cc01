"""Cluster DNS: answers the names of the mesh itself and passes everything else on.

Istio's agent and CoreDNS share this work in a cluster; here one server does both. Pods use one
address of it. A second pair of sockets, served with ``mesh_hosts=False``, is for those whose
traffic no proxy takes: pods without a sidecar, and Envoy itself, which would otherwise be sent to
the virtual address of the very ServiceEntry it is resolving.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lateen.agent import dns_message as wire
from lateen.agent.dns_datagrams import Datagrams
from lateen.agent.dns_message import Query, Record
from lateen.agent.dns_shares import Connections, Forwards, Rates
from lateen.agent.names import Answer, NameTable, reverse_address

Forward = Callable[[bytes], Awaitable[bytes]]

CLUSTER_TTL = 5
"""Seconds an answer about the cluster, or that a name does not exist, may be kept."""
MESH_HOST_TTL = 30
"""The same for ServiceEntry hosts, whose addresses stay."""
FORWARD_TIMEOUT = 6.0
IDLE_SECONDS = 10.0
_ALIAS_DEPTH = 8
_LOCAL_NETWORKS = ("10.96.0.0/16", "10.244.0.0/16", "240.240.0.0/16")

logger = logging.getLogger(__name__)


class ClusterDns:
    """A DNS server for pods.

    ``forward`` sends a query to the machine's resolvers and returns their answer, complete (not
    truncated), or raises. Addresses in ``networks`` are the mesh's own: their reverse names are
    never asked elsewhere.
    """

    def __init__(
        self,
        forward: Forward,
        domain: str = "cluster.local",
        *,
        networks: Sequence[str] = _LOCAL_NETWORKS,
    ) -> None:
        self.table = NameTable(domain)
        self._forward = forward
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)
        self._soa = wire.authority_record(self.table.domain, CLUSTER_TTL)
        self._waiting: set[asyncio.Task[None]] = set()
        self._rates = Rates()
        self._forwards = Forwards()
        self._connections = Connections()

    def apply(self, verb: str, raw: dict[str, Any]) -> None:
        """Take in a change of a Service, Pod, ServiceEntry or EndpointSlice (raw object).

        An object that breaks its schema is logged and has no names; others are not touched.
        """
        try:
            self.table.apply(verb, raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            metadata = raw.get("metadata") or {}
            logger.warning(
                "dns: %s %s/%s has no names because it cannot be read: %r",
                raw.get("kind"),
                metadata.get("namespace", ""),
                metadata.get("name", ""),
                error,
            )

    async def serve(
        self, udp: Sequence[socket.socket], tcp: socket.socket, *, mesh_hosts: bool = True
    ) -> None:
        """Answer on bound UDP sockets, which share a port, and a bound TCP socket until cancelled;
        closes all then."""

        def answer(source: socket.socket, message: bytes, sender: tuple[str, int]) -> None:
            self._datagram(source, message, sender, mesh_hosts)

        datagrams = Datagrams(udp, self._rates, answer)
        try:
            server = await asyncio.start_server(
                lambda reader, writer: self._connection(reader, writer, mesh_hosts), sock=tcp
            )
            async with server:
                await server.serve_forever()
        finally:
            datagrams.close()
            for task in list(self._waiting):
                task.cancel()

    async def answer(
        self, message: bytes, client: str = "", *, udp: bool = False, mesh_hosts: bool = True
    ) -> bytes | None:
        """The answer to a message from a client's address; None when it deserves none."""
        ready = self._local(message, client, udp=udp, mesh_hosts=mesh_hosts)
        if not isinstance(ready, _Pending):
            return ready
        return await self._remote(ready)

    def _local(
        self, message: bytes, client: str, *, udp: bool, mesh_hosts: bool
    ) -> bytes | _Pending | None:
        """The answer if it needs nobody else, or what is to be asked."""
        try:
            query = wire.parse_query(message)
        except wire.MalformedMessageError:
            return wire.error_response(message, wire.FORMAT_ERROR)
        limit = wire.udp_limit(query) if udp else wire.TCP_LIMIT
        refusal = _refusal(query)
        if refusal:
            return wire.response(query, refusal, authoritative=False, limit=limit)
        try:
            return self._resolve(query, message, client, limit, mesh_hosts)
        except wire.MalformedMessageError as error:
            logger.warning("dns: %s has no answer: %s", query.name, error)
            return wire.response(query, wire.SERVER_FAILURE, limit=limit)

    def _resolve(
        self, query: Query, message: bytes, client: str, limit: int, mesh_hosts: bool
    ) -> bytes | _Pending:
        namespace = self.table.namespace_at(client)
        chain: list[Record] = []
        name = query.name
        for _ in range(_ALIAS_DEPTH):
            found = self.table.lookup(name, namespace, mesh_hosts=mesh_hosts)
            if found is None:
                if self._owns(name):
                    return wire.response(
                        query, wire.NAME_ERROR, chain, authority=[self._soa], limit=limit
                    )
                return _Pending(query, message, chain, name, limit)
            if not found.alias:
                if found.mesh and query.type not in _ADDRESS_TYPES:
                    return _Pending(query, message, chain, name, limit)
                return self._found(query, chain, name, found, limit)
            chain.append(wire.name_record(name, wire.TYPE_CNAME, found.alias, CLUSTER_TTL))
            if query.type == wire.TYPE_CNAME:
                return wire.response(query, wire.NO_ERROR, chain, limit=limit)
            name = found.alias
        logger.warning("dns: the aliases from %s lead in a circle", query.name)
        return wire.response(query, wire.SERVER_FAILURE, limit=limit)

    def _found(
        self, query: Query, chain: list[Record], name: str, found: Answer, limit: int
    ) -> bytes:
        ttl = MESH_HOST_TTL if found.mesh else CLUSTER_TTL
        records, additional = _records(query.type, name, found, ttl)
        random.shuffle(records)
        authority = [] if records or chain else [self._soa]
        return wire.response(
            query,
            wire.NO_ERROR,
            [*chain, *records],
            authority=authority,
            additional=additional,
            limit=limit,
        )

    def _owns(self, name: str) -> bool:
        if self.table.in_cluster(name):
            return True
        if not name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return False
        address = reverse_address(name)
        return bool(address) and any(ipaddress.ip_address(address) in n for n in self._networks)

    async def _remote(self, pending: _Pending) -> bytes:
        query = pending.query
        try:
            async with asyncio.timeout(FORWARD_TIMEOUT):
                if not pending.chain:
                    reply = await self._forward(pending.message)
                    return wire.cut_to(wire.with_id(reply, query.id), pending.limit)
                question = wire.query_message(pending.name, query.type, random.getrandbits(16))
                code, records = wire.read_answers(await self._forward(question))
        except (OSError, TimeoutError, wire.MalformedMessageError) as error:
            logger.debug("dns: %s: the machine's resolvers: %r", pending.name, error)
            return wire.response(
                query, wire.SERVER_FAILURE, authoritative=False, limit=pending.limit
            )
        return wire.response(
            query, code, [*pending.chain, *records], authoritative=False, limit=pending.limit
        )

    def _datagram(
        self, source: socket.socket, message: bytes, sender: tuple[str, int], mesh_hosts: bool
    ) -> None:
        client = sender[0]
        ready = self._local(message, client, udp=True, mesh_hosts=mesh_hosts)
        if isinstance(ready, _Pending):
            if not self._forwards.begin(client):
                ready = wire.response(ready.query, wire.SERVER_FAILURE, authoritative=False)
            else:
                task = asyncio.ensure_future(self._send_later(source, ready, sender))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)
                task.add_done_callback(lambda _: self._forwards.end(client))
                return
        if ready is not None:
            _send(source, ready, sender)

    async def _send_later(
        self, source: socket.socket, pending: _Pending, sender: tuple[str, int]
    ) -> None:
        _send(source, await self._remote(pending), sender)

    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mesh_hosts: bool
    ) -> None:
        """One TCP connection (RFC 7766): queries are answered in their order."""
        client = str((writer.get_extra_info("peername") or ("",))[0])
        self._connections.add(client, writer, writer.transport.abort)
        try:
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    message = await reader.readexactly(size)
                self._connections.used(client, writer)
                while not self._rates.take(client, time.monotonic()):
                    await asyncio.sleep(self._rates.wait(client))
                reply = await self._stream_answer(message, client, mesh_hosts)
                if reply is None:
                    return
                writer.write(struct.pack("!H", len(reply)) + reply)
                async with asyncio.timeout(IDLE_SECONDS):
                    await writer.drain()
        except (OSError, EOFError, TimeoutError):
            return  # the client left, or holds the connection without using it
        finally:
            self._connections.remove(client, writer)
            writer.close()

    async def _stream_answer(self, message: bytes, client: str, mesh_hosts: bool) -> bytes | None:
        ready = self._local(message, client, udp=False, mesh_hosts=mesh_hosts)
        if not isinstance(ready, _Pending):
            return ready
        if not self._forwards.begin(client):
            return wire.response(ready.query, wire.SERVER_FAILURE, authoritative=False)
        try:
            return await self._remote(ready)
        finally:
            self._forwards.end(client)


class _Pending:
    """A question for the machine's resolvers."""

    __slots__ = ("chain", "limit", "message", "name", "query")

    def __init__(
        self, query: Query, message: bytes, chain: list[Record], name: str, limit: int
    ) -> None:
        self.query = query
        self.message = message
        self.chain = chain
        self.name = name
        self.limit = limit


def _send(source: socket.socket, reply: bytes, address: tuple[str, int]) -> None:
    # The client asks again when its answer is lost: a queue that is full, or a pod that is gone.
    with contextlib.suppress(OSError):
        source.sendto(reply, address)


_ADDRESS_TYPES = (wire.TYPE_A, wire.TYPE_AAAA, wire.TYPE_ANY)


def _refusal(query: Query) -> int:
    """The error for a query that is valid but not for us, 0 for none."""
    if query.edns_version:
        return wire.BAD_VERSION
    if query.opcode:
        return wire.NOT_IMPLEMENTED
    if query.record_class != wire.CLASS_IN:
        return wire.REFUSED
    return 0


def _records(
    record_type: int, name: str, found: Answer, ttl: int
) -> tuple[list[Record], list[Record]]:
    """Answer and additional records of one type, of all types for ANY."""
    records: list[Record] = []
    additional: dict[tuple[str, str], Record] = {}
    every = record_type == wire.TYPE_ANY
    for address in found.addresses:
        record = wire.address_record(name, address, ttl)
        if every or record.type == record_type:
            records.append(record)
    if every or record_type == wire.TYPE_SRV:
        for target in found.targets:
            records.append(wire.service_record(name, target.port, target.name, ttl))
            for address in target.addresses:
                key = (target.name, address)
                additional[key] = wire.address_record(target.name, address, ttl)
    if every or record_type == wire.TYPE_PTR:
        records += [wire.name_record(name, wire.TYPE_PTR, p, ttl) for p in found.pointers]
    if found.text and (every or record_type == wire.TYPE_TXT):
        records.append(wire.text_record(name, found.text, ttl))
    return records, list(additional.values())
