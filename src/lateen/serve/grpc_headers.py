"""Headers of gRPC over HTTP/2: requests checked, responses and status made.

Of responses nothing goes into the compression table (RFC 7541), so they are the same bytes on all
connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from hpack import Encoder, HeaderTuple

_CONNECTION_SPECIFIC = frozenset(
    {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}
)
_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
_MAX_MESSAGE = 1000
_UNESCAPED = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
RESPONSE: bytes = Encoder().encode([(":status", "200"), ("content-type", "application/grpc", True)])
"""The headers of every response."""


@dataclass(frozen=True, slots=True)
class Headers:
    """A request's headers; names are lower case, of repeated ones the last counts."""

    fields: dict[str, str]

    def get(self, name: str) -> str:
        """A header's value; empty when there is none."""
        return self.fields.get(name, "")


def request_headers(fields: Iterable[HeaderTuple]) -> Headers | None:
    """The headers of a well-formed request (RFC 9113, section 8.2 and 8.3); None otherwise."""
    found: dict[str, str] = {}
    regular = False
    for raw_name, raw_value in fields:
        name, value = str(raw_name), str(raw_value)
        if not name or name != name.lower() or any(c in value for c in "\0\r\n"):
            return None
        if name.startswith(":"):
            if regular or name in found or name not in _PSEUDO:
                return None
        else:
            regular = True
            if name in _CONNECTION_SPECIFIC or (name == "te" and value != "trailers"):
                return None
        found[name] = value
    if not (found.get(":method") and found.get(":scheme") and found.get(":path")):
        return None
    return Headers(found)


def trailers(status: int, text: str = "") -> bytes:
    """The header block that ends a stream with a gRPC status (gRPC over HTTP/2, "Responses")."""
    fields = [("grpc-status", str(status), True)]
    if text:
        fields.append(("grpc-message", quote(text[:_MAX_MESSAGE], safe=_UNESCAPED), True))
    return Encoder().encode(fields)
