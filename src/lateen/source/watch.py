"""A folder mirrored into the store: `lateen up --watch DIR`.

A document that is broken keeps its last good version, and then nothing of that file is deleted
either: what is missing may be what is broken. What disappears from a file goes only when a second
look a moment later finds the same, because programs write files in steps (truncate, then write)
and people move objects from one file to another.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from watchfiles import awatch

from lateen.api.findings import Finding, Severity
from lateen.api.locate import with_positions
from lateen.api.parse import ParseResult, parse_documents, to_raw
from lateen.api.reading import DUPLICATE_OBJECT
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.api.rule import Rule
from lateen.api.validate import validate
from lateen.source.files import EXTENSIONS, InputError, hidden, read_member
from lateen.source.rules import UNREADABLE_FILE
from lateen.source.store import Store, StoreError
from lateen.source.writing import Document, Writer

logger = logging.getLogger(__name__)
MANAGER = "lateen-watch"
DEBOUNCE = 50
"""Milliseconds of quiet after a file event before the files are read."""
SETTLE = 0.25
"""Seconds until a disappearance is believed."""
TICK = 1000
"""Milliseconds between two looks at the folder when no event came: events can be lost."""

Signature = tuple[int, int, int]
"""Inode, size and modification time (ns) of a file."""
_UNSEEN: Signature = (0, 0, 0)


@dataclass(slots=True)
class FileState:
    """What the mirror took from one file."""

    keys: frozenset[ObjectKey] = frozenset()
    findings: tuple[Finding, ...] = ()
    signature: Signature | None = None
    """As it was when it was read; None makes it be read again."""
    again: bool = False
    """Whether something was refused that another file's change may make acceptable."""


