"""Checks of references, names and regular expressions that all Gateway API kinds share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import re2

from lateen.api.findings import FieldPath
from lateen.api.gatewayapi import rules
from lateen.api.gatewayapi.scalars import (
    BackendObjectReference,
    LabelSelector,
    ParentReference,
)
from lateen.api.report import Report

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def check_parents(references: Sequence[ParentReference], report: Report) -> None:
    """References to one parent are told apart by the same of sectionName and port."""
    path = ("spec", "parentRefs")
    first: dict[tuple[str, str, str, str], ParentReference] = {}
    seen: set[tuple[object, ...]] = set()
    for index, reference in enumerate(references):
        parent = (reference.group, reference.kind, reference.namespace or "", reference.name)
        part = (*parent, reference.section_name, reference.port)
        other = first.setdefault(parent, reference)
        if part in seen:
            report.error(
                rules.PARENT_REPEATED,
                (*path, index),
                f"{reference.kind} {reference.name} is referred to twice: "
                "sectionName or port must be unique",
            )
        elif (other.section_name is None) != (reference.section_name is None) or (
            other.port is None
        ) != (reference.port is None):
            report.error(
                rules.PARENT_REPEATED,
                (*path, index),
                f"{reference.kind} {reference.name} is referred to several times: "
                "sectionName or port must be specified in all of them",
            )
        seen.add(part)


def check_backend(reference: BackendObjectReference, path: FieldPath, report: Report) -> None:
    """A Service is reached by a port."""
    if not reference.group and reference.kind == "Service" and reference.port is None:
        report.error(
            rules.BACKEND_PORT,
            (*path, "port"),
            f"Must have port for Service reference {reference.name}",
            "Use the service's port, not the container's.",
        )


def check_unique(
    names: Iterable[str | None], path: FieldPath, field: str, what: str, report: Report
) -> None:
    """Names (those that are given) occur once."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name is None:
            continue
        if name in seen:
            where = (*path, index, field) if field else (*path, index)
            report.error(rules.REPEATED_NAME, where, f'{what} "{name}" must be unique here')
        seen.add(name)


def check_regex(text: str, path: FieldPath, report: Report) -> None:
    """``text`` is an RE2 expression."""
    problem = regex_problem(text)
    if problem:
        report.error(
            rules.BAD_REGEX,
            path,
            f'"{text}" is no regular expression: {problem}',
            "RE2 has no look-ahead, look-behind or back-references.",
        )


@lru_cache(maxsize=4096)
def regex_problem(text: str) -> str:
    """Why ``text`` is no RE2 expression, or an empty string."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options=options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        return reason.decode() if isinstance(reason, bytes) else str(reason)
    return ""


def check_selector(selector: LabelSelector | None, path: FieldPath, report: Report) -> None:
    """A label selector's operators have the values they need."""
    for index, condition in enumerate(selector.match_expressions if selector else ()):
        where = (*path, "matchExpressions", index)
        if condition.operator not in _OPERATORS:
            report.error(
                rules.BAD_SELECTOR,
                (*where, "operator"),
                f'"{condition.operator}" is none of {", ".join(_OPERATORS)}',
            )
        elif condition.operator in ("In", "NotIn") and not condition.values:
            report.error(
                rules.BAD_SELECTOR, (*where, "values"), f"{condition.operator} needs values"
            )
        elif condition.operator in ("Exists", "DoesNotExist") and condition.values:
            report.error(
                rules.BAD_SELECTOR, (*where, "values"), f"{condition.operator} takes no values"
            )
