"""What is held back, kept in a file: a control plane that starts again does not try it again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lateen.api.parse import parse_object, to_raw
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.model.change import Change
from lateen.pki.files import replace_file
from lateen.serve.quarantine import Quarantined

_log = logging.getLogger(__name__)


def write(path: Path, entries: Iterable[Quarantined]) -> None:
    """Write the entries; a failure is logged, as the mesh goes on without the file."""
    try:
        replace_file(path, json.dumps([_data(entry) for entry in entries]).encode())
    except OSError as error:
        _log.warning("cannot remember quarantined objects: %s", error)


def read(path: Path, changes: Iterable[Change]) -> Iterable[Quarantined]:
    """Entries of the file that still hold: their object is unchanged since it was refused.

    ``changes`` are all objects there are.
    """
    try:
        items = msgspec.json.decode(path.read_bytes(), type=list[_Remembered])
    except FileNotFoundError:
        return
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("cannot read %s: %s; refused objects will be tried again", path, error)
        return
    present = {change.key: change.resource for change in changes}
    for item in items:
        refused = present.get(item.key)
        if refused is None or refused.metadata.resource_version != item.revision:
            continue
        good: Resource | None = None
        if item.good is not None:
            place = Provenance(item.good_path, item.good_document, item.good_line, "store")
            parsed = parse_object(item.good, place)
            good = parsed if isinstance(parsed, Resource) else None
        yield Quarantined(refused, good, item.words, item.proxy, tuple(item.resources), item.since)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """An entry of the quarantine file."""

    key: ObjectKey
    revision: str
    words: str
    proxy: str
    resources: list[str]
    since: float
    good: dict[str, object] | None = None
    good_path: str = ""
    good_line: int = 0
    good_document: int = 0


def _data(entry: Quarantined) -> dict[str, object]:
    good = entry.good
    kept = _Remembered(
        key=entry.refused.key,
        revision=entry.revision,
        words=entry.words,
        proxy=entry.proxy,
        resources=list(entry.resource_names),
        since=entry.since,
        good=to_raw(good) if good is not None else None,
        good_path=good.provenance.path if good is not None else "",
        good_line=good.provenance.line if good is not None else 0,
        good_document=good.provenance.document if good is not None else 0,
    )
    data: dict[str, object] = msgspec.to_builtins(kept)
    return data
