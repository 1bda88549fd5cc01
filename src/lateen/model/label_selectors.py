"""Label selectors: plain label sets, and Kubernetes' ``metav1.LabelSelector``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from lateen.api.core import selectors as core
from lateen.api.gatewayapi import scalars as gateway_api

LabelSelector: TypeAlias = core.LabelSelector | gateway_api.LabelSelector
"""The same message, as two API groups write it."""


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether every label of ``selector`` is among ``labels``; an empty one selects all."""
    # Runs for every selector of every workload, where a generator would cost twice as much.
    for name, value in selector.items():  # noqa: SIM110
        if labels.get(name) != value:
            return False
    return True


def matches_selector(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet every label and expression; an empty selector takes all."""
    return selects(selector.match_labels, labels) and all(
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
