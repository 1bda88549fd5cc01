"""The rules of all layers, and the page that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import lateen.model.rules
import lateen.source.rules
import lateen.translate.rules
from lateen.api.rule import Rule
from lateen.api.rules import api_rules, by_identifier

_INTRODUCTION = """\
What `lateen validate` says, by identifier; a running mesh says it at `lateen apply` and in
`lateen status -v`. Identifiers are stable: search for them. This page is generated:
`python -m docs.tools.generate`.

An error up to LT0899 keeps the object out of the mesh, a warning does not. From LT1001 on a rule
is about what an object meets in the mesh: the object is stored, and the part that the rule
describes has no effect.

Files that are validated need not be the whole mesh. When they define no Service and no
ServiceEntry, `validate` only remarks on hosts, subsets and gateways that they do not define, and
when they define no workload, on Services that select nothing. A policy that is not enforced
(LT2009) is a warning of `validate`, since the file is right, and an error of `lateen apply`.
"""

ELSEWHERE = {
    "LT0016": "`lateen validate`, of an input that is too large",
    "LT0801": "every command that reads a folder, and `lateen up --watch` in the log of the agent",
    "LT0802": "`lateen apply`",
    "LT0804": "`lateen apply`",
    "LT0805": "commands that read a folder without `-R`",
    "LT1001": "`lateen status`, of objects that Lateen has not admitted itself",
    "LT2013": "`lateen status`, by the clock of the machine",
}
"""Rules about what files alone do not show, and what says them."""


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


def _where(rule: str) -> str:
    return f" Said by {ELSEWHERE[rule]}." if rule in ELSEWHERE else ""


def page() -> str:
    """The text of ``docs/rules.md``."""
    lines = [
        "# Rules",
        "",
        _INTRODUCTION,
        "| Rule | Severity | Meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| {rule.id} | {rule.severity.value} | **{rule.title}.** {rule.explanation}"
        f"{_where(rule.id)} |"
        for rule in all_rules().values()
    ]
    return "\n".join(lines) + "\n"
