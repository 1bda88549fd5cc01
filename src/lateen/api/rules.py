"""The rules about objects: every finding carries the identifier of a rule, and identifiers never
change.

Number ranges: ``LT00xx`` reading, ``LT01xx`` networking.istio.io, ``LT02xx`` Kubernetes kinds,
``LT03xx`` security.istio.io, ``LT04xx`` telemetry.istio.io, ``LT05xx`` extensions.istio.io,
``LT06xx`` gateway.networking.k8s.io, ``LT07xx`` mesh configuration, ``LT1xxx`` objects
beside each other, ``LT2xxx`` what a proxy can do with them. Each group declares its own in
``lateen.api.GROUP.rules.RULES``; the layers above declare theirs in ``lateen.LAYER.rules.RULES``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from functools import cache

from lateen.api.findings import Severity
from lateen.api.rule import Rule

_MODULES = (
    "lateen.api.reading",
    "lateen.api.annotations",
    "lateen.api.networking.rules",
    "lateen.api.core.rules",
    "lateen.api.security.rules",
    "lateen.api.telemetry.rules",
    "lateen.api.extensions.rules",
    "lateen.api.gatewayapi.rules",
    "lateen.api.meshconfig.rules",
)


def by_identifier(rules: Iterable[Rule]) -> Mapping[str, Rule]:
    """The rules by identifier, in order. Raises ``ValueError`` if two rules share one."""
    table: dict[str, Rule] = {}
    for rule in sorted(rules, key=lambda rule: rule.id):
        if rule.id in table:
            raise ValueError(f"rule {rule.id} is declared twice")
        table[rule.id] = rule
    return table


@cache
def api_rules() -> Mapping[str, Rule]:
    """Every rule of this layer by identifier."""
    modules = map(importlib.import_module, _MODULES)
    return by_identifier(rule for module in modules for rule in module.RULES)


__all__ = ["Rule", "Severity", "api_rules", "by_identifier"]
