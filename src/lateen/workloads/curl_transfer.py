"""One HTTP/1.1 exchange for :mod:`lateen.workloads.curl`: connect, ask, read."""

import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from lateen.workloads.curl_options import Options

_MAX_HEAD: Final = 256 * 1024
_CHUNK: Final = 64 * 1024


class TransferError(Exception):
    """The exchange failed; ``status`` is curl's exit status for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Target(NamedTuple):
    """The parts of a URL that matter to a request."""

    scheme: str
    host: str
    port: int
    path: str
    user: str

    @property
    def authority(self) -> str:
        """Host as the Host header has it: with the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without credentials."""
        return f"{self.scheme}://{self.authority}{self.path}"


class Answer(NamedTuple):
    """A response whose body has been handed on."""

    status: int
    headers: list[tuple[str, str]]
    received: int
    peer: tuple[str, int]

    def header(self, name: str) -> str:
        """The first header of that name, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name), "")


class Sink(Protocol):
    """Where the head and the body of a response go, as they come."""

    def head(self, raw: bytes, status: int) -> None:
        """Status line and headers, the empty line included."""

    def body(self, data: bytes) -> None:
        """A part of the body."""


_PORTS: Final = {"http": 80, "https": 443}


def parse_url(url: str) -> Target:
    """A URL as curl reads it: http unless it says otherwise. Raises TransferError."""
    from urllib.parse import quote, unquote, urlsplit

    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise TransferError(3, f"URL rejected: {error}") from error
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise TransferError(1, f"Protocol {scheme!r} not supported")
    if not host or any(letter.isspace() or not letter.isprintable() for letter in url):
        raise TransferError(3, "URL rejected: no host, or white space in it")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._[]{}|^\"<>\\`")
    if parts.query or url.partition("#")[0].endswith("?"):
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]{}|^\"<>\\`")
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    default = _PORTS[scheme]
    return Target(scheme, host, default if port is None else port, path, user)


