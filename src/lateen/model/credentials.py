"""Credentials that gateways and DestinationRules name: which object, and whether it can be used.

A credential's name is that of Istio's SDS: ``kubernetes://NAME`` for a Secret beside the proxy,
``kubernetes-gateway://NAMESPACE/NAME``, ``configmap://NAMESPACE/NAME``; with the suffix ``-cacert``
it means the CA of the Secret. What cannot be used has a `Credential.problem`, and configuration
that needs it must not wait for it (`lateen.translate`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from lateen.api.core.config import ConfigMap, Secret
from lateen.api.resource import ObjectKey, Resource
from lateen.model import kinds
from lateen.model.key_material import (
    authority_problem,
    canonical_chain,
    canonical_crl,
    canonical_key,
    crl_problem,
    pair_problem,
    staple_problem,
)
from lateen.model.snapshot import Index, Snapshot

KUBERNETES = "kubernetes://"
KUBERNETES_GATEWAY = "kubernetes-gateway://"
CONFIG_MAP = "configmap://"
CA_SUFFIX = "-cacert"

_PAIR_KEYS = (("tls.crt", "tls.key"), ("cert", "key"))
_CA_KEYS = ("ca.crt", "cacert")
_CRL_KEYS = ("ca.crl", "crl")
_STAPLE = "tls.ocsp-staple"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a proxy is given, or why not. ``problem`` is empty when it can be used."""

    problem: str = ""
    resource: Resource | None = None
    """The object that it comes from."""
    certificate: bytes = b""
    key: bytes = b""
    staple: bytes = b""
    """OCSP response."""
    authority: bytes = b""
    revoked: bytes = b""
    """Certificate revocation list."""


class _Place(NamedTuple):
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Credentials:
    """The credentials of a snapshot, each looked at when it is first asked for."""

    def __init__(self, snapshot: Snapshot, previous: Credentials | None) -> None:
        self._snapshot = snapshot
        self._pairs: dict[ObjectKey, Credential] = {}
        self._authorities: dict[ObjectKey, Credential] = {}
        if previous is not None:
            for mine, theirs in (
                (self._pairs, previous._pairs),
                (self._authorities, previous._authorities),
            ):
                mine.update(
                    (key, item)
                    for key, item in theirs.items()
                    if item.resource is not None and snapshot.get(key) is item.resource
                )

    def pair(self, name: str, namespace: str) -> Credential:
        """Certificate and private key called ``name``, for a proxy in ``namespace``."""
        place = _place(name, namespace)
        problem = _elsewhere(place, name, namespace)
        if place is None or problem:
            return Credential(problem)
        return self._known(self._pairs, place, _pair)

    def authority(self, name: str, namespace: str) -> Credential:
        """Certificates of authorities called ``name``, for a proxy in ``namespace``. The suffix
        ``-cacert`` means the Secret of exactly this name, else the CA in the one without it."""
        place = _place(name, namespace)
        problem = _elsewhere(place, name, namespace)
        if place is None or problem:
            return Credential(problem)
        first = self._known(self._authorities, place, _authority)
        if place.kind != "Secret" or not place.name.endswith(CA_SUFFIX):
            return first
        if not first.problem or first.resource is not None:
            return first
        inside = place._replace(name=place.name.removesuffix(CA_SUFFIX))
        return self._known(self._authorities, inside, _authority)

    def of(self, name: str, namespace: str) -> Credential:
        """Whatever ``name`` stands for when asked for by SDS."""
        if name.startswith(CONFIG_MAP) or name.endswith(CA_SUFFIX):
            return self.authority(name, namespace)
        return self.pair(name, namespace)

    def _known(self, known: dict[ObjectKey, Credential], place: _Place, read: _Read) -> Credential:
        key = ObjectKey("", place.kind, place.namespace, place.name)
        found = known.get(key)
        if found is None:
            resource = self._snapshot.get(key)
            if resource is None:
                return Credential(f"there is no {place}")
            found = known[key] = _read_safely(read, place, resource)
        return found


