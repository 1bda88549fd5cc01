"""Says everything that is wrong with a raw object, against the typed struct of its kind.

Reading goes the fast way through `msgspec.convert`, which stops at the first problem. Only when it
refuses is the object walked here, along the same types, so that every problem is found, with its
path and the way out. The walk also applies what Kubernetes tolerates and a struct does not.
"""

from __future__ import annotations

import difflib
import re
import typing
from dataclasses import dataclass
from functools import cache
from typing import Literal

import msgspec
from msgspec import inspect

from lateen.api import reading
from lateen.api.findings import FieldPath, Severity
from lateen.api.rule import Rule

# Fields that Istio's schema knows by two names (`jwks_uri` is a field of its own).
_SECOND_NAMES = {"mirror_percent": "mirrorPercent"}
_SHOWN_VALUES = 12


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: the rule it breaks, where, what and what to do."""

    rule: Rule
    path: FieldPath
    message: str
    hint: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it keeps the object out."""
        return self.rule.severity is Severity.ERROR


def explain(
    raw: object, struct: type[msgspec.Struct], lenient: bool
) -> tuple[object, list[Problem]]:
    """``raw`` as ``struct`` can take it, and all problems on the way.

    An explicit null of a field is an absent field. ``lenient`` (built-in kinds) also drops nulls
    in lists, and takes them for empty text in maps, which otherwise is so only in ``metadata``.
    """
    walker = _Walker(lenient)
    value = walker.walk(raw, _type_info(struct), ())
    return value, walker.problems


