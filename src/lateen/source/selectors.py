"""Label and field selectors of the Kubernetes API (equality, inequality, existence)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Raw = dict[str, Any]


def selector(label_selector: str, field_selector: str) -> Callable[[Raw], bool]:
    """A test of an object for ``labelSelector`` and ``fieldSelector`` as given in a query."""
    labels = [part for part in label_selector.split(",") if part]
    fields = [part for part in field_selector.split(",") if part]
    if not labels and not fields:
        return lambda _raw: True

    def selects(raw: Raw) -> bool:
        have = (raw.get("metadata") or {}).get("labels") or {}
        return all(_label_holds(have, part) for part in labels) and all(
            _field_holds(raw, part) for part in fields
        )

    return selects


def _label_holds(have: Mapping[str, str], part: str) -> bool:
    if "!=" in part:
        name, value = part.split("!=", 1)
        return have.get(name.strip()) != value.strip()
    if "=" in part:
        name, value = part.replace("==", "=").split("=", 1)
        return have.get(name.strip()) == value.strip()
    if part.startswith("!"):
        return part[1:].strip() not in have
    return part.strip() in have


def _field_holds(raw: Raw, part: str) -> bool:
    negated = "!=" in part
    name, _, value = part.replace("!=", "=").replace("==", "=").partition("=")
    found: Any = raw
    for step in name.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return (str(found if found is not None else "") == value) != negated
