"""The rules of all layers, and the page that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import lateen.model.rules
import lateen.source.rules
import lateen.translate.rules
from lateen.api.rule import Rule
from lateen.api.rules import api_rules, by_identifier


@cache
def all_rules() -> Mapping[str, Rule]:
    """Every rule by identifier, in order. Raises ``ValueError`` if two rules share one."""
    return by_identifier(
        (
            *api_rules().values(),
            *lateen.model.rules.RULES,
            *lateen.translate.rules.RULES,
            *lateen.source.rules.RULES,
        )
    )


def page() -> str:
    """The text of ``docs/rules.md``."""
    lines = [
        "# Rules",
        "",
        "What `lateen validate` and `lateen analyze` say, by identifier. Identifiers are stable:",
        "suppress or search for them. An error keeps the object out of the mesh, a warning does",
        "not. This page is generated: `python -m docs.tools.generate`.",
        "",
        "| Rule | Severity | Meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| {rule.id} | {rule.severity.value} | **{rule.title}.** {rule.explanation} |"
        for rule in all_rules().values()
    ]
    return "\n".join(lines) + "\n"
