"""Selectors and references that many Kubernetes kinds share."""

from __future__ import annotations

from typing import Literal

from lateen.api.base import Message


class LabelSelectorRequirement(Message, frozen=True, kw_only=True):
    """One condition of a label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class LabelSelector(Message, frozen=True, kw_only=True):
    """``metav1.LabelSelector``: labels and expressions are all required; empty selects all."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []


class LocalObjectReference(Message, frozen=True, kw_only=True):
    """An object of the same namespace by name."""

    name: str = ""


class ObjectReference(Message, frozen=True, kw_only=True):
    """An object anywhere."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


IntOrString = int | str
"""A number, or a name or percentage as text."""
