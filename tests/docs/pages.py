"""The documentation as data: pages, fenced blocks with what is said about them, commands, links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
GENERATED = ("rules.md", "cli.md", "configuration-reference/")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_REMARK = re.compile(r"^ *<!-- (?P<words>[^>]*) -->\s*$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Command:
    """A command of a ``console`` block and the output shown below it."""

    text: str
    output: tuple[str, ...]
    line: int

    @property
    def words(self) -> list[str]:
        """The command split as a shell does."""
        return shlex.split(self.text, comments=True)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``remarks`` are the HTML comments on the lines before it."""

    page: Path
    line: int
    language: str
    remarks: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def value(self, name: str) -> str | None:
        """What a remark ``NAME VALUE`` says, empty for ``NAME`` alone, None without one."""
        for remark in self.remarks:
            if remark == name or remark.startswith((f"{name} ", f"{name}: ")):
                return remark[len(name) :].lstrip(": ")
        return None

    @property
    def commands(self) -> list[Command]:
        """Lines that start with ``$``, with continuation lines (``>``) and what follows."""
        found: list[Command] = []
        output: list[str] = []
        text, line = "", 0
        for number, content in enumerate(self.text.splitlines(), self.line + 1):
            if content.startswith("$ "):
                if text:
                    found.append(Command(text, tuple(output), line))
                text, output, line = content[2:], [], number
            elif content.startswith("> ") and not output:
                text += "\n" + content[2:]
            else:
                output.append(content)
        return [*found, Command(text, tuple(output), line)] if text else found


def written_pages() -> list[Path]:
    """Pages that people write."""
    return [page for page in all_pages() if not _is_generated(page)]


def all_pages() -> list[Path]:
    """Every page of the documentation, the README and the samples' page among them."""
    return [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "samples" / "README.md",
        *sorted(DOCS.rglob("*.md")),
    ]


def blocks(*languages: str) -> list[Block]:
    """Blocks in these languages on all pages that people write."""
    return [
        block
        for page in written_pages()
        for block in blocks_of(page)
        if block.language in languages
    ]


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    remarks: list[str] = []
    number = 0
    while number < len(lines):
        if match := _FENCE.match(lines[number]):
            start = number
            number += 1
            while lines[number].strip() != "```":
                number += 1
            indent = len(match["indent"])
            text = "\n".join(line[indent:] for line in lines[start + 1 : number])
            found.append(Block(page, start + 1, match["language"], tuple(remarks), text))
            remarks = []
        elif match := _REMARK.match(lines[number]):
            remarks.append(match["words"])
        elif lines[number].strip():
            remarks = []
        number += 1
    return found


def links(page: Path) -> list[str]:
    """Targets of a page's links, without those in code."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    return [match["target"] for match in _LINK.finditer(text)]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif line.startswith("#") and not fenced:
            title = re.sub(r"[`*]", "", line.lstrip("#").strip()).lower()
            slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
    return {
        slug if not n else f"{slug}-{n}" for slug, last in found.items() for n in range(last + 1)
    }


def inline_commands(page: Path) -> list[str]:
    """Code spans that are calls of the program: ```lateen status -v```."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`(lateen [a-z][^`\n]*)`", text)


def _is_generated(page: Path) -> bool:
    if not page.is_relative_to(DOCS):
        return False
    return str(page.relative_to(DOCS)).startswith(GENERATED)
