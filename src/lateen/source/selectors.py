"""Label and field selectors of the Kubernetes API."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Raw = dict[str, Any]
LabelTest = Callable[[Mapping[str, str]], bool]

_SPLIT = re.compile(r",(?![^(]*\))")
_SET = re.compile(r"(?P<name>[^\s!=,()]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(r"(?P<name>[^\s!=,()]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s!=,()]*)")
_EXISTENCE = re.compile(r"(?P<negated>!?)\s*(?P<name>[^\s!=,()]+)")


class SelectorError(ValueError):
    """A selector that cannot be understood; the message shows the part."""


def selector(label_selector: str, field_selector: str) -> Callable[[Raw], bool]:
    """A test of an object for ``labelSelector`` and ``fieldSelector`` as given in a query.

    Labels: ``a=b``, ``a==b``, ``a!=b``, ``a in (b, c)``, ``a notin (b)``, ``a``, ``!a``, joined by
    commas. Fields: ``path=value``, ``path!=value``. Raises `SelectorError`.
    """
    labels = [_label_test(part.strip()) for part in _parts(label_selector)]
    fields = [_field_test(part.strip()) for part in _parts(field_selector)]
    if not labels and not fields:
        return lambda _raw: True

    def selects(raw: Raw) -> bool:
        have = (raw.get("metadata") or {}).get("labels") or {}
        return all(test(have) for test in labels) and all(test(raw) for test in fields)

    return selects


def _parts(text: str) -> list[str]:
    return [part for part in _SPLIT.split(text) if part.strip()]


def _label_test(part: str) -> LabelTest:
    if match := _SET.fullmatch(part):
        name = match["name"]
        values = frozenset(value.strip() for value in match["values"].split(","))
        if match["operator"] == "in":
            return lambda have: have.get(name) in values
        return lambda have: have.get(name) not in values
    if match := _EQUALITY.fullmatch(part):
        name, value = match["name"], match["value"]
        if match["operator"] == "!=":
            return lambda have: have.get(name) != value
        return lambda have: have.get(name) == value
    if match := _EXISTENCE.fullmatch(part):
        name = match["name"]
        if match["negated"]:
            return lambda have: name not in have
        return lambda have: name in have
    raise SelectorError(f"{part!r} is not a label selector")


def _field_test(part: str) -> Callable[[Raw], bool]:
    match = re.fullmatch(r"([^\s!=]+)\s*(==|=|!=)\s*(.*)", part)
    if match is None:
        raise SelectorError(f"{part!r} is not a field selector")
    steps, negated, value = match[1].split("."), match[2] == "!=", match[3]

    def holds(raw: Raw) -> bool:
        found: Any = raw
        for step in steps:
            found = found.get(step) if isinstance(found, dict) else None
        if isinstance(found, bool):
            found = str(found).lower()
        text = "" if found is None else str(found)
        return (text == value) != negated

    return holds
