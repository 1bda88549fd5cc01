"""Reading raw Kubernetes objects (JSON data) without surprises.

The node's agent works on the API's own JSON, not on typed structs: the schema was checked when the
object was stored, and the structs would cost every sidecar's agent several megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Raw = dict[str, Any]


def name_of(raw: Raw) -> str:
    """``metadata.name``."""
    return str(raw["metadata"]["name"])


def namespace_of(raw: Raw) -> str:
    """``metadata.namespace``, empty for cluster-scoped objects."""
    return str(raw["metadata"].get("namespace") or "")


def full_name(raw: Raw) -> str:
    """``NAMESPACE/NAME``."""
    return f"{namespace_of(raw)}/{name_of(raw)}"


def labels_of(raw: Raw) -> dict[str, str]:
    """``metadata.labels``."""
    return raw["metadata"].get("labels") or {}


def annotations_of(raw: Raw) -> dict[str, str]:
    """``metadata.annotations``."""
    return raw["metadata"].get("annotations") or {}


def spec_of(raw: Raw) -> Raw:
    """``spec``."""
    return raw.get("spec") or {}


def status_of(raw: Raw) -> Raw:
    """``status``."""
    return raw.get("status") or {}


def deleting(raw: Raw) -> bool:
    """Whether the object is marked for deletion."""
    return bool(raw["metadata"].get("deletionTimestamp"))


def is_ready(pod: Raw) -> bool:
    """Whether a Pod's ``Ready`` condition is true and it is not being deleted."""
    if deleting(pod):
        return False
    conditions = status_of(pod).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def finished(pod: Raw) -> bool:
    """Whether a Pod ended for good."""
    return status_of(pod).get("phase") in ("Succeeded", "Failed")


def owner_of(raw: Raw) -> tuple[str, str]:
    """Kind and name of the controlling owner, empty texts without one."""
    for owner in raw["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            return str(owner.get("kind")), str(owner.get("name"))
    return "", ""


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether an equality selector matches; an empty one selects nothing."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def matches_label_selector(selector: Raw, labels: Mapping[str, str]) -> bool:
    """Kubernetes ``LabelSelector`` with ``matchLabels`` and ``matchExpressions``."""
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], expression.get("values") or []
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(expression["operator"], False)
        if not holds:
            return False
    return True


def now() -> str:
    """The time now as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
