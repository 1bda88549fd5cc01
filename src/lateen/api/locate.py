"""Where in a text a field stands: one document is parsed again, with positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

import yaml

from lateen.api.findings import FieldPath, Finding
from lateen.api.yamltext import Document, YamlError, compose, split_documents

Position = tuple[int, int]
"""Line and column, both 1-based; (0, 0) when unknown."""


def locate(text: str, document: int, path: FieldPath) -> Position:
    """Line and column of the key (or list item) that ``path`` names in a document of ``text``.

    A path that goes further than the document (a missing field) yields its last part that exists.
    Returns ``(0, 0)`` if there is no such document or it cannot be parsed.
    """
    documents = _documents(text)
    if not 0 <= document < len(documents):
        return 0, 0
    root = _compose(documents[document])
    if root is None:
        return 0, 0
    line, column = _walk(root, path, documents[document].text)
    return documents[document].line + line, column + 1


@lru_cache(maxsize=1)
def _documents(text: str) -> tuple[Document, ...]:
    """Of the last text only: findings come text by text, and a text may be large."""
    return tuple(split_documents(text))


@lru_cache(maxsize=1)
def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n"))


@lru_cache(maxsize=64)
def _compose(document: Document) -> yaml.Node | None:
    try:
        return compose(document)
    except YamlError:
        return None


def _walk(root: yaml.Node, path: FieldPath, text: str) -> Position:
    """The 0-based position of what ``path`` names in the document ``text``."""
    node = root
    mark = root.start_mark
    for index, part in enumerate(path):
        if isinstance(node, yaml.MappingNode):
            found = _entry(node, str(part)) or _entry(node, _snake(str(part)))
            if found is None:
                break
            key, node = found
            mark = key.start_mark
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if not 0 <= part < len(node.value):
                break
            node = node.value[part]
            mark = node.start_mark
        else:
            inner = (
                _embedded(node, path[index:], text) if isinstance(node, yaml.ScalarNode) else None
            )
            return inner or (mark.line, mark.column)
    return mark.line, mark.column


def _embedded(node: yaml.ScalarNode, path: FieldPath, text: str) -> Position | None:
    """The position of ``path`` in YAML that a scalar holds as text (the mesh configuration in a
    ConfigMap, settings in an annotation); None when the scalar's lines are not those of its text.
    """
    documents = split_documents(node.value)
    root = _compose(documents[0]) if documents else None
    if root is None:
        return None
    line, column = _walk(root, path, node.value)
    line += documents[0].line - 1
    lines = text.split("\n")
    if node.style == "|":
        first = node.start_mark.line + 1
        body = next((each for each in lines[first:] if each.strip()), "")
        return first + line, len(body) - len(body.lstrip(" ")) + column
    if node.start_mark.line != node.end_mark.line:
        return None
    quotes = 1 if node.style in ("'", '"') else 0
    return node.start_mark.line, node.start_mark.column + quotes + column


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _entry(node: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    merged: tuple[yaml.Node, yaml.Node] | None = None
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value == name:
            return key, value
        if key.value == "<<" and merged is None:
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in sources:
                if isinstance(source, yaml.MappingNode) and merged is None:
                    merged = _entry(source, name)
    return merged


def excerpt(text: str, line: int, column: int, context: int = 1) -> str:
    """The line with ``context`` lines around it, numbered, and a caret under the column. Of long
    lines only what is around the column."""
    lines = _lines(text)
    start = max(0, column - _WIDTH // 2) if column > _WIDTH else 0
    if not 1 <= line <= len(lines):
        return ""
    first, last = max(1, line - context), min(len(lines), line + context)
    width = len(str(last))
    shown: list[str] = []
    for number in range(first, last + 1):
        marker = ">" if number == line else " "
        shown.append(f"{marker} {number:>{width}} | {_visible(lines[number - 1], start)}".rstrip())
        if number == line and column > 0:
            shown.append(f"  {'':>{width}} | {' ' * (column - 1 - start)}^")
    return "\n".join(shown)


def _visible(line: str, start: int) -> str:
    """A line from ``start`` on, with an arrow for each tab: one column wide, and not to be taken
    for spaces."""
    shown = line[start : start + _WIDTH].rstrip().replace("\t", "→")
    if start and shown:
        shown = "…" + shown[1:]
    return shown + "…" if len(line) > start + _WIDTH else shown


_WIDTH = 200
"""Characters of a line that are shown."""


def with_positions(
    findings: Iterable[Finding], read_text: Callable[[str], str | None]
) -> list[Finding]:
    """The findings with line and column filled in, where their text can be had.

    ``read_text`` gives the text of a provenance's path, or None if it cannot be read.
    """
    texts: dict[str, str | None] = {}
    result: list[Finding] = []
    for finding in findings:
        where = finding.provenance
        if finding.line or not where.path:
            result.append(finding)
            continue
        if where.path not in texts:
            texts[where.path] = read_text(where.path)
        text = texts[where.path]
        if text is None:
            result.append(finding)
            continue
        prefix: FieldPath = ("items", where.item) if where.item >= 0 else ()
        line, column = locate(text, where.document, (*prefix, *finding.path))
        result.append(replace(finding, line=line or where.line, column=column))
    return result
