"""Typed messages as tables: walks msgspec structs and words their types for people."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import msgspec
from msgspec import inspect as mi

Struct = type[msgspec.Struct]
_BOUNDS = {
    (0, 4294967295): "integer (0 to 4294967295)",
    (-2147483648, 2147483647): "integer (32 bits)",
    (-9223372036854775808, 9223372036854775807): "integer",
}


def messages_of(root: Struct) -> list[Struct]:
    """``root`` and every message below it, each once, in the order of the fields."""
    found: list[Struct] = []

    def visit(kind: mi.Type) -> None:
        for struct in structs_in(kind):
            if struct not in found:
                found.append(struct)
                for item in fields_of(struct):
                    visit(item.type)

    visit(mi.type_info(root))
    return found


def fields_of(struct: Struct) -> tuple[mi.Field, ...]:
    """The fields of a message with their types."""
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    return info.fields


def structs_in(kind: mi.Type) -> Iterator[Struct]:
    """Messages that a type mentions directly: itself, its items, its values, its alternatives."""
    if isinstance(kind, mi.StructType):
        yield kind.cls
    elif isinstance(kind, mi.Metadata):
        yield from structs_in(kind.type)
    elif isinstance(kind, mi.UnionType):
        for part in kind.types:
            yield from structs_in(part)
    elif isinstance(kind, mi.DictType):
        yield from structs_in(kind.value_type)
    elif isinstance(kind, mi.ListType | mi.SetType | mi.VarTupleType):
        yield from structs_in(kind.item_type)


def type_text(kind: mi.Type, links: dict[Struct, str]) -> str:
    """A type in words; ``links`` gives the address of each message's table."""
    if isinstance(kind, mi.Metadata):
        if (kind.extra_json_schema or {}).get("format") == "duration":
            return "duration"
        return type_text(kind.type, links)
    if isinstance(kind, mi.StructType):
        return f"[{kind.cls.__name__}]({links[kind.cls]})"
    if isinstance(kind, mi.UnionType):
        parts = [part for part in kind.types if not isinstance(part, mi.NoneType)]
        return " or ".join(type_text(part, links) for part in parts)
    if isinstance(kind, mi.ListType | mi.SetType | mi.VarTupleType):
        return f"list of {type_text(kind.item_type, links)}"
    if isinstance(kind, mi.DictType):
        if isinstance(kind.value_type, mi.AnyType) or _is_object(kind.value_type):
            return "object"
        return f"map of {type_text(kind.value_type, links)}"
    if isinstance(kind, mi.LiteralType):
        return " \\| ".join(f"`{value}`" if value != "" else '`""`' for value in kind.values)
    if isinstance(kind, mi.IntType):
        return _integer(kind)
    if isinstance(kind, mi.FloatType):
        return _range("number", kind.ge, kind.le)
    if isinstance(kind, mi.BoolType):
        return "boolean"
    if isinstance(kind, mi.StrType):
        return "text"
    return {mi.AnyType: "any", mi.BytesType: "base64 text"}.get(type(kind), _plain(kind))


def default_text(field: mi.Field) -> str:
    """The default as YAML, ``required``, or a dash when absent differs from every value."""
    if field.required:
        return "**required**"
    value = field.default
    if value is msgspec.NODEFAULT:
        factory = field.default_factory
        value = factory() if callable(factory) else None
    if value is None or (value == "" and not _is_literal(field.type)):
        return "–"
    if isinstance(value, msgspec.Struct):
        set_ = msgspec.to_builtins(value)
        return f"`{msgspec.json.encode(set_).decode()}`" if set_ else "–"
    if isinstance(value, list | dict | tuple) and not value:
        return "–"
    if value == "":
        return '`""`'
    return f"`{msgspec.json.encode(value).decode()}`".replace('"', "")


def summary(struct: Struct) -> str:
    """What a message is, from its docstring, with Markdown's code marks."""
    text = inspect.cleandoc(struct.__doc__ or "")
    return text.replace("``", "`")


def _is_literal(kind: mi.Type) -> bool:
    return isinstance(kind, mi.LiteralType)


def _is_object(kind: mi.Type) -> bool:
    return isinstance(kind, mi.CustomType) and kind.cls is object


def _plain(kind: mi.Type) -> str:
    return "any" if isinstance(kind, mi.CustomType) else type(kind).__name__.removesuffix("Type")


def _integer(kind: mi.IntType) -> str:
    known = _BOUNDS.get((kind.ge, kind.le)) if kind.ge is not None and kind.le is not None else None
    return known or _range("integer", kind.ge, kind.le)


def _range(word: str, low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return word
    if high is None:
        return f"{word} ({low} or more)"
    if low is None:
        return f"{word} (up to {high})"
    return f"{word} ({low} to {high})"
