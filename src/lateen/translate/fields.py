"""How a message says which of its fields have an effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lateen.api.findings import FieldPath


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of one message by their Python names: those with effect, and those without, each
    with the reason."""

    effective: frozenset[str]
    without: tuple[tuple[str, str], ...] = ()
    quiet: tuple[tuple[str, str], ...] = ()
    """Those without effect that are set in many manifests and mean nothing to Istio's proxies
    either: documented, not reported."""


def fields(effective: str, quiet: dict[str, str] | None = None, **without: str) -> Fields:
    """``effective`` are names with blanks between them; the others have a reason each."""
    return Fields(
        frozenset(effective.split()), tuple(without.items()), tuple((quiet or {}).items())
    )


class Ignored(NamedTuple):
    """A value that does nothing: where, what is wrong, and what to do."""

    path: FieldPath
    message: str
    hint: str
