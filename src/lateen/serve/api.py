"""Handlers under ``/lateen/v1/`` on the mesh's private API socket.

Whoever gets here is the mesh's owner or its agent: the API proves callers by the credentials of
the Unix socket (see `lateen.source.api_server`).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

import msgspec
from aiohttp import web

from lateen.api.core.pod import Pod
from lateen.api.findings import Finding
from lateen.api.parse import parse_object
from lateen.api.resource import ObjectKey, Resource
from lateen.model.workloads import pod_identity
from lateen.pki.errors import PkiError
from lateen.pki.tokens import TokenSubject
from lateen.serve.connection import Connection
from lateen.serve.control_plane import ControlPlane
from lateen.serve.judgement import describe_alone, still_refused
from lateen.serve.metrics import SHORT_NAMES
from lateen.serve.proxy_settings import settings_for
from lateen.serve.quarantine import describe
from lateen.serve.serving import Serving
from lateen.serve.share_report import shares_data
from lateen.serve.status import config_dump, find_proxy, proxy_status
from lateen.source.api_server import WAITER, WRITER, answer, finding_data
from lateen.source.writing import Document, Outcome, Writer

MAX_WAIT = 600.0
"""Longest time one request may wait, in seconds."""
_TYPES = {short: url for url, short in SHORT_NAMES.items()} | {
    "clusters": next(u for u, s in SHORT_NAMES.items() if s == "cds"),
    "endpoints": next(u for u, s in SHORT_NAMES.items() if s == "eds"),
    "listeners": next(u for u, s in SHORT_NAMES.items() if s == "lds"),
    "routes": next(u for u, s in SHORT_NAMES.items() if s == "rds"),
    "secrets": next(u for u, s in SHORT_NAMES.items() if s == "sds"),
}

_Handler = Callable[[ControlPlane, web.Request], Awaitable[web.Response]]


def register(app: web.Application, control_plane: ControlPlane) -> None:
    """Add the handlers to the API's application, and let ``apply`` wait for proxies."""
    routes: tuple[tuple[str, str, _Handler], ...] = (
        ("POST", "/lateen/v1/certificates", _certificates),
        ("GET", "/lateen/v1/trust-bundle", _trust_bundle),
        ("POST", "/lateen/v1/tokens", _tokens),
        ("GET", "/openid/v1/jwks", _public_keys),
        ("GET", "/lateen/v1/bootstrap", _bootstrap),
        ("GET", "/lateen/v1/proxy-settings", _proxy_settings),
        ("GET", "/lateen/v1/status", _status),
        ("GET", "/lateen/v1/findings", _findings),
        ("GET", "/lateen/v1/proxies", _proxies),
        ("GET", "/lateen/v1/proxies/{name}/config", _config),
        ("GET", "/lateen/v1/counters", _counters),
        ("GET", "/lateen/v1/wait", _wait),
        ("POST", "/lateen/v1/wait", _wait),
        ("GET", "/lateen/v1/debug/{name:.*}", _debug),
    )
    for method, path, handler in routes:
        app.router.add_route(method, path, functools.partial(handler, control_plane))

    async def wait(revision: int, timeout: float) -> dict[str, object]:
        return (await control_plane.wait(revision, min(timeout, MAX_WAIT))).data()

    app[WAITER]["wait"] = wait
    app[WRITER] = _counting(app[WRITER], control_plane)


def _counting(writer: Writer, plane: ControlPlane) -> Writer:
    """``writer`` that counts what is admitted and what is refused."""

    class Counting(Writer):
        def apply(
            self, documents: Sequence[Document], manager: str, who: str, *, dry_run: bool = False
        ) -> list[Outcome]:
            outcomes = super().apply(documents, manager, who, dry_run=dry_run)
            for outcome in outcomes:
                refused = outcome.result == "refused"
                metrics = plane.metrics
                counter = metrics.validation_failed if refused else metrics.validation_passed
                counter.labels(outcome.key.group, outcome.key.kind).inc()
            return outcomes

    return Counting(**{f.name: getattr(writer, f.name) for f in dataclasses.fields(writer)})


class _PodName(msgspec.Struct):
    namespace: str
    name: str


class _CertificateRequest(msgspec.Struct):
    csr: str
    pod: _PodName
    ttl: float = 0.0
    """Seconds; 0 for the mesh's default."""


