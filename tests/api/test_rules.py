"""The table of rules and its page."""

from __future__ import annotations

from pathlib import Path

from lateen.api.rules import all_rules, rules_markdown

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


def test_identifiers_have_one_form() -> None:
    assert all(rule.startswith("LT") and len(rule) == 6 for rule in all_rules())


def test_the_page_is_up_to_date(update: bool) -> None:
    if update:
        PAGE.write_text(rules_markdown())
    assert PAGE.read_text() == rules_markdown()
