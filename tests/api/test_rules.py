"""The table of rules."""

from __future__ import annotations

import pytest

from lateen.api.reading import SYNTAX
from lateen.api.rules import api_rules, by_identifier


def test_identifiers_have_one_form() -> None:
    assert all(rule.startswith("LT") and len(rule) == 6 for rule in api_rules())


def test_an_identifier_is_declared_once() -> None:
    with pytest.raises(ValueError, match="LT0001 is declared twice"):
        by_identifier([SYNTAX, SYNTAX])
