"""Each case as YAML, and all of them in the real Envoy."""

from __future__ import annotations

from pathlib import Path

import pytest

from lateen.envoy import bootstrap, build, decode, loading
from lateen.ir.route import (
    Forward,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from tests.envoy.cases import CASES

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", CASES)
def test_case_is_as_recorded(name: str, update: bool) -> None:
    text = decode.to_yaml([build.resource(CASES[name])])
    file = GOLDEN / f"{name}.yaml"
    if update:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text


def test_no_recording_is_left_over() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(CASES)


@pytest.mark.envoy
def test_envoy_loads_every_case() -> None:
    assert loading.check(build.resource(case) for case in CASES.values()) == []


@pytest.mark.envoy
def test_what_envoy_refuses_is_named() -> None:
    bad = Route("bad", RouteMatch(), Forward((WeightedCluster("a"),), prefix_rewrite="a\nb"))
    refused = RouteConfiguration("refused", (VirtualHost("v", ("*",), (bad,)),))
    resources = [build.resource(refused), build.resource(CASES["cluster-eds-auto-mtls"])]
    (error,) = loading.check(resources)
    assert error.startswith("route configuration refused: ")
    assert "PrefixRewrite" in error


@pytest.mark.envoy
@pytest.mark.parametrize("gateway", [False, True])
@pytest.mark.parametrize("host", ["10.244.0.1", "istiod.istio-system.svc"])
def test_envoy_loads_the_bootstrap(gateway: bool, host: str) -> None:
    config = bootstrap.BootstrapConfig(
        node_id="sidecar~10.0.0.1~a.b~b.svc.cluster.local",
        node_cluster="a.b",
        control_plane_host=host,
        control_plane_port=15012,
        control_plane_identity="spiffe://cluster.local/ns/istio-system/sa/istiod",
        metadata={"NAME": "a", "NAMESPACE": "b", "LABELS": {"app": "a"}},
        gateway=gateway,
        mark=True,
        histogram_buckets={"istio_request_bytes": (64.0, 1024.0)},
    )
    assert loading.check_bootstrap(bootstrap.bootstrap(config)) == []
