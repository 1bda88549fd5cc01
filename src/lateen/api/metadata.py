"""Checks of ``metadata`` that hold for every kind."""

from __future__ import annotations

import re

from lateen.api.annotations import check_own_metadata, check_pod_metadata
from lateen.api.reading import BAD_NAME
from lateen.api.report import Report
from lateen.api.resource import Resource

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)
_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")
_LABEL_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_PATH_NAMED = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
_LABEL_NAMED = {"Namespace", "Service"}
_MAX_ANNOTATIONS = 256 * 1024
_DRY_RUN = "istio.io/dry-run"
_ALWAYS_REJECT = "internal.istio.io/webhook-always-reject"
_INTERNAL = ("internal.istio.io/parents", "internal.istio.io/parent-namespace")


def label_key_problem(key: str) -> str:
    """Why ``key`` is no label or annotation key, or an empty string."""
    prefix, slash, name = key.rpartition("/")
    if slash and not DNS_SUBDOMAIN.fullmatch(prefix):
        return f'the prefix of "{key}" must be a lower-case DNS name'
    if not _LABEL_NAME.fullmatch(name):
        return f'"{key}" must be letters, digits, "-", "_" or "." (at most 63), optionally PREFIX/'
    return ""


def label_value_problem(value: str) -> str:
    """Why ``value`` is no label value, or an empty string."""
    if _LABEL_VALUE.fullmatch(value):
        return ""
    return f'label value "{value}" must be at most 63 letters, digits, "-", "_" or "."'


def validate_metadata(resource: Resource, report: Report) -> None:
    """Check name, labels and annotations by the rules of Kubernetes."""
    meta = resource.metadata
    kind = resource.key.kind
    path = ("metadata", "name")
    if meta.name:
        if kind in _PATH_NAMED:
            if not _PATH_SEGMENT.fullmatch(meta.name):
                report.error(BAD_NAME, path, f'name "{meta.name}" may not contain "/" or "%"')
        elif kind in _LABEL_NAMED:
            if not DNS_LABEL.fullmatch(meta.name):
                report.error(
                    BAD_NAME,
                    path,
                    f'name "{meta.name}" is not a DNS label',
                    'Use lower-case letters, digits and "-", at most 63 characters.',
                )
        elif not DNS_SUBDOMAIN.fullmatch(meta.name):
            report.error(
                BAD_NAME,
                path,
                f'name "{meta.name}" is not a lower-case DNS name',
                'Use lower-case letters, digits, "-" and ".", at most 253 characters.',
            )
    if meta.namespace and not DNS_LABEL.fullmatch(meta.namespace):
        report.error(
            BAD_NAME, ("metadata", "namespace"), f'namespace "{meta.namespace}" is not a DNS label'
        )
    for key, value in meta.labels.items():
        problem = label_key_problem(key) or label_value_problem(value)
        if problem:
            report.error(BAD_NAME, ("metadata", "labels", key), problem)
    for key in meta.annotations:
        problem = label_key_problem(key.lower())
        if problem:
            report.error(BAD_NAME, ("metadata", "annotations", key), problem)
    if kind == "Pod":
        check_pod_metadata(meta.annotations, meta.labels, ("metadata",), report)
    else:
        check_own_metadata(kind, meta.annotations, meta.labels, report)
    if resource.key.group.endswith(".istio.io"):
        _istio_annotations(resource, report)
    if sum(len(key) + len(value) for key, value in meta.annotations.items()) > _MAX_ANNOTATIONS:
        report.error(BAD_NAME, ("metadata", "annotations"), "annotations exceed 256 KiB in total")


def _istio_annotations(resource: Resource, report: Report) -> None:
    annotations = resource.metadata.annotations
    if _DRY_RUN in annotations and resource.key.kind != "AuthorizationPolicy":
        report.error(
            BAD_NAME,
            ("metadata", "annotations", _DRY_RUN),
            f"{resource.key} has unsupported annotation {_DRY_RUN}",
            "Only an AuthorizationPolicy can be tried without effect; remove the annotation.",
        )
    if _ALWAYS_REJECT in annotations:
        report.error(
            BAD_NAME,
            ("metadata", "annotations", _ALWAYS_REJECT),
            f'"{_ALWAYS_REJECT}" annotation found, rejecting',
        )
    for name in _INTERNAL:
        if name in annotations:
            report.error(
                BAD_NAME,
                ("metadata", "annotations", name),
                f'"{name}" annotation found, this may not be set by users',
                "It is for objects that the control plane makes; remove it.",
            )
