"""Settings of the mesh and of proxies: each is read, or its author is told that it is not."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import lateen
from lateen.api.locate import with_positions
from lateen.api.meshconfig import MeshConfig, ProxyConfig
from lateen.api.parse import parse_documents
from lateen.model.snapshot import snapshot_of
from lateen.translate.mesh_settings import FIELDS, MESH_WIDE
from lateen.translate.unused_kinds import effect_findings, snapshot_findings

MESH = """apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    # The line above is what happens anyway.
    access_log_format: '[%START_TIME%]'
    defaultConfig:
      concurrency: 2
      discoveryAddress: istiod.other:15012
      proxyMetadata: {LATEEN_APP: other, A: b}
      proxyHeaders: {server: {value: x}, requestId: {disabled: true}}
    caCertificates:
    - {trustDomains: [other], pem: x}
"""
POD = """apiVersion: v1
kind: Pod
metadata:
  name: a
  annotations:
    proxy.istio.io/config: '{"statusPort": 1, "gatewayTopology": {"numTrustedProxies": 1}}'
spec: {containers: [{name: a, image: a}]}
"""
DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata:
      labels: {app: a}
      annotations:
        proxy.istio.io/config: |

          holdApplicationUntilProxyStarts: true
          tracing:
            sampling: 10
    spec: {containers: [{name: a, image: a}]}
"""
PROXY_CONFIG = """apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: a}
spec:
  concurrency: 0
  image: {imageType: distroless}
  environmentVariables: {LD_PRELOAD: x, OTHER: z}
"""


def said(text: str) -> list[str]:
    """``LINE:COLUMN SETTING`` of what is said about the one object of a text."""
    (resource,) = parse_documents(text, "mesh.yaml").resources
    found = with_positions(effect_findings(resource), {"mesh.yaml": text}.get)
    assert all(finding.hint and finding.rule == "LT2006" for finding in found)
    return [f"{finding.line}:{finding.column} {finding.path[-1]}" for finding in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            MESH,
            [
                "8:5 accessLogFormat",
                "11:7 discoveryAddress",
                "13:42 requestId",
                "15:31 pem",
                "12:23 LATEEN_APP",
            ],
        ),
        (POD, ["6:47 gatewayTopology", "6:30 statusPort"]),
        (DEPLOYMENT, ["13:11 tracing"]),
        (PROXY_CONFIG, ["6:11 imageType", "7:26 LD_PRELOAD"]),
    ],
    ids=["MeshConfig", "pod", "deployment", "ProxyConfig"],
)
def test_settings_without_effect_are_said_where_they_stand(text: str, expected: list[str]) -> None:
    assert sorted(said(text)) == sorted(expected)


def test_status_says_it_once_for_a_workload_and_its_pods() -> None:
    (deployment,) = parse_documents(DEPLOYMENT).resources
    owned = POD.replace(
        "  annotations:",
        "  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a, uid: u}]\n"
        "  annotations:",
    )
    (pod,) = parse_documents(owned).resources
    snapshot = snapshot_of([deployment, pod])
    assert [finding.path[-1] for finding in snapshot_findings(snapshot)] == ["tracing"]


@pytest.mark.parametrize("message", FIELDS, ids=lambda message: message.__name__)
def test_every_setting_is_listed(message: type[msgspec.Struct]) -> None:
    known = FIELDS[message]
    fields = {field.name for field in msgspec.structs.fields(message)}
    assert known.effective | set(known.without) == fields
    assert not known.effective & set(known.without)


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (MeshConfig, r"\bmesh\.(\w+)"),
        (ProxyConfig, r"\b(?:default_config|settings|base)\.(\w+)|getattr\(settings, \"(\w+)"),
    ],
    ids=["MeshConfig", "ProxyConfig"],
)
def test_what_is_listed_as_effective_is_what_the_sources_read(
    message: type[msgspec.Struct], names: str
) -> None:
    root = Path(lateen.__file__).parent
    read: set[str] = set()
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] in ("model", "translate", "serve"):
            for match in re.finditer(names, path.read_text(encoding="utf-8")):
                read.update(filter(None, match.groups()))
    read &= {field.name for field in msgspec.structs.fields(message)}
    # `mesh.mesh_mtls` and the like are reads, `settings.image` is only carried along.
    assert FIELDS[message].effective == read - {"image"}
    assert FIELDS[ProxyConfig].effective >= set(MESH_WIDE)