async def _certificates(plane: ControlPlane, request: web.Request) -> web.Response:
    """Sign a pod's key. Who the pod is comes from its object, never from the request."""
    plane.metrics.certificates.inc()
    try:
        wanted = msgspec.json.decode(await request.read(), type=_CertificateRequest)
    except msgspec.DecodeError:
        plane.metrics.request_errors.inc()
        raise
    pod = _pod(plane, wanted.pod.namespace, wanted.pod.name)
    if pod is None:
        plane.metrics.unknown_workloads.inc()
        return _error(404, f"there is no pod {wanted.pod.namespace}/{wanted.pod.name}")
    ttl = plane.options.certificate_ttl
    if wanted.ttl:
        ttl = min(ttl, datetime.timedelta(seconds=wanted.ttl))
    try:
        identity = pod_identity(pod, plane.snapshot.trust_domain)
        issued = plane.authority.sign(wanted.csr.encode(), identity, ttl)
    except PkiError as error:
        plane.metrics.certificate_errors.inc()
        return _error(422, str(error))
    plane.metrics.certificates_issued.inc()
    return answer(
        {
            "chain": issued.chain.decode(),
            "trust_bundle": plane.authority.trust_bundle.decode(),
            "not_before": issued.not_before.isoformat().replace("+00:00", "Z"),
            "expires": issued.expires.isoformat().replace("+00:00", "Z"),
            "identity": identity.spiffe_id,
        }
    )


class _TokenRequest(msgspec.Struct):
    pod: _PodName
    audiences: list[str] = []
    lifetime: int = 3600
    """Seconds."""


async def _tokens(plane: ControlPlane, request: web.Request) -> web.Response:
    """A service-account token for a pod; the account comes from its object."""
    wanted = msgspec.json.decode(await request.read(), type=_TokenRequest)
    pod = _pod(plane, wanted.pod.namespace, wanted.pod.name)
    if pod is None:
        return _error(404, f"there is no pod {wanted.pod.namespace}/{wanted.pod.name}")
    identity = pod_identity(pod, plane.snapshot.trust_domain)
    subject = TokenSubject(
        identity.namespace, identity.service_account, pod.metadata.name, pod.metadata.uid
    )
    token, expires = plane.tokens.sign(subject, wanted.audiences[:16], wanted.lifetime)
    return answer({"token": token, "expires": expires})


async def _public_keys(plane: ControlPlane, _request: web.Request) -> web.Response:
    return answer(plane.tokens.public_keys())


async def _trust_bundle(plane: ControlPlane, _request: web.Request) -> web.Response:
    return answer({"trust_bundle": plane.authority.trust_bundle.decode()})


async def _bootstrap(plane: ControlPlane, request: web.Request) -> web.Response:
    """Envoy's bootstrap for a pod: ``?namespace=NS&pod=POD`` and optionally ``ip``, ``mark=1``."""
    namespace, name = request.query.get("namespace", ""), request.query.get("pod", "")
    pod = _pod(plane, namespace, name)
    if pod is None:
        return _error(404, f"there is no pod {namespace}/{name}")
    # The translation to Envoy's types loads only when the first proxy starts.
    from lateen.serve.bootstraps import bootstrap_for

    data = bootstrap_for(
        plane.snapshot,
        pod,
        plane.options.xds_address,
        address=request.query.get("ip", ""),
        mark=request.query.get("mark", "") in ("1", "true"),
    )
    return answer(data)


async def _proxy_settings(plane: ControlPlane, request: web.Request) -> web.Response:
    """What the agent starts a pod's proxy with: ``?namespace=NS&pod=POD``."""
    namespace, name = request.query.get("namespace", ""), request.query.get("pod", "")
    pod = _pod(plane, namespace, name)
    if pod is None:
        return _error(404, f"there is no pod {namespace}/{name}")
    return answer(settings_for(plane.snapshot, pod))


async def _status(plane: ControlPlane, _request: web.Request) -> web.Response:
    findings = await plane.found.of(plane.snapshot)
    data = await _with_workers(plane, status_data(plane, findings))
    alone = still_refused(
        plane.judgement.alone.values(), cast("list[dict[str, Any]]", data["proxies"])
    )
    return answer({**data, "refusedAlone": [describe_alone(item) for item in alone]})


async def _findings(plane: ControlPlane, _request: web.Request) -> web.Response:
    """What is wrong among the objects as they are in force."""
    findings = await plane.found.of(plane.snapshot)
    return answer({"findings": [finding_data(finding) for finding in findings]})


