"""Istio's annotations and labels: unknown names, bad values, and places where they do nothing.

Source: Istio's reference of resource annotations and labels.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Mapping

from lateen.api.findings import FieldPath, Severity
from lateen.api.report import Report
from lateen.api.rule import Rule

BAD_VALUE = Rule(
    "LT0018",
    "Bad value of an annotation",
    "A pod with such a value does not start.",
)
ODD_VALUE = Rule(
    "LT0019",
    "Value of an annotation without effect",
    "The value does not have the form that the annotation needs, so that it changes nothing.",
    Severity.WARNING,
)
UNKNOWN_NAME = Rule(
    "LT0020",
    "Unknown annotation or label of Istio",
    "The name is in a domain of Istio's, but Istio has none such; often a misspelling.",
    Severity.WARNING,
)
MISPLACED = Rule(
    "LT0021",
    "Annotation or label where it does nothing",
    "Settings of the sidecar belong to the metadata of the pod, or of the pod template.",
    Severity.WARNING,
)
RULES = (BAD_VALUE, ODD_VALUE, UNKNOWN_NAME, MISPLACED)

_MOST_ENTRIES = 256
_LONGEST = 100
"""Characters of a name that is compared with the known ones."""
_MOST_UNKNOWN = 10
"""Unknown names of one object that are told: looking for a near name takes time."""
_QUANTITY = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")

Check = Callable[[str], str]
"""Why a value is refused, or an empty string."""


def _ports(*, wildcard: bool) -> Check:
    def check(text: str) -> str:
        ports = _items(text)
        if len(ports) > _MOST_ENTRIES:
            return f"has {len(ports)} entries; at most {_MOST_ENTRIES}"
        allowed = "port numbers (1 to 65535)" + (' or "*" alone' if wildcard else "")
        for port in ports:
            if not _is_port(port) and not (wildcard and ports == ["*"]):
                return f'"{_cut(port)}" is not one of {allowed}'
        return ""

    return check


def _ranges(*, wildcard: bool) -> Check:
    def check(text: str) -> str:
        ranges = _items(text)
        if len(ranges) > _MOST_ENTRIES:
            return f"has {len(ranges)} entries; at most {_MOST_ENTRIES}"
        allowed = "an address range such as 10.0.0.0/8" + (' or "*" alone' if wildcard else "")
        for item in ranges:
            if wildcard and ranges == ["*"]:
                continue
            try:
                ipaddress.ip_network(item, strict=False)
            except ValueError:
                return f'"{_cut(item)}" is not {allowed}'
        return ""

    return check


def _items(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) < 65536


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _port(text: str) -> str:
    return "" if _is_port(text) else f'"{_cut(text)}" is not a port number (1 to 65535)'


def _mode(text: str) -> str:
    if text in ("REDIRECT", "NONE"):
        return ""
    return f'interception mode "{_cut(text)}" is not supported; use REDIRECT or NONE'


def _boolean(text: str) -> str:
    return "" if text in ("true", "false") else f'"{_cut(text)}" is neither "true" nor "false"'


def _number(text: str) -> str:
    good = text.isascii() and text.isdigit() and len(text) < 11
    return "" if good else f'"{_cut(text)}" is not a whole number'


def _quantity(text: str) -> str:
    good = len(text) < 40 and _QUANTITY.fullmatch(text) is not None
    return "" if good else f'"{_cut(text)}" is not a quantity such as 100m or 128Mi'


def _json(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return f'"{_cut(text)}" is not JSON'
    return ""


_SIDECAR = "sidecar.istio.io/"
_TRAFFIC = "traffic.sidecar.istio.io/"
_READINESS = "readiness.status.sidecar.istio.io/"

_REFUSED: Mapping[str, Check] = {
    _TRAFFIC + "includeInboundPorts": _ports(wildcard=True),
    _TRAFFIC + "excludeInboundPorts": _ports(wildcard=False),
    _TRAFFIC + "includeOutboundPorts": _ports(wildcard=False),
    _TRAFFIC + "excludeOutboundPorts": _ports(wildcard=False),
    _TRAFFIC + "includeOutboundIPRanges": _ranges(wildcard=True),
    _TRAFFIC + "excludeOutboundIPRanges": _ranges(wildcard=False),
    _SIDECAR + "interceptionMode": _mode,
    "status.sidecar.istio.io/port": _port,
}
"""Annotations of a pod, and the values with which it would not start (`lateen.capture`)."""
_IGNORED: Mapping[str, Check] = {
    _SIDECAR + "inject": _boolean,
    _SIDECAR + "nativeSidecar": _boolean,
    _SIDECAR + "enableCoreDump": _boolean,
    _SIDECAR + "rewriteAppHTTPProbers": _boolean,
    _SIDECAR + "proxyCPU": _quantity,
    _SIDECAR + "proxyCPULimit": _quantity,
    _SIDECAR + "proxyMemory": _quantity,
    _SIDECAR + "proxyMemoryLimit": _quantity,
    _SIDECAR + "userVolume": _json,
    _SIDECAR + "userVolumeMount": _json,
    _SIDECAR + "statsHistogramBuckets": _json,
    _READINESS + "initialDelaySeconds": _number,
    _READINESS + "periodSeconds": _number,
    _READINESS + "failureThreshold": _number,
    _READINESS + "applicationPorts": _ports(wildcard=False),
    "prometheus.istio.io/merge-metrics": _boolean,
}
"""The same with values that change nothing."""
_OF_PODS = frozenset(
    (
        *_REFUSED,
        *_IGNORED,
        *(
            _SIDECAR + name
            for name in [
                "agentLogLevel",
                "bootstrapOverride",
                "componentLogLevel",
                "controlPlaneAuthPolicy",
                "discoveryAddress",
                "extraStatTags",
                "logLevel",
                "proxyImage",
                "proxyImageType",
                "statsCompression",
                "statsInclusionPrefixes",
                "statsInclusionRegexps",
                "statsInclusionSuffixes",
                "status",
            ]
        ),
        _TRAFFIC + "excludeInterfaces",
        _TRAFFIC + "kubevirtInterfaces",
        "inject.istio.io/templates",
        "istio.io/reroute-virtual-interfaces",
        "proxy.istio.io/config",
        "proxy.istio.io/overrides",
    )
)
"""Annotations (and the label ``sidecar.istio.io/inject``) that only pods are read for."""
_OTHERS = frozenset(
    [
        "alpha.istio.io/canonical-serviceaccounts",
        "alpha.istio.io/identity",
        "alpha.istio.io/kubernetes-serviceaccounts",
        "ambient.istio.io/bypass-inbound-capture",
        "ambient.istio.io/dns-capture",
        "ambient.istio.io/redirection",
        "ambient.istio.io/waypoint-inbound-binding",
        "experimental.istio.io/disable-gateway-port-translation",
        "gateway.istio.io/controller-version",
        "gateway.istio.io/managed",
        "gateway.istio.io/name-override",
        "gateway.istio.io/service-account",
        "istio.io/autoRegistrationGroup",
        "istio.io/connect-strategy",
        "istio.io/connectedAt",
        "istio.io/dataplane-mode",
        "istio.io/disconnectedAt",
        "istio.io/dry-run",
        "istio.io/gateway-name",
        "istio.io/global",
        "istio.io/ignore-policy-attachment",
        "istio.io/ingress-use-waypoint",
        "istio.io/persistent-session",
        "istio.io/persistent-session-header",
        "istio.io/rev",
        "istio.io/tag",
        "istio.io/use-waypoint",
        "istio.io/use-waypoint-namespace",
        "istio.io/waypoint-for",
        "istio.io/ca-root",
        "istio.io/config",
        "istio.io/draining",
        "istio.io/use-waypoint-canary",
        "prometheus.istio.io/scrape-targets",
        "gateway.istio.io/defaults-for-class",
        "gateway.istio.io/listener-protocol",
        "gateway.istio.io/tls-terminate-mode",
        "gateway.istio.io/tls-cipher-suites",
        "ambient.istio.io/xfcc-include-client-identity",
        "networking.istio.io/cluster",
        "traffic.istio.io/nodeSelector",
        "envoyfilter.istio.io/referenced-services",
        "cni.istio.io/uninitialized",
        "cni.istio.io/not-ready",
        "istio.io/workloadController",
        "networking.istio.io/address-type",
        "networking.istio.io/enable-autoallocate-ip",
        "networking.istio.io/exportTo",
        "networking.istio.io/gatewayPort",
        "networking.istio.io/service-type",
        "networking.istio.io/traffic-distribution",
        "networking.istio.io/tunnel",
        "proxy.istio.io/health-checks-enabled",
        "security.istio.io/tlsMode",
        "service.istio.io/canonical-name",
        "service.istio.io/canonical-revision",
        "service.istio.io/workload-name",
        "topology.istio.io/cluster",
        "topology.istio.io/controlPlaneClusters",
        "topology.istio.io/locality",
        "topology.istio.io/network",
        "topology.istio.io/subzone",
    ]
)
_KNOWN = _OF_PODS | _OTHERS
_FREE_DOMAINS = ("operator.istio.io", "internal.istio.io", "galley.istio.io", "policy.istio.io")
"""Domains of Istio's own tools, whose names are not in the reference."""
_OWN_METADATA = frozenset(
    [
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
        "Service",
        "Namespace",
    ]
)
"""Kinds whose own metadata no sidecar is configured by."""


