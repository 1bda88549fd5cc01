"""A folder mirrored into the store: `lateen up --watch DIR`.

Each file is taken as a whole. A document that is broken keeps its last good version, and then
nothing of that file is deleted either: what is missing may be what is broken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from watchfiles import awatch

from lateen.api.findings import Finding, Severity
from lateen.api.locate import with_positions
from lateen.api.parse import parse_documents, to_raw
from lateen.api.resource import ObjectKey, Resource
from lateen.api.validate import validate
from lateen.source.files import EXTENSIONS, InputError, expand, read_text
from lateen.source.store import Store, StoreError
from lateen.source.writing import Document, Writer

logger = logging.getLogger(__name__)
MANAGER = "lateen-watch"
DEBOUNCE = 50
"""Milliseconds of quiet after a file event before the files are read."""


@dataclass(slots=True)
class FileState:
    """What the mirror took from one file."""

    keys: frozenset[ObjectKey] = frozenset()
    findings: tuple[Finding, ...] = ()
    text: str = ""


@dataclass(slots=True)
class Mirror:
    """Keeps the store equal to a folder. ``files`` is the state by path, for `status`."""

    writer: Writer
    folder: Path
    files: dict[str, FileState] = field(default_factory=dict)
    on_findings: Callable[[str, tuple[Finding, ...]], None] | None = None

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong in the folder now."""
        return [finding for state in self.files.values() for finding in state.findings]

    async def run(self) -> None:
        """Read the folder, then follow it for ever."""
        self.read_all()
        async for paths in self._events():
            self.read(paths)

    def read_all(self) -> None:
        """Bring the store in line with the whole folder, also with what was deleted meanwhile."""
        for stored in self.writer.store.all():
            path = stored.provenance.path
            if path and Path(path).is_relative_to(self.folder) and _managed(stored.raw):
                state = self.files.setdefault(path, FileState())
                state.keys |= {stored.key}
        try:
            present = expand([str(self.folder)], recursive=True)
        except InputError:
            present = []
        self.read([*present, *self.files])

    def read(self, paths: Iterable[str]) -> None:
        """Bring the store in line with these files."""
        for path in dict.fromkeys(paths):
            try:
                self._read_file(path)
            except (InputError, StoreError) as error:
                finding = Finding("LT0003", Severity.ERROR, str(error))
                self._report(path, (finding,))

    def _read_file(self, path: str) -> None:
        before = self.files.get(path, FileState())
        text = read_text(path) if Path(path).exists() else ""
        if text == before.text and text:
            return
        result = parse_documents(text, path, "file")
        findings = list(result.findings)
        for resource in result.resources:
            findings += validate(resource)
        broken = any(finding.severity is Severity.ERROR for finding in findings)
        good = [r for r in result.resources if not _has_error(r, findings)]
        outcomes = self.writer.apply(
            [Document(to_raw(r), r.provenance) for r in good], MANAGER, f"watch {self.folder}"
        )
        refused = [o for o in outcomes if o.result == "refused"]
        findings += [f for o in refused for f in o.findings]
        keys = frozenset(r.key for r in good)
        if broken or refused:
            keys |= before.keys
        else:
            self._delete(before.keys - keys, path)
        state = FileState(keys, tuple(with_positions(findings, {path: text}.get)), text)
        if not text and not keys:
            self.files.pop(path, None)
        else:
            self.files[path] = state
        self._report(path, state.findings)

    def _delete(self, keys: Iterable[ObjectKey], path: str) -> None:
        elsewhere = {k for p, s in self.files.items() if p != path for k in s.keys}
        for key in keys:
            stored = self.writer.store.get(key)
            if stored is not None and key not in elsewhere:
                self.writer.delete(stored, f"watch {self.folder}")

    def _report(self, path: str, findings: tuple[Finding, ...]) -> None:
        for finding in findings:
            where = f"{path}:{finding.line}:{finding.column}" if finding.line else path
            logger.warning("%s: %s: %s", where, finding.severity, finding.message)
        if self.on_findings is not None:
            self.on_findings(path, findings)

    async def _events(self) -> AsyncIterator[list[str]]:
        while not self.folder.is_dir():
            await asyncio.sleep(0.5)
        async for changes in awatch(self.folder, debounce=DEBOUNCE, step=10, recursive=True):
            paths = sorted({path for _change, path in changes})
            yield [p for p in paths if Path(p).suffix in EXTENSIONS]


def _managed(raw: dict[str, object]) -> bool:
    metadata = raw.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, dict) else None
    return any(entry.get("manager") == MANAGER for entry in entries or [])


def _has_error(resource: Resource, findings: Iterable[Finding]) -> bool:
    return any(
        finding.severity is Severity.ERROR
        and finding.key == resource.key
        and finding.provenance.document == resource.provenance.document
        for finding in findings
    )


def mirror(store: Store, folder: Path, *, inject_new_namespaces: bool = True) -> Mirror:
    """A mirror of ``folder`` into ``store``."""
    return Mirror(Writer(store, inject_new_namespaces), folder.resolve())
