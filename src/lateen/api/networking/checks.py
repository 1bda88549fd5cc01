"""Checks that validators of several networking kinds share."""

from __future__ import annotations

import re2

from lateen.api.base import Duration, duration_nanoseconds
from lateen.api.findings import FieldPath
from lateen.api.networking.names import is_label
from lateen.api.networking.rules import DURATION, EXPORT, MATCH, ONE_OF, RISKY, SELECTOR
from lateen.api.report import Report

MAX_REGEX = 1024
_MILLISECOND = 1_000_000


def check_duration(text: Duration | None, path: FieldPath, report: Report) -> None:
    """At least 1ms and whole milliseconds, as Envoy's timers take them."""
    if text is None:
        return
    try:
        nanoseconds = duration_nanoseconds(text)
    except ValueError as error:
        report.error(DURATION, path, str(error))
        return
    if nanoseconds < _MILLISECOND:
        message = f"{text}: must be a valid duration greater than 1ms"
        report.error(DURATION, path, message, "Remove the field to leave it at its default.")
    elif nanoseconds % _MILLISECOND:
        report.error(DURATION, path, f"{text}: only durations to ms precision are supported")


def check_regex(pattern: str, path: FieldPath, report: Report) -> None:
    """A non-empty RE2 expression of at most 1024 characters."""
    if not pattern:
        report.error(MATCH, path, "regex string match should not be empty")
    elif len(pattern) > MAX_REGEX:
        report.error(MATCH, path, f"regex is too large, max length allowed is {MAX_REGEX}")
    else:
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(pattern, options)
        except re2.error as error:
            hint = "Envoy takes RE2 syntax: no look-around and no back-references."
            detail = error.args[0] if error.args else error
            text = detail.decode() if isinstance(detail, bytes) else str(detail)
            report.error(MATCH, path, f'"{pattern}" is not a regular expression: {text}', hint)


def check_one_of(fields: dict[str, bool], path: FieldPath, report: Report) -> int:
    """At most one of the named fields may be set. Returns how many are."""
    present = [name for name, is_set in fields.items() if is_set]
    if len(present) > 1:
        message = f"only one of {', '.join(fields)} can be set, found {' and '.join(present)}"
        report.error(ONE_OF, path, message)
    return len(present)


def check_selector(
    labels: dict[str, str] | None, path: FieldPath, what: str, report: Report
) -> None:
    """Exact labels; an empty selector selects everything, which is warned of."""
    if labels is None:
        return
    for key, value in labels.items():
        if not key:
            message = "key must not be empty: empty key is not supported in selector"
            report.error(SELECTOR, (*path, key), message)
        if "*" in key or "*" in value:
            message = f'wildcard is not supported in selector: "{key}={value}"'
            report.error(SELECTOR, (*path, key), message)
    if not labels:
        report.warn(
            RISKY,
            path,
            f"{what}: workload selector specified without labels, "
            "will be applied to all workloads in the namespace",
            "Remove the selector if that is meant.",
        )


def check_export_to(
    export_to: list[str],
    namespace: str,
    report: Report,
    allow_none: bool = False,
    with_selector: bool = False,
) -> None:
    """``*``, ``.`` and namespaces; ``~`` (nobody) for a ServiceEntry only."""
    seen: set[str] = set()
    for index, entry in enumerate(export_to):
        path: FieldPath = ("spec", "exportTo", index)
        key = namespace if entry == "." else entry
        if key in seen:
            message = f"duplicate entries in exportTo: {entry}"
            report.error(EXPORT, path, message)
        elif entry == "~" and not allow_none:
            report.error(EXPORT, path, "only a service entry can be exported to no one (~)")
        elif entry not in ("*", ".", "~") and not is_label(entry):
            hint = "Use a namespace, . for the own one or * for all."
            report.error(EXPORT, path, f'"{entry}" is not a namespace', hint)
        seen.add(key)
    where: FieldPath = ("spec", "exportTo")
    if with_selector and seen and seen != {namespace}:
        report.error(
            EXPORT,
            where,
            "a destination rule with a workload selector cannot have exportTo beyond its namespace",
        )
    if "*" in seen and len(export_to) > 1:
        report.error(EXPORT, where, "cannot have both public (*) and non-public exportTo values")
    if "~" in seen and len(export_to) > 1:
        report.error(EXPORT, where, "cannot export to no one (~) and someone")