@dataclass(slots=True)
class Mirror:
    """Keeps the store equal to a folder. ``files`` is the state by path, for `status`."""

    writer: Writer
    folder: Path
    files: dict[str, FileState] = field(default_factory=dict)
    on_findings: Callable[[str, tuple[Finding, ...]], None] | None = None
    settle: float = SETTLE
    _leaving: set[ObjectKey] = field(default_factory=set)
    """Objects that are in no file any more, since the last look."""
    _closed: frozenset[str] = frozenset()
    """Folders that could not be read at the last look."""
    _started: bool = False

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong in the folder now."""
        return [finding for state in self.files.values() for finding in state.findings]

    async def run(self) -> None:
        """Read the folder, then follow it for ever."""
        while True:
            await self.settled()
            if not self.folder.is_dir():
                await asyncio.sleep(TICK / 1000)
                continue
            try:
                await self._follow()
            except OSError:  # a folder that may not be read; what it is was reported by the look
                await asyncio.sleep(TICK / 1000)

    async def _follow(self) -> None:
        """Look after each event, until another folder is in its place. Raises `OSError`."""
        identity = _identity(self.folder)
        async for _changes in awatch(
            self.folder,
            watch_filter=None,
            debounce=DEBOUNCE,
            step=10,
            rust_timeout=TICK,
            yield_on_timeout=True,
        ):
            await self.settled()
            if _identity(self.folder) != identity:
                return

    async def settled(self) -> None:
        """Look, and look again while something is about to be deleted."""
        self.look()
        while self._leaving:
            await asyncio.sleep(self.settle)
            self.look()

    def look(self) -> None:
        """Read what changed since the last look and bring the store in line with it.

        Disappearances are carried out by the second look that finds them.
        """
        if not self._started:
            self._started = True
            self._take_up()
        present = self._present()
        if present is None:
            # The folder itself is gone: a checkout or a mount under way, not a wish to delete all.
            return
        changed = [p for p, s in present.items() if self._state(p).signature != s]
        gone = [p for p in self.files if p not in present]
        if changed or gone:
            changed += [p for p, s in self.files.items() if s.again and p in present]
        vanished: set[ObjectKey] = set()
        for path in dict.fromkeys(changed):
            vanished |= self._read_file(path, present[path])
        for path in gone:
            vanished |= self.files.pop(path).keys
            self._report(path, ())
        self._delete(vanished)

    def _take_up(self) -> None:
        """Remember what a previous mirror of this folder stored, to see what is gone since."""
        for stored in self.writer.store.all():
            path = stored.provenance.path
            if path and Path(path).is_relative_to(self.folder) and _managed(stored.raw):
                state = self._state(path)
                state.keys |= {stored.key}

    def _state(self, path: str) -> FileState:
        return self.files.setdefault(path, FileState())

    def _present(self) -> dict[str, Signature] | None:
        if not self.folder.is_dir():
            return None
        found: dict[str, Signature] = {}
        closed: dict[str, OSError] = {}

        def unread(error: OSError) -> None:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                closed[str(error.filename)] = error

        for place, folders, names in os.walk(self.folder, onerror=unread):
            if not os.access(place, os.X_OK, effective_ids=True):
                closed[place] = PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
            folders[:] = sorted(name for name in folders if not hidden(Path(name)))
            for name in sorted(names):
                path = os.path.join(place, name)
                if not hidden(Path(name)) and Path(name).suffix in EXTENSIONS:
                    signature = _identity(Path(path)) or _identity_of_link(path)
                    if signature is not None:
                        found[path] = signature
        self._report_closed(closed)
        # What cannot be seen is not gone.
        for path, state in self.files.items():
            if path not in found and any(Path(path).is_relative_to(folder) for folder in closed):
                found[path] = state.signature or _UNSEEN
        return found

    def _report_closed(self, closed: Mapping[str, OSError]) -> None:
        for folder, error in closed.items():
            if folder not in self._closed:
                words = f"the folder cannot be read: {error.strerror}"
                where = Provenance(folder, origin="file")
                self._report(folder, (_finding(UNREADABLE_FILE, words, where),))
        for folder in self._closed - closed.keys():
            self._report(folder, ())
        self._closed = frozenset(closed)

    def _read_file(self, path: str, signature: Signature) -> set[ObjectKey]:
        """Take over a file; returns what was in it and is not any more."""
        state = self._state(path)
        try:
            text = read_member(path)
            result = parse_documents(text, path, "file")
            findings, keys, refused = self._store(path, result)
        except (InputError, StoreError) as error:
            where = Provenance(path, origin="file")
            self._conclude(path, state, [_finding(UNREADABLE_FILE, str(error), where)])
            # A full disk may have room again at the next look.
            state.signature = signature if isinstance(error, InputError) else None
            return set()
        state.signature, state.again = signature, refused
        broken = refused or any(f.severity is Severity.ERROR for f in findings)
        vanished = set() if broken else set(state.keys - keys)
        state.keys = keys | state.keys if broken else keys
        self._conclude(path, state, with_positions(findings, {path: text}.get))
        return vanished

    def _store(
        self, path: str, result: ParseResult
    ) -> tuple[list[Finding], frozenset[ObjectKey], bool]:
        findings = list(result.findings)
        good: list[Resource] = []
        for resource in result.resources:
            own = validate(resource)
            findings += own
            if not any(finding.severity is Severity.ERROR for finding in own):
                good.append(resource)
        outcomes = self.writer.apply(
            [Document(to_raw(r), r.provenance) for r in good], MANAGER, f"watch {self.folder}"
        )
        refused = [outcome for outcome in outcomes if outcome.result == "refused"]
        findings += [finding for outcome in refused for finding in outcome.findings]
        findings += self._doubles(path, good)
        return findings, frozenset(r.key for r in good), bool(refused)

    def _doubles(self, path: str, resources: Iterable[Resource]) -> list[Finding]:
        found = []
        for resource in resources:
            for other, state in self.files.items():
                if other != path and resource.key in state.keys and Path(other).exists():
                    text = f"{resource.key} is also in {other}; the file read last wins"
                    double = _finding(DUPLICATE_OBJECT, text, resource.provenance)
                    found.append(
                        replace(
                            double,
                            severity=Severity.WARNING,
                            key=resource.key,
                            path=("metadata", "name"),
                            hint="Keep one of the two.",
                        )
                    )
        return found

    def _delete(self, vanished: Iterable[ObjectKey]) -> None:
        confirmed = list(self._leaving)
        self._leaving = set()
        here = {key for state in self.files.values() for key in state.keys}
        for key in confirmed:
            stored = self.writer.store.get(key)
            if stored is not None and key not in here:
                self.writer.delete(stored, f"watch {self.folder}")
        for key in vanished:
            if key not in here:
                self._leaving.add(key)
            else:
                # It stands in another file too, whose version counts from now on.
                for state in self.files.values():
                    if key in state.keys:
                        state.signature = None

    def _conclude(self, path: str, state: FileState, findings: Iterable[Finding]) -> None:
        found = tuple(findings)
        if found != state.findings:
            state.findings = found
            self._report(path, found)

    def _report(self, path: str, findings: tuple[Finding, ...]) -> None:
        for finding in findings:
            where = f"{path}:{finding.line}:{finding.column}" if finding.line else path
            logger.warning("%s: %s: %s", where, finding.severity, finding.message)
        if self.on_findings is not None:
            self.on_findings(path, findings)


def _identity(path: Path) -> Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    if path.is_dir():
        return status.st_ino, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


def _identity_of_link(path: str) -> Signature | None:
    """Of a link that leads nowhere, so that it is told once and read when its target appears."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, -1, status.st_mtime_ns


def _finding(rule: Rule, text: str, where: Provenance) -> Finding:
    return Finding(rule.id, rule.severity, text, provenance=where)


def _managed(raw: dict[str, object]) -> bool:
    metadata = raw.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, dict) else None
    return any(entry.get("manager") == MANAGER for entry in entries or [])


def mirror(store: Store, folder: Path, *, inject_new_namespaces: bool = True) -> Mirror:
    """A mirror of ``folder`` into ``store``."""
    return Mirror(Writer(store, inject_new_namespaces), folder.resolve())