def check_pod_metadata(
    annotations: Mapping[str, str], labels: Mapping[str, str], path: FieldPath, report: Report
) -> None:
    """Names and values in the metadata of a pod or a pod template at ``path``."""
    for name, value in annotations.items():
        here = (*path, "annotations", name)
        _known(name, here, report)
        for rule, checks in ((BAD_VALUE, _REFUSED), (ODD_VALUE, _IGNORED)):
            check = checks.get(name)
            problem = check(value) if check is not None else ""
            if problem:
                message = f"annotation {name}: {problem}"
                (report.error if rule is BAD_VALUE else report.warn)(rule, here, message)
    inject = labels.get(_SIDECAR + "inject", "true")
    if _boolean(inject):
        here = (*path, "labels", _SIDECAR + "inject")
        report.warn(ODD_VALUE, here, f"label {_SIDECAR}inject: {_boolean(inject)}")
    for name in labels:
        if name in _OF_PODS and name != _SIDECAR + "inject":
            message = f"{name} is an annotation, and has no effect as a label"
            report.warn(MISPLACED, (*path, "labels", name), message, "Move it to annotations.")
        else:
            _known(name, (*path, "labels", name), report)


def check_own_metadata(
    kind: str, annotations: Mapping[str, str], labels: Mapping[str, str], report: Report
) -> None:
    """The metadata of an object that is no pod."""
    for field, names in (("annotations", annotations), ("labels", labels)):
        for name in names:
            here = ("metadata", field, name)
            if name in _OF_PODS and kind in _OWN_METADATA:
                message = f"{name} has no effect on a {kind}: it is read from pods"
                report.warn(MISPLACED, here, message, _PLACE.get(kind, _TEMPLATE))
            else:
                _known(name, here, report)


_TEMPLATE = "Move it to spec.template.metadata."
_PLACE = {
    "CronJob": "Move it to spec.jobTemplate.spec.template.metadata.",
    "Service": "Put it on the pods, or on the template of their workload.",
    "Namespace": "Put it on the pods; the label istio-injection: enabled is for a namespace.",
}


def _known(name: str, path: FieldPath, report: Report) -> None:
    domain, slash, _ = name.partition("/")
    if not slash or not (domain == "istio.io" or domain.endswith(".istio.io")):
        return
    if name in _KNOWN or domain.endswith(_FREE_DOMAINS):
        return
    if sum(finding.rule == UNKNOWN_NAME.id for finding in report.findings) >= _MOST_UNKNOWN:
        return
    near = difflib.get_close_matches(name[:_LONGEST], sorted(_KNOWN), n=1, cutoff=0.8)
    hint = f'Did you mean "{near[0]}"?' if near else "It has no effect; remove it."
    report.warn(UNKNOWN_NAME, path, f'Istio has no annotation or label "{_cut(name)}"', hint)