def credentials(snapshot: Snapshot) -> Credentials:
    """The credentials of a snapshot."""
    return snapshot.derived(_INDEX)


def secret_problem(resource: Resource) -> str:
    """Why a Secret that has a certificate and a key, or a CA, cannot be used; empty when it can,
    or has none of them."""
    data = _data(resource)
    if any(data.get(certificate) and data.get(key) for certificate, key in _PAIR_KEYS):
        return _read_safely(_pair, _Place("Secret", *_names(resource)), resource).problem
    if any(data.get(key) for key in _CA_KEYS):
        return _read_safely(_authority, _Place("Secret", *_names(resource)), resource).problem
    return ""


def _read_safely(read: _Read, place: _Place, resource: Resource) -> Credential:
    try:
        return read(place, resource)
    except Exception as error:
        # Hostile input goes through a parser of others. Whatever it raises, this one credential
        # cannot be used, and nothing else is concerned. Its words may hold parts of the input.
        return Credential(f"{place} cannot be read ({type(error).__name__})", resource)


def _names(resource: Resource) -> tuple[str, str]:
    return resource.key.namespace, resource.key.name


def _pair(place: _Place, resource: Resource) -> Credential:
    data = _data(resource)
    for certificate, key in _PAIR_KEYS:
        if not data.get(certificate) or not data.get(key):
            continue
        staple = data.get(_STAPLE, b"")
        if staple and staple_problem(staple, data[certificate]):
            staple = b""
        problem = pair_problem(data[certificate], data[key], staple)
        if problem:
            return Credential(f"{problem} ({place})", resource)
        chain, private = canonical_chain(data[certificate]), canonical_key(data[key])
        return Credential("", resource, chain, private, staple)
    return Credential(f"{place} has no tls.crt and tls.key", resource)


def _authority(place: _Place, resource: Resource) -> Credential:
    data = _data(resource)
    bundle = next((data[key] for key in _CA_KEYS if data.get(key)), b"")
    if not bundle:
        return Credential(f"{place} has no ca.crt", resource)
    crl = next((data[key] for key in _CRL_KEYS if data.get(key)), b"")
    problem = authority_problem(bundle) or (crl_problem(crl) if crl else "")
    if problem:
        return Credential(f"{problem} ({place})", resource)
    return Credential(
        "",
        resource,
        authority=canonical_chain(bundle),
        revoked=canonical_crl(crl) if crl else b"",
    )


def _place(name: str, namespace: str) -> _Place | None:
    if name.startswith(KUBERNETES):
        return _Place("Secret", namespace, name.removeprefix(KUBERNETES))
    for prefix, kind in ((KUBERNETES_GATEWAY, "Secret"), (CONFIG_MAP, "ConfigMap")):
        if name.startswith(prefix):
            where, _, object_name = name.removeprefix(prefix).partition("/")
            return _Place(kind, where, object_name)
    return None


def _elsewhere(place: _Place | None, name: str, namespace: str) -> str:
    if place is None:
        return f"no object is meant by {name!r}"
    if place.namespace != namespace:
        return f"{place} is not in the proxy's namespace {namespace}"
    return ""


def _data(resource: Resource) -> dict[str, bytes]:
    item = resource.object
    if isinstance(item, ConfigMap):
        return {key: value.encode() for key, value in item.data.items()}
    if not isinstance(item, Secret):
        return {}
    data: dict[str, bytes] = {}
    for key, value in item.data.items():
        try:
            data[key] = base64.b64decode(value, validate=False)
        except (binascii.Error, ValueError):
            continue
    data.update((key, value.encode()) for key, value in item.string_data.items())
    return data


_Read = Callable[[_Place, Resource], Credential]

_INDEX: Index[Credentials] = Index(
    "credentials", frozenset({kinds.SECRET, kinds.CONFIG_MAP}), Credentials
)