@cache
def _type_info(struct: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(struct)


# msgspec sorts the values of a Literal. In networking they are written in the order of their
# protobuf numbers, from 0 on; elsewhere a table in the annotation's ``extra`` says the numbers.
_WRITTEN_ORDER: dict[frozenset[str], tuple[str, ...]] = {}


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    if struct.__module__.startswith("lateen.api.networking."):
        for field in msgspec.structs.fields(struct):
            _remember_order(field.type)
    return {field.encode_name: field for field in info.fields}


def _remember_order(annotation: object) -> None:
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        names = tuple(str(argument) for argument in arguments)
        _WRITTEN_ORDER[frozenset(names)] = names
        return
    for argument in arguments:
        _remember_order(argument)


class _Walker:
    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.problems: list[Problem] = []

    def add(self, rule: Rule, path: FieldPath, message: str, hint: str = "") -> None:
        self.problems.append(Problem(rule, path, message, hint))

    def walk(self, value: object, info: inspect.Type, path: FieldPath) -> object:
        extra: dict[str, object] = {}
        format_name = ""
        while isinstance(info, inspect.Metadata):
            extra = {**(info.extra or {}), **extra}
            format_name = format_name or str((info.extra_json_schema or {}).get("format", ""))
            info = info.type
        if isinstance(info, inspect.UnionType):
            return self.union(value, info, path)
        if isinstance(info, inspect.StructType):
            return self.struct(value, info, path)
        if isinstance(info, inspect.ListType):
            return self.sequence(value, info, path)
        if isinstance(info, inspect.DictType):
            return self.mapping(value, info, path)
        if isinstance(info, inspect.LiteralType):
            return self.literal(value, info, extra, path)
        if isinstance(info, inspect.StrType):
            return self.text(value, info, format_name, extra, path)
        if isinstance(info, inspect.BoolType):
            if not isinstance(value, bool):
                self.wrong_type("true or false", value, path)
            return value
        if isinstance(info, inspect.IntType):
            return self.integer(value, info, path)
        if isinstance(info, inspect.FloatType):
            return self.number(value, info, path)
        return value

    def union(self, value: object, info: inspect.UnionType, path: FieldPath) -> object:
        choices = [choice for choice in info.types if not isinstance(choice, inspect.NoneType)]
        if value is None and len(choices) < len(info.types):
            return None
        if len(choices) == 1:
            return self.walk(value, choices[0], path)
        for choice in choices:
            attempt = _Walker(self.lenient)
            result = attempt.walk(value, choice, path)
            if not attempt.problems:
                return result
        kinds = [_plain(choice) for choice in choices]
        best = next((c for c in kinds if _same_shape(value, c)), None)
        if best is not None:
            return self.walk(value, best, path)
        self.wrong_type(" or ".join(_type_name(choice) for choice in kinds), value, path)
        return value

    def struct(self, value: object, info: inspect.StructType, path: FieldPath) -> object:
        if not isinstance(value, dict):
            self.wrong_type("an object", value, path)
            return value
        fields = _fields(info.cls)
        result: dict[str, object] = {}
        for key, item in value.items():
            name = key
            if key in _SECOND_NAMES and _SECOND_NAMES[key] in fields:
                name = _SECOND_NAMES[key]
                if name in value:
                    continue
            field = fields.get(name) if isinstance(name, str) else None
            if field is None:
                if info.forbid_unknown_fields:
                    self.unknown(name, fields, path)
                continue
            if item is None:
                # A Kubernetes API server drops it before it validates an object of any kind.
                continue
            result[name] = self.walk(item, field.type, (*path, name))
        for name, field in fields.items():
            if field.required and name not in result:
                self.add(
                    reading.MISSING_FIELD, (*path, name), "Required value", f'Set "{name}" here.'
                )
        return result

    def unknown(self, name: object, fields: dict[str, inspect.Field], path: FieldPath) -> None:
        text = str(name)
        hint = ""
        near = difflib.get_close_matches(text, fields, n=1, cutoff=0.75)
        near = near or [name for name in fields if len(name) > 2 and text.startswith(name)]
        near = near or difflib.get_close_matches(text, fields, n=1, cutoff=0.6)
        lowered = {known.lower(): known for known in fields}
        folded = lowered.get(text.replace("_", "").replace("-", "").lower())
        if folded:
            hint = f'Did you mean "{folded}"?'
        elif near:
            hint = f'Did you mean "{near[0]}"?'
        elif len(fields) <= _SHOWN_VALUES:
            hint = f"Known here: {', '.join(fields)}."
        self.add(reading.UNKNOWN_FIELD, (*path, text), f'unknown field "{text}"', hint)

    def sequence(self, value: object, info: inspect.ListType, path: FieldPath) -> object:
        if not isinstance(value, list):
            self.wrong_type("a list", value, path, 'Start each item with "- ".')
            return value
        self.length(len(value), info.min_length, info.max_length, "item", path)
        result: list[object] = []
        for index, item in enumerate(value):
            if item is None and self.lenient:
                continue
            result.append(self.walk(item, info.item_type, (*path, index)))
        return result

    def mapping(self, value: object, info: inspect.DictType, path: FieldPath) -> object:
        if not isinstance(value, dict):
            self.wrong_type("an object", value, path)
            return value
        self.length(len(value), info.min_length, info.max_length, "entry", path)
        result: dict[str, object] = {}
        tolerant = self.lenient or path[:1] == ("metadata",)
        for name, item in value.items():
            key = str(self.walk(name if isinstance(name, str) else str(name), info.key_type, path))
            if item is None and tolerant and isinstance(_plain(info.value_type), inspect.StrType):
                result[key] = ""
                continue
            result[key] = self.walk(item, info.value_type, (*path, key))
        return result

    def literal(
        self,
        value: object,
        info: inspect.LiteralType,
        extra: dict[str, object],
        path: FieldPath,
    ) -> object:
        if isinstance(value, str) and value in info.values:
            return value
        values = frozenset(str(name) for name in info.values)
        written = _WRITTEN_ORDER.get(values, ())
        names = written or tuple(sorted(values))
        if isinstance(value, int) and not isinstance(value, bool):
            numbers = extra.get("numbers")
            table = numbers if isinstance(numbers, dict) else dict(enumerate(written))
            name = table.get(value)
            if name is not None:
                self.add(reading.ENUM_NUMBER, path, f"{value} stands for {name}", f"Write {name}.")
                return name
        allowed = ", ".join(name or '""' for name in names)
        hint = ""
        if isinstance(value, str):
            near = [name for name in names if name.lower() == value.lower()]
            near = near or difflib.get_close_matches(value.upper(), names, n=1, cutoff=0.6)
            hint = f'Did you mean "{near[0]}"?' if near else ""
        shown = f'"{value}"' if isinstance(value, str) else _shown(value)
        self.add(
            reading.BAD_ENUM, path, f"Unsupported value: {shown}: supported are {allowed}", hint
        )
        return value

    def text(
        self,
        value: object,
        info: inspect.StrType,
        format_name: str,
        extra: dict[str, object],
        path: FieldPath,
    ) -> object:
        if not isinstance(value, str):
            hint = ""
            if isinstance(value, bool):
                hint = "YAML reads yes, no, on, off, true and false as booleans: quote the text."
            elif isinstance(value, int | float):
                hint = f'Quote it: "{value}".'
            self.wrong_type("text", value, path, hint)
            return value
        # Length first: a pattern may take quadratic time, so it only sees text of a bounded length.
        too_long = info.max_length is not None and len(value) > info.max_length
        if info.pattern is not None and not too_long and re.search(info.pattern, value) is None:
            if format_name == "duration":
                self.add(
                    reading.BAD_FORMAT,
                    path,
                    f'"{value}" is not a valid duration',
                    "Write a number with its unit: 5s, 100ms, 1m30s or 1h.",
                )
            else:
                meaning = extra.get("meaning")
                message = f'"{_cut(value)}" ' + (
                    f"is not {meaning}" if meaning else f"should match '{info.pattern}'"
                )
                self.add(reading.BAD_FORMAT, path, message)
        self.length(len(value), info.min_length, info.max_length, "character", path)
        return value

    def integer(self, value: object, info: inspect.IntType, path: FieldPath) -> object:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            hint = "Remove the quotes." if isinstance(value, str) and value.isdigit() else ""
            self.wrong_type("a whole number", value, path, hint)
            return value
        self.range(value, info, path)
        return value

    def number(self, value: object, info: inspect.FloatType, path: FieldPath) -> object:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.wrong_type("a number", value, path)
            return value
        self.range(value, info, path)
        return value

    def range(
        self, value: float, info: inspect.IntType | inspect.FloatType, path: FieldPath
    ) -> None:
        if info.ge is not None and value < info.ge:
            message = f"Invalid value: {value} should be greater than or equal to {info.ge}"
        elif info.gt is not None and value <= info.gt:
            message = f"Invalid value: {value} should be greater than {info.gt}"
        elif info.le is not None and value > info.le:
            message = f"Invalid value: {value} should be less than or equal to {info.le}"
        elif info.lt is not None and value >= info.lt:
            message = f"Invalid value: {value} should be less than {info.lt}"
        else:
            return
        self.add(reading.OUT_OF_RANGE, path, message)

    def length(
        self, size: int, least: int | None, most: int | None, unit: str, path: FieldPath
    ) -> None:
        if least is not None and size < least:
            self.add(reading.BAD_LENGTH, path, f"needs at least {_count(least, unit)}, has {size}")
        elif most is not None and size > most:
            self.add(reading.BAD_LENGTH, path, f"takes at most {_count(most, unit)}, has {size}")

    def wrong_type(self, wanted: str, value: object, path: FieldPath, hint: str = "") -> None:
        if value is None and not hint:
            hint = "Remove the field or give it a value."
        self.add(reading.WRONG_TYPE, path, f"must be {wanted}, not {_shown(value)}", hint)


def _plain(info: inspect.Type) -> inspect.Type:
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info


def _same_shape(value: object, info: inspect.Type) -> bool:
    if isinstance(value, dict):
        return isinstance(info, inspect.StructType | inspect.DictType)
    if isinstance(value, list):
        return isinstance(info, inspect.ListType)
    if isinstance(value, str):
        return isinstance(info, inspect.StrType | inspect.LiteralType)
    if isinstance(value, bool):
        return isinstance(info, inspect.BoolType)
    return isinstance(value, int) and isinstance(info, inspect.IntType | inspect.FloatType)


_TYPE_NAMES: dict[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.LiteralType: "text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.ListType: "a list",
}


def _type_name(info: inspect.Type) -> str:
    return _TYPE_NAMES.get(type(info), "an object")


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f'"{_cut(value)}"'
    return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _count(number: int, unit: str) -> str:
    if number == 1:
        return f"{number} {unit}"
    return f"{number} {'entries' if unit == 'entry' else unit + 's'}"
