"""Objects from files, folders, globs and standard input."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lateen.api.findings import Finding, Severity
from lateen.api.locate import with_positions
from lateen.api.parse import parse_documents
from lateen.api.resource import Provenance, Resource
from lateen.source.rules import FOLDER_NAMED_AS_FILE, UNREADABLE_FILE

EXTENSIONS = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"
_NOTHING_READ = "has the command before the pipe written anything? -f FILE reads a file"
_READABLE = "make it readable text, or remove it from the folder"
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
        if path not in paths and os.path.isdir(path) and os.access(path, os.R_OK):
            inputs.findings.append(_folder_named_as_file(path))
            continue
        try:
            # What is named itself may be a pipe, as of the shell's <(...).
            text = read_text(path) if path in paths else read_member(path)
        except InputError as error:
            if len(files) == 1:
                raise
            message = str(error).removeprefix(f"{path} ")
            inputs.findings.append(
                Finding(
                    UNREADABLE_FILE.id,
                    Severity.ERROR,
                    message,
                    error.hint,
                    provenance=Provenance(path),
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


def _folder_named_as_file(path: str) -> Finding:
    rule = FOLDER_NAMED_AS_FILE
    message = "is a folder with the name of a file: it is not read as one"
    hint = "Rename the folder."
    return Finding(rule.id, rule.severity, message, hint, provenance=Provenance(path))


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


_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}


def read_member(path: str) -> str:
    """The text of a file that was found in a folder. Raises `InputError` for what is no file: a
    link that leads nowhere, or a named pipe, which would be waited for without end."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            message = f"{path} is a link to {os.readlink(path)}, which does not exist"
            raise InputError(message, "correct or remove the link") from None
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", _READABLE) from None
    if stat.S_ISDIR(mode) and not os.access(path, os.R_OK):
        raise InputError(f"cannot read {path}: Permission denied", _READABLE)
    if not stat.S_ISREG(mode):
        kind = _SPECIAL.get(stat.S_IFMT(mode), "a device")
        raise InputError(f"{path} is {kind}, not a file", "remove it from the folder")
    try:
        return read_text(path)
    except InputError as error:
        raise InputError(str(error), _READABLE) from None


def _files_of(path: str, *, recursive: bool) -> Iterator[str]:
    if path == STANDARD_INPUT:
        yield path
        return
    place = Path(path)
    if place.is_dir():
        files = sorted(_members(place, recursive=recursive))
        if not files:
            hint = "" if recursive else " (folders below it are read with -R)"
            raise InputError(f"{path} holds no {', '.join(EXTENSIONS)} file{hint}")
        yield from files
    elif place.exists():
        yield path
    elif glob.has_magic(path):
        matches = [m for m in sorted(glob.glob(path, recursive=True)) if not Path(m).is_dir()]
        if not matches:
            raise InputError(f"no file matches {path}")
        yield from matches
    else:
        raise InputError(f"{path} does not exist")


def _members(folder: Path, *, recursive: bool) -> Iterator[str]:
    """What has the name of a manifest, whatever it is, and folders that cannot be listed."""
    refused: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda e: refused.append(e.filename)):
        # What a folder with such a name holds is read with the others.
        for name in names if recursive else [*names, *folders]:
            if not hidden(Path(name)) and Path(name).suffix in EXTENSIONS:
                yield os.path.join(place, name)
        folders[:] = [name for name in folders if recursive and not hidden(Path(name))]
    yield from refused


def hidden(path: Path) -> bool:
    """Whether a path inside a folder is an editor's or a tool's own (starts with a dot)."""
    return any(part.startswith(".") for part in path.parts)
