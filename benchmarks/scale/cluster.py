"""A Kubernetes API that holds the mesh, for servers that read their objects from one.

Nothing but an API server is needed: what the kubelet and the EndpointSlice controller would write,
the rig writes.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.scale.mesh import (
    Raw,
    Size,
    namespace_of,
    objects,
    pod_address,
    pod_name,
    port_of,
)
from lateen.api.kinds import kind_of
from lateen.source.client import path_for

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json-patch+json"
_PLAIN = "application/json"
_IN_MESH = re.compile("/namespaces/ns[0-9]+/")
"""What is ours in the paths of objects."""
_WRITERS = 8
_RETRIES = 5


@dataclass(frozen=True, slots=True)
class Access:
    """Where an API server is and who we are there."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    token: str = ""


class Cluster:
    """Changes objects by server-side apply, on one connection for each thread."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._local = threading.local()

    def load(self, size: Size) -> int:
        """Make the cluster hold the mesh and no other; returns how many objects were written."""
        wanted = {_path(raw): raw for raw in cluster_objects(size)}
        there: dict[str, Raw] = {}
        for collection, raw in {_collection(raw): raw for raw in wanted.values()}.items():
            for found in self._request("GET", collection).get("items", ()):
                there[_path({**found, "apiVersion": raw["apiVersion"], "kind": raw["kind"]})] = (
                    found
                )
        surplus = [path for path in there.keys() - wanted.keys() if _IN_MESH.search(path)]
        differing = [
            raw for path, raw in wanted.items() if path not in there or not _holds(there[path], raw)
        ]
        spaces = [raw for raw in differing if raw["kind"] == "Namespace"]
        with ThreadPoolExecutor(_WRITERS) as writers:
            list(writers.map(self._remove, surplus))
            for raw in spaces:
                self._create(raw)
            rest = differing[len(spaces) :]
            list(writers.map(lambda raw: self._settle(raw, there.get(_path(raw))), rest))
        return len(differing)

    def apply(self, documents: Sequence[Raw]) -> None:
        """Create or change objects, with their status."""
        for raw in documents:
            self._put(raw)

    def set_pod_status(self, namespace: str, name: str, status: Raw) -> None:
        """Write a pod's status as its kubelet does, then its address into the EndpointSlice of its
        service as the controller does."""
        service, _, index = name.rpartition("-")
        path = path_for("v1", "pods", namespace, name, "status")
        self._request("PATCH", path, {"status": status}, _MERGE)
        place = f"/endpoints/{index}/addresses"
        change = [{"op": "replace", "path": place, "value": [status["podIP"]]}]
        path = path_for("discovery.k8s.io/v1", "endpointslices", namespace, service)
        self._request("PATCH", path, change, _JSON)

    def _settle(self, raw: Raw, live: Raw | None) -> None:
        if live is None:
            self._create(raw)
        elif _holds(live, _without_status(raw)):
            self._put_status(raw)
        else:
            self._put(raw)

    def _remove(self, path: str) -> None:
        self._request("DELETE", f"{path}?gracePeriodSeconds=0")

    def _create(self, raw: Raw) -> None:
        collection = _path(raw).rpartition("/")[0]
        self._request("POST", collection, _without_status(raw), _PLAIN)
        self._put_status(raw)

    def _put(self, raw: Raw) -> None:
        path = f"{_path(raw)}?fieldManager=scale&force=true"
        self._request("PATCH", path, _without_status(raw), _APPLY)
        self._put_status(raw)

    def _put_status(self, raw: Raw) -> None:
        if "status" in raw:
            self._request("PATCH", f"{_path(raw)}/status", {"status": raw["status"]}, _MERGE)

    def _request(self, method: str, path: str, body: object = None, kind: str = "") -> Raw:
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if kind else {})
        if self._access.token:
            headers["Authorization"] = f"Bearer {self._access.token}"
        data = json.dumps(body).encode() if kind else None
        for attempt in range(_RETRIES):
            connection = self._connection()
            try:
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                words = answer.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                self._local.connection = None
                if attempt + 1 == _RETRIES:
                    raise
                continue
            if answer.status == 429:
                time.sleep(float(answer.headers.get("Retry-After", "1")))
                continue
            if answer.status >= 300:
                raise SystemExit(f"{method} {path}: {answer.status} {words.decode()[:500]}")
            found: Raw = json.loads(words)
            return found
        raise SystemExit(f"{method} {path}: the API server stays too busy")

    def _connection(self) -> http.client.HTTPConnection:
        known: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if known is None:
            access = self._access
            if access.tls is None:
                known = http.client.HTTPConnection(access.host, access.port, timeout=60)
            else:
                known = http.client.HTTPSConnection(
                    access.host, access.port, timeout=60, context=access.tls
                )
            self._local.connection = known
        return known


def cluster_objects(size: Size) -> Iterator[Raw]:
    """The mesh as a cluster holds it: `objects` with the pods' nodes and an EndpointSlice for each
    service."""
    yield from objects(size)
    if not size.entries:
        for index in range(size.endpoints):
            yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node{index}"}}
        for service in range(size.services):
            yield endpoint_slice(size, service)


def endpoint_slice(size: Size, service: int) -> Raw:
    """The endpoints of a service, in the order of its pods."""
    space, name = namespace_of(size, service), f"svc{service}"
    port, number = port_of(service)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": space,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [pod_address(service, index)],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": f"node{index}",
                "targetRef": {"kind": "Pod", "namespace": space, "name": pod_name(service, index)},
            }
            for index in range(size.endpoints)
        ],
        "ports": [{"name": port, "port": number, "protocol": "TCP"}],
    }


def _collection(raw: Raw) -> str:
    return path_for(raw["apiVersion"], _plural(raw))


def _path(raw: Raw) -> str:
    names = raw["metadata"].get("namespace", ""), raw["metadata"]["name"]
    return path_for(raw["apiVersion"], _plural(raw), *names)


def _plural(raw: Raw) -> str:
    known = kind_of(raw["apiVersion"], raw["kind"])
    return known.plural if known is not None else f"{raw['kind'].lower()}s"


def _without_status(raw: Raw) -> Raw:
    return {key: value for key, value in raw.items() if key != "status"}


def _holds(live: Raw, raw: Raw) -> bool:
    """Whether an object has all that is wanted of it, besides what the server has added."""
    names = raw.keys() - {"apiVersion", "kind"}  # items of a list do not have them
    return all(name in live and _is_within(raw[name], live[name]) for name in names)


def _is_within(wanted: object, found: object) -> bool:
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(name in found and _is_within(wanted[name], found[name]) for name in wanted)
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return all(_is_within(*pair) for pair in zip(wanted, found, strict=True))
    return wanted == found


def access_of(kubeconfig: Path) -> Access:
    """What the current context of a kubeconfig says: a server, and a token or a certificate."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    url = urllib.parse.urlsplit(cluster["server"])
    token = str(user.get("token", ""))
    host = url.hostname or "127.0.0.1"
    if url.scheme != "https":
        return Access(host, url.port or 80, None, token)
    tls = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    authority = _material(cluster, "certificate-authority")
    if authority:
        tls.load_verify_locations(cadata=authority.decode())
    certificate, key = _material(user, "client-certificate"), _material(user, "client-key")
    if certificate:
        with tempfile.NamedTemporaryFile() as both:  # ssl reads files only
            both.write(certificate + b"\n" + key)
            both.flush()
            tls.load_cert_chain(both.name)
    return Access(host, url.port or 443, tls, token)


def _named(items: Iterable[Any], name: str) -> Any:  # noqa: ANN401 - YAML
    return next(item for item in items if item["name"] == name)


def _material(section: Raw, key: str) -> bytes:
    """PEM that a kubeconfig has inline or names a file of; empty without."""
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return Path(section[key]).read_bytes() if key in section else b""
