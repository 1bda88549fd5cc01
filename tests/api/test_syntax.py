"""Mistakes in YAML: what the author is told, and where."""

from __future__ import annotations

import pytest

from lateen.api.parse import parse_documents

HEAD = "apiVersion: v1\nkind: Service\nmetadata:\n"

MISTAKES = {
    "tab": ("\tname: a\n", 4, 1, "a tab indents this line"),
    "tab behind spaces": ("  name: a\n  \tb: c\n", 5, 3, "a tab indents this line"),
    "open quote": ('  name: "a\nspec: {}\n', 4, 9, "this quote is never closed"),
    "open brace": ("  labels: {a: b\nspec: {}\n", 4, 11, 'this "{" is not closed'),
    "open bracket": ("  finalizers: [a\nspec: {}\n", 4, 15, 'this "[" is not closed'),
    "missing comma": ('  labels: {"a": "b" "c": "d"}\n', 4, 21, 'a "," or a closing bracket'),
    "deeper than a value": ("  name: a\n   b: c\n", 5, 4, "indented below line 4"),
    "between two levels": ("  name: a\n b: c\n", 5, 2, "(1 space) fits none of the lines above"),
    "beside an item": ("  x:\n  - y: 1\n   z: 2\n", 6, 4, "(3 spaces) fits none of the lines"),
    "key without colon": ("  name a\n  b: c\n", 4, 9, 'this line needs a ":"'),
    "colon in a value": ("  name: a: b\n", 4, 10, 'a value with ": " in it needs quotes'),
    "at sign": ("  name: @a\n", 4, 9, 'a value cannot begin with "@"'),
    "star": ("  name: *a\n", 4, 9, "refers to an anchor"),
    "backslash": ('  name: "a\\d"\n', 4, 11, "this backslash begins no escape"),
    "template": ("  labels: {a: {{ .Values.x }}}\n", 4, 16, "a mapping key must be text"),
    "merge": ("<<<<<<< HEAD\n  name: a\n=======\n", 4, 1, "a merge left its marks here"),
    "control character": ("  name: a\x01b\n", 4, 10, "a control character (#x0001)"),
    "key twice": ("  name: a\n  name: b\n", 5, 3, 'key "name" is given twice, first on line 4'),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("before", ["", "a: 1\n---\n"], ids=["first document", "second document"])
def test_a_mistake_is_told_where_it_was_made(name: str, before: str) -> None:
    text, line, column, message = MISTAKES[name]
    found = parse_documents(before + HEAD + text, "a.yaml").findings[-1]
    line += before.count("\n")
    assert (found.line, found.column) == (line, column), found.message
    wanted = message.replace("line 4", f"line {4 + before.count(chr(10))}")
    assert wanted in found.message
    assert found.hint
    assert found.rule in ("LT0001", "LT0012")
