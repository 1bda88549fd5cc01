"""The rules: every finding carries the identifier of one of these, and identifiers never change.

Number ranges: ``LT00xx`` reading, ``LT01xx`` networking.istio.io, ``LT02xx`` Kubernetes kinds,
``LT03xx`` security.istio.io, ``LT04xx`` telemetry.istio.io, ``LT05xx`` extensions.istio.io,
``LT06xx`` gateway.networking.k8s.io, ``LT07xx`` mesh configuration, ``LT1xxx`` objects
beside each other, ``LT2xxx`` what a proxy can do with them. Each group declares its own in
``lateen.api.GROUP.rules.RULES``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache

from lateen.api.findings import Severity
from lateen.api.rule import Rule

_MODULES = (
    "lateen.api.reading",
    "lateen.api.networking.rules",
    "lateen.api.core.rules",
    "lateen.api.security.rules",
    "lateen.api.telemetry.rules",
    "lateen.api.extensions.rules",
    "lateen.api.gatewayapi.rules",
    "lateen.api.meshconfig.rules",
    "lateen.model.rules",
    "lateen.translate.rules",
    "lateen.source.rules",
)


def _declared() -> Iterator[Rule]:
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue
        yield from module.RULES


@cache
def all_rules() -> Mapping[str, Rule]:
    """Every rule by identifier, in order. Raises ``ValueError`` if two rules share one."""
    rules: dict[str, Rule] = {}
    for rule in sorted(_declared(), key=lambda rule: rule.id):
        if rule.id in rules:
            raise ValueError(f"rule {rule.id} is declared twice")
        rules[rule.id] = rule
    return rules


def rules_markdown() -> str:
    """The text of ``docs/rules.md``."""
    lines = [
        "# Rules",
        "",
        "What `lateen validate` and `lateen analyze` say, by identifier. Identifiers are stable:",
        "suppress or search for them. An error keeps the object out of the mesh, a warning does",
        "not. This page is generated: `python -m lateen.api.rules > docs/rules.md`.",
        "",
        "| Rule | Severity | Meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| {rule.id} | {rule.severity.value} | **{rule.title}.** {rule.explanation} |"
        for rule in all_rules().values()
    ]
    return "\n".join(lines) + "\n"


__all__ = ["Rule", "Severity", "all_rules", "rules_markdown"]

if __name__ == "__main__":
    import sys

    sys.stdout.write(rules_markdown())
