"""Debugging over xDS: Istio's types ``istio.io/debug`` and ``istio.io/debug/*``.

A client asks for one resource, for instance ``syncz`` or ``config_dump?proxyID=sleep.default``,
with a certificate of the mesh. Workloads of the root namespace may ask everything, others about
proxies of their own namespace (`lateen.serve.debug.OWN_NAMESPACE`).
"""

from __future__ import annotations

import json
import socket
from urllib.parse import parse_qsl

from lateen import __version__
from lateen.pki.identity import SpiffeId
from lateen.serve import debug, wire
from lateen.serve.connection import Connection
from lateen.serve.debug_dump import Body, config_sections, sync_config
from lateen.serve.debug_proxies import proxy_of_query
from lateen.serve.protocol import DeltaRequest, Dialect, StateRequest
from lateen.serve.serving import Serving
from lateen.serve.transport import Refusal, Stream
from lateen.serve.views import new_nonce
from lateen.serve.wire import DEBUG_TYPE, MalformedRequest, parse_delta, parse_state

_TYPED = {f"{DEBUG_TYPE}/syncz": "syncz", f"{DEBUG_TYPE}/config_dump": "config_dump"}
_SERVER = json.dumps(
    {"Component": "lateen", "ID": socket.gethostname(), "Info": {"version": __version__}}
)
"""What ``istioctl`` shows as the control plane that answered."""


class DebugStreams:
    """Answers debug streams of one control plane."""

    def __init__(self, plane: Serving) -> None:
        self._plane = plane

    async def serve(self, stream: Stream, first: bytes) -> bool:
        """Serve a stream whose first request asks for a debug type; false when it does not.

        Raises `Refusal` with what Istio's tools expect: ``INVALID_ARGUMENT`` for a request
        without exactly one name, ``PERMISSION_DENIED`` for what the caller may not see.
        """
        sent: set[str] = set()
        data: bytes | None = first
        while data is not None:
            request = _parse(stream.dialect, data)
            if not request.type_url.startswith(DEBUG_TYPE):
                if data is first:
                    return False
                raise Refusal("INVALID_ARGUMENT", "a debug stream asks for debug types only")
            # No acknowledgement: istioctl's first request has a nonce of its own making.
            if request.nonce not in sent:
                nonce = new_nonce()
                sent.add(nonce)
                await stream.send(await self._answer(stream, request, nonce))
            data = await stream.receive()
        return True

    async def _answer(
        self, stream: Stream, request: DeltaRequest | StateRequest, nonce: str
    ) -> bytes:
        names = tuple(request.subscribe) if isinstance(request, DeltaRequest) else request.names
        kind = request.type_url
        if len(names) == 1:
            name, _, query_text = names[0].partition("?")
        elif kind in _TYPED and not names:
            name, query_text = "", ""
        else:
            raise Refusal("INVALID_ARGUMENT", "ask for exactly one name, for instance syncz")
        if kind in _TYPED:
            # Istio's own clients name either the proxy, or the endpoint once more.
            query = dict(parse_qsl(query_text))
            if name and name != _TYPED[kind]:
                query.setdefault("proxyID", name)
            name = _TYPED[kind]
        else:
            name = name or kind.removeprefix(DEBUG_TYPE).strip("/")
            query = dict(parse_qsl(query_text))
        self._check(stream.identity, name, query)
        bodies = await self._bodies(kind, name, query)
        return _response(stream.dialect, kind, names[0] if names else name, bodies, nonce)

    def _check(self, caller: SpiffeId, name: str, query: dict[str, str]) -> None:
        snapshot = self._plane.snapshot
        if caller.trust_domain == snapshot.trust_domain:
            if caller.namespace == snapshot.root_namespace:
                return
            if name in debug.OWN_NAMESPACE:
                proxy = self._proxy(query).proxy
                if proxy.namespace == caller.namespace:
                    return
        raise Refusal("PERMISSION_DENIED", f"{caller} may not ask for {name or 'this'}")

    def _proxy(self, query: dict[str, str]) -> Connection:
        try:
            return proxy_of_query(self._plane, query)
        except ValueError as error:
            raise Refusal("INVALID_ARGUMENT", str(error)) from error
        except LookupError as error:
            # Whether a proxy exists is nothing to tell somebody who may not ask about it.
            raise Refusal("PERMISSION_DENIED", "no such proxy in your namespace") from error

    async def _bodies(self, kind: str, name: str, query: dict[str, str]) -> list[Body]:
        try:
            if kind == f"{DEBUG_TYPE}/syncz":
                return [sync_config(item) for item in self._plane.server.connections]
            if kind == f"{DEBUG_TYPE}/config_dump":
                return config_sections(proxy_of_query(self._plane, query))
            found = await debug.answer(self._plane, name, query)
        except LookupError as error:
            # Istio answers in the body, so that its tools show the words.
            return [(DEBUG_TYPE, json.dumps({"error": error.args[0]}).encode())]
        except ValueError as error:
            raise Refusal("INVALID_ARGUMENT", str(error)) from error
        return [(DEBUG_TYPE, found.body)]


def _parse(dialect: Dialect, data: bytes) -> DeltaRequest | StateRequest:
    try:
        return parse_delta(data)[0] if dialect is Dialect.DELTA else parse_state(data)[0]
    except MalformedRequest as error:
        raise Refusal("INVALID_ARGUMENT", str(error)) from error


def _response(dialect: Dialect, kind: str, name: str, bodies: list[Body], nonce: str) -> bytes:
    if dialect is Dialect.STATE:
        return wire.encode_state_of(kind, bodies, nonce, "debug", _SERVER)
    return wire.encode_delta_of(kind, name, bodies, nonce, _SERVER)
