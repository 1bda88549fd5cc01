"""Writes on behalf of API requests: create, replace, apply, status, delete. No HTTP here."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lateen.api.findings import Finding, Severity
from lateen.api.kinds import KindInfo, kind_of
from lateen.api.parse import parse_object
from lateen.api.reading import NOT_AN_OBJECT, UNKNOWN_KIND
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.api.rule import Rule
from lateen.source.addresses import AddressInUse
from lateen.source.admission import Admitted, Refused, admit, key_of
from lateen.source.field_owners import server_side_apply
from lateen.source.merge import merge_patch
from lateen.source.rules import ADDRESS_REFUSED, BEING_DELETED
from lateen.source.store import AlreadyExists, Conflict, Store, StoredObject, Write
from lateen.source.transaction import Transaction

Raw = dict[str, Any]
NAMESPACE_KEY = "Namespace"
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class BadObject(ValueError):
    """A request that contradicts itself, for instance in name and path (HTTP 400)."""


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

    def create(
        self,
        info: KindInfo,
        raw: Raw,
        who: str,
        provenance: Provenance,
        *,
        dry_run: bool = False,
    ) -> StoredObject:
        """Store a new object. Raises `Refused`, `AddressInUse` and `Conflict` (it exists)."""
        metadata = dict(raw.get("metadata") or {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = str(metadata["generateName"])[:58] + _random_letters(5)
        transaction = Transaction(self.store)
        admitted = admit(transaction, info, {**raw, "metadata": metadata}, None, provenance)
        key = key_of(info, admitted.raw)
        if self.store.get(key) is not None:
            raise AlreadyExists(f'{info.plural} "{key.name}" already exists')
        self._check_owner(admitted.resource)
        self._plan_namespace(transaction, key)
        transaction.put(Write(key, admitted.raw, provenance, 0))
        return transaction.commit(who, dry_run=dry_run)[-1]

    def replace(
        self,
        info: KindInfo,
        current: StoredObject,
        raw: Raw,
        who: str,
        provenance: Provenance | None,
        *,
        dry_run: bool = False,
    ) -> StoredObject:
        """Replace an object; a ``resourceVersion`` or ``uid`` in ``raw`` must be the current one.

        Raises `BadObject`, `Conflict`, `Refused` and `AddressInUse`.
        """
        raw = _addressed(info, current, raw)
        _check_preconditions(current, raw["metadata"])
        transaction = Transaction(self.store)
        admitted = admit(transaction, info, raw, current, provenance or current.provenance)
        if _same(admitted.raw, current.raw):
            return current
        transaction.put(Write(current.key, admitted.raw, provenance, current.revision))
        return transaction.commit(who, dry_run=dry_run)[0]

    def patch_status(
        self,
        current: StoredObject,
        status: Raw | None,
        who: str,
        *,
        whole: bool = False,
        dry_run: bool = False,
    ) -> StoredObject:
        """Merge ``status`` into the object's status, or replace it (``whole``).

        Raises `Refused` when the kind cannot have such a status.
        """
        before = current.raw.get("status") or {}
        merged = (status or {}) if whole else merge_patch(before, status or {})
        if merged == before:
            return current
        raw = {**current.raw, "status": merged}
        parsed = parse_object(raw, current.provenance)
        if not isinstance(parsed, Resource):
            raise Refused(parsed)
        transaction = Transaction(self.store)
        transaction.put(Write(current.key, raw, durable=False))
        return transaction.commit(who, dry_run=dry_run)[0]

    def apply(
        self, documents: Sequence[Document], manager: str, who: str, *, dry_run: bool = False
    ) -> list[Outcome]:
        """Server-side apply of many objects: the good ones in one transaction, in order.

        Namespaces go first whatever their place, so that their labels hold for what is in them.
        Raises `lateen.source.store.StoreError`, and then nothing was stored.
        """
        order = sorted(
            range(len(documents)), key=lambda i: documents[i].raw.get("kind") != NAMESPACE_KEY
        )
        transaction = Transaction(self.store)
        planned: dict[int, tuple[Outcome, int]] = {}
        for index in order:
            planned[index] = self._apply_one(transaction, documents[index], manager)
        stored = transaction.commit(who, dry_run=dry_run)
        return [
            outcome
            if place < 0
            else Outcome(
                outcome.key,
                outcome.result,
                stored[place].revision,
                outcome.findings,
                outcome.provenance,
            )
            for outcome, place in (planned[index] for index in range(len(documents)))
        ]

    def delete(
        self, current: StoredObject, who: str, grace: int | None = None, *, dry_run: bool = False
    ) -> StoredObject:
        """Delete an object. A running Pod is only marked, until its agent deletes it with grace 0.

        Deleting a Namespace deletes what is in it. Finalizers are not waited for: nobody on one
        machine would ever remove them.
        """
        if dry_run:
            return current
        if current.key.kind == "Pod" and grace != 0 and (current.raw.get("status") or {}):
            return self._mark_for_deletion(current, who, grace)
        writes = [Write(current.key, None)]
        if (current.key.group, current.key.kind) == ("", NAMESPACE_KEY):
            inside = [o for o in self.store.all() if o.key.namespace == current.key.name]
            # Owners first: who sees a Pod go must not find its owner still there.
            inside.sort(key=lambda stored: stored.key.kind == "Pod")
            writes += [Write(stored.key, None) for stored in inside]
        return self.store.commit(writes, who)[0]

    def _mark_for_deletion(
        self, current: StoredObject, who: str, grace: int | None
    ) -> StoredObject:
        metadata = current.raw["metadata"]
        seconds = grace
        if seconds is None:
            asked = (current.raw.get("spec") or {}).get("terminationGracePeriodSeconds")
            seconds = 30 if asked is None else int(asked)
        marked = metadata.get("deletionGracePeriodSeconds")
        if metadata.get("deletionTimestamp") and (grace is None or seconds >= (marked or 0)):
            return current
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        marks = {
            "deletionTimestamp": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "deletionGracePeriodSeconds": seconds,
        }
        raw = {**current.raw, "metadata": {**metadata, **marks}}
        return self.store.commit([Write(current.key, raw)], who)[0]

    def _apply_one(
        self, transaction: Transaction, document: Document, manager: str
    ) -> tuple[Outcome, int]:
        raw, where = document.raw, document.provenance
        info = kind_of(str(raw.get("apiVersion", "")), str(raw.get("kind", "")))
        metadata = raw.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if info is None or not isinstance(name, str):
            key = ObjectKey("", str(raw.get("kind", "")), "", str(name or ""))
            rule = UNKNOWN_KIND if info is None else NOT_AN_OBJECT
            text = "this kind is not known" if info is None else "metadata.name is missing"
            return _refused(key, _finding(rule, text, key, where), where), -1
        key = key_of(info, raw)
        current = transaction.get(key)
        try:
            admitted = self._admit_applied(transaction, info, document, manager, current)
        except Refused as refused:
            return Outcome(key, "refused", 0, tuple(refused.findings), where), -1
        except AddressInUse as error:
            return _refused(key, _finding(ADDRESS_REFUSED, str(error), key, where), where), -1
        same = current is not None and _same(admitted.raw, current.raw)
        result = "unchanged" if same else "configured" if current else "created"
        revision = current.revision if current else 0
        warnings = admitted.warnings
        if current is not None and current.raw["metadata"].get("deletionTimestamp"):
            warnings = (*warnings, _being_deleted(key, where))
        outcome = Outcome(key, result, revision, warnings, where)
        if same and current is not None and _place(current.provenance) == _place(where):
            return outcome, -1
        self._plan_namespace(transaction, key)
        return outcome, transaction.put(Write(key, admitted.raw, where))

    def _admit_applied(
        self,
        transaction: Transaction,
        info: KindInfo,
        document: Document,
        manager: str,
        current: StoredObject | None,
    ) -> Admitted:
        raw, where = document.raw, document.provenance
        # What the user wrote is checked before it is merged, so that merging meets sane values.
        parsed = parse_object(raw, where)
        if not isinstance(parsed, Resource):
            raise Refused(parsed)
        merged = server_side_apply(current.raw if current else None, raw, manager)
        return admit(transaction, info, merged, current, where)

    def _check_owner(self, resource: Resource) -> None:
        """A controller that has not yet seen its workload go must not make a Pod for it."""
        for owner in resource.metadata.owner_references:
            info = kind_of(owner.api_version, owner.kind)
            if not owner.controller or info is None:
                continue
            namespace = resource.key.namespace if info.namespaced else ""
            found = self.store.get(ObjectKey(info.group, info.kind, namespace, owner.name))
            if found is None or (owner.uid and found.raw["metadata"].get("uid") != owner.uid):
                raise Conflict(
                    f"{resource.key} belongs to {owner.kind} {owner.name}, which does not exist"
                )

    def _plan_namespace(self, transaction: Transaction, key: ObjectKey) -> None:
        namespace = ObjectKey("", NAMESPACE_KEY, "", key.namespace)
        if not key.namespace or transaction.get(namespace) is not None:
            return
        labels = {}
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
        admitted = admit(transaction, info, raw, None, where)
        transaction.put(Write(namespace, admitted.raw, where))


def _addressed(info: KindInfo, current: StoredObject, raw: Raw) -> Raw:
    """``raw`` with the name and namespace of the object it is to replace."""
    given = raw.get("metadata")
    metadata = dict(given) if isinstance(given, dict) else {}
    for name, value in (("name", current.key.name), ("namespace", current.key.namespace)):
        if metadata.get(name) and value and metadata[name] != value:
            raise BadObject(
                f"metadata.{name} {metadata[name]!r} is not that of the request, {value!r}"
            )
        if value:
            metadata[name] = value
    if raw.get("kind") not in (None, "", info.kind):
        raise BadObject(f"kind {raw['kind']!r} is not that of the request, {info.kind}")
    return {**raw, "metadata": metadata}


def _check_preconditions(current: StoredObject, metadata: Raw) -> None:
    version = metadata.get("resourceVersion")
    if version and str(version) != str(current.revision):
        raise Conflict(
            f"{current.key} is at resourceVersion {current.revision}, the change was made for "
            f"{version}: read it again and repeat the change"
        )
    uid, actual = metadata.get("uid"), current.raw["metadata"].get("uid")
    if uid and actual and uid != actual:
        raise Conflict(f"{current.key} is another object by now: its uid is {actual}, not {uid}")


def _refused(key: ObjectKey, finding: Finding, where: Provenance) -> Outcome:
    return Outcome(key, "refused", findings=(finding,), provenance=where)


def _finding(rule: Rule, text: str, key: ObjectKey, where: Provenance) -> Finding:
    return Finding(rule.id, Severity.ERROR, text, key=key, provenance=where)


def _being_deleted(key: ObjectKey, where: Provenance) -> Finding:
    return Finding(
        BEING_DELETED.id,
        BEING_DELETED.severity,
        f"{key} is being deleted: what is applied now goes with it",
        "Wait until it is gone (`lateen delete` does), then apply it again.",
        key=key,
        provenance=where,
    )


def _place(where: Provenance) -> tuple[str, int, int, int]:
    return where.path, where.line, where.document, where.item


def _random_letters(count: int) -> str:
    return "".join(secrets.choice(_NAME_LETTERS) for _ in range(count))


def _same(left: Raw, right: Raw) -> bool:
    return _comparable(left) == _comparable(right)


def _comparable(raw: Raw) -> Raw:
    metadata = {k: v for k, v in raw["metadata"].items() if k != "resourceVersion"}
    return {**raw, "metadata": metadata}
