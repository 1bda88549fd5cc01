"""The mesh configuration, as people write it."""

from __future__ import annotations

import pytest

from lateen.api.findings import Finding, Severity
from lateen.api.meshconfig import (
    MeshConfig,
    mesh_config_of,
    parse_mesh_config,
    parse_mesh_networks,
    parse_proxy_config,
)
from lateen.api.parse import parse_documents


def messages(findings: list[Finding]) -> list[str]:
    return [f"{finding.severity} {'.'.join(map(str, finding.path))}" for finding in findings]


def test_an_empty_text_is_the_defaults() -> None:
    mesh, findings = parse_mesh_config("")
    assert mesh == MeshConfig()
    assert not findings
    assert mesh.connect_timeout == "10s"
    assert mesh.enable_auto_mtls
    assert mesh.outbound_traffic_policy.mode == "ALLOW_ANY"
    assert mesh.default_config.status_port == 15020


def test_what_is_given_replaces_only_itself() -> None:
    mesh, findings = parse_mesh_config(
        """
        accessLogFile: /dev/stdout
        defaultConfig: {concurrency: 4}
        localityLbSetting: {failover: [{from: a, to: b}]}
        meshMTLS: {minProtocolVersion: TLSV1_3}
        """
    )
    assert not findings
    assert mesh.access_log_file == "/dev/stdout"
    assert mesh.default_config.concurrency == 4
    assert mesh.default_config.status_port == 15020
    assert mesh.locality_load_balancing
    assert mesh.mesh_mtls is not None
    assert mesh.mesh_mtls.min_protocol_version == "TLSV1_3"


def test_protobuf_spellings_are_read() -> None:
    mesh, findings = parse_mesh_config(
        """
        outbound_traffic_policy: {mode: 0}
        extension_providers:
        - name: authorizer
          envoy_ext_authz_grpc: {service: ext.ns.svc.cluster.local, port: "9000"}
        defaultConfig:
          tracing: {custom_tags: {a: {literal: {value: x}}}}
          controlPlaneAuthPolicy: 1
        """
    )
    assert not findings
    assert mesh.outbound_traffic_policy.mode == "REGISTRY_ONLY"
    assert mesh.default_config.control_plane_auth_policy == "MUTUAL_TLS"
    provider = mesh.provider("authorizer")
    assert provider is not None
    assert provider.envoy_ext_authz_grpc is not None
    assert provider.envoy_ext_authz_grpc.port == 9000


def test_providers_are_found_in_any_case_and_some_are_built_in() -> None:
    mesh = MeshConfig()
    assert mesh.provider("Prometheus") is not None
    assert mesh.provider("envoy") is not None
    assert mesh.provider("other") is None


def test_an_unknown_setting_is_a_warning_with_a_guess() -> None:
    mesh, findings = parse_mesh_config("accesLogFile: x\nrootNamespace: mesh\n")
    assert messages(findings) == ["warning accesLogFile"]
    assert findings[0].hint == 'Did you mean "accessLogFile"?'
    assert mesh.root_namespace == "mesh"


def test_an_error_leaves_the_defaults() -> None:
    text = "rootNamespace: mesh\nconnectTimeout: 0s\ntrustDomain: a b\nproxyListenPort: 0\n"
    mesh, findings = parse_mesh_config(text)
    assert messages(findings) == [
        "error proxyListenPort",
        "error connectTimeout",
        "error trustDomain",
    ]
    assert mesh == MeshConfig()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("connectTimeout: 1h", ""),
        ("connectTimeout: 1h1s", "connectTimeout"),
        ("defaultConfig: {drainDuration: 2h}", ""),
        ("defaultConfig: {drainDuration: 1500ms}", "defaultConfig.drainDuration"),
        ("localityLbSetting: {distribute: [{from: a/b, to: {c: 100}}]}", ""),
        (
            "localityLbSetting: {distribute: [{from: a, to: {c: 100}}, {from: a/b, to: {c: 100}}]}",
            "localityLbSetting.distribute",
        ),
        (
            "localityLbSetting: {failover: [{from: a, to: b}], "
            "failoverPriority: [topology.kubernetes.io/zone]}",
            "localityLbSetting.failoverPriority.0",
        ),
    ],
)
def test_durations_and_localities_have_the_limits_of_istio(text: str, where: str) -> None:
    _, findings = parse_mesh_config(text)
    assert messages(findings) == ([f"error {where}"] if where else [])


def test_bad_yaml_is_a_finding() -> None:
    mesh, findings = parse_mesh_config("a: [")
    assert [finding.severity for finding in findings] == [Severity.ERROR]
    assert mesh == MeshConfig()


OPERATOR = """
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: iop}
spec:
  meshConfig: {trustDomain: operator}
"""

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    trustDomain: map
  meshNetworks: |
    networks: {east: {endpoints: [{fromRegistry: c1}], gateways: [{address: 1.2.3.4, port: 15443}]}}
"""


def test_the_objects_that_hold_it_can_be_given_as_files() -> None:
    assert parse_mesh_config(OPERATOR)[0].trust_domain == "operator"
    assert parse_mesh_config(CONFIG_MAP)[0].trust_domain == "map"
    _, findings = parse_mesh_config("apiVersion: v1\nkind: Pod\n")
    assert messages(findings) == ["error kind"]


def test_the_config_map_comes_before_an_operator() -> None:
    resources = parse_documents(f"{OPERATOR}---{CONFIG_MAP}").resources
    mesh, networks, findings = mesh_config_of(resources)
    assert mesh.trust_domain == "map"
    assert list(networks.networks) == ["east"]
    assert [finding.rule for finding in findings] == ["LT0706"]
    assert mesh_config_of([])[0] == MeshConfig()


def test_networks_are_checked() -> None:
    _, findings = parse_mesh_networks(
        "networks: {a: {endpoints: [{}], gateways: [{address: 1.2.3.4}]}}"
    )
    assert messages(findings) == [
        "error networks.a.endpoints.0",
        "error networks.a.gateways.0.port",
    ]


def test_a_pods_settings_replace_the_meshs_field_by_field() -> None:
    mesh, _ = parse_mesh_config(
        "defaultConfig: {concurrency: 4, meshId: m, proxyMetadata: {A: a, B: b}}"
    )
    config, findings = parse_proxy_config("{concurrency: 0, proxyMetadata: {B: c}}", mesh)
    assert not findings
    assert config.concurrency == 0
    assert config.mesh_id == "m"
    assert config.proxy_metadata == {"A": "a", "B": "c"}


def test_a_pods_bad_settings_leave_the_meshs() -> None:
    mesh = MeshConfig()
    config, findings = parse_proxy_config("{statusPort: 70000}", mesh)
    assert config is mesh.default_config
    assert messages(findings) == ["error statusPort"]


def test_an_operator_needs_no_name() -> None:
    result = parse_documents(OPERATOR.replace("metadata: {name: iop}", "metadata: {}"))
    assert not result.findings
    assert result.resources[0].key.name == "installed-state"
