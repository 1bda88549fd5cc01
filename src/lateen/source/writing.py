"""Writes on behalf of API requests: create, replace, apply, status, delete. No HTTP here."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lateen.api.findings import Finding, Severity
from lateen.api.kinds import KindInfo, kind_of
from lateen.api.resource import ObjectKey, Provenance
from lateen.source.addresses import AddressInUse
from lateen.source.admission import Refused, admit, key_of
from lateen.source.merge import merge_patch, server_side_apply
from lateen.source.store import Conflict, Store, StoredObject, Write

Raw = dict[str, Any]
NAMESPACE_KEY = "Namespace"


@dataclass(frozen=True, slots=True)
class Document:
    """One object as a user wrote it."""

    raw: Raw
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document: ``created``, ``configured``, ``unchanged`` or ``refused``."""

    key: ObjectKey
    result: str
    revision: int = 0
    findings: tuple[Finding, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes objects into a store by the API's rules.

    ``inject_new_namespaces`` labels namespaces that come into being because an object names them
    with ``istio-injection: enabled``.
    """

    store: Store
    inject_new_namespaces: bool = True

    def create(self, info: KindInfo, raw: Raw, who: str, provenance: Provenance) -> StoredObject:
        """Store a new object. Raises `Refused`, `AddressInUse` and `Conflict` (it exists)."""
        metadata = dict(raw.get("metadata") or {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        raw = {**raw, "metadata": metadata}
        admitted = admit(self.store, info, raw, None, provenance)
        key = key_of(info, admitted.raw)
        writes = [*self._namespace_write(key, {}), Write(key, admitted.raw, provenance, 0)]
        return self.store.commit(writes, who)[-1]

    def replace(
        self,
        info: KindInfo,
        current: StoredObject,
        raw: Raw,
        who: str,
        provenance: Provenance | None,
    ) -> StoredObject:
        """Replace an object; a ``resourceVersion`` in ``raw`` must be current."""
        expected = _expected(raw)
        if expected is not None and expected != current.revision:
            self.store.commit([Write(current.key, raw, expected=expected)], who)
        where = provenance or current.provenance
        admitted = admit(self.store, info, raw, current, where)
        if _same(admitted.raw, current.raw):
            return current
        return self.store.commit([Write(current.key, admitted.raw, provenance, expected)], who)[0]

    def patch_status(self, current: StoredObject, status: Raw | None, who: str) -> StoredObject:
        """Merge ``status`` into the object's status."""
        merged = merge_patch(current.raw.get("status") or {}, status or {})
        if merged == (current.raw.get("status") or {}):
            return current
        raw = {**current.raw, "status": merged}
        return self.store.commit([Write(current.key, raw, durable=False)], who)[0]

    def apply(self, documents: Sequence[Document], manager: str, who: str) -> list[Outcome]:
        """Server-side apply of many objects: the good ones in one transaction, in order.

        Namespaces go first whatever their place, so that their labels hold for what is in them.
        """
        outcomes: dict[int, Outcome] = {}
        planned: dict[ObjectKey, Raw] = {}
        order = sorted(
            range(len(documents)), key=lambda i: documents[i].raw.get("kind") != NAMESPACE_KEY
        )
        for index in order:
            outcomes[index] = self._apply_one(documents[index], manager, who, planned)
        return [outcomes[index] for index in range(len(documents))]

    def delete(self, current: StoredObject, who: str, grace: int | None = None) -> StoredObject:
        """Delete an object. A running Pod is only marked, until its agent deletes it with grace 0.

        Deleting a Namespace deletes what is in it.
        """
        if current.key.kind == "Pod" and grace != 0 and (current.raw.get("status") or {}):
            if current.raw["metadata"].get("deletionTimestamp"):
                return current
            seconds = grace
            if seconds is None:
                spec = current.raw.get("spec") or {}
                seconds = spec.get("terminationGracePeriodSeconds", 30)
            metadata = {
                **current.raw["metadata"],
                "deletionTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "deletionGracePeriodSeconds": seconds,
            }
            return self.store.commit(
                [Write(current.key, {**current.raw, "metadata": metadata})], who
            )[0]
        writes = [Write(current.key, None)]
        if current.key.kind == NAMESPACE_KEY:
            writes += [
                Write(stored.key, None)
                for stored in self.store.all()
                if stored.key.namespace == current.key.name
            ]
        return self.store.commit(writes, who)[0]

    def _apply_one(
        self, document: Document, manager: str, who: str, planned: dict[ObjectKey, Raw]
    ) -> Outcome:
        raw = document.raw
        info = kind_of(str(raw.get("apiVersion", "")), str(raw.get("kind", "")))
        metadata = raw.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if info is None or not isinstance(name, str):
            key = ObjectKey("", str(raw.get("kind", "")), "", str(name or ""))
            text = "this kind is not known" if info is None else "metadata.name is missing"
            finding = Finding("LT0001", Severity.ERROR, text, key=key)
            return Outcome(key, "refused", findings=(finding,), provenance=document.provenance)
        key = key_of(info, raw)
        current = self.store.get(key)
        merged = server_side_apply(current.raw if current else None, raw, manager)
        try:
            admitted = admit(self.store, info, merged, current, document.provenance)
            moved = current and current.provenance.path != document.provenance.path
            if current is not None and not moved and _same(admitted.raw, current.raw):
                return Outcome(
                    key, "unchanged", current.revision, admitted.warnings, document.provenance
                )
            writes = [
                *self._namespace_write(key, planned),
                Write(key, admitted.raw, document.provenance),
            ]
            stored = self.store.commit(writes, who)[-1]
        except Refused as refused:
            return Outcome(key, "refused", 0, tuple(refused.findings), document.provenance)
        except (AddressInUse, Conflict) as error:
            finding = Finding(
                "LT0002", Severity.ERROR, str(error), key=key, provenance=document.provenance
            )
            return Outcome(key, "refused", 0, (finding,), document.provenance)
        result = "configured" if current else "created"
        return Outcome(key, result, stored.revision, admitted.warnings, document.provenance)

    def _namespace_write(self, key: ObjectKey, planned: dict[ObjectKey, Raw]) -> list[Write]:
        if not key.namespace:
            return []
        namespace = ObjectKey("", NAMESPACE_KEY, "", key.namespace)
        if namespace in planned or self.store.get(namespace) is not None:
            return []
        labels = {"kubernetes.io/metadata.name": key.namespace}
        if self.inject_new_namespaces and key.namespace not in ("istio-system", "kube-system"):
            labels["istio-injection"] = "enabled"
        raw = {
            "apiVersion": "v1",
            "kind": NAMESPACE_KEY,
            "metadata": {"name": key.namespace, "labels": labels},
        }
        info = kind_of("v1", NAMESPACE_KEY)
        assert info is not None
        where = Provenance(origin="made because an object is in it")
        return [Write(namespace, admit(self.store, info, raw, None, where).raw, where)]


def _expected(raw: Raw) -> int | None:
    text = (raw.get("metadata") or {}).get("resourceVersion")
    return int(text) if isinstance(text, str) and text.isdigit() else None


def _same(left: Raw, right: Raw) -> bool:
    return _comparable(left) == _comparable(right)


def _comparable(raw: Raw) -> Raw:
    metadata = {k: v for k, v in raw["metadata"].items() if k != "resourceVersion"}
    return {**raw, "metadata": metadata}
