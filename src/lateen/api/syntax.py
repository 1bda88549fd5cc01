"""What is wrong with a text that is no YAML, in the words of its author instead of the reader's.

libyaml says where it stopped and which token it wanted; the mistake is often a line above. Each
function here knows one usual mistake and says where it is, or returns None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

GENERAL_HINT = "Check indentation, quotes and brackets here."
TEMPLATE_HINT = (
    "If the braces are those of a template, render it first (for a chart: `helm template`)."
)
_KEY = re.compile(r"""^(?:- +)*[^\s#"'\[{][^#]*?:(?:\s|$)""")
_BEGIN = 1000
_CONFLICT = re.compile(r"(?:<{7}|={7}|>{7})(?: |$)")
_CLOSING = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong and where, 0-based, and what to do."""

    message: str
    line: int
    column: int
    hint: str = GENERAL_HINT


@dataclass(frozen=True, slots=True)
class Failure:
    """Where libyaml stopped, with what it was at (``context``)."""

    lines: Sequence[str]
    problem: str
    line: int
    column: int
    context: str
    context_line: int
    context_column: int

    @property
    def text(self) -> str:
        """The line where it stopped."""
        return self.lines[self.line] if self.line < len(self.lines) else ""

    def above(self) -> int:
        """The nearest line above that holds anything; -1 if there is none."""
        for number in range(min(self.line, len(self.lines)) - 1, -1, -1):
            content = self.lines[number].strip()
            if content and not content.startswith("#"):
                return number
        return -1


def explain_failure(text: str, error: yaml.MarkedYAMLError) -> Mistake:
    """The mistake behind ``error`` in the document ``text``."""
    mark = error.problem_mark or error.context_mark
    context = error.context_mark or mark
    failure = Failure(
        text.split("\n"),
        str(error.problem or error.context or "this is not YAML"),
        mark.line if mark else 0,
        mark.column if mark else 0,
        str(error.context or ""),
        context.line if context else 0,
        context.column if context else 0,
    )
    for known in _MISTAKES:
        found = known(failure)
        if found is not None:
            return found
    return Mistake(failure.problem, failure.line, failure.column)


def _tab(failure: Failure) -> Mistake | None:
    for number in (failure.line, failure.line - 1):
        if not 0 <= number < len(failure.lines):
            continue
        text = failure.lines[number]
        indentation = text[: len(text) - len(text.lstrip())]
        if "\t" in indentation:
            return Mistake(
                "a tab indents this line",
                number,
                indentation.index("\t"),
                "YAML is indented with spaces: replace the tab.",
            )
    return None


def _conflict(failure: Failure) -> Mistake | None:
    for number, text in enumerate(failure.lines):
        if _CONFLICT.match(text.rstrip("\r")):
            return Mistake(
                "a merge left its marks here", number, 0, "Resolve the conflict, then try again."
            )
    return None


def _template(failure: Failure) -> Mistake | None:
    column = failure.text.find("{{")
    if column < 0:
        return None
    return Mistake(
        "a template that was not filled in",
        failure.line,
        column,
        TEMPLATE_HINT,
    )


def _open_quote(failure: Failure) -> Mistake | None:
    if "quoted scalar" not in failure.context or "unexpected" not in failure.problem:
        return None
    return Mistake(
        "this quote is never closed",
        failure.context_line,
        failure.context_column,
        "Close it at the end of the value.",
    )


def _open_bracket(failure: Failure) -> Mistake | None:
    if "expected ',' or" not in failure.problem:
        return None
    line, column = failure.context_line, failure.context_column
    text = failure.lines[line] if line < len(failure.lines) else ""
    bracket = text[column : column + 1]
    closing = _CLOSING.get(bracket)
    if closing is None or line == failure.line:
        return Mistake(
            'a "," or a closing bracket is missing before this',
            failure.line,
            failure.column,
        )
    return Mistake(
        f'this "{bracket}" is not closed',
        line,
        column,
        f'Close it with "{closing}" before line {{line:{failure.line}}}.',
    )


def _bad_start(failure: Failure) -> Mistake | None:
    if "cannot start any token" not in failure.problem:
        return None
    sign = failure.text[failure.column : failure.column + 1]
    return Mistake(
        f'a value cannot begin with "{sign}"',
        failure.line,
        failure.column,
        f"""Put the value in quotes: '{failure.text[failure.column :].strip()}'.""",
    )


def _alias(failure: Failure) -> Mistake | None:
    if "undefined alias" not in failure.problem:
        return None
    return Mistake(
        "a value that begins with * refers to an anchor (&name), and there is none",
        failure.line,
        failure.column,
        "Put the value in quotes when the star is meant.",
    )


def _escape(failure: Failure) -> Mistake | None:
    if "escape" not in failure.problem:
        return None
    return Mistake(
        "this backslash begins no escape that YAML knows",
        failure.line,
        max(0, failure.column - 1)
        if failure.text[failure.column - 1 :][:1] == "\\"
        else failure.column,
        "Use single quotes, in which a backslash means itself, or write it twice.",
    )


def _is_key(text: str) -> bool:
    """Whether a line begins with a key. Of a very long one the begin says it."""
    return _KEY.match(text[:_BEGIN]) is not None


def _second_colon(failure: Failure) -> Mistake | None:
    if "mapping values are not allowed" not in failure.problem:
        return None
    above = failure.above()
    before = failure.text[: failure.column]
    if _is_key(before.lstrip() + " "):
        return Mistake(
            'a value with ": " in it needs quotes',
            failure.line,
            failure.column,
            'Write key: "value: with a colon".',
        )
    deeper = above >= 0 and _indentation(failure.text) > _indentation(failure.lines[above])
    text = failure.lines[above].strip()
    if deeper or (above >= 0 and not _is_key(text)):
        if _is_key(text):
            return Mistake(
                f"this line is indented below line {{line:{above}}}, which has a value already",
                failure.line,
                _indentation(failure.text),
                f"Align it with line {{line:{above}}}, or remove that value.",
            )
        return Mistake(
            'this line needs a ":" behind its key',
            above,
            len(failure.lines[above].rstrip()),
            f'Write "{text}:" when the lines below belong to it.',
        )
    return None


def _no_colon(failure: Failure) -> Mistake | None:
    if "could not find expected ':'" not in failure.problem:
        return None
    return Mistake(
        'this line is no "key: value"',
        failure.context_line,
        failure.context_column,
        "Add the colon, or put text of several lines in quotes or behind a |.",
    )


def _unaligned(failure: Failure) -> Mistake | None:
    if not re.search(r"did not find expected (?:key|'-' indicator)", failure.problem):
        return None
    column = _indentation(failure.text)
    used = []
    for number in range(failure.line):
        text = failure.lines[number]
        if text.strip() and not text.lstrip().startswith(("#", "---")):
            used.append(_indentation(text))
            dashes = re.match(r" *(?:- +)+", text)
            if dashes:
                used.append(len(dashes.group()))
    near = sorted({each for each in used if each != column}, key=lambda each: abs(each - column))
    where = " or ".join(str(each) for each in sorted(near[:2]))
    spaces = "1 space" if column == 1 else f"{column} spaces"
    return Mistake(
        f"the indentation of this line ({spaces}) fits none of the lines above",
        failure.line,
        failure.column,
        f"Indent it with {where} spaces, as the lines that it belongs to."
        if where
        else GENERAL_HINT,
    )


def _indentation(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


_MISTAKES: tuple[Callable[[Failure], Mistake | None], ...] = (
    _tab,
    _conflict,
    _template,
    _open_quote,
    _open_bracket,
    _bad_start,
    _alias,
    _escape,
    _second_colon,
    _no_colon,
    _unaligned,
)