def status_data(plane: ControlPlane, findings: Iterable[Finding] = ()) -> dict[str, object]:
    """The whole status: proxies, what is held back, what is broken."""
    server = plane.server
    broken = [finding for found in plane.broken.values() for finding in found]
    broken += [finding for found in plane.broken_files.values() for finding in found]
    return {
        "ready": server.ready,
        "revision": plane.revision,
        "snapshotVersion": plane.snapshot.version,
        "pushedVersion": server.pushed_version,
        "overload": plane.standing.data(),
        "startedAt": plane.started_at,
        "proxies": [proxy_status(item) for item in _sorted(plane)],
        "scopes": len(server.scopes),
        "limits": shares_data(server.shares),
        "quarantined": [describe(entry) for entry in plane.quarantine.entries],
        "broken": [finding_data(finding) for finding in broken],
        "findings": [finding_data(finding) for finding in findings],
    }


async def _proxies(plane: ControlPlane, _request: web.Request) -> web.Response:
    own: dict[str, object] = {"proxies": [proxy_status(item) for item in _sorted(plane)]}
    return answer({"proxies": (await _with_workers(plane, own))["proxies"]})


async def _with_workers(plane: ControlPlane, own: dict[str, object]) -> dict[str, object]:
    """``own`` status with the proxies of further processes."""
    if plane.workers is None:
        return own
    others = await plane.workers.statuses()
    each = [own["proxies"], *(found["proxies"] for found in others)]
    proxies = [item for found in each if isinstance(found, list) for item in found]
    proxies.sort(key=lambda item: (item["namespace"], item["name"]))
    scopes = [own.get("scopes", 0), *(found["scopes"] for found in others)]
    workers = [
        {"pid": os.getpid(), "proxies": len(plane.server.connections)},
        *({"pid": found["pid"], "proxies": len(found["proxies"])} for found in others),
    ]
    total = sum(count for count in scopes if isinstance(count, int))
    whole = own | {"proxies": proxies, "scopes": total, "workers": workers}
    if isinstance(limits := own.get("limits"), list):
        whole["limits"] = [*limits, *(item for found in others for item in found["limits"])]
    return whole


async def _counters(plane: ControlPlane, _request: web.Request) -> web.Response:
    """What pushes have cost since the start: for benchmarks and tests of how much is done."""
    totals = plane.metrics.totals()
    for other in await plane.workers.totals() if plane.workers is not None else ():
        totals = {name: value + other[name] for name, value in totals.items()}
    return answer(totals)


async def _config(plane: ControlPlane, request: web.Request) -> web.Response:
    """Configuration as sent to ``POD.NAMESPACE`` (``?type=clusters|listeners|...``)."""
    name, wanted = request.match_info["name"], request.query.get("type", "")
    type_url = _TYPES.get(wanted, wanted)
    if wanted and type_url not in SHORT_NAMES:
        return _error(400, f'unknown type "{wanted}"; one of {", ".join(sorted(_TYPES))}')
    connection = find_proxy(plane, name)
    if connection is None:
        found = await plane.workers.config(name, type_url) if plane.workers is not None else None
        return answer(found) if found else _error(404, f"no proxy {name} is connected")
    return answer(config_dump(connection, type_url))


async def _wait(plane: ControlPlane, request: web.Request) -> web.Response:
    """Wait for a store revision: ``?revision=N&timeout=SECONDS``, or the same as a JSON body."""
    values: dict[str, object] = dict(request.query)
    if request.method == "POST" and request.can_read_body:
        values |= msgspec.json.decode(await request.read(), type=dict[str, object])
    try:
        revision = int(str(values.get("revision", plane.store.revision)))
        timeout = float(str(values.get("timeout", 30.0)))
    except ValueError:
        return _error(400, "revision must be a whole number and timeout a number of seconds")
    result = await plane.wait(revision, min(max(timeout, 0.0), MAX_WAIT))
    return answer(result.data())


async def _debug(plane: ControlPlane, request: web.Request) -> web.Response:
    """The debug endpoints (`lateen.serve.debug`) for the mesh's owner."""
    from lateen.serve.monitoring import debug_response

    return await debug_response(plane, request)


def _sorted(plane: Serving) -> list[Connection]:
    return sorted(
        plane.server.connections, key=lambda item: (item.proxy.namespace, item.proxy.name)
    )


def _pod(plane: ControlPlane, namespace: str, name: str) -> Pod | None:
    # From the store and not from the snapshot: the agent asks at once after it made the pod.
    stored = plane.store.get(ObjectKey("", "Pod", namespace, name))
    if stored is None:
        return None
    parsed = parse_object(stored.raw, stored.provenance)
    if isinstance(parsed, Resource) and isinstance(parsed.object, Pod):
        return parsed.object
    return None


def _error(code: int, message: str) -> web.Response:
    return answer({"kind": "Status", "status": "Failure", "code": code, "message": message}, code)
