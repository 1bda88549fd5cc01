"""A proxy's settings come from the mesh, its namespace, its annotation and what selects it."""

from __future__ import annotations

import pytest

from lateen.api.core.pod import Pod
from lateen.api.parse import parse_documents
from lateen.model.snapshot import snapshot_of
from lateen.serve.bootstraps import bootstrap_for
from lateen.serve.proxy_settings import settings_for

MESH = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    trustDomain: mesh.example
    defaultConfig:
      concurrency: 1
      drainDuration: 20s
      terminationDrainDuration: 3s
      proxyMetadata: {A: mesh, B: mesh, C: mesh, D: mesh, LATEEN_APP: forged, LD_PRELOAD: x}
"""


def proxy_config(name: str, namespace: str, concurrency: int, variables: str, selector: str) -> str:
    return f"""---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{concurrency: {concurrency}, environmentVariables: {variables}{selector}}}
"""


ROOT = proxy_config("all", "istio-system", 2, "{B: root, C: root, D: root}", "")
NAMESPACE = proxy_config("here", "default", 3, "{C: here, D: here}", "")
OTHER = proxy_config("there", "other", 8, "{A: there}", "")
SELECTED = proxy_config("web", "default", 5, "{D: web}", ", selector: {matchLabels: {app: web}}")
NOT_SELECTED = proxy_config("db", "default", 9, "{D: db}", ", selector: {matchLabels: {app: db}}")


def pod(annotation: str = "") -> str:
    return f"""---
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {{app: web}}
  annotations: {{proxy.istio.io/config: '{annotation}'}}
spec: {{containers: [{{name: a, image: a}}]}}
"""


def settings(*texts: str) -> dict[str, object]:
    resources = parse_documents("".join(texts)).resources
    found = next(r.object for r in resources if isinstance(r.object, Pod))
    return settings_for(snapshot_of(resources), found)


def test_without_any_nothing_is_said() -> None:
    assert settings(pod()) == {
        "concurrency": None,
        "drainSeconds": None,
        "terminationDrainSeconds": None,
        "holdApplication": None,
        "environment": {},
        "trustDomain": "cluster.local",
    }


@pytest.mark.parametrize(
    ("texts", "concurrency", "environment"),
    [
        ((MESH,), 1, "mesh mesh mesh mesh"),
        ((MESH, ROOT), 2, "mesh root root root"),
        ((MESH, ROOT, NAMESPACE, OTHER), 3, "mesh root here here"),
        ((MESH, ROOT, NAMESPACE, SELECTED, NOT_SELECTED), 5, "mesh root here web"),
    ],
    ids=["mesh", "root namespace", "namespace", "selected"],
)
def test_the_nearest_wins_and_variables_are_merged(
    texts: tuple[str, ...], concurrency: int, environment: str
) -> None:
    found = settings(*texts, pod())
    assert found["concurrency"] == concurrency
    assert found["environment"] == dict(zip("ABCD", environment.split(), strict=True))
    assert found["drainSeconds"] == 20.0
    assert found["terminationDrainSeconds"] == 3.0
    assert found["trustDomain"] == "mesh.example"


def test_an_annotation_is_above_the_namespace_and_below_what_selects_the_pod() -> None:
    annotation = '{"concurrency": 4, "proxyMetadata": {"D": "pod"}}'
    assert settings(MESH, NAMESPACE, pod(annotation))["concurrency"] == 4
    above = settings(MESH, NAMESPACE, SELECTED, pod(annotation))
    assert above["concurrency"] == 5
    hold = '{"holdApplicationUntilProxyStarts": false}'
    assert settings(MESH, pod(hold))["holdApplication"] is False


def test_a_broken_annotation_changes_nothing() -> None:
    assert settings(MESH, pod('{"concurrency": "many"}'))["concurrency"] == 1


def test_the_bootstrap_has_statistics_runtime_values_and_metadata() -> None:
    annotation = (
        '{"proxyStatsMatcher": {"inclusionPrefixes": ["http."], "inclusionSuffixes": ["_cx"], '
        '"inclusionRegexps": [".*special.*"]}, "runtimeValues": {"a.b": "5"}, '
        '"proxyMetadata": {"ISTIO_META_TEAM": "blue", "OTHER": "x"}}'
    )
    resources = parse_documents(pod(annotation)).resources
    found = next(r.object for r in resources if isinstance(r.object, Pod))
    data = bootstrap_for(snapshot_of(resources), found, ("10.244.0.1", 15012))
    text = str(data)
    assert all(part in text for part in ("'http.'", "'_cx'", "'.*special.*'"))
    node, runtime = data["node"], data["layered_runtime"]
    assert isinstance(node, dict)
    assert node["metadata"]["TEAM"] == "blue"
    assert "OTHER" not in node["metadata"]
    assert isinstance(runtime, dict)
    assert {"name": "mesh", "static_layer": {"a.b": "5"}} in runtime["layers"]
