"""Writes the generated pages: ``python -m docs.tools.generate`` (``--check`` only compares)."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.tools import cli_reference, configuration_reference, rules

DOCS = Path(__file__).resolve().parent.parent


def expected() -> dict[str, str]:
    """Path below ``docs/`` to text, for every generated page."""
    return {
        "rules.md": rules.page(),
        **cli_reference.pages(),
        **configuration_reference.pages(),
    }


def stale() -> list[str]:
    """Generated pages that are missing, differ, or that nothing generates any more."""
    wanted = expected()
    folder = DOCS / configuration_reference.FOLDER
    present = {str(path.relative_to(DOCS)) for path in folder.rglob("*.md")}
    different = [
        path
        for path, text in wanted.items()
        if not (DOCS / path).is_file() or (DOCS / path).read_text(encoding="utf-8") != text
    ]
    return sorted({*different, *(present - wanted.keys())})


def write() -> list[str]:
    """Bring all generated pages up to date; returns those that changed."""
    changed, wanted = stale(), expected()
    for path in changed:
        target = DOCS / path
        if path not in wanted:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(wanted[path], encoding="utf-8")
    return changed


def main() -> int:
    """Exit status 1 when ``--check`` finds a page that is not up to date."""
    check = "--check" in sys.argv[1:]
    changed = stale() if check else write()
    for path in changed:
        sys.stdout.write(f"{'stale' if check else 'written'}: docs/{path}\n")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
