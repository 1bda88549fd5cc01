"""What is wrong with a policy or pool of Gateway API by itself."""

from __future__ import annotations

from lateen.api.base import duration_nanoseconds
from lateen.api.findings import FieldPath
from lateen.api.gatewayapi import rules
from lateen.api.gatewayapi.filter_validation import check_session
from lateen.api.gatewayapi.multicluster import InferencePool
from lateen.api.gatewayapi.policies import (
    BackendTLSPolicy,
    RetryConstraint,
    SubjectAltName,
    XBackendTrafficPolicy,
)
from lateen.api.report import Report

_SECOND = 1_000_000_000
_HOUR = 3600 * _SECOND


def validate_backend_tls_policy(policy: BackendTLSPolicy, report: Report) -> None:
    """Check targets, trust anchors and names."""
    spec = policy.spec
    _check_targets(policy, report)
    path = ("spec", "validation")
    refs = bool(spec.validation.ca_certificate_refs)
    system = bool(spec.validation.well_known_ca_certificates)
    if refs and system:
        report.error(
            rules.TRUST_ANCHORS,
            path,
            "must not contain both caCertificateRefs and wellKnownCACertificates",
        )
    elif not refs and not system:
        report.error(
            rules.TRUST_ANCHORS,
            path,
            "must specify either caCertificateRefs or wellKnownCACertificates",
            "For public certificates: wellKnownCACertificates: System.",
        )
    for index, name in enumerate(spec.validation.subject_alt_names):
        _check_name(name, (*path, "subjectAltNames", index), report)


def _check_targets(policy: BackendTLSPolicy, report: Report) -> None:
    first: dict[tuple[str, str, str], bool] = {}
    seen: set[tuple[str, str, str, str | None]] = set()
    for index, target in enumerate(policy.spec.target_refs):
        path = ("spec", "targetRefs", index)
        key = (target.group, target.kind, target.name)
        part = (*key, target.section_name)
        named = target.section_name is not None
        if part in seen:
            report.error(
                rules.TARGET_REPEATED,
                path,
                f"{target.kind} {target.name} is targeted twice: sectionName must be unique",
            )
        elif first.setdefault(key, named) != named:
            # Older CRDs refuse this; a reference with a section wins over the one without.
            report.warn(
                rules.TARGET_REPEATED,
                path,
                f"{target.kind} {target.name} is targeted with and without sectionName",
                "Name a section in each reference to the same target.",
            )
        seen.add(part)


def _check_name(name: SubjectAltName, path: FieldPath, report: Report) -> None:
    for field, kind, value in (("hostname", "Hostname", name.hostname), ("uri", "URI", name.uri)):
        if name.type == kind and value is None:
            report.error(
                rules.SUBJECT_ALT_NAME,
                (*path, field),
                f"subjectAltName must contain {field} if its type is {kind}",
            )
        elif name.type != kind and value is not None:
            report.error(
                rules.SUBJECT_ALT_NAME,
                (*path, field),
                f"subjectAltName must not contain {field} if its type is {name.type}",
            )


def validate_backend_traffic_policy(policy: XBackendTrafficPolicy, report: Report) -> None:
    """Check targets, retry limits and session persistence."""
    spec = policy.spec
    seen: set[tuple[str, str, str]] = set()
    for index, target in enumerate(spec.target_refs):
        key = (target.group, target.kind, target.name)
        if key in seen:
            report.error(
                rules.TARGET_REPEATED,
                ("spec", "targetRefs", index),
                f"{target.kind} {target.name} is targeted twice",
            )
        seen.add(key)
    if spec.retry_constraint is not None:
        _check_retry_constraint(spec.retry_constraint, ("spec", "retryConstraint"), report)
    check_session(spec.session_persistence, ("spec", "sessionPersistence"), report)


def _check_retry_constraint(limits: RetryConstraint, path: FieldPath, report: Report) -> None:
    budget = duration_nanoseconds(limits.budget.interval)
    if not _SECOND <= budget <= _HOUR:
        report.error(
            rules.BAD_RATE,
            (*path, "budget", "interval"),
            "interval can not be greater than one hour or less than one second",
        )
    interval = limits.min_retry_rate.interval
    if interval is not None and not 0 < duration_nanoseconds(interval) <= _HOUR:
        report.error(
            rules.BAD_RATE,
            (*path, "minRetryRate", "interval"),
            "interval must be above zero and can not be greater than one hour",
        )


def validate_inference_pool(pool: InferencePool, report: Report) -> None:
    """Check that ports and endpoint picker are given, in the form of the version."""
    spec = pool.spec
    old = pool.api_version.endswith("/v1alpha2")
    if not spec.pod_labels:
        report.error(rules.POOL_INCOMPLETE, ("spec", "selector"), "the pool selects no pods")
    if not spec.target_ports and spec.target_port_number is None:
        field = "targetPortNumber" if old else "targetPorts"
        report.error(rules.POOL_INCOMPLETE, ("spec", field), f"{field} must be set")
    picker, field = (
        (spec.extension_ref, "extensionRef")
        if old
        else (spec.endpoint_picker_ref, "endpointPickerRef")
    )
    if picker is None:
        report.error(rules.POOL_INCOMPLETE, ("spec", field), f"{field} must be set")
    elif not old and picker.kind == "Service" and picker.port is None:
        report.error(
            rules.BACKEND_PORT,
            ("spec", field, "port"),
            "port is required when the endpoint picker is a Service",
        )
    seen: set[int] = set()
    for index, port in enumerate(spec.target_ports):
        if port.number in seen:
            report.error(
                rules.REPEATED_NAME,
                ("spec", "targetPorts", index, "number"),
                f"port {port.number} must be unique here",
            )
        seen.add(port.number)
