"""Istio's annotations and labels."""

from __future__ import annotations

import time

import pytest

from lateen.api.findings import Finding
from lateen.api.parse import parse_documents
from lateen.api.resource import ObjectKey, ObjectMeta, Resource
from lateen.api.validate import validate, validate_all
from lateen.capture import CaptureError, from_annotations

TRAFFIC = "traffic.sidecar.istio.io/"
WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, OWN}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a, LABELS}, annotations: {TEMPLATE}}
    spec: {containers: [{name: a, image: a}]}
"""


def told(own: str = "", template: str = "", labels: str = "") -> list[Finding]:
    text = WORKLOAD.replace("OWN", own).replace("LABELS", labels).replace("TEMPLATE", template)
    result = parse_documents(text)
    assert not result.findings
    return validate_all(result.resources)


def annotated(name: str, value: str) -> list[Finding]:
    return told(template=f"{name}: '{value}'")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (TRAFFIC + "excludeInboundPorts", "5432;80"),
        (TRAFFIC + "excludeInboundPorts", "80, 443"),
        (TRAFFIC + "excludeInboundPorts", ""),
        (TRAFFIC + "excludeOutboundPorts", "99999, 80"),
        (TRAFFIC + "excludeOutboundPorts", "*"),
        (TRAFFIC + "includeOutboundPorts", "0"),
        (TRAFFIC + "includeInboundPorts", "*"),
        (TRAFFIC + "includeInboundPorts", "*,80"),
        (TRAFFIC + "includeOutboundIPRanges", "10.0.0.0/33"),
        (TRAFFIC + "includeOutboundIPRanges", "10.0.0.1/8,*"),
        (TRAFFIC + "includeOutboundIPRanges", "10.0.0.1/8, 1.2.3.4"),
        (TRAFFIC + "excludeOutboundIPRanges", "*"),
        (TRAFFIC + "excludeOutboundPorts", ",".join(map(str, range(1, 258)))),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
        ("sidecar.istio.io/interceptionMode", "NONE"),
        ("status.sidecar.istio.io/port", "x"),
        ("status.sidecar.istio.io/port", "15020"),
    ],
)
def test_a_value_is_an_error_if_a_pod_would_not_start_with_it(name: str, value: str) -> None:
    try:
        from_annotations({name: value})
        starts = True
    except CaptureError:
        starts = False
    assert [item.rule for item in annotated(name, value)] == ([] if starts else ["LT0018"])


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("sidecar.istio.io/inject", "yes", "false"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "maybe", "true"),
        ("sidecar.istio.io/proxyCPU", "lots", "100m"),
        ("sidecar.istio.io/proxyMemoryLimit", "1 Gi", "1Gi"),
        ("sidecar.istio.io/userVolume", "{", '{"a": {"emptyDir": {}}}'),
        ("readiness.status.sidecar.istio.io/applicationPorts", "x", "80,443"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "1s", "2"),
        ("prometheus.istio.io/merge-metrics", "no", "false"),
    ],
)
def test_a_value_without_effect_is_a_warning(name: str, bad: str, good: str) -> None:
    assert [item.rule for item in annotated(name, bad)] == ["LT0019"]
    assert annotated(name, good) == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        (TRAFFIC + "includeOutbondPorts", TRAFFIC + "includeOutboundPorts"),
        ("trafic.sidecar.istio.io/excludeOutboundPorts", TRAFFIC + "excludeOutboundPorts"),
        ("sidecar.istio.io/proxyCpu", "sidecar.istio.io/proxyCPU"),
        ("inject.istio.io/template", "inject.istio.io/templates"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, near: str) -> None:
    [finding] = annotated(name, "80")
    assert finding.rule == "LT0020"
    assert finding.hint == f'Did you mean "{near}"?'
    assert finding.path == ("spec", "template", "metadata", "annotations", name)
    [own] = told(own=f"annotations: {{{name}: '80'}}")
    assert own.rule == "LT0020"


def test_settings_of_pods_on_the_workload_itself_are_told() -> None:
    found = told(
        own=f"annotations: {{{TRAFFIC}excludeOutboundPorts: '5432', example.com/a: b}}, "
        "labels: {sidecar.istio.io/inject: 'false', istio.io/rev: x}"
    )
    assert [(item.rule, item.path[1:]) for item in found] == [
        ("LT0021", ("annotations", TRAFFIC + "excludeOutboundPorts")),
        ("LT0021", ("labels", "sidecar.istio.io/inject")),
    ]
    assert found[0].hint == "Move it to spec.template.metadata."


def test_an_annotation_among_the_labels_is_told() -> None:
    found = told(labels="sidecar.istio.io/logLevel: debug, sidecar.istio.io/inject: 'true'")
    assert [item.rule for item in found] == ["LT0021"]


def test_names_of_others_and_of_tools_are_no_matter_of_ours() -> None:
    own = (
        "annotations: {example.com/sidecar: a, galley.istio.io/analyze-suppress: '*', "
        "install.operator.istio.io/owning-resource: x, notistio.io/a: b}"
    )
    assert told(own=own) == []


def test_many_unknown_names_take_no_time() -> None:
    pod = parse_documents(
        WORKLOAD.replace(", OWN", "").replace(", LABELS", "").replace("{TEMPLATE}", "{}")
    )
    annotations = {f"sidecar.istio.io/{'a' * 40}{index}": "x" for index in range(4000)}
    base = pod.resources[0].object
    meta = ObjectMeta(name="a", namespace="default", annotations=annotations)
    made = type(base)(**{**{f: getattr(base, f) for f in base.__struct_fields__}, "metadata": meta})
    started = time.perf_counter()
    found = validate(Resource(ObjectKey("apps", "Deployment", "default", "a"), made))
    assert time.perf_counter() - started < 2
    assert sum(item.rule == "LT0020" for item in found) == 10
