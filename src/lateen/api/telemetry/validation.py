"""What is wrong with a Telemetry by itself."""

from __future__ import annotations

from collections.abc import Sequence

from lateen.api.base import duration_nanoseconds
from lateen.api.findings import FieldPath
from lateen.api.report import Report
from lateen.api.security.attachment import validate_attachment
from lateen.api.telemetry import rules
from lateen.api.telemetry.expression import expression_problem
from lateen.api.telemetry.telemetry import (
    AccessLogging,
    CustomTag,
    Metrics,
    MetricsOverrides,
    Telemetry,
    Tracing,
)

_MILLISECOND = 1_000_000


def validate_telemetry(policy: Telemetry, report: Report) -> None:
    """Check attachment, metrics, tracing and access logging."""
    spec = policy.spec
    validate_attachment(spec, report)
    for index, metrics in enumerate(spec.metrics):
        _check_metrics(metrics, ("spec", "metrics", index), report)
    _check_tracing(spec.tracing, ("spec", "tracing"), report)
    for index, logging in enumerate(spec.access_logging):
        _check_logging(logging, ("spec", "accessLogging", index), report)


def _check_metrics(metrics: Metrics, path: FieldPath, report: Report) -> None:
    if metrics.reporting_interval is not None:
        where = (*path, "reportingInterval")
        try:
            nanoseconds = duration_nanoseconds(metrics.reporting_interval)
        except ValueError as error:
            report.error(rules.BAD_INTERVAL, where, str(error))
        else:
            if nanoseconds < _MILLISECOND:
                report.error(
                    rules.BAD_INTERVAL,
                    where,
                    f"{metrics.reporting_interval}: must be a valid duration greater than 1ms",
                )
    for index, override in enumerate(metrics.overrides):
        _check_override(override, (*path, "overrides", index), report)


def _check_override(override: MetricsOverrides, path: FieldPath, report: Report) -> None:
    match = override.match
    if match is not None and match.metric is not None and match.custom_metric is not None:
        report.error(
            rules.TWO_METRICS, (*path, "match"), "metric and customMetric are both set, use one"
        )
    for name, tag in override.tag_overrides.items():
        where = (*path, "tagOverrides", name)
        if not name:
            report.warn(rules.UNNAMED_TAG, where, "tagOverrides has an entry without a name")
        if tag.operation == "UPSERT" and not tag.value:
            report.error(
                rules.BAD_TAG_OVERRIDE,
                where,
                f'value must be set when operation is UPSERT, for tag "{name}"',
                "Give a CEL expression such as request.host, or operation: REMOVE.",
            )
        elif tag.operation == "REMOVE" and tag.value:
            report.error(
                rules.BAD_TAG_OVERRIDE,
                where,
                f'value must not be set when operation is REMOVE, for tag "{name}"',
            )
        elif tag.value and (problem := expression_problem(tag.value)):
            report.warn(
                rules.BAD_EXPRESSION,
                (*where, "value"),
                f"not a CEL expression, so the label will be unknown: {problem}",
                "A fixed text needs quotes of its own: value: \"'text'\".",
            )


def _check_tracing(tracing: Sequence[Tracing], path: FieldPath, report: Report) -> None:
    if len(tracing) > 1:
        report.warn(
            rules.FIRST_ONLY,
            (*path, 1),
            "multiple tracing entries: they are merged per side of the traffic, the last wins",
            "Write one entry, or one with match.mode CLIENT and one with SERVER.",
        )
    for index, entry in enumerate(tracing):
        where = (*path, index)
        if len(entry.providers) > 1:
            report.warn(
                rules.FIRST_ONLY,
                (*where, "providers", 1),
                "multiple providers: only the first one gets spans",
            )
        for name, tag in entry.custom_tags.items():
            _check_tag(name, tag, (*where, "customTags", name), report)


def _check_tag(name: str, tag: CustomTag, path: FieldPath, report: Report) -> None:
    if not name:
        report.error(rules.BAD_TAG, path, "a tag's name may not be empty")
    given = [field for field in tag.__struct_fields__ if getattr(tag, field) is not None]
    if len(given) > 1:
        report.error(
            rules.BAD_TAG, path, f'tag "{name}" has {" and ".join(given)}, only one may be set'
        )


def _check_logging(logging: AccessLogging, path: FieldPath, report: Report) -> None:
    if logging.filter is None:
        return
    problem = expression_problem(logging.filter.expression)
    if problem:
        report.error(
            rules.BAD_EXPRESSION,
            (*path, "filter", "expression"),
            f"not a CEL expression: {problem}",
            "For instance: response.code >= 400 || connection.mtls.",
        )
