"""Several writes that become one: read through what is planned, then commit all or nothing."""

from __future__ import annotations

from lateen.api.resource import ObjectKey
from lateen.source.addresses import AddressBook
from lateen.source.store import Store, StoredObject, Write


class Transaction:
    """Planned writes on top of a store. Nothing is stored before `commit`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writes: list[Write] = []
        self._planned: dict[ObjectKey, StoredObject | None] = {}
        self._book: AddressBook | None = None

    @property
    def addresses(self) -> AddressBook:
        """Addresses in use, those of planned objects included."""
        if self._book is None:
            services = [stored.raw for stored in self._store.select("", "Service")]
            entries = [
                stored.raw for stored in self._store.select("networking.istio.io", "ServiceEntry")
            ]
            self._book = AddressBook(services, entries)
            for write in self._writes:
                self._note(write)
        return self._book

    def get(self, key: ObjectKey) -> StoredObject | None:
        """The object as it will be; the revision of a planned one is that of its predecessor."""
        return self._planned[key] if key in self._planned else self._store.get(key)

    def put(self, write: Write) -> int:
        """Plan a write; returns its place in the result of `commit`. Deletions have none."""
        before = self.get(write.key)
        if write.raw is None:
            self._planned[write.key] = None
        else:
            where = write.provenance or (before.provenance if before else None)
            revision = before.revision if before else 0
            stored = StoredObject(write.key, revision, write.raw)
            self._planned[write.key] = (
                stored if where is None else StoredObject(write.key, revision, write.raw, where)
            )
        self._writes.append(write)
        if self._book is not None:
            self._note(write)
        return len(self._writes) - 1

    def commit(self, who: str, *, dry_run: bool = False) -> list[StoredObject]:
        """Store everything planned; see `Store.commit`. ``dry_run`` only shows what it would be."""
        if dry_run:
            planned = (self._planned[write.key] for write in self._writes)
            return [stored for stored in planned if stored is not None]
        return self._store.commit(self._writes, who)

    def _note(self, write: Write) -> None:
        key, raw = write.key, write.raw
        gone = raw is None
        shown = raw or {"metadata": {"namespace": key.namespace, "name": key.name}}
        assert self._book is not None
        if (key.group, key.kind) == ("", "Service"):
            self._book.note_service(shown, gone=gone)
        elif key.kind == "ServiceEntry":
            self._book.note_service_entry(shown, gone=gone)
