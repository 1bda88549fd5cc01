"""YAML and JSON text to plain values, with the meaning that Kubernetes gives to YAML.

Kubernetes reads YAML through ``sigs.k8s.io/yaml``: plain ``yes``, ``no``, ``on``, ``off``, ``y``
and ``n`` are booleans, ``0777`` is octal, ``1_000`` is a number, ``<<`` merges, a key given twice
is an error, timestamps stay text. `ryaml` is ten times faster than PyYAML but reads YAML 1.2, so a
document that holds anything the two read differently is read again by the exact reader here.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar

import re2
import ryaml
import yaml

from lateen.api.syntax import TEMPLATE_HINT, explain_failure

MAX_TEXT = 64 * 1024 * 1024
"""Characters of one input, at most."""
MAX_NODES = 2_000_000
"""Nodes of one document after aliases are followed, at most."""

_MAX_DIGITS = 400
"""Of a number; the greatest float has 309."""

_MAX_DEPTH = 1000
"""Brackets open at a time. The readers take 128 in earnest; texts may hold some of their own."""

_BRACKETS = re.compile(r"[\[\]{}]")
_LINE = re.compile(r"\{line:(\d+)\}")
"""A line of a document in a message, to be replaced by that of the whole text."""
_SEPARATOR = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
_CONTENT = re.compile(r"^(?!\s*(?:#|$))", re.MULTILINE)
# Anything here that turns out to be harmless (a word in a sentence) only costs time.
_DIFFERS = re2.compile(
    r"(?m)(?:^|[\s\[{,])(?:[yY]|yes|Yes|YES|[nN]|no|No|NO|on|On|ON|off|Off|OFF|<<|"
    r"[-+]?0[0-9_][0-9_.eE]*|[-+]?[0-9][0-9.]*_[0-9_.]*|[-+]?[0-9]{19,}|[-+]?[0-9.]+[eE][-+0-9]+)"
    r"[ \t]*(?:$|[,\]}:#]|[ \t]#)|(?:^|[\s\[{,])!"
)
_TRUE = frozenset(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"))
_FALSE = frozenset(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_UNBOUNDED = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_PLAIN = "tag:lateen,2026:plain"


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a text: ``text`` starts on the 1-based line ``line``.

    ``start`` is the line of its first content, behind separators and comments.
    """

    text: str
    line: int
    start: int


