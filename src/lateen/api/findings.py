"""Findings: what is wrong with an object, where it stands, and what to do next."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from lateen.api.resource import ObjectKey, Provenance

FieldPath = tuple[str | int, ...]
"""Path of a field in an object, for instance ``("spec", "http", 0, "route", 1, "weight")``."""


class Severity(enum.StrEnum):
    """How bad a finding is. Only an ``ERROR`` makes `validate` fail and keeps an object out."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement about one object.

    ``rule`` is a stable identifier such as ``LT0101`` (documented in ``docs/rules.md``), ``path``
    the field it is about (empty for the whole object), ``line`` and ``column`` are 1-based and 0
    until somebody looked them up with `lateen.api.locate`.
    """

    rule: str
    severity: Severity
    message: str
    hint: str = ""
    key: ObjectKey | None = None
    path: FieldPath = ()
    provenance: Provenance = field(default_factory=Provenance)
    line: int = 0
    column: int = 0
