"""How commands speak: the mark first, one fact per line, the fix on the next line."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.text import Text

OK = "[green]✓[/]"
BAD = "[red]✗[/]"
WARN = "[yellow]‼[/]"
NOTE = "[dim]·[/]"

DEFAULT_MESH = "default"
_PLAIN = {"✓": "ok", "✗": "x", "‼": "!", "·": "-", "→": "->", "–": "-", "…": "..."}
"""What is written for our marks where the terminal's encoding has no such character."""

_HIDDEN = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_VISIBLE = {code: f"\\u{code:04x}" for code in _HIDDEN if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """``text`` with control characters written out: what is shown comes from files, objects and
    proxies, and must not command the terminal."""
    return text.translate(_VISIBLE)


class _Terminal(Console):
    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - as rich has it
        """As `rich.console.Console.print`, without control characters in texts."""
        super().print(*(visible(o) if isinstance(o, str) else o for o in objects), **options)


def write_anything() -> None:
    """Let standard output and error write every text, whatever the encoding of the terminal is.

    A character that it does not have is written in ASCII, as Python and JSON escape it.
    """
    codecs.register_error("lateen", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lateen")


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    text = "".join(
        _PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in wrong
    )
    return text, error.end


_mesh_option = ""
_TAKES_MESH = "up|down|apply|delete|get|history|ps|logs|exec|restart|scale|status|config|check"
_COMMAND = re.compile(rf"`lateen (?:{_TAKES_MESH})(?![\w-])[^`]*`")


def name_mesh(name: str) -> str:
    """Remember the mesh that this command is about, for the commands that hints show."""
    global _mesh_option
    usual = os.environ.get("LATEEN_MESH") or DEFAULT_MESH
    _mesh_option = "" if name == usual else f" --mesh {name}"
    return name


def with_mesh(text: str) -> str:
    """``text`` with ``--mesh NAME`` in each command between backquotes that needs it: when the
    mesh of this command is not the one that a command without the option means."""
    return _COMMAND.sub(_add_mesh, text) if _mesh_option else text


def _add_mesh(match: re.Match[str]) -> str:
    command = match.group().strip("`")
    if "--mesh" in command or "--all" in command.split():
        return match.group()
    command, dashes, rest = command.partition(" -- ")
    return f"`{command}{_mesh_option}{dashes}{rest}`"


out = _Terminal(highlight=False, soft_wrap=True)
err = _Terminal(stderr=True, highlight=False, soft_wrap=True)


def say(mark: str, text: str, hint: str = "") -> None:
    """One fact on standard output, and below it what to do."""
    out.print(f"{mark} {escape(with_mesh(text))}")
    print_hint(hint)


def text_and_hint(message: str) -> tuple[str, str]:
    """A message's first line, and the rest of it as one line of what to do."""
    text, _, hint = message.partition("\n")
    return text, " ".join(hint.split())


def complain(text: str, hint: str = "", mark: str = BAD) -> None:
    """One problem on standard error, and below it what to do."""
    err.print(f"{mark} {escape(with_mesh(text))}")
    print_hint(hint, err)


def print_hint(hint: str, to: Console = out) -> None:
    """What to do, below what is wrong; nothing for an empty ``hint``."""
    if hint:
        to.print(f"  [dim]→[/] {escape(with_mesh(hint))}")


def emit(data: Any, form: str) -> None:  # noqa: ANN401 - whatever JSON can say
    """Data as ``json`` or ``yaml`` on standard output, without colours.

    Where the encoding is not UTF-8, other characters than ASCII are escaped as the format does it.
    """
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    if form == "json":
        text = json.dumps(data, indent=2, ensure_ascii=not unicode)
    else:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=unicode, width=100).rstrip()
    sys.stdout.write(text + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under upper-case headings, as kubectl prints them; cells may hold markup.

    Cells are never cut: a long line wraps in a narrow terminal and stays whole in a pipe.
    """
    grid = [[Text(column) for column in columns]]
    grid += [[Text.from_markup(visible(cell)) for cell in row] for row in rows]
    widths = [max(row[i].cell_len for row in grid) for i in range(len(columns))]
    for row in grid:
        line = Text()
        for cell, width in zip(row, widths, strict=True):
            line.append_text(cell)
            line.append(" " * (width - cell.cell_len + 3))
        line.rstrip()
        out.print(line)


def age(seconds: float) -> str:
    """``95`` → ``95s``, ``4000`` → ``66m``: how kubectl shows ages."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    if whole < 172_800:
        return f"{whole // 3600}h"
    return f"{whole // 86_400}d"
