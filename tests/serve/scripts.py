"""Helpers for protocol scripts: resources, requests and what a client reads of a response."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from envoy.service.discovery.v3 import discovery_pb2

from lateen.model.discovery import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    SECRET,
    VIRTUAL_HOST,
    DiscoveryResource,
    version_of,
)
from lateen.serve import wire
from lateen.serve.claims import Claims, encode_claim
from lateen.serve.protocol import (
    DeltaRequest,
    Dialect,
    Encoder,
    Rejection,
    StateRequest,
)
from lateen.serve.session import Session, Target
from lateen.serve.views import Message, View, updated

SHORT = {
    "CDS": CLUSTER,
    "EDS": ENDPOINT,
    "LDS": LISTENER,
    "RDS": ROUTE,
    "VHDS": VIRTUAL_HOST,
    "SDS": SECRET,
}
LONG = {url: name for name, url in SHORT.items()}
ENCODER = Encoder(wire.encode_delta, wire.encode_state, wire.encode_named_empty)


@dataclass(frozen=True)
class Seen:
    """A response as the client sees it."""

    type: str
    names: tuple[str, ...]
    removed: tuple[str, ...]
    nonce: str


def resource(kind: str, name: str, text: str = "1") -> DiscoveryResource:
    """A resource whose body stands for itself: name and some text."""
    body = wire.encode_named_empty(name) + wire.encode_named_empty(text * 20)
    return DiscoveryResource(SHORT[kind], name, version_of(body), body)


def target(version: int, previous: Target | None = None, **kinds: Iterable[str]) -> Target:
    """``target(1, CDS=["a", "b=2"])``: resources by type; ``NAME=TEXT`` gives other content."""
    views: dict[str, View] = {}
    for kind, entries in kinds.items():
        items = {}
        for entry in entries:
            name, _, text = entry.partition("=")
            items[name] = resource(kind, name, text or "1")
        before = previous.views.get(SHORT[kind]) if previous else None
        views[SHORT[kind]] = updated(before, SHORT[kind], items)
    return Target(version, views)


class Client:
    """A client of one session, written as a script: `ask`, `ack`, `nack`, and what comes back."""

    def __init__(self, dialect: Dialect = Dialect.DELTA) -> None:
        self.session = Session(dialect, ENCODER)
        self.dialect = dialect
        self.now = 0.0

    def assign(self, wanted: Target) -> list[Seen]:
        """The control plane has a new target."""
        self.session.assign(wanted)
        return self.read()

    def ask(
        self,
        kind: str,
        *names: str,
        drop: Iterable[str] = (),
        have: dict[str, str] | None = None,
        nonce: str = "",
        error: str = "",
        version: str = "",
    ) -> list[Seen]:
        """Send a request and read the answers."""
        rejection = Rejection(error) if error else None
        request: DeltaRequest | StateRequest
        if self.dialect is Dialect.DELTA:
            held = Claims([encode_claim(*pair) for pair in (have or {}).items()])
            request = DeltaRequest(SHORT[kind], names, tuple(drop), held, nonce, rejection)
        else:
            request = StateRequest(SHORT[kind], names, version, nonce, rejection)
        self.session.receive(request)
        return self.read()

    def ack(self, seen: Seen, *names: str) -> list[Seen]:
        """Acknowledge; a state-of-the-world client repeats its names."""
        return self.ask(seen.type, *names, nonce=seen.nonce)

    def nack(self, seen: Seen, *names: str, words: str = "bad") -> list[Seen]:
        """Refuse."""
        return self.ask(seen.type, *names, nonce=seen.nonce, error=words)

    def read(self) -> list[Seen]:
        """All that the session sends now."""
        seen: list[Seen] = []
        while messages := self.session.advance(self.now):
            seen.extend(self._decode(message) for message in messages)
        return seen

    def _decode(self, message: Message) -> Seen:
        if self.dialect is Dialect.DELTA:
            delta = discovery_pb2.DeltaDiscoveryResponse.FromString(message.data)
            names = tuple(sorted(item.name for item in delta.resources))
            removed = tuple(sorted(delta.removed_resources))
            return Seen(LONG[delta.type_url], names, removed, delta.nonce)
        state = discovery_pb2.DiscoveryResponse.FromString(message.data)
        names = tuple(sorted(_first_field(item.value) for item in state.resources))
        return Seen(LONG[state.type_url], names, (), state.nonce)


def _first_field(body: bytes) -> str:
    return body[2 : 2 + body[1]].decode()
