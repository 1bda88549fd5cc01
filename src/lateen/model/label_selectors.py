"""Kubernetes label selectors (``metav1.LabelSelector``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from lateen.api.core import selectors as core
from lateen.api.gatewayapi import scalars as gateway_api

LabelSelector: TypeAlias = core.LabelSelector | gateway_api.LabelSelector
"""The same message, as two API groups write it."""


def matches_selector(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet every label and expression; an empty selector takes all."""
    return all(labels.get(name) == value for name, value in selector.match_labels.items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(
    requirement: core.LabelSelectorRequirement | gateway_api.LabelSelectorRequirement,
    labels: Mapping[str, str],
) -> bool:
    value = labels.get(requirement.key)
    if requirement.operator == "Exists":
        return value is not None
    if requirement.operator == "DoesNotExist":
        return value is None
    if requirement.operator == "In":
        return value in requirement.values
    return value not in requirement.values