class Transfer:
    """One exchange with one deadline; ``note`` gets lines for ``-v``."""

    def __init__(self, options: Options, deadline: float, note: Callable[[str], None]) -> None:
        self.options = options
        self.deadline = deadline
        self.note = note
        self.connected_after = 0.0
        self._buffer = bytearray()
        self._socket: socket.socket

    def run(self, target: Target, request: bytes, *, head: bool, sink: Sink) -> Answer:
        """Send ``request`` and give the response to ``sink``. Raises TransferError."""
        started = time.monotonic()
        self._socket = self._connect(target)
        try:
            self.connected_after = time.monotonic() - started
            peer = self._socket.getpeername()
            self._guarded(lambda: self._socket.sendall(request), 55)
            return self._read(head=head, sink=sink, peer=(str(peer[0]), int(peer[1])))
        finally:
            self._socket.close()

    # --- connecting -------------------------------------------------------------------------

    def _connect(self, target: Target) -> socket.socket:
        proxy = parse_url(self.options.proxy) if self.options.proxy else None
        host, port = (proxy.host, proxy.port) if proxy else (target.host, target.port)
        plain = self._open(host, port, "proxy" if proxy else "host")
        try:
            if proxy and target.scheme == "https":
                self._tunnel(plain, target)
            return self._secure(plain, target) if target.scheme == "https" else plain
        except BaseException:
            plain.close()
            raise

    def _open(self, host: str, port: int, what: str) -> socket.socket:
        for from_host, from_port, to_host, to_port in self.options.connect_to:
            if from_host in ("", host) and from_port in ("", str(port)):
                host, port = to_host.strip("[]") or host, int(to_port or port)
                break
        address = self.options.resolve.get((host, port)) or self.options.resolve.get(("*", port))
        try:
            found = socket.getaddrinfo(
                address or host, port, self.options.family, socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            status = 5 if what == "proxy" else 6
            raise TransferError(status, f"Could not resolve {what}: {host}") from error
        limit = time.monotonic() + (self.options.connect_timeout or 300.0)
        reason = ""
        for family, kind, protocol, _, where in found:
            ip = str(where[0])
            self.note(f"*   Trying {ip}:{port}...")
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(max(0.001, min(limit, self.deadline) - time.monotonic()))
                opened.connect(where)
            except TimeoutError as error:
                opened.close()
                raise TransferError(28, f"Connection to {host}:{port} timed out") from error
            except OSError as error:
                opened.close()
                reason = error.strerror or str(error)
                self.note(f"* connect to {ip} port {port} failed: {reason}")
                continue
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.note(f"* Connected to {host} ({ip}) port {port}")
            return opened
        raise TransferError(7, f"Failed to connect to {host} port {port}: {reason}")

    def _tunnel(self, plain: socket.socket, target: Target) -> None:
        self._socket = plain
        where = f"{target.host}:{target.port}"
        request = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()
        self._guarded(lambda: plain.sendall(request), 55)
        status, _, _ = self._head()
        if status != 200:
            raise TransferError(56, f"CONNECT tunnel failed, response {status}")

    def _secure(self, plain: socket.socket, target: Target) -> socket.socket:
        import ssl

        options = self.options
        try:
            context = ssl.create_default_context(cafile=options.ca_certificate or None)
            if options.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if options.certificate:
                context.load_cert_chain(options.certificate, options.key or None)
            context.set_alpn_protocols(["http/1.1"])
        except (OSError, ValueError) as error:
            raise TransferError(58, f"cannot use the given certificates: {error}") from error
        plain.settimeout(max(0.001, self.deadline - time.monotonic()))
        try:
            secure = context.wrap_socket(plain, server_hostname=target.host)
        except ssl.SSLCertVerificationError as error:
            reason = f"SSL certificate problem: {error.verify_message}"
            raise TransferError(60, reason) from error
        except TimeoutError as error:
            raise TransferError(28, "SSL connection timeout") from error
        except OSError as error:
            raise TransferError(35, f"TLS connect error: {error}") from error
        cipher = secure.cipher()
        self.note(f"* SSL connection using {secure.version()} / {cipher[0] if cipher else '?'}")
        return secure

    # --- reading ----------------------------------------------------------------------------

    def _guarded(self, action: Callable[[], object], status: int) -> object:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TransferError(28, "Operation timed out")
        self._socket.settimeout(left)
        try:
            return action()
        except TimeoutError as error:
            raise TransferError(28, "Operation timed out") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise TransferError(status, f"transfer failure: {reason}") from error

    def _more(self) -> bool:
        data = self._guarded(lambda: self._socket.recv(_CHUNK), 56)
        assert isinstance(data, bytes)
        self._buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise TransferError(56, "the response head is too large")
            had = bool(self._buffer)
            if not self._more():
                message = "transfer closed early" if had else "Empty reply from server"
                raise TransferError(56 if had else 52, message)
        found = bytes(self._buffer[: end + len(mark)])
        del self._buffer[: end + len(mark)]
        return found

    def _head(self) -> tuple[int, list[tuple[str, str]], bytes]:
        raw = self._until(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise TransferError(1, "Received HTTP/0.9 when not allowed")
        pairs = [line.partition(":") for line in lines if line]
        return int(words[1]), [(name, value.strip()) for name, _, value in pairs], raw

    def _read(self, *, head: bool, sink: Sink, peer: tuple[str, int]) -> Answer:
        while True:
            status, headers, raw = self._head()
            sink.head(raw, status)
            if status >= 200 or status == 101:
                break
        lower = {name.lower(): value for name, value in headers}
        received = 0
        if head or status in (101, 204, 304):
            pass
        elif "chunked" in lower.get("transfer-encoding", "").lower():
            received = self._chunked(sink)
        elif lower.get("content-length", "").isdigit():
            received = self._counted(int(lower["content-length"]), sink)
        else:
            received = self._rest(sink)
        return Answer(status, headers, received, peer)

    def _counted(self, length: int, sink: Sink) -> int:
        left = length
        while left:
            if not self._buffer and not self._more():
                raise TransferError(18, f"end of response with {left} bytes missing")
            part = bytes(self._buffer[:left])
            del self._buffer[: len(part)]
            left -= len(part)
            sink.body(part)
        return length

    def _rest(self, sink: Sink) -> int:
        received = 0
        while self._buffer or self._more():
            received += len(self._buffer)
            sink.body(bytes(self._buffer))
            self._buffer.clear()
        return received

    def _chunked(self, sink: Sink) -> int:
        received = 0
        while True:
            line = self._until(b"\r\n")
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError as error:
                raise TransferError(56, "malformed chunk") from error
            if size == 0:
                while self._until(b"\r\n") != b"\r\n":
                    pass
                return received
            received += self._counted(size, sink)
            self._until(b"\r\n")
