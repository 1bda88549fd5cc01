"""No regular expression of ours takes long for a text that is made to be hard.

Every pattern that the source uses is found by reading it: what is compiled and by which methods it
is asked, what is given to functions of `re`, and patterns of fields, which are searched before
their length is looked at.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2] / "src"
LENGTH = 20_000
SECONDS = 0.3
"""A linear search of so long a text takes about a millisecond, a quadratic one seconds."""
UNITS = (
    *("a", "0", "-", ".", "a-", "a.", "0.", "a.b-", ":", "a:", "/", "a/", " ", "\t", "a "),
    *(",", "=", "(", "[", "{", "%2", "*.", "@", "_", '"', "'", "\\", "<", "A", "$(", "1e", "- "),
    *("#", "\n", "a\n"),
)
ENDS = ("", "!", "\x00", "a")
METHODS = ("fullmatch", "match", "search", "sub", "split", "findall", "finditer")
BOUNDED = {"lateen.api.base._TERM": 100, "lateen.api.syntax._KEY": 1000}
"""Places of patterns that get texts of a bounded length, which is looked at before."""


class Use(NamedTuple):
    """A pattern and how it is asked."""

    place: str
    pattern: str
    method: str


def uses() -> Iterator[Use]:
    """All patterns of the package; those of the sample programs see their own pods' input."""
    for path in sorted(ROOT.rglob("*.py")):
        if "workloads" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield from _in_module(module.removesuffix(".__init__"), tree)


def _in_module(module: str, tree: ast.Module) -> Iterator[Use]:
    compiled: set[str] = set()
    asked: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=function)):
                if ast.unparse(function) == "re.compile":
                    compiled.add(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if attribute in METHODS:
                asked.setdefault(name, set()).add(attribute)
    for name in sorted(compiled):
        value = getattr(importlib.import_module(module), name)
        text = value.pattern if isinstance(value.pattern, str) else value.pattern.decode()
        for method in sorted(asked.get(name, {"fullmatch"})):
            yield Use(f"{module}.{name}", text, method)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        where = f"{module}:{node.lineno}"
        called = ast.unparse(node.func)
        if called in {f"re.{method}" for method in METHODS} and _is_constant(module, node):
            yield Use(where, _value(module, node.args[0]), called.removeprefix("re."))
        for keyword in node.keywords:
            if keyword.arg == "pattern" and called == "Meta":
                yield Use(where, _value(module, keyword.value), "search")


def _is_constant(module: str, call: ast.Call) -> bool:
    """Whether the pattern is none that is put together while the program runs."""
    names = {node.id for node in ast.walk(call.args[0]) if isinstance(node, ast.Name)}
    return names <= vars(importlib.import_module(module)).keys()


def _value(module: str, node: ast.expr) -> str:
    names = vars(importlib.import_module(module))
    value = eval(compile(ast.Expression(node), module, "eval"), dict(names))
    return str(getattr(value, "pattern", value))


ALL = sorted(set(uses()))


def test_patterns_are_found() -> None:
    places = {use.place for use in ALL}
    assert len(ALL) > 80
    assert "lateen.api.metadata.DNS_LABEL" in places
    assert any(place.startswith("lateen.api.gatewayapi.scalars:") for place in places)
    assert places >= BOUNDED.keys()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("use", ALL, ids=lambda use: f"{use.place}.{use.method}")
def test_a_hard_text_is_answered_soon(use: Use) -> None:
    pattern = re.compile(use.pattern)
    length = BOUNDED.get(use.place, LENGTH)
    ask = getattr(pattern, "search" if use.method in METHODS[3:] else use.method)
    for unit in UNITS:
        for end in ENDS:
            text = unit * (length // len(unit)) + end
            began = time.process_time()
            ask(text)
            took = time.process_time() - began
            assert took < SECONDS, f"{took:.1f} s for {unit!r} * {length // len(unit)} + {end!r}"
