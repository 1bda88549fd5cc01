"""One TCP connection of a proxy: its TLS handshake, its HTTP/2, its end. Non-blocking.

What is to be sent stays shared and unencrypted until the socket takes it, so a proxy that does not
read costs next to nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import socket
import ssl
import time

from lateen.pki.errors import PkiError
from lateen.pki.identity import SpiffeId
from lateen.serve.grpc_headers import Headers
from lateen.serve.grpc_methods import requested
from lateen.serve.grpc_stream import STATUS, GrpcStream
from lateen.serve.handshake_threads import Outcome, has_spoken
from lateen.serve.http2_connection import ProtocolViolation, ServerConnection
from lateen.serve.http2_frames import ENHANCE_YOUR_CALM
from lateen.serve.http2_server import Server
from lateen.serve.http2_stream import ServerStream
from lateen.serve.shares import Client
from lateen.serve.tls import peer_identity
from lateen.serve.transport import Refusal
from lateen.serve.unfinished import Unfinished

_READS = 4
"""Buffers read of one connection before others get their turn."""
_READ = 65_536
"""Bytes of the buffer; frames that are whole in it are not copied."""
_FULL_RECORD = 16_384
"""Bytes of a TLS record as large as they get (RFC 8446, section 5.1): more follows at once, mostly,
and a read too many costs less than a turn of the loop."""
_LINGER = 1.0
"""Seconds that the end of a connection waits for the client to have read it."""
_WANTED = (ssl.SSLWantReadError, BlockingIOError)
_BUFFER = bytearray(_READ)
"""What a read brings; it is used up before the next."""
_VIEW = memoryview(_BUFFER)
_log = logging.getLogger(__name__)


class Http2Socket:
    """One TCP connection: its handshake, then HTTP/2 (it is the connection's ``Owner``)."""

    __slots__ = (
        "_address",
        "_begun",
        "_client",
        "_closing",
        "_continues",
        "_draining",
        "_expires",
        "_fd",
        "_handshaking",
        "_head",
        "_heard",
        "_http2",
        "_identity",
        "_paused",
        "_peer",
        "_pinged",
        "_rest",
        "_socket",
        "_stepping",
        "_transport",
        "_turned",
        "_unfinished",
        "_waiting",
        "_watched",
        "_writing",
        "streams",
    )

    def __init__(self, transport: Server, secured: ssl.SSLSocket, address: str, peer: str) -> None:
        self._transport = transport
        self._socket = secured
        self._fd = secured.fileno()
        self._address = address
        self._peer = peer
        self._client = Client("", address)
        self._unfinished = Unfinished(transport.unfinished_shares, self, self._client)
        self._identity: SpiffeId | None = None
        self._http2 = ServerConnection(self, streams=transport.limits.streams_per_connection)
        self.streams: set[GrpcStream] = set()
        self._begun = self._heard = time.monotonic()
        age = transport.limits.connection_age
        self._expires = self._begun + age * random.uniform(0.9, 1.1) if age else math.inf
        self._pinged = False
        self._handshaking = True
        self._turned = False
        """Its handshake was begun."""
        self._stepping = False
        """A thread goes on with its handshake."""
        self._paused = 0
        """Streams that wait for somebody to take what was read."""
        self._watched = False
        """The loop tells when there is something to read."""
        self._waiting = False
        """The socket takes nothing at the moment."""
        self._writing = False
        self._continues = False
        self._draining = self._closing = False
        self._head: memoryview | None = None
        """What is written next."""
        self._rest: memoryview | None = None
        """What comes after it: it was cut to fill a record."""
        transport.connections.add(self)
        transport.handshake_begun(self, address)
        if has_spoken(secured):
            self._handshake()
        else:
            self._watch()

    # Sockets

    def _watch(self) -> None:
        # To add a reader anew and to remove it costs several system calls.
        if not self._watched and self._fd >= 0:
            self._watched = True
            self._transport.loop.add_reader(self._fd, self._readable)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._transport.loop.remove_reader(self._fd)

    def _readable(self) -> None:
        if self._handshaking:
            self._handshake()
            return
        if self._closing:
            self._discard()
            return
        if self._paused:
            self._unwatch()
            return
        try:
            self._read()
        except ProtocolViolation as error:
            _log.info("%s: %s", self._peer, error)
            self._fail_streams()
            self._end()
        except OSError:  # also TLS errors
            self.close()

    def _handshake(self) -> None:
        transport = self._transport
        self._unwatch()
        if self._turned:
            self._go_on()
        elif transport.turns.ask(self, time.monotonic()):
            self.begin()
        else:
            transport.look_for_turns()

    def begin(self) -> None:
        """Begin the handshake: it is this connection's turn."""
        self._turned = True
        self._begun = time.monotonic()
        self._go_on()

    def _go_on(self) -> None:
        """Go on with it in a thread: its signatures cost a millisecond, in which the loop can serve
        others. Nobody else touches the socket meanwhile."""
        self._stepping = True
        self._transport.handshaking.go_on(self._socket, self._handshake_went)

    def _handshake_went(self, awaited: Outcome) -> None:
        self._stepping = False
        if self._fd < 0:
            self._socket.close()
            return
        if isinstance(awaited, OSError):
            _log.debug("handshake with %s failed: %s", self._peer, awaited)
            self.close()
            return
        if awaited == ssl.SSL_ERROR_WANT_WRITE:
            self._transport.loop.add_writer(self._fd, self._write_handshake)
            return
        if awaited != ssl.SSL_ERROR_WANT_READ and self._secured():
            self._readable()  # what TLS has read already does not wake the loop
        if not self._paused:
            self._watch()

    def _write_handshake(self) -> None:
        self._transport.loop.remove_writer(self._fd)
        self._handshake()

    def _secured(self) -> bool:
        """Both sides have proved who they are; whether the connection stays."""
        self._handshaking = False
        self._transport.handshake_over(self, self._address)
        self._transport.turns.ended(self)
        self._begun = self._heard = time.monotonic()
        if self._socket.selected_alpn_protocol() != "h2":
            self.close()
            return False
        with contextlib.suppress(PkiError):  # told to each stream, which can carry the words
            self._identity = peer_identity(self._socket.getpeercert())
            self._client = Client(str(self._identity), self._address)
            self._unfinished.client = self._client
        if not self._transport.connection_shares.hold(self, self._client, 1):
            self._end()
            return False
        self.flush()
        return self._fd >= 0

    def _read(self) -> None:
        http2 = self._http2
        for _ in range(_READS):
            size, more, ended = self._take_in()
            if size:
                http2.receive(_VIEW[:size])
                if self._fd < 0 or self._closing:
                    return
                if not self.account():
                    code, text = ENHANCE_YOUR_CALM, "this client has too many unfinished requests"
                    http2.go_away(code, text)
                    raise ProtocolViolation(code, text)
            if ended:
                self.close()
                return
            if not more or self._paused:
                break
        else:
            # What TLS has read already does not wake the loop.
            if not self._continues:
                self._continues = True
                self._transport.loop.call_soon(self._continue)
        self._heard = time.monotonic()
        self._pinged = False
        if not http2.idle:
            self.flush()

    def _take_in(self) -> tuple[int, bool, bool]:
        """Fill the buffer from the socket: how many bytes there are, whether more may be had at
        once, and whether the client has ended the connection."""
        secured, size = self._socket, 0
        while _READ - size >= _FULL_RECORD:
            try:
                got = secured.recv_into(_VIEW[size:])
            except (*_WANTED, ssl.SSLWantWriteError):
                return size, False, False
            if not got:
                return size, False, True
            size += got
            if got < _FULL_RECORD and not secured.pending():
                return size, False, False
        return size, True, False

    def _continue(self) -> None:
        self._continues = False
        if self._fd >= 0 and not self._paused:
            self._readable()

    def pause(self) -> None:
        """Read nothing more for now; the client waits."""
        self._paused += 1  # often it is taken back before there is more

    def resume(self) -> None:
        """Take back one `pause`."""
        self._paused -= 1
        if self._paused or self._fd < 0:
            return
        self._watch()
        if not self._continues:
            # What TLS has read already does not wake the loop.
            self._continues = True
            self._transport.loop.call_soon(self._continue)

    def flush(self) -> None:
        """Write what there is, as far as the socket takes it."""
        if self._handshaking or self._waiting or self._writing or self._fd < 0:
            return
        self._writing = True
        try:
            self._write()
        except OSError:
            self.close()
        finally:
            self._writing = False
        if self.clear:
            for stream in tuple(self.streams):
                stream.tell_written()

    def _write(self) -> None:
        send = self._socket.send
        head = self._head
        while True:
            if head is None:
                head = self._head = self._record()
                if head is None:
                    break
            try:
                sent = send(head)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                self._head = head
                self._waiting = True
                self._transport.loop.add_writer(self._fd, self._writable)
                return
            if self._fd < 0:
                return
            head = head[sent:] if sent < len(head) else None
            if head is not None and len(head) < _FULL_RECORD and self._rest is None:
                head, self._rest = None, head  # with what comes next it may fill a record
            self._head = head
        if self._closing:
            self._say_goodbye()

    def _record(self) -> memoryview | None:
        """What is written next, as large as a TLS record at least if there is so much: each costs
        a system call and wakes the client."""
        head, self._rest = self._rest, None
        output = self._http2.output
        if head is None:
            first = output()
            if first is None:
                return None
            head = memoryview(first)
        if len(head) >= _FULL_RECORD:
            return head
        pieces, room = [head], _FULL_RECORD - len(head)
        while room and (more := output()) is not None:
            piece = memoryview(more)
            if len(piece) > room:
                self._rest = piece[room:]
                piece = piece[:room]
            pieces.append(piece)
            room -= len(piece)
        return head if len(pieces) == 1 else memoryview(b"".join(pieces))

    def _writable(self) -> None:
        self._transport.loop.remove_writer(self._fd)
        self._waiting = False
        self.flush()

    @property
    def clear(self) -> bool:
        """Whether everything handed out has been taken by the socket."""
        return self._head is None and self._rest is None and not self._waiting

    # The end

    def drain(self, text: str) -> None:
        """End all streams and then the connection, telling the client to come back."""
        if self._handshaking:
            self.close()
            return
        self._draining = True
        for stream in list(self.streams):
            stream.end("UNAVAILABLE", text)
        if not self.streams:
            self._end()

    def _end(self) -> None:
        """Write what is left, then close."""
        if self._closing or self._fd < 0:
            return
        self._closing = True
        self._http2.go_away()  # after the status of streams, which some clients need first
        self._transport.loop.call_later(_LINGER, self.close)
        self.flush()

    def _say_goodbye(self) -> None:
        """Close our side. Closing at once could make the kernel drop what is under way."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.unwrap()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def _discard(self) -> None:
        try:
            while self._fd >= 0 and self._socket.recv(_READ):
                pass
        except _WANTED:
            return
        except (OSError, ValueError):
            pass
        self.close()

    def close(self) -> None:
        """End it at once."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        loop = self._transport.loop
        loop.remove_reader(fd)
        loop.remove_writer(fd)
        if not self._stepping:
            self._socket.close()
        # Otherwise a thread still uses it, for a moment.
        self._head = self._rest = None
        transport = self._transport
        transport.connections.discard(self)
        transport.handshake_over(self, self._address)
        transport.turns.ended(self)
        transport.connection_shares.release(self, self._client)
        self._unfinished.release()
        self._fail_streams()

    def evict(self, text: str) -> None:
        """See `lateen.serve.shares.Holder`."""
        _log.info("%s: %s", self._peer, text)
        self.close()

    def _fail_streams(self) -> None:
        for stream in list(self.streams):
            stream.broke()

    def check(self, now: float) -> None:
        """Look at the clock: handshakes and silent peers end."""
        limits = self._transport.limits
        if self._paused:
            self._heard = now  # it is not listened to
        silent = now - self._heard
        if self._handshaking:
            late = now - self._begun > limits.handshake_time
            if late and not self._transport.turns.is_waiting(self):
                self.close()
        elif silent > limits.keepalive_time + limits.keepalive_timeout and self._pinged:
            self.close()
        elif not self._paused and self._unfinished.is_late(now, limits.message_time):
            self._fail_streams()
            self._end()
        elif now > self._expires and not self._draining:
            self.drain("connect again: connections end after some time")
        elif not self.streams and now - self._begun > limits.first_stream:
            self._end()
        elif silent > limits.keepalive_time and not self._pinged:
            self._pinged = True
            self._http2.ping()
            self.flush()

    def account(self) -> bool:
        """Count what it keeps of requests. False when the client may not have so much."""
        if self._fd < 0:
            return True
        waiting = sum([stream.held for stream in self.streams])
        return self._unfinished.count(self._http2.unfinished, waiting)

    # Owner

    def opened(self, stream: ServerStream, headers: Headers) -> None:
        """See ``Owner``."""
        transport = self._transport
        self._http2.respond(stream)
        try:
            dialect, identity = requested(
                headers, self._identity, draining=transport.draining or self._draining
            )
            made = GrpcStream(self, stream, dialect, identity, self._peer)
            if not transport.stream_shares.hold(made, self._client, 1):
                raise Refusal("RESOURCE_EXHAUSTED", "this client has too many streams")
        except Refusal as refusal:
            stream.finish(STATUS[refusal.code], str(refusal))
            return
        stream.tag = made
        self.streams.add(made)
        transport.streams[made] = None
        made.start(transport.handler)

    def received(self, stream: ServerStream, message: bytes) -> None:
        """See ``Owner``."""
        self._unfinished.completed()
        if isinstance(stream.tag, GrpcStream):
            stream.tag.take(message)

    def finished(self, stream: ServerStream) -> None:
        """See ``Owner``."""
        if isinstance(stream.tag, GrpcStream):
            stream.tag.broke(by_client=True)

    def reset(self, stream: ServerStream) -> None:
        """See ``Owner``."""
        if isinstance(stream.tag, GrpcStream):
            stream.tag.broke()

    def ended(self, stream: GrpcStream) -> None:
        """A stream's handler is done."""
        self.streams.discard(stream)
        self._transport.streams.pop(stream, None)
        self._transport.stream_shares.release(stream, self._client)
        self.account()
        self._begun = time.monotonic()
        self.flush()
        if self._draining and not self.streams:
            self._end()