class YamlError(Exception):
    """The text is not what YAML, or Kubernetes, allows. ``line`` and ``column`` are 1-based."""

    def __init__(
        self, message: str, line: int, column: int, duplicate: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.duplicate = duplicate
        self.hint = hint


def split_documents(text: str) -> list[Document]:
    """The documents of ``text`` in order; empty ones count, so that their index is stable."""
    cuts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    documents: list[Document] = []
    line = 1
    carried, carried_line = "", 0
    for begin, end in pairwise(cuts):
        chunk = text[begin:end]
        here = line
        line += chunk.count("\n")
        body = chunk[3:] if _SEPARATOR.match(chunk) else chunk
        blank = _CONTENT.search(body.rstrip()) is None or not body.strip()
        if blank and (begin == 0 or chunk.startswith("...")):
            continue
        if chunk.startswith("..."):
            chunk = body
        if body.lstrip().startswith("%") and not chunk.startswith("---"):
            carried, carried_line = chunk, here  # a directive belongs to the document behind it
            continue
        if carried:
            chunk, here, carried = carried + chunk, carried_line, ""
        documents.append(Document(chunk, here, here if blank else _content_line(chunk, here)))
    return documents


def _content_line(chunk: str, line: int) -> int:
    for number, content in enumerate(chunk.split("\n"), line):
        if content.startswith("---"):
            content = content[3:]
        stripped = content.strip()
        if stripped and not stripped.startswith(("#", "%", "...")):
            return number
    return line


def load(document: Document) -> object:
    """The value of one document. Raises `YamlError` with a position in the whole text."""
    text = document.text
    if _flow_depth(text) > _MAX_DEPTH:
        # Both readers take time by the square of the depth before they give up.
        raise YamlError("nested too deeply", document.line, 1)
    try:
        value: object = ryaml.loads(text)
    except RecursionError:
        raise YamlError("nested too deeply", document.line, 1) from None
    except ValueError as error:  # that is `ryaml.InvalidYamlError`
        if "recursion limit" in str(error) or "repetition limit" in str(error):
            raise YamlError("nested too deeply or too many aliases", document.line, 1) from None
        return load_exact(document)
    if _DIFFERS.search(text) is not None:
        return load_exact(document)
    return value


def _flow_depth(text: str) -> int:
    """How deep brackets may be nested: those in strings and comments count too."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return 0
    steps = (1 if bracket in "[{" else -1 for bracket in _BRACKETS.findall(text))
    return max(accumulate(steps))


def load_exact(document: Document) -> object:
    """The value of one document by the exact reader, five to ten times slower than `load`."""
    node = compose(document)
    if node is None:
        return None
    return _Builder(document.line).build(node)


def compose(document: Document) -> yaml.Node | None:
    """The node tree of one document, with marks relative to the document's own text."""
    loader = _Loader(document.text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    except RecursionError:
        raise YamlError("nested too deeply", document.line, 1) from None
    except yaml.MarkedYAMLError as error:
        mistake = explain_failure(document.text, error)
        message, hint = (
            _LINE.sub(lambda match: str(document.line + int(match[1])), text)
            for text in (mistake.message, mistake.hint)
        )
        line = document.line + mistake.line
        raise YamlError(message, line, mistake.column + 1, hint=hint) from None
    except yaml.reader.ReaderError as error:
        before = document.text[: error.position]
        line, column = before.count("\n"), len(before) - before.rfind("\n")
        message = f"a control character (#x{_code(error.character):04x}) is not allowed"
        hint = "Remove it, or write it as an escape in double quotes."
        raise YamlError(message, document.line + line, column, hint=hint) from None
    except yaml.YAMLError as error:
        raise YamlError(str(error).split("\n")[0], document.line, 1) from None
    finally:
        loader.dispose()


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Composes nodes whose plain scalars carry their own tag, to tell ``5`` from ``!!str 5``."""

    yaml_implicit_resolvers: ClassVar[dict[str | None, list[tuple[str, re.Pattern[str]]]]] = {
        None: [(_PLAIN, re.compile(""))]
    }


class _Builder:
    def __init__(self, line: int) -> None:
        self.line = line
        self.nodes = 0
        self.open: set[int] = set()

    def fail(
        self, message: str, node: yaml.Node, duplicate: bool = False, hint: str = ""
    ) -> YamlError:
        mark = node.start_mark
        return YamlError(message, self.line + mark.line, mark.column + 1, duplicate, hint)

    def build(self, node: yaml.Node) -> object:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.fail("too large once aliases are followed", node)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            raise self.fail("an anchor contains itself", node)
        self.open.add(id(node))
        value: object
        if isinstance(node, yaml.SequenceNode):
            value = [self.build(item) for item in node.value]
        else:
            assert isinstance(node, yaml.MappingNode)
            value = self.mapping(node)
        self.open.discard(id(node))
        return value

    def mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key_node, value_node in node.value:
            if (
                isinstance(key_node, yaml.ScalarNode)
                and key_node.tag == _PLAIN
                and key_node.value == "<<"
            ):
                for name, value in self.merge(value_node).items():
                    merged.setdefault(name, value)
                continue
            key = self.key(key_node)
            if key in own:
                first = self.line_of(node, key)
                message = f'key "{key}" is given twice, first on line {first}'
                raise self.fail(message, key_node, duplicate=True)
            own[key] = self.build(value_node)
        return {**merged, **own} if merged else own

    def line_of(self, node: yaml.MappingNode, key: str) -> int:
        """The line of the first of several equal keys."""
        return next(
            self.line + int(each.start_mark.line)
            for each, _ in node.value
            if isinstance(each, yaml.ScalarNode) and self.key(each) == key
        )

    def merge(self, node: yaml.Node) -> dict[str, object]:
        value = self.build(node)
        if isinstance(value, dict):
            return value
        merged: dict[str, object] = {}
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            for item in value:
                for name, part in item.items():
                    merged.setdefault(name, part)
            return merged
        raise self.fail('"<<" needs a mapping or a list of mappings', node)

    def key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail("a mapping key must be text", node, hint=TEMPLATE_HINT)
        value = self.scalar(node)
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            raise self.fail("a mapping key must not be null", node)
        return str(value)

    def scalar(self, node: yaml.ScalarNode) -> object:
        text: str = node.value
        if node.tag == _PLAIN:
            return self.plain(text, node)
        if node.tag == _TAG + "binary":
            try:
                return base64.b64decode("".join(text.split()), validate=True).decode()
            except (binascii.Error, ValueError):
                raise self.fail("!!binary is not base64 of text", node) from None
        if node.tag in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            return self.plain(text, node)
        return text

    def plain(self, text: str, node: yaml.Node) -> object:
        if text in _NULL:
            return None
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        if text[0] in "+-.0123456789":
            digits = text.replace("_", "")
            if _INT.fullmatch(digits):
                if len(digits) > _MAX_DIGITS:
                    raise self.fail(f"a number of {len(digits)} digits", node)
                return _integer(digits)
            if _FLOAT.fullmatch(digits):
                number = float(digits)
                if number - number == 0.0:
                    return int(number) if number.is_integer() and abs(number) < 2**53 else number
                return text
            if _UNBOUNDED.fullmatch(text):
                raise self.fail(f"{text} cannot be written in JSON", node)
        return text


def _code(character: str | int) -> int:
    """libyaml's binding gives a number, PyYAML's own reader a character."""
    return character if isinstance(character, int) else ord(character)


def _integer(digits: str) -> int | float:
    body = digits.lstrip("+-")
    if len(body) > 1 and body[0] == "0" and body[1] in "01234567":
        number = int(body, 8)
    else:
        number = int(body, 0)
    if digits.startswith("-"):
        number = -number
    return number if -(2**63) <= number < 2**64 else float(number)
