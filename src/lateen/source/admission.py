"""What happens to an object between a request and the store: checks, defaults, system fields."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lateen.api.findings import Finding, Severity
from lateen.api.kinds import KindInfo
from lateen.api.parse import parse_object
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.api.validate import validate
from lateen.source.store import StoredObject
from lateen.source.transaction import Transaction

Raw = dict[str, Any]
_SYSTEM_METADATA = (
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Refused(Exception):
    """An object that must not be stored; ``findings`` say why, errors first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = sorted(findings, key=lambda f: f.severity is not Severity.ERROR)
        super().__init__("; ".join(finding.message for finding in self.findings))


@dataclass(frozen=True, slots=True)
class Admitted:
    """An object ready to be stored, and the warnings its author should see."""

    raw: Raw
    resource: Resource
    warnings: tuple[Finding, ...] = ()


def admit(
    transaction: Transaction,
    info: KindInfo,
    raw: Raw,
    previous: StoredObject | None,
    provenance: Provenance,
) -> Admitted:
    """Check an object's new content and fill in what the API server owns.

    Status is taken from ``previous``: only the status subresource writes it. Raises `Refused` when
    validation finds an error and `lateen.source.addresses.AddressInUse`.
    """
    raw = {**raw, "apiVersion": raw.get("apiVersion") or info.api_version, "kind": info.kind}
    if info.status_subresource:
        # A Pod that a user copied out of another cluster brings that cluster's addresses with it.
        raw.pop("status", None)
        if previous is not None and "status" in previous.raw:
            raw["status"] = previous.raw["status"]
    parsed = parse_object(raw, provenance)
    if not isinstance(parsed, Resource):
        raise Refused(parsed)
    findings = validate(parsed)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise Refused(findings)
    raw = _with_system_fields(info, raw, previous)
    if info.group == "" and info.kind == "Service":
        raw = transaction.addresses.with_addresses(raw, previous.raw if previous else None)
    elif info.kind == "ServiceEntry":
        addresses = transaction.addresses.service_entry_addresses(raw)
        if addresses != ((raw.get("status") or {}).get("addresses") or []):
            raw["status"] = {**(raw.get("status") or {}), "addresses": addresses}
    return Admitted(_with_generation(raw, previous), parsed, tuple(findings))


def key_of(info: KindInfo, raw: Raw) -> ObjectKey:
    """Key of an object whose metadata has a name."""
    metadata = raw.get("metadata") or {}
    namespace = (metadata.get("namespace") or "default") if info.namespaced else ""
    return ObjectKey(info.group, info.kind, str(namespace), str(metadata["name"]))


def _with_system_fields(info: KindInfo, raw: Raw, previous: StoredObject | None) -> Raw:
    metadata = dict(raw["metadata"])
    for name in _SYSTEM_METADATA:
        metadata.pop(name, None)
    if info.namespaced:
        metadata["namespace"] = metadata.get("namespace") or "default"
    else:
        metadata.pop("namespace", None)
    if info.group == "" and info.kind == "Namespace":
        labels = metadata.get("labels") or {}
        metadata["labels"] = {**labels, "kubernetes.io/metadata.name": metadata["name"]}
    if isinstance(metadata.get("annotations"), dict):
        # kubectl's copy of the whole object would double what the store and the proxies carry.
        metadata["annotations"] = {
            k: v for k, v in metadata["annotations"].items() if k != LAST_APPLIED
        }
    if previous is None:
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = _now()
    else:
        before = previous.raw["metadata"]
        for name in _SYSTEM_METADATA:
            if name in before and name not in ("resourceVersion", "generation"):
                metadata[name] = before[name]
    return {**raw, "metadata": metadata}


def _with_generation(raw: Raw, previous: StoredObject | None) -> Raw:
    """Counts changes of what was asked for; last, because addresses given before are no change."""
    generation = 1
    if previous is not None:
        changed = _content(raw) != _content(previous.raw)
        generation = previous.raw["metadata"].get("generation", 1) + changed
    return {**raw, "metadata": {**raw["metadata"], "generation": generation}}


def _content(raw: Raw) -> Raw:
    return {k: v for k, v in raw.items() if k not in ("metadata", "status", "apiVersion")}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
