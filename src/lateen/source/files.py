"""Objects from files, folders, globs and standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lateen.api import reading
from lateen.api.findings import Finding, Severity
from lateen.api.locate import with_positions
from lateen.api.parse import parse_documents
from lateen.api.resource import Provenance, Resource

EXTENSIONS = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"
_NOTHING_READ = "has the command before the pipe written anything? -f FILE reads a file"
MAXIMUM_FILE = 64 * 1024 * 1024
"""Bytes of one file that are read."""


class InputError(Exception):
    """A path the user gave cannot be read; the message says which and why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "check the path given with -f") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(slots=True)
class Inputs:
    """What the given paths hold. ``texts`` are the files' contents by path, for excerpts."""

    resources: list[Resource] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def read_inputs(
    paths: Sequence[str], *, recursive: bool = False, default_namespace: str = "default"
) -> Inputs:
    """Parse every object that ``paths`` name; findings carry line and column.

    One of several files that cannot be read is a finding and hides no other. Raises `InputError`
    when a path does not exist, names nothing, or is the only file and cannot be read.
    """
    inputs = Inputs()
    files = expand(paths, recursive=recursive)
    for path in files:
        try:
            text = read_text(path)
        except InputError as error:
            if len(files) == 1:
                raise
            where = Provenance(path)
            inputs.findings.append(
                Finding(
                    reading.SYNTAX.id,
                    Severity.ERROR,
                    str(error).removeprefix(f"{path} "),
                    provenance=where,
                )
            )
            continue
        inputs.texts[path] = text
        result = parse_documents(text, path, default_namespace=default_namespace)
        if path == STANDARD_INPUT and not result.resources and not result.findings:
            what = "holds no object" if text.strip() else "is empty"
            raise InputError(f"standard input {what}", _NOTHING_READ)
        inputs.resources += result.resources
        inputs.findings += result.findings
    inputs.findings = with_positions(inputs.findings, inputs.texts.get)
    return inputs


def expand(paths: Iterable[str], *, recursive: bool = False) -> list[str]:
    """Files behind paths, folders and globs, each once, folders in name order.

    Raises `InputError` for a path that names nothing.
    """
    found: dict[str, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_files_of(path, recursive=recursive)))
    return list(found)


def read_text(path: str) -> str:
    """A file's text (``-`` is standard input). Raises `InputError`."""
    try:
        if path == STANDARD_INPUT:
            # Like files UTF-8, whatever the locale says.
            content = sys.stdin.buffer.read(MAXIMUM_FILE + 1)
            if len(content) > MAXIMUM_FILE:
                raise InputError(f"standard input is larger than {MAXIMUM_FILE >> 20} MiB", "")
            return content.decode("utf-8-sig")
        if Path(path).stat().st_size > MAXIMUM_FILE:
            raise InputError(f"{path} is larger than {MAXIMUM_FILE >> 20} MiB; split it")
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        shown = "standard input" if path == STANDARD_INPUT else path
        raise InputError(
            f"{shown} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _files_of(path: str, *, recursive: bool) -> Iterator[str]:
    if path == STANDARD_INPUT:
        yield path
        return
    place = Path(path)
    if place.is_dir():
        pattern = "**/*" if recursive else "*"
        files = sorted(
            str(p)
            for p in place.glob(pattern)
            if p.suffix in EXTENSIONS and p.is_file() and not hidden(p.relative_to(place))
        )
        if not files:
            hint = "" if recursive else " (folders below it are read with -R)"
            raise InputError(f"{path} holds no {', '.join(EXTENSIONS)} file{hint}")
        yield from files
    elif place.exists():
        yield path
    elif glob.has_magic(path):
        matches = [m for m in sorted(glob.glob(path, recursive=True)) if Path(m).is_file()]
        if not matches:
            raise InputError(f"no file matches {path}")
        yield from matches
    else:
        raise InputError(f"{path} does not exist")


def hidden(path: Path) -> bool:
    """Whether a path inside a folder is an editor's or a tool's own (starts with a dot)."""
    return any(part.startswith(".") for part in path.parts)
