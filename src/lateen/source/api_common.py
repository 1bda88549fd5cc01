"""What the API's handlers share: the application's state, answers, callers, errors."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from lateen.api.findings import Finding
from lateen.api.resource import Provenance
from lateen.source.addresses import AddressInUse
from lateen.source.admission import Refused
from lateen.source.field_owners import FieldConflict
from lateen.source.merge import PatchError
from lateen.source.selectors import SelectorError
from lateen.source.store import AlreadyExists, Conflict, HistoryGone, StoreError
from lateen.source.writing import BadObject, Writer

logger = logging.getLogger(__name__)

Raw = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
WRITER = web.AppKey("writer", Writer)
Waiter = Callable[[int, float], Awaitable[Raw]]
"""``(revision, timeout seconds)`` → ``{"acknowledged": bool, "proxies": n, "laggards": [...]}``."""
WAITER: web.AppKey[dict[str, Waiter]] = web.AppKey("waiter", dict)
OWNERS: web.AppKey[frozenset[int]] = web.AppKey("owners", frozenset)


class ApiFailure(Exception):
    """An answer that is a Kubernetes ``Status`` object with ``status: Failure``."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def answer(data: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=msgspec.json.encode(data), status=status, content_type="application/json"
    )


def failure_status(code: int, reason: str, message: str, details: Raw | None = None) -> Raw:
    """A Kubernetes ``Status`` object for a failure."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
        "details": details or {},
    }


def failure(code: int, reason: str, message: str, details: Raw | None = None) -> web.Response:
    """The answer for a failure."""
    return answer(failure_status(code, reason, message, details), code)


def finding_data(finding: Finding) -> Raw:
    """A finding as the JSON that `validate -o json` documents."""
    key = finding.key
    return {
        "rule": finding.rule,
        "severity": str(finding.severity),
        "file": finding.provenance.path,
        "document": finding.provenance.document,
        "path": list(finding.path),
        "line": finding.line or finding.provenance.line,
        "column": finding.column,
        "object": {"kind": key.kind, "namespace": key.namespace, "name": key.name} if key else None,
        "message": finding.message,
        "hint": finding.hint,
    }


def peer_of(request: web.Request) -> tuple[int, int]:
    """Process id and user id of the caller, as the kernel states them (``SO_PEERCRED``)."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport else None
    if connection is None or connection.family != socket.AF_UNIX:
        return 0, -1
    pid, uid, _gid = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    return pid, uid


def who(request: web.Request) -> str:
    """The caller, for the history."""
    pid, uid = peer_of(request)
    agent = request.headers.get("User-Agent", "")[:60]
    return f"uid {uid} pid {pid}" + (f" {agent}" if agent else "")


def given_provenance(request: web.Request) -> Provenance | None:
    """Where the caller says the object was written (header ``Lateen-Provenance``)."""
    path, _, document = request.headers.get("Lateen-Provenance", "").rpartition(":")
    path, _, line = path.rpartition(":")
    if not path:
        return None
    return Provenance(path, number(document) or 0, number(line) or 0, "file")


def number(text: str) -> int | None:
    """A decimal number of reasonable length, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


@web.middleware
async def only_owners(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse callers that the mesh does not belong to."""
    _pid, uid = peer_of(request)
    if uid not in request.app[OWNERS]:
        return failure(403, "Forbidden", "this mesh belongs to another user")
    return await handler(request)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into Kubernetes ``Status`` objects."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400 or error.content_type == "application/json":
            raise
        reason = {404: "NotFound", 405: "MethodNotAllowed", 413: "RequestEntityTooLarge"}
        message = f"{error.reason}: {request.method} {request.path}"
        return failure(error.status, reason.get(error.status, "BadRequest"), message)
    except ConnectionError:
        raise
    except Exception as error:
        known = _known_failure(error)
        if known is not None:
            return known
        # A defect of ours: the caller learns that it was not their fault, the log has the rest.
        logger.exception("%s %s failed", request.method, request.path)
        return failure(500, "InternalError", f"internal error: {type(error).__name__}")


def _known_failure(error: Exception) -> web.Response | None:
    text = str(error)
    match error:
        case ApiFailure():
            return failure(error.code, error.reason, text)
        case Refused():
            causes = {"causes": [finding_data(finding) for finding in error.findings]}
            return failure(422, "Invalid", text, causes)
        case AddressInUse() | PatchError():
            return failure(422, "Invalid", text)
        case AlreadyExists():
            return failure(409, "AlreadyExists", text)
        case Conflict() | FieldConflict():
            return failure(409, "Conflict", text)
        case HistoryGone():
            return failure(410, "Expired", text)
        case StoreError():
            return failure(507, "InternalError", text)
        case msgspec.ValidationError():
            return failure(400, "BadRequest", f"the request is not as it should be: {text}")
        case msgspec.DecodeError() | UnicodeDecodeError():
            return failure(400, "BadRequest", f"the request's body is not JSON: {text}")
        case RecursionError():
            return failure(400, "BadRequest", "the request's body is nested too deeply")
        case SelectorError() | BadObject():
            return failure(400, "BadRequest", text)
    return None
